"""A run's spec in the words of transformers' Trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.utils.logging import ERROR, get_logger

from . import together


def training_arguments(
    spec: Any, output: Path, examples: int, autocast: str | None, device: str
) -> TrainingArguments:
    """The spec in Trainer's words. One batch is one optimiser step: see `StepTrainer`."""
    steps = math.ceil(spec.epochs * math.ceil(examples / spec.batch_size))
    if spec.max_steps is not None:
        steps = min(steps, spec.max_steps)
    if together.processes() > 1:
        # It would advise a launcher whose processes Trainer knows of.
        get_logger("transformers.training_args").setLevel(ERROR)
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=spec.batch_size,
        max_steps=steps,
        optim="adamw_torch_fused",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        learning_rate=spec.lr,
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        # transformers' "constant" has no warm-up.
        lr_scheduler_type="constant_with_warmup" if spec.schedule == "constant" else spec.schedule,
        warmup_steps=_warmup(spec, steps),
        fp16=autocast == "fp16",
        bf16=autocast == "bf16",
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        seed=spec.seed,
        data_seed=spec.seed,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device != "cpu",
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    # One device: on several GPUs Trainer would replicate the model in every step.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _warmup(spec: Any, steps: int) -> int:
    """Steps of warm-up; a ratio is of the steps that the run really does, rounded up."""
    if spec.warmup_ratio is None:
        return spec.warmup_steps
    return math.ceil(spec.warmup_ratio * steps)
