"""A part of a full fine-tuning: `W = W0 + γ (mask ∘ ΔW)` with ΔW = W1 - W0 (section 4.6 and appendix A.4.8).

Only what a pattern covers of the update is kept, times γ. W0 and W1 are state dicts, the result is a model.
The paper does not print its γ: it is searched (:func:`search`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from diablo.methods.base import targeted_layers
from diablo.tuner.layout import Layout
from diablo.tuner.patterns import pattern_layout

Model = TypeVar("Model", bound=nn.Module)


def model_layouts(
    model: nn.Module, modules: Sequence[str], pattern: str, num_blocks: int, seed: int = 0
) -> dict[str, Layout]:
    """Where a pattern lies in each targeted linear layer, by the module's name.

    They are the places that fine-tuning with the same pattern, N and seed trains.

    Args:
        modules: ends of module names, such as `q_proj`.
        pattern: `diagonal` (DiaBlo), `blocks`, `inputs`, `outputs` or `entries`.
        num_blocks: N; every pattern keeps as many entries as N diagonal blocks (sparsity 1/N).

    Raises:
        ValueError: no linear layer matches, or N does not suit one of them.
    """
    layouts = {}
    for name, layer in targeted_layers(model, modules).items():
        widths = layer.in_features, layer.out_features
        try:
            layouts[name] = pattern_layout(pattern, *widths, num_blocks, seed, name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if not layouts:
        raise ValueError(f"modules {list(modules)} match no linear layer of the model")
    return layouts


@torch.no_grad()
def retain(
    model: Model,
    start: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    layouts: Mapping[str, Layout],
    gamma: float,
) -> Model:
    """Make every weight in `layouts` hold W0 + γ (mask ∘ ΔW); other parameters stay as they are.

    The sum is made in float32 (float64 for such weights) and rounded once, to the model's type. W0 is read
    from `start`, not from the model, so that the same model can be used for one γ and pattern after another.

    Args:
        model: changed in place; its other parameters should be those of W0.
        start, tuned: state dicts of the model before and after full fine-tuning, on any device. Only the
            weights in `layouts` are read.
        layouts: by module name (:func:`model_layouts`).
        gamma: γ.

    Returns:
        `model`.

    Raises:
        ValueError: γ is not finite, or a weight is missing or has another shape than its layout.
    """
    if not isfinite(gamma):
        raise ValueError(f"gamma must be a finite number, but it is {gamma}")
    for name, layout in layouts.items():
        weight = cast(nn.Linear, model.get_submodule(name)).weight
        before, after = (_weight(state, name, layout, weight) for state in (start, tuned))
        update = _update(layout, before, after)
        weight.copy_(before)
        layout.write_sum_(weight, layout.read(before), gamma * update)
    return model


def kept_update(
    start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], layouts: Mapping[str, Layout]
) -> dict[str, Tensor]:
    """mask ∘ ΔW of each layer, as the blocks of its layout, in float32 (float64 for such weights).

    Args:
        start, tuned, layouts: as for :func:`retain`.
    """
    return {
        name: _update(layout, start[f"{name}.weight"], tuned[f"{name}.weight"])
        for name, layout in layouts.items()
    }


def _update(layout: Layout, before: Tensor, after: Tensor) -> Tensor:
    """What a layout covers of after - before, as its blocks."""
    wide = torch.promote_types(torch.promote_types(before.dtype, after.dtype), torch.float32)
    return layout.read(after).to(wide) - layout.read(before).to(wide)


@dataclass(frozen=True)
class Search:
    """What was tried for γ, in this order, as (γ, loss); `chosen` has the least loss."""

    tried: list[tuple[float, float]]
    chosen: float

    @property
    def at_edge(self) -> bool:
        """Whether the chosen γ is the least or the greatest that was tried: a better one may lie beyond."""
        gammas = [gamma for gamma, _ in self.tried]
        return self.chosen in (min(gammas), max(gammas))


def search(loss: Callable[[float], float], gammas: Sequence[float], refine: int) -> Search:
    """Try `gammas`, then `refine` times the two midpoints beside the best, on a log scale.

    So the number of trials, `len(gammas) + 2 · refine`, is the same whatever is found. Beside an end of
    what was tried the midpoint lies as far outside as it would inside. Of equal losses the smaller γ wins.

    Args:
        loss: of a γ; one that is not finite is never chosen.
        gammas: at least two, positive, rising.

    Raises:
        FloatingPointError: no loss is finite.
    """
    tried: dict[float, float] = {}
    for gamma in gammas:
        tried[gamma] = loss(gamma)
    for _ in range(refine):
        order, best = sorted(tried), _best(tried)
        place = order.index(best)
        below = order[place - 1] if place else best**2 / order[1]
        above = order[place + 1] if place + 1 < len(order) else best**2 / below
        for end in (below, above):
            gamma = float(f"{sqrt(end * best):.6g}")
            tried[gamma] = loss(gamma)
    return Search(list(tried.items()), _best(tried))


def _best(tried: Mapping[float, float]) -> float:
    finite = {gamma: loss for gamma, loss in tried.items() if isfinite(loss)}
    if not finite:
        raise FloatingPointError(f"no finite loss with any of gamma = {', '.join(map(str, tried))}")
    return min(finite, key=lambda gamma: (finite[gamma], gamma))


def _weight(state: Mapping[str, Tensor], name: str, layout: Layout, like: Tensor) -> Tensor:
    key = f"{name}.weight"
    if key not in state:
        raise ValueError(f"{key} is not in the state dict; give that of the whole plain model")
    shape = (layout.out_features, layout.in_features)
    if tuple(state[key].shape) != shape:
        raise ValueError(
            f"{key} has shape {tuple(state[key].shape)}, but its layout is for {shape}"
        )
    return state[key].to(like.device)
