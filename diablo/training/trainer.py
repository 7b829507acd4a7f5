"""One optimiser step, on top of transformers' Trainer."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from . import together
from .checkpoints import Checkpoints, load_trainable, save_trainable
from .gradients import GroupNorms
from .graphs import RecordedMicroBatches
from .loss import summed_loss

#: fp16 overflows now and then, and its scaler finds the scale by skipping steps. From its initial
#: 2^16 it takes 16 skips to reach 1: more in a row are no search for a scale.
MOST_SKIPS = 20


class StepTrainer(Trainer):
    """Trainer whose batch is one whole optimiser step, already split into micro batches.

    So the loss is the mean over all labelled tokens of the step, whatever the micro batches are, and
    the last batch of an epoch may be smaller without any special case. Of several processes each does
    its part of the micro batches (`together.py`); Trainer and accelerate know nothing of the others.

    Args:
        graphs: replay recordings of the micro batches (`graphs.py`).

    Attributes:
        facts: of the current step, for the log: loss, grad_norm, grad_norms, mean_grad_norms, lr, tokens,
            computed, targets, examples.
    """

    def __init__(self, checkpoints: Checkpoints, graphs: bool = False, **kwargs: Any):
        super().__init__(callbacks=[SaveWhenDue(checkpoints)], **kwargs)
        self.checkpoints = checkpoints
        self._record = graphs
        self._recorded: RecordedMicroBatches | None = None
        self._loss = torch.zeros(())
        self._norms: GroupNorms | None = None
        self.facts: dict[str, Any] = {}
        self._skips = 0
        self._writing_to: Path | None = None

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward pass of every micro batch; returns the step's loss."""
        model.train()
        if self._record and self._recorded is None:
            parameters = [p for p in model.parameters() if p.requires_grad]
            self._recorded = RecordedMicroBatches(parameters, partial(self._run, model))
        if self._recorded is not None:
            self._recorded.begin_step()
        self._loss = torch.zeros((), device=self.args.device)
        run = self._recorded or partial(self._run, model)
        together.seed_step(self.args.seed, self.state.global_step)
        for batch, counts in together.part(inputs["micro_batches"]):
            share = torch.tensor(counts / inputs["targets"])
            self._loss += run(self._prepare_inputs({**batch, "share": share}))
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        together.add_up([self._loss, *gradients])
        self.facts.clear()
        self.facts |= {key: inputs[key] for key in ("tokens", "computed", "targets", "examples")}
        return self._loss

    def _run(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """One micro batch: adds to the gradients, returns its part of the step's loss."""
        share = batch["share"]
        loss = summed_loss(model, batch["positions"], batch["targets"], batch["inputs"]) * share
        self.accelerator.backward(loss)
        return loss.detach()

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip, keeping the norms by group; the global norm from before."""
        if self._norms is None:
            self._norms = GroupNorms(self.model)  # type: ignore[arg-type]
        self.accelerator.unscale_gradients()
        return self._norms.clip(self.args.max_grad_norm)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float | None:
        """The gradient's norm, checked with the loss before the optimiser uses the gradient."""
        total = super()._get_grad_norm(model, grad_norm)
        assert self._norms is not None
        # All at once: each answer has to wait until the GPU is done.
        measured = torch.stack([self._loss, torch.as_tensor(total).to(self._loss)])
        loss, norm, *groups = torch.cat([measured, self._norms.values.to(measured)]).tolist()
        if not math.isfinite(loss):
            raise self._not_finite("loss", loss)
        self.facts |= {"loss": loss, "grad_norm": norm, "lr": self._get_learning_rate()}
        if math.isfinite(norm):
            self._skips = 0
            self.facts |= self._norms.facts(groups)
            return norm
        self._skips += 1
        if self.accelerator.scaler is None or self._skips > MOST_SKIPS:
            raise self._not_finite("gradient norm", norm)
        self.facts |= {"grad_norm": None, "skipped": True}
        return None

    def _not_finite(self, what: str, value: float) -> FloatingPointError:
        return FloatingPointError(
            f"{what} is {value} at step {self.state.global_step + 1} with learning rate "
            f"{self._get_learning_rate():.3g}; last good checkpoint: "
            f"{self.checkpoints.last() or 'none yet'}. Lower the learning rate or use a wider precision."
        )

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """It is where it belongs; a model with sharded weights must not be moved."""

    # Checkpoints: Trainer's own, but whole or absent, and only with what trains.

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if together.rank() > 0:
            return
        with self.checkpoints.writing(self.state.global_step) as folder:
            # The parent class adds `checkpoint-<step>` to this.
            self._writing_to = folder.parent
            super()._save_checkpoint(model, trial)
            self._writing_to = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing_to or self.args.output_dir)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_trainable(self.model, Path(output_dir))  # type: ignore[arg-type]

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        load_trainable(self.model, Path(resume_from_checkpoint))  # type: ignore[arg-type]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: the estimate costs a walk over all modules at every step."""
        return 0


class SaveWhenDue(TrainerCallback):
    """Asks for a checkpoint when one is due, but not for one of a run that is about to end."""

    def __init__(self, checkpoints: Checkpoints):
        self.checkpoints = checkpoints

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step < state.max_steps and self.checkpoints.due(state.global_step):
            control.should_save = True
