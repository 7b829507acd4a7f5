"""The forms of a training step: one class each of what a user could pick."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

import diablo
from diablo.training.graphs import RecordedMicroBatches
from diablo.training.kernels import use_kernels
from diablo.training.loss import summed_loss

from .shapes import QKVUD, Weights, build

#: name -> (type of the weights, type of what trains, autocast)
PRECISIONS = {
    "bf16+fp32": (torch.bfloat16, torch.float32, torch.bfloat16),
    "bf16": (torch.bfloat16, torch.bfloat16, None),
    "fp16+fp32": (torch.float16, torch.float32, torch.float16),
    "fp32": (torch.float32, torch.float32, None),
}

#: The forms of DiaBlo, which must agree in loss and gradients.
DIABLO = ("einsum", "strided", "inplace")
FORMS = ("frozen", *DIABLO, "lora", "dora", "pissa", "full")
#: Other patterns of as many entries as DiaBlo's, in place and (`blocks-adapter`) beside the weight.
PATTERNS = ("blocks", "inputs", "outputs", "entries")
#: Forms whose weights hold W0 + D after a step.
HELD = ("inplace", *PATTERNS)


class PublishedLinear(nn.Module):
    """A DiaBlo layer as the paper writes it: `out + einsum("bNi,Nij->bNj")` on a padded input."""

    def __init__(self, base: nn.Linear, num_blocks: int):
        super().__init__()
        self.base, self.num_blocks = base, num_blocks
        d1, d2 = -(-base.in_features // num_blocks), -(-base.out_features // num_blocks)
        device = base.weight.device
        self.blocks = nn.Parameter(torch.zeros(num_blocks, d1, d2, device=device))

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        count, d1, _ = self.blocks.shape
        padded = F.pad(x, (0, count * d1 - x.shape[-1]))
        split = padded.unflatten(-1, (count, d1))
        product = torch.einsum("...ni,nij->...nj", split, self.blocks)
        return out + product.flatten(-2)[..., : out.shape[-1]]


class Form:
    """A model that trains in one form: `step()` is one optimiser step on a batch."""

    def __init__(
        self,
        name: str,
        shape: str,
        weights: Weights,
        precision: str,
        num_blocks: int,
        rank: int,
        kernels: bool = False,
    ):
        self.name = name
        _, trained, self._autocast = PRECISIONS[precision]
        own = {"pissa": "targets", "full": "all"}.get(name, "nothing")
        base = build(shape, weights, own)
        if kernels:
            use_kernels(base)
        self.device = base.device.type
        self.model = _wrap(name, base, num_blocks, rank)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in self.parameters:
            if name != "full" or self._autocast:
                parameter.data = parameter.data.to(trained)
        self.optimizer = (
            torch.optim.AdamW(self.parameters, lr=1e-5, weight_decay=0, fused=True)
            if self.parameters
            else None
        )
        # The frozen limit computes the gradient of its input, as every form has to.
        if name == "frozen":
            base.enable_input_require_grads()
        self._recorded: RecordedMicroBatches | None = None
        scaled = self._autocast == torch.float16
        self._scaler = torch.amp.GradScaler(self.device, enabled=scaled)

    def loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean cross-entropy, in the precision's context."""
        context = torch.autocast(self.device, self._autocast) if self._autocast else nullcontext()
        with context:
            total = summed_loss(self.model, batch["positions"], batch["targets"], batch["inputs"])
        return total / len(batch["targets"])

    def step(self, batch: dict[str, Any]) -> Tensor:
        """Forward, backward and update; returns the loss."""
        if self._recorded is not None:
            self._recorded.begin_step()
        loss = (self._recorded or self._run)(batch)
        if self.optimizer is not None:
            self._scaler.step(self.optimizer)
            self._scaler.update()
            self.optimizer.zero_grad()
        return loss

    def _run(self, batch: dict[str, Any]) -> Tensor:
        loss = self.loss(batch)
        self._scaler.scale(loss).backward()
        return loss.detach()

    def record(self, batch: dict[str, Any]) -> None:
        """From now on, replay forward and backward pass as a CUDA graph."""
        self._recorded = RecordedMicroBatches(self.parameters, self._run)
        for _ in range(3):
            self.step(batch)

    def state_bytes(self) -> int:
        """Memory that the form holds between steps: weights, what trains, optimiser state."""
        tensors = {t.data_ptr(): t for t in self.model.state_dict().values()}
        states = self.optimizer.state.values() if self.optimizer else ()
        held = [t for s in states for t in s.values() if isinstance(t, Tensor)]
        # W0's own blocks, which the in place form keeps aside.
        held += [t for m in self.model.modules() for t in _kept_aside(m)]
        return sum(t.numel() * t.element_size() for t in [*tensors.values(), *held])

    def restore(self) -> None:
        """Give shared weights back as they were."""
        if self.name in HELD:
            self.model.disable_adapter_layers()
            self.model.enable_adapter_layers()


def _kept_aside(module: nn.Module) -> list[Tensor]:
    held = getattr(module, "_held", None)
    return [] if held is None else [part for _, parts in held._backup for part in parts]


def _wrap(name: str, base: Any, num_blocks: int, rank: int) -> nn.Module:
    wrappers: dict[str, Callable[[], nn.Module]] = {
        "frozen": lambda: base,
        "full": lambda: base.requires_grad_(True),
        "einsum": lambda: _published(base, num_blocks),
        "strided": lambda: _diablo(base, num_blocks, "adapter"),
        "inplace": lambda: _diablo(base, num_blocks, "inplace"),
        **{p: partial(_diablo, base, num_blocks, "inplace", p) for p in PATTERNS},
        **{f"{p}-adapter": partial(_diablo, base, num_blocks, "adapter", p) for p in PATTERNS},
        "lora": lambda: _lora(base, rank),
        "dora": lambda: _lora(base, rank, use_dora=True),
        "pissa": lambda: _pissa(base, rank),
    }
    return wrappers[name]()


def _published(base: Any, num_blocks: int) -> nn.Module:
    for parent in list(base.modules()):
        for name, child in list(parent.named_children()):
            if name in QKVUD:
                setattr(parent, name, PublishedLinear(child, num_blocks))
    return base


def _diablo(
    base: Any, num_blocks: int, implementation: Any, pattern: Any = "diagonal"
) -> nn.Module:
    config = diablo.DiabloConfig(
        pattern=pattern,
        num_blocks=num_blocks,
        target_modules=QKVUD,
        implementation=implementation,
    )
    return get_peft_model(base, config)


def _lora(base: Any, rank: int, **options: Any) -> nn.Module:
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=QKVUD, **options)
    return get_peft_model(base, config)


def _pissa(base: Any, rank: int) -> nn.Module:
    """LoRA on a residual weight. Its factors are drawn: a step takes as long whatever they are."""
    model = _lora(base, rank)
    for module in model.modules():
        if hasattr(module, "lora_A"):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            nn.init.normal_(b, std=1e-3)
            weight = module.get_base_layer().weight
            product = module.scaling["default"] * (b.data.float() @ a.data.float())
            weight.data.copy_(weight.data.float() - product)
    return model
