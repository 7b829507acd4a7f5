"""The job: one resolved spec in, an adapter with its log and provenance out."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PrinterCallback,
    set_seed,
)

from diablo.io import atomic_path, sha256_file, write_jsonl
from diablo.methods import RETAINED, Method, get_method
from diablo.methods.base import auto_class, is_encoder_decoder, load_base
from diablo.precision import check_bf16
from diablo.provenance import Provenance

from . import sharding, together
from .acceleration import Acceleration, choose
from .arguments import training_arguments
from .calibration import calibration_gradients
from .checkpoints import Checkpoints, step_of
from .examples import Encoded, Example, collate
from .monitor import gradient_monitor, publish_gradients, resume_gradients
from .steplog import StepLog, logs, publish_log, resume_log
from .tokens import cached_encode, token_folder
from .trainer import StepTrainer

#: precision -> (type of frozen weights, autocast flag of TrainingArguments)
PRECISIONS: dict[str, tuple[torch.dtype, str | None]] = {
    "fp32": (torch.float32, None),
    "fp16": (torch.float16, "fp16"),
    "bf16": (torch.bfloat16, "bf16"),
    "bf16-pure": (torch.bfloat16, None),
}


def finetune(
    spec: Any,
    run_folder: str | Path,
    work_folder: str | Path,
    protocol: Any,
    threads: int | None = None,
    save_steps: int | None = None,
    acceleration: str = "auto",
    sharded: bool = False,
) -> None:
    """Fine-tune one run: writes `adapter/` (with provenance.json) and `log.jsonl` in its folder.

    A run with `gradient_examples` also writes `gradients.jsonl` (`monitor.py`).

    A run that was killed goes on from its last checkpoint, to the same result. Where several processes
    call this together (`diablo.launch`), they train one model, and the first one writes (`together.py`).

    Args:
        spec: the run (`diablo.specs.RunSpec`, or anything with its attributes).
        run_folder: holds spec.json.
        work_folder: this job's own folder for what a restart needs; deleted on success.
        protocol: how a record becomes tokens and labels (`diablo.data.protocol.Protocol`).
        threads: CPU threads; None leaves torch's choice.
        save_steps: optimiser steps between checkpoints; None: every half minute or so.
        acceleration: `auto`, `none` or names (`diablo.training.acceleration`).
        sharded: of several processes each keeps only a part of the frozen weights (`sharding.py`), even
            where all of them fit; where they do not it is done anyway.

    Raises:
        ValueError: if the spec, the data or the model do not fit; the message names the key or file.
        FloatingPointError: if a loss or a gradient is not finite.
    """
    run_folder, work_folder = Path(run_folder), Path(work_folder)
    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    method = get_method(spec.method)
    if method.artifact == "none":
        return _without_training(spec, run_folder)
    if method.name == RETAINED:
        from .retained import retain_update

        return retain_update(spec, run_folder, protocol)
    method.check(spec)
    dtype, autocast = _precision(spec, device)
    data = Path(spec.data_path) / "train.jsonl"
    provenance = Provenance("finetune", [run_folder / "spec.json", data], spec.seed)

    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    log = work_folder / "log.jsonl"
    with together.first_alone():
        checkpoints = Checkpoints(work_folder, _identity(spec, data), save_steps)
        checkpoint = checkpoints.last()
        if not resume_log(log, step_of(checkpoint)):
            checkpoint = None
        encoded = cached_encode(
            tokenizer,
            protocol,
            spec.data_path,
            spec.model_path,
            spec.train_limit,
            spec.seed,
            spec.max_length,
            token_folder(work_folder),
            spec.held_out,
            is_encoder_decoder(spec.model_path),
        )
        if not resume_gradients(work_folder, spec, len(encoded.examples), step_of(checkpoint)):
            checkpoint = None
            resume_log(log, 0)

    _seed(spec.seed)
    sharded = sharded or _must_shard(spec, method, dtype)
    if sharded:
        sharding.check(spec, method.artifact)
    base = load_base(spec.model_path, "cpu" if sharded else device, dtype)
    base_parameters = count(base)
    faster = choose(acceleration, base, spec, device, autocast, encoded.mean_tokens, sharded)
    pad = tokenizer.pad_token_id or 0
    gradients = calibration_gradients(encoded.examples, spec, pad)
    # What starts from the weights or their gradients is computed once and kept in the work folder.
    with together.first_alone():
        model = method.prepare(base, spec, work_folder, gradients)
    # Afterwards: the gradients above are taken on padded rows, which a model for packed ones refuses.
    faster.apply(base)
    if sharded:
        sharding.shard(model, device)
    trainer = make_trainer(model, encoded.examples, spec, pad, autocast, faster, checkpoints)
    steps = StepLog(log, trainer.facts)
    if together.rank() == 0:
        trainer.add_callback(steps)
        if getattr(spec, "gradient_examples", None):
            trainer.add_callback(gradient_monitor(work_folder, spec, trainer))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        steps.close()
    if together.rank() > 0:
        return

    lines = publish_log(log, run_folder / "log.jsonl")
    publish_gradients(work_folder, spec, run_folder)
    provenance.add(
        base_parameters=base_parameters,
        **_facts(spec, model, encoded, lines),
        resumed_from_step=step_of(checkpoint),
        acceleration=faster.facts(),
        parallel=_parallel(spec, sharded),
        dtype={"weights": str(dtype).removeprefix("torch."), "autocast": autocast},
    )
    with atomic_path(run_folder / "adapter") as folder:
        method.save(model, folder)
        provenance.write(folder / "provenance.json", logs(run_folder, spec))
    checkpoints.delete()


def make_trainer(
    model: nn.Module,
    examples: list[Example],
    spec: Any,
    pad: int,
    autocast: str | None,
    faster: Acceleration,
    checkpoints: Checkpoints,
) -> StepTrainer:
    """The trainer of a prepared model: `train()` does the run's steps."""
    device = next(model.parameters()).device.type
    together.agree(model)
    trainer = StepTrainer(
        model=model,
        args=training_arguments(spec, checkpoints.folder, len(examples), autocast, device),
        train_dataset=examples,
        data_collator=partial(
            collate,
            micro_batch_size=together.micro_batch_size(spec),
            pad=pad,
            packed=faster.packing,
            bucket=faster.bucket,
            longest=spec.max_length,
            encoder_decoder=is_encoder_decoder(model),
        ),
        checkpoints=checkpoints,
        graphs=faster.graphs,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _without_training(spec: Any, run_folder: Path) -> None:
    """The artifact of a run that trains nothing: provenance and an empty log."""
    provenance = Provenance("finetune", [run_folder / "spec.json"], spec.seed)
    base_parameters = _base_parameters(spec.model_path)
    provenance.add(method=spec.method, trainable_parameters=0, base_parameters=base_parameters)
    write_jsonl(run_folder / "log.jsonl", [])
    with atomic_path(run_folder / "adapter") as folder:
        folder.mkdir()
        provenance.write(folder / "provenance.json", logs(run_folder, spec))


def _base_parameters(model_path: str) -> int:
    """Parameters of the model in a folder, without loading it."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    with init_empty_weights():
        base = auto_class(model_path).from_config(AutoConfig.from_pretrained(model_path))
    base.tie_weights()
    return count(base)


def _must_shard(spec: Any, method: Method, dtype: torch.dtype) -> bool:
    """Whether the frozen weights leave too little of one GPU of several."""
    if together.processes() == 1 or method.artifact == "model" or getattr(spec, "quantized", None):
        return False
    return sharding.too_large(_base_parameters(spec.model_path), dtype)


def _parallel(spec: Any, sharded: bool) -> dict[str, Any]:
    """How the steps were dealt out, for provenance; the result is the same but for rounding."""
    return {
        "processes": together.processes(),
        "micro_batch_size": together.micro_batch_size(spec),
        "sharded": sharded,
    }


def count(model: nn.Module, trainable: bool = False) -> int:
    """Parameters of a model, tied ones once, or those that train, less those that a mask holds at zero."""
    if not trainable:
        return sum(p.numel() for p in model.parameters())
    masked = getattr(model, "masked_entries", 0)
    return sum(p.numel() for p in model.parameters() if p.requires_grad) - masked


def _precision(spec: Any, device: str) -> tuple[torch.dtype, str | None]:
    check_bf16(spec.run, spec.precision, device)
    dtype, autocast = PRECISIONS[spec.precision]
    if autocast == "fp16" and device == "cpu":
        raise ValueError(
            f"run {spec.run}: precision 'fp16' needs a GPU; on a CPU set `precision: bf16` or "
            "`precision: fp32` in the scale file's settings"
        )
    if spec.method == "full" and autocast:
        dtype = torch.float32  # the weights themselves train
    return dtype, autocast


def _identity(spec: Any, data: Path) -> dict[str, Any]:
    """What the result follows from; a checkpoint of anything else must not be used."""
    fields = spec.model_dump() if hasattr(spec, "model_dump") else vars(spec)
    model = sorted(Path(spec.model_path).glob("*.safetensors"))
    return {
        "spec": dict(fields),
        "data": sha256_file(data),
        "model": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in model],
    }


def _seed(seed: int) -> None:
    """Seed everything and ask for deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    set_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # The default would also fill all new memory, to show the use of what was never written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _facts(
    spec: Any, model: nn.Module | PreTrainedModel, encoded: Encoded, lines: list[dict]
) -> dict[str, Any]:
    """What provenance says of the training itself."""
    return {
        "method": spec.method,
        "learning_rate": spec.lr,
        "tuning": spec.tuning,
        "trainable_parameters": count(model, trainable=True),
        "examples": len(encoded.examples),
        "truncated": encoded.truncated,
        "dropped": encoded.dropped,
        "steps": len(lines),
        "tokens": sum(line["tokens"] for line in lines),
        "computed": sum(line["computed"] for line in lines),
        "targets": sum(line["targets"] for line in lines),
        # Of the optimiser steps alone, of all of them where the run was resumed.
        "step_seconds": round(sum(x["tokens"] / x["tokens_per_second"] for x in lines), 3),
        "final_loss": lines[-1]["loss"],
    }
