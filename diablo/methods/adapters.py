"""What all methods with a PEFT adapter share: wrapping, saving and merging."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.io import read_json, write_json

from .base import is_encoder_decoder

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel


def wrap(model: PreTrainedModel, config: PeftConfig, spec: Any) -> PeftModel:
    """`model` with an adapter on it, only the adapter trainable; the config is told model and layers.

    Trainable weights are float32 unless the precision is `bf16-pure`, where they have the base's type.

    Raises:
        ValueError: if `spec.modules` match no layer of the model (from PEFT, with the names).
    """
    from peft import get_peft_model

    config.task_type = "SEQ_2_SEQ_LM" if is_encoder_decoder(model) else "CAUSAL_LM"
    if layers := getattr(spec, "layers", None):
        # Every PEFT method here has the field; their common class does not declare it.
        vars(config)["layers_to_transform"] = layers
    pure = spec.precision == "bf16-pure"
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=not pure)
    if pure:
        # Not all methods give their weights the base's type by themselves.
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(model.dtype)
    return wrapped


def save(model: PeftModel, folder: Path) -> None:
    """Write the adapter in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""
    # Target modules never include the embedding; asking PEFT to look would need the base's config.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    tidy(folder)


def tidy(folder: Path) -> None:
    """Make a saved adapter folder the same bytes every time, and free of PEFT's empty model card."""
    (folder / "README.md").unlink(missing_ok=True)
    config = read_json(folder / "adapter_config.json")
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        # PEFT keeps names as a set, whose order changes from process to process.
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    write_json(folder / "adapter_config.json", config)


def load(base_model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`base_model` with the adapter in `folder` merged into its weights.

    Raises:
        ValueError: if a merged weight is not finite (from PEFT, naming the adapter).
    """
    from peft import PeftModel

    import diablo  # noqa: F401 - makes the method known to PEFT

    model = PeftModel.from_pretrained(base_model, folder)
    return model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
