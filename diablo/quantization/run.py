"""The job: one resolved spec in, a quantised model with its errors and provenance out."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from diablo.io import atomic_path, read_json, sha256_file, write_json
from diablo.methods.base import is_encoder_decoder
from diablo.precision import check_bf16
from diablo.provenance import Provenance

from .calibration import calibration_windows, perplexity_windows
from .packed import save_fake, save_packed
from .quality import perplexity
from .quantisers import DTYPES, Quantised, check
from .stream import quantise_layers

logger = logging.getLogger(__name__)

IDENTITY = "identity.json"


def quantize(spec: Any, folder: str | Path, threads: int | None = None) -> None:
    """Quantise a model: writes the model, quantization.json and, last, provenance.json into `folder`.

    A job that was killed goes on after the last finished decoder layer, to the same bits.

    Args:
        spec: `diablo.specs.QuantSpec`.
        folder: holds spec.json; partial results lie in `.work/` beside its parent.
        threads: CPU threads; None leaves torch's choice.

    Raises:
        ValueError: if the spec, the text or the model do not fit; the message names the key, the file
            or the module.
    """
    folder = Path(folder)
    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    check(spec)
    check_bf16(spec.name, spec.precision, device)
    data = Path(spec.calibration_path) if spec.calibration_path else None
    texts = [data / "train.jsonl", data / "test.jsonl"] if data else []
    provenance = Provenance("quantize", [folder / "spec.json", *texts], spec.seed)
    work = work_folder(folder, spec)
    _prepare_work(work, _identity(spec, texts))

    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    windows, measured = [], []
    if data:
        windows = calibration_windows(tokenizer, data, spec.samples, spec.length, spec.seed)
        measured = perplexity_windows(tokenizer, data, spec.perplexity_tokens)
    model = load_float(spec)
    before = perplexity(model, measured, device) if measured else None
    quantised = quantise_layers(model, windows, spec, work, device)
    after = perplexity(model, measured, device) if measured else None

    facts = {
        "spec": spec.model_dump(),
        "layers": {name: result.facts for name, result in quantised.items()},
        "calibration": {
            "text": str(texts[0]) if data else None,
            "samples": len(windows),
            "tokens": sum(map(len, windows)),
        },
        "perplexity": {
            "text": str(texts[1]),
            "tokens": sum(map(len, measured)),
            "float": before,
            "quantised": after,
        }
        if data
        else None,
    }
    _restore(model, quantised)
    with atomic_path(work / "model") as built:
        save = save_packed if spec.form == "packed" else _save_plain
        save(model, quantised, spec, built)
        tokenizer.save_pretrained(built)
        if spec.quantizer == "loftq":
            save_adapter(quantised, spec, built / "loftq")
        cost = provenance.finish()
        facts["seconds"] = cost["wall_seconds"]
        facts["peak_bytes"] = cost.get("peak_device_memory_bytes", cost["peak_memory_bytes"])
        write_json(built / "quantization.json", facts)
        provenance.add(samples=len(windows), dtype=str(DTYPES[spec.precision]), form=spec.form)
        provenance.write(built / "provenance.json")
    publish(work / "model", folder)
    shutil.rmtree(work)


def work_folder(folder: Path, spec: Any) -> Path:
    """Where the finished layers of a quantised model's folder lie until all are done."""
    return folder.parent.parent / ".work" / f"quantize-{spec.name}-{spec.digest[:8]}"


def load_float(spec: Any) -> Any:
    """The float model on the CPU, in the spec's precision, in evaluation mode and frozen."""
    if is_encoder_decoder(spec.model_path):
        raise ValueError(
            f"{spec.name}: {spec.model_path} is an encoder-decoder; only decoder-only models are quantised"
        )
    model: Any = AutoModelForCausalLM.from_pretrained(spec.model_path, dtype=DTYPES[spec.precision])
    return model.eval().requires_grad_(False)


def save_adapter(quantised: dict[str, Quantised], spec: Any, folder: Path) -> None:
    """LoftQ's corrections as a PEFT LoRA adapter; alpha = rank, so that it adds exactly BA."""
    from peft import LoraConfig

    folder.mkdir(parents=True)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.rank,
        lora_alpha=spec.rank,
        lora_dropout=0.0,
        target_modules=sorted({name.rpartition(".")[2] for name in quantised}),
        init_lora_weights=True,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    tensors = {
        f"base_model.model.{name}.{part}.weight": result.tensors[part]
        for name, result in quantised.items()
        for part in ("lora_A", "lora_B")
    }
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def publish(built: Path, folder: Path) -> None:
    """Move a finished model into `folder`; provenance.json, which says that all is there, comes last."""
    done = "provenance.json"
    (folder / done).unlink(missing_ok=True)
    for path in sorted(built.iterdir(), key=lambda path: path.name == done):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)


def _save_plain(model: Any, quantised: dict[str, Quantised], spec: Any, folder: Path) -> None:
    save_fake(model, folder)


def _restore(model: Any, quantised: dict[str, Quantised]) -> None:
    """Put the quantised weights into the model, without LoftQ's corrections."""
    for name, result in quantised.items():
        model.get_submodule(name).weight.data.copy_(result.tensors["weight"])


def _identity(spec: Any, texts: list[Path]) -> dict[str, Any]:
    """What the finished layers follow from; those of anything else must not be used."""
    model = sorted(Path(spec.model_path).glob("*.safetensors"))
    return {
        "spec": spec.model_dump(),
        "texts": [sha256_file(path) for path in texts],
        "model": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in model],
    }


def _prepare_work(work: Path, identity: dict[str, Any]) -> None:
    """Make the work folder; delete what a job with another identity, or a killed write, left in it."""
    known = work / IDENTITY
    if work.is_dir() and not (known.is_file() and read_json(known) == identity):
        if any(work.iterdir()):
            logger.warning("%s: left by another job (spec, text or model differ); deleted", work)
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    for partial in work.glob(".*"):
        shutil.rmtree(partial)
    write_json(known, identity)
