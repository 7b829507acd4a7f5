"""The tuner: which layers of a model get blocks."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn

from .adapters import DiabloLayer
from .config import DiabloConfig
from .layer import DiabloLinear
from .refresh import Refresh
from .support import features


def _storage(parameter: Tensor) -> Any:
    """What two tied parameters have in common, also where only their memory is shared."""
    if parameter.is_meta:
        return id(parameter)
    try:
        return parameter.device, parameter.untyped_storage().data_ptr() or id(parameter)
    except (RuntimeError, NotImplementedError):  # a tensor subclass without storage
        return id(parameter)


class DiabloModel(BaseTuner):
    """A model with DiaBlo adapters (section 3.1 of the paper). Made by ``get_peft_model``.

    Raises:
        ValueError: no module matched, a matched module is not a linear layer, the number or positions
            of blocks or the implementation do not suit one of them, or ``block_positions`` names a
            module that is not there or not targeted. The message names the module.
    """

    prefix: str = "diablo_"
    tuner_layer_cls = DiabloLayer
    # Only for target_modules=None; LoRA's choice for the architecture, as other PEFT methods take it.
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING  # type: ignore[assignment]

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        if not hasattr(self, "_refresh"):
            self._refresh = Refresh()
        self._refresh.attach(model)
        parameters = model.named_parameters(remove_duplicate=False)
        shares = Counter(_storage(parameter) for _, parameter in parameters)
        self._tied = {storage for storage, count in shares.items() if count > 1}

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        num_blocks = _num_blocks(peft_config, current_key)
        if isinstance(target, BaseTunerLayer) and not isinstance(target, DiabloLinear):
            raise ValueError(
                f"{current_key}: it already is a {type(target).__name__} of another PEFT method, "
                "which DiaBlo cannot wrap. Unload or merge that one first."
            )
        if isinstance(target, DiabloLinear):
            tied = self._is_tied(target.get_base_layer())
            target.update_layer(adapter_name, num_blocks, peft_config, tied)
            return
        try:
            features(target)
        except ValueError as error:
            raise ValueError(f"{current_key}: {error}") from None
        tied = self._is_tied(target)
        layer = DiabloLinear(target, adapter_name, num_blocks, peft_config, current_key, tied)
        layer.join(self._refresh)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> Any:
        chosen = peft_config.block_positions
        # The result says how a name matched, which PEFT asks for.
        return (chosen is None or key in chosen) and BaseTuner._check_target_module_exists(
            peft_config, key
        )

    def inject_adapter(
        self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any
    ) -> None:
        config = cast(DiabloConfig, self.peft_config[adapter_name])
        chosen = config.block_positions or {}
        present = {name for name, _ in model.named_modules()}
        if absent := [name for name in chosen if name not in present]:
            raise ValueError(
                f"block_positions names {absent}, which this model does not have; give full names as "
                "named_modules() of the base model has them."
            )
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        if skipped := [name for name in chosen if not _has_adapter(model, name, adapter_name)]:
            raise ValueError(
                f"block_positions names {skipped}, which target_modules and the settings beside it "
                "leave out; make them agree."
            )
        patterns, names = config.num_blocks_pattern or {}, self.targeted_module_names
        unused = [p for p in patterns if not any(_matches(p, name) for name in names)]
        if unused:
            warnings.warn(f"num_blocks_pattern matches no target module: {unused}.", stacklevel=2)

    def _unload_and_optionally_merge(self, *args: Any, **kwargs: Any) -> Any:
        model = super()._unload_and_optionally_merge(*args, **kwargs)
        self._refresh.detach()
        return model

    def _is_tied(self, base: nn.Module) -> bool:
        weight = base._parameters.get("weight")
        return weight is not None and _storage(weight) in self._tied

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        # PEFT drops this argument silently for methods that know nothing of it, and would then answer
        # every row of the batch with the active adapter.
        if kwargs.get("adapter_names") is not None:
            raise ValueError(
                f"DiaBlo does not support adapter_names (several adapters in one batch), but got "
                f"{kwargs['adapter_names']!r}. Call set_adapter and run one batch per adapter."
            )
        yield


def _has_adapter(model: nn.Module, name: str, adapter_name: str) -> bool:
    layer = model.get_submodule(name)
    return isinstance(layer, DiabloLinear) and adapter_name in layer.layouts


def _matches(pattern: str, key: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", key) is not None


def _num_blocks(config: DiabloConfig, key: str) -> int:
    patterns = (config.num_blocks_pattern or {}).items()
    return next((value for pattern, value in patterns if _matches(pattern, key)), config.num_blocks)
