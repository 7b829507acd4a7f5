"""Synthetic plans and score files for the tests of tables and figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import table_parts as parts
from table_builder import Builder


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    """A builder that writes under this test's own folder."""
    return Builder(tmp_path)


def every_kind_of_row(build: Builder) -> Path:
    """A plan with every kind of row: ranked, unranked, several seeds, same run, not run, odd characters."""
    lora = [build.run("lora")]
    rows = [
        build.row("Full FT", "full", runs=[build.run("full", "full", trainable=100_000)]),
        build.row(
            "LoRA", rank=32, runs=lora, setting_used={"num_blocks": None, "rank": 4, "lr": 1e-4}
        ),
        build.row("SMT_{best} 50% & <more> #1 ~^\\ $x$ a|b", "smt", reason="not implemented yet"),
        build.row(
            "DiaBlo",
            "diablo",
            num_blocks=64,
            setting_used={"num_blocks": 64, "rank": None, "lr": 1e-4},
            runs=[build.run(f"diablo-s{s}", "diablo", seed=s) for s in (0, 1, 2)],
            notes=["N = 64 § “quoted” ≥ 1 → ok"],
            unstated=["dropout"],
        ),
    ]
    again = [build.row("LoRA", rank=32, runs=lora, same_as="Big0 / LoRA r=32")]
    return build.plan(rows, again)


@pytest.fixture
def full_plan(build: Builder) -> Path:
    """The plan of `every_kind_of_row`, free to be changed by the test."""
    return every_kind_of_row(build)


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `tables/` and `figures/` of `every_kind_of_row`, made once, to be read only."""
    from diablo.tables import aggregate

    folder = tmp_path_factory.mktemp("outputs")
    aggregate(every_kind_of_row(Builder(folder)), resamples=500)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with `tables/` and `figures/` of small tables with parts, made once, to be read only."""
    from diablo.tables import aggregate

    folder = tmp_path_factory.mktemp("parts")
    build = {name: Builder(folder / name) for name in ("table3", "table7", "without", "table8")}
    aggregate(parts.table3(build["table3"]), resamples=200)
    aggregate(parts.table7(build["table7"], judge=True), resamples=200)
    aggregate(parts.table7(build["without"], judge=False), resamples=200)
    aggregate(parts.table8(build["table8"]), resamples=200)
    return {name: builder.folder for name, builder in build.items()}
