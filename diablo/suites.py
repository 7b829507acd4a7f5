"""What scores an experiment's completions at a scale: the suite, the entries of its scores, what is missing.

A suite's scores have entries (`Protocol.entries`), which are a table's columns. Some cannot be had: the
scale's data set lacks a task (the column is left out, and the table says why), or a judge is needed and
none is configured (the column stays, its cells say so). No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diablo.config import Config
from diablo.data.protocol import Decoding, Entry, unknown
from diablo.io import sha256_json
from diablo.own import OwnExperiment
from diablo.rows import Rows
from diablo.scoring.judges.keywords import load_phrases
from diablo.scoring.judges.prompts import load_prompts
from diablo.specs import SuiteSpec

if TYPE_CHECKING:
    from diablo.planning import Plan

#: Why an entry that needs a judge has no value.
NO_JUDGE = "no judge"


@dataclass(frozen=True)
class Shown:
    """The entries that a table shows of a suite's scores.

    Attributes:
        columns, readings: headings by entry, of those that the data set has.
        lacking: why a column is left out, by entry.
        entries: what each of `columns` and `readings` measures.
        missing: why an entry that is shown has no value.
    """

    columns: dict[str, str]
    readings: dict[str, str]
    lacking: dict[str, str]
    entries: dict[str, Entry]
    missing: dict[str, str]

    @property
    def scored(self) -> bool:
        """Whether there is anything to be scored."""
        return len(self.missing) < len(self.entries)


def shown(rows: Rows) -> Shown:
    """The entries of an experiment's columns and readings at its scale.

    Raises:
        ValueError: if the suite's scores have no such entry; names the nearest one.
    """
    e, config, missing_tasks = rows.experiment, rows.config, rows.suite_use.missing
    if e.kind != "accuracy":  # other kinds have columns of their own
        return Shown(dict(e.columns), dict(e.readings), {}, {}, {})
    valid = rows.entries()
    for key, headings in (("columns", e.columns), ("readings", e.readings)):
        for name in headings:
            if name not in valid:
                raise ValueError(unknown("entry", name, valid, f"{rows.where}: {key}"))

    def there(name: str) -> bool:
        asked = valid[name].turn == 1 or config.second_turn
        return asked and valid[name].task not in missing_tasks

    columns = {name: label for name, label in e.columns.items() if there(name)}
    readings = {name: label for name, label in e.readings.items() if there(name)}
    entries = {name: valid[name] for name in (*columns, *readings)}
    return Shown(
        columns,
        readings,
        {
            name: missing_tasks[valid[name].task]
            for name in e.columns
            if valid[name].task in missing_tasks
        },
        entries,
        {
            name: NO_JUDGE
            for name, entry in entries.items()
            if entry.needs == "judge" and config.judge is None
        },
    )


def add_suite(rows: Rows, plan: Plan) -> SuiteSpec:
    """The suite of an experiment's part, which is added to the plan.

    Raises:
        ValueError: if the scale names a task or a decoding key that there is not, or another experiment
            has the suite evaluated in another way.
    """
    experiment, config, protocol = rows.experiment, rows.config, rows.protocol
    use, tasks, name = rows.suite_use, rows.tasks(), rows.experiment.suite
    for task in use.missing:
        if task not in tasks:
            where = f"scale {rows.scale.name}: suites.{name}.missing"
            raise ValueError(unknown("task", task, tasks, where))
    rows.dataset(use.dataset)
    own = experiment.protocol.model_dump() if isinstance(experiment, OwnExperiment) else None
    spec = SuiteSpec(
        suite=name,
        variant=rows.variant,
        dataset=use.dataset,
        data_path=f"{config.results}/{rows.scale.name}/data/{use.dataset}",
        tasks=[task for task in tasks if task not in use.missing],
        limit_per_task=rows.limits().test_per_task,
        decoding=_decoding(rows),
        second_turn=config.second_turn and any(e.turn > 1 for e in protocol.entries.values()),
        notes=[use.note] if use.note else [],
        protocol=own,
    )
    key = f"{name}-{rows.variant}"
    if plan.suites.setdefault(key, spec) != spec:
        raise ValueError(
            f"{rows.where}: suite {name} is evaluated in another way by another "
            "experiment of this scale; both need the same test_per_task (and, if they are your "
            "own, the same columns, data and protocol, or another `suite`)"
        )
    plan.scoring[key] = scoring(config, protocol.scorer)
    return spec


def scoring(config: Config, scorer: str) -> dict[str, Any]:
    """What decides a suite's scores beside its completions; a change scores again, and does no more.

    Files are named by their content. How a judge is asked (retries, prices) is no part of it.

    Raises:
        ValueError: if a file of the user's does not fit; names file and key.
    """
    found: dict[str, Any] = {}
    if scorer == "code":
        found["unsafe_execution"] = config.unsafe_execution
    if scorer == "refusal":
        found["phrases"] = load_phrases(config.refusal_phrases)[1]["sha256"]
    if config.judge is not None and scorer in ("refusal", "chat"):
        prompts = load_prompts(config.judge.prompts).model_dump()
        asked = config.judge.model_dump(include={"endpoint", "model", "max_tokens"})
        found["judge"] = {**asked, "prompts": sha256_json(prompts)}
    return found


def _decoding(rows: Rows) -> dict[str, Any]:
    """The protocol's decoding with what the scale has different."""
    decoding, use = rows.protocol.decoding.as_dict(), rows.suite_use
    where = f"scale {rows.scale.name}: suites.{rows.experiment.suite}.decoding"
    if "max_new_tokens" in use.decoding:  # for all tasks, then
        decoding.pop("max_new_tokens_by_task", None)
    for key in use.decoding:
        if key not in decoding:
            raise ValueError(unknown("key", key, decoding, where))
    decoding |= use.decoding
    try:
        samples = Decoding(**decoding).samples
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for name, entry in rows.entries().items():
        if (k := entry.of_samples) and k > samples:
            raise ValueError(f"{where}: samples = {samples}: {name} needs {k} or more")
    return decoding
