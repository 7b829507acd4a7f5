"""A run's scores and answer losses as its card shows them: read, checked and estimated as for a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diablo.data.catalog import Catalog
from diablo.io import read_json, sha256_file
from diablo.specs import SuiteSpec
from diablo.tables.checks import check_same
from diablo.tables.estimates import Estimate, measure
from diablo.tables.losses import read_losses
from diablo.tables.measures import NATS, Measure
from diablo.tables.runs import Run, examples_scored
from diablo.tables.scores import read_entry
from diablo.tables.statistics import RESAMPLES
from diablo.validation import validate


@dataclass(frozen=True)
class Score:
    """One number of a run.

    Attributes:
        what: what was measured, an entry of the score file or `loss`.
        estimate: in `measure.unit`, with its 95 % interval over the test examples.
        available: examples before the cap on the test set; None for a loss, which is over several tasks.
    """

    what: str
    measure: Measure
    estimate: Estimate
    available: int | None


@dataclass(frozen=True)
class Results:
    """All that was measured on a run.

    Attributes:
        suite: what scored it.
        data: title of the test data.
        stand_in: what the test data stand in for; None for real ones.
        missing: entries without a number, such as ratings where nobody judged.
    """

    suite: SuiteSpec
    data: str
    stand_in: str | None
    scores: list[Score]
    missing: list[str]


def read_results(spec: Any, run: Path, catalog: Catalog) -> Results | None:
    """Read what `score` and `measure` wrote; None for a run that was not scored.

    The numbers and intervals are those of a table that shows the run.

    Raises:
        ValueError: if a file has no provenance, contradicts itself, is of another run, or was made with
            another adapter than the one that is there. The message names the file.
    """
    scores, losses = (run / kind / f"{spec.suite}.json" for kind in ("scores", "losses"))
    if not scores.is_file():
        return None
    path = run.parent.parent / "suites" / f"{spec.suite_key}.json"
    suite = validate(SuiteSpec, read_json(path), str(path))
    wanted = {"run": spec.run, "suite": suite.suite, "variant": suite.variant}
    content = read_json(scores)
    check_same(scores, content, wanted)
    _check_adapter(scores, content.get("provenance", {}).get("generated", {}), run)
    measures = {key: _measure(key, entry) for key, entry in content["tasks"].items()}
    entries = {key: read_entry(scores, content, one) for key, one in measures.items()}
    lost = None
    if losses.is_file():
        _check_adapter(losses, read_json(losses).get("provenance", {}), run)
        tasks = {one.task for one in measures.values()}
        asked = examples_scored(list(measures.values()), entries)
        lost = read_losses(losses, wanted, asked, tasks)
    facts = read_json(run / "adapter" / "provenance.json")
    read = Run(spec.run, "", spec.seed, spec.lr, facts, (), scores, entries, lost)
    measures["loss"] = Measure("loss", "", "", "loss", NATS, lower_is_better=True)
    estimates = measure([read], measures, RESAMPLES, 0).estimates
    found = [
        Score(key, measures[key], one, entries[key].available if key in entries else None)
        for key, one in estimates.items()
    ]
    data = catalog.datasets.get(suite.dataset)
    return Results(
        suite,
        data.title if data else suite.dataset,
        data.stand_in if data else None,
        found,
        [key for key in entries if key not in estimates],
    )


def _measure(key: str, entry: Any) -> Measure:
    """What an entry of a score file measures; those of accuracies say neither metric nor unit twice."""
    return Measure(key, "", entry.get("task", key), entry["metric"], entry.get("unit", "%"))


def _check_adapter(path: Path, provenance: Any, run: Path) -> None:
    """Check that the job with this provenance had the adapter that is there."""
    if not provenance.get("inputs"):
        raise ValueError(f"{path}: has no provenance of what was scored; score the run again")
    for name, digest in provenance["inputs"].items():
        file = Path(name)
        if file.parts[-3:-1] != (run.name, "adapter"):
            continue
        if (here := run / "adapter" / file.name).is_file() and sha256_file(here) != digest:
            raise ValueError(
                f"{path}: {name} was another file when this was made; generate, score and measure the run again"
            )
