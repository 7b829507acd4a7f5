"""Whether everything that some experiments need is here, before anything is built. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.config import read_config
from diablo.data.prepare import check_sources
from diablo.data.protocol import unknown
from diablo.planning import resolve


def check_available(
    names: Sequence[str],
    config_path: Path,
    instead: Mapping[str, Any],
    mirror: str | None = None,
    cache: str | None = None,
) -> str:
    """Verify every source that the experiments `names` need.

    Args:
        config_path: the config.
        instead: keys of it that are to be others.
        mirror, cache: instead of the config's.

    Returns:
        The scale at which all is here.

    Raises:
        ValueError: an unknown experiment, or the list of problems.
    """
    config = read_config(config_path, instead)
    plan = resolve(config)
    models: set[str] = set()
    datasets: set[str] = set()
    for name in names:
        if name not in plan.tables:
            raise ValueError(unknown("experiment", name, plan.tables, "--check"))
        models |= set(plan.models_of(name))
        datasets |= set(plan.datasets_of(name))
    problems = check_sources(
        sorted(models),
        sorted(datasets),
        mirror or config.mirror,
        cache or config.cache,
        plan.catalog,
    )
    if problems:
        raise ValueError(
            "\n".join([f"{len(problems)} problem(s) at scale {config.scale}:", *problems])
        )
    return config.scale
