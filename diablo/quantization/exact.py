"""Settings that measure how a model was decoded, not how it is quantised. No torch here."""

from __future__ import annotations

from collections.abc import Iterable

#: The format that some models' weights were decoded from: 16 values, d·q + m, in blocks of 32.
FORMAT, BITS, GROUP = "Q4_1", 4, 32
#: A relative weight error below this is nothing but floating-point rounding.
EXACT = 1e-6
#: Share of the layers that plain rounding must reproduce for a setting to count as exact.
SHARE = 0.95


def exact_grid(sources: Iterable[str], bits: int, group_size: int | None) -> str | None:
    """Why a setting is excluded for a model that was decoded from a quantised file, or None.

    Args:
        sources: names of the model's sources, as in the catalogue or in its provenance.json.
        bits, group_size: of the quantiser's grid.
    """
    decoded = next((name for name in sources if FORMAT in name), None)
    if decoded is None or bits < BITS or group_size is None or GROUP % group_size:
        return None
    return (
        f"the model's weights were decoded from {decoded}: {2**BITS} values in blocks of {GROUP}; "
        f"{bits} bits in groups of {group_size} lie on the same blocks and would measure that file, "
        "not the quantiser"
    )


def measured_exact(rounding_errors: Iterable[float]) -> bool:
    """Whether plain rounding reproduces nearly all layers' weights (relative errors, one a layer)."""
    errors = list(rounding_errors)
    return bool(errors) and sum(error < EXACT for error in errors) >= SHARE * len(errors)
