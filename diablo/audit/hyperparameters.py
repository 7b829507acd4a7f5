"""The experiments' settings against the paper's Tables 11 to 20, and those against published code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diablo.audit.facts import Column, Facts, HyperTable
from diablo.audit.findings import Finding, Verdict
from diablo.audit.paper import Line, Paper, title
from diablo.data.catalog import Model

#: What a table of the appendix says of a row; a row without a table has all of them open.
KEYS = (
    *("optimizer", "lr", "weight_decay", "schedule", "warmup_steps", "epochs"),
    *("batch_size", "max_length", "modules"),
)


def compare_hyperparameters(paper: Paper, facts: Facts) -> list[Finding]:
    """Every value of Tables 11 to 20 beside the experiment's; then what no table says."""
    tables = facts.hyperparameters.tables
    return [
        *_models(paper, facts),
        *(finding for table in tables for finding in _table(paper, table)),
        *_constant_with_warmup(facts),
        *_open(paper, tables),
        *_scripts(facts),
    ]


def _models(paper: Paper, facts: Facts) -> Iterator[Finding]:
    for line in facts.hyperparameters.models:
        ours = _repository(paper.catalog.model(line.model))
        same = ours in (line.id, line.now)
        evidence = f"paper {line.id}, catalogue {ours}"
        if line.now:
            evidence += f" (the name that {line.id} leads to)"
        yield Finding(
            id=f"hyperparameters/table11/{line.model}",
            statement=f"Table 11, {line.label}: the catalogue has the paper's model",
            evidence=evidence,
            verdict="agrees" if same else "disagrees",
            source="paper, Table 11",
        )
        if line.entry:
            name = line.id.partition("/")[2]
            words = line.label.replace("Llama", "Llama-")
            yield Finding(
                id=f"hyperparameters/table11/{line.model}/name",
                statement=f"Table 11: the label {line.label} is the model's name",
                evidence=f"{line.id}",
                verdict="agrees" if words.lower() in name.lower() else "disagrees",
                source="paper, Table 11",
                entries=(line.entry,),
            )


def _repository(model: Model) -> str:
    source: Any = model.sources[0]
    return str(getattr(source, "repo", ""))


def _table(paper: Paper, table: HyperTable) -> Iterator[Finding]:
    for column in table.columns:
        place = f"Table {table.table}, {column.slug}"
        lines = [line for line in paper.lines(table.experiment) if _is_about(column, line)]
        if not lines:
            yield Finding(
                id=f"hyperparameters/table{table.table}/{column.slug}",
                statement=f"{place}: an experiment has the values of this column",
                evidence=f"no row of {title(table.experiment)} among this project's experiments",
                verdict="cannot tell",
                source=f"paper, {table.section}",
            )
        for line in lines:
            for key, value in table.settings(column).items():
                yield _value(table, column, line, key, value)


def _is_about(column: Column, line: Line) -> bool:
    row = line.row
    sized = column.num_blocks is None or row.num_blocks == column.num_blocks
    named = (line.group.model, line.part) == (column.model, column.part)
    return named and sized and row.method in column.methods


def _value(table: HyperTable, column: Column, line: Line, key: str, stated: Any) -> Finding:
    """One value of a table beside the experiment's."""
    ours, row = getattr(line.settings, key), line.row
    evidence, verdict = f"paper {stated}, YAML {ours}", "agrees"
    if key == "warmup_ratio" and ours is None and line.settings.warmup_steps and table.steps:
        steps = line.settings.warmup_steps
        evidence = f"paper {stated}, YAML {steps} of {table.steps} steps"
        verdict = "agrees" if steps == round(stated * table.steps) else "disagrees"
    elif _sorted(key, ours) != _sorted(key, stated):
        verdict = "disagrees"
    elif key in row.unstated:
        verdict, evidence = "disagrees", f"{evidence}, where it is called unstated"
    if verdict == "disagrees" and row.notes:
        evidence += f" ({' '.join(row.notes)})"
    return Finding(
        id=f"hyperparameters/table{table.table}/{line.id}/{key}",
        statement=f"Table {table.table}: {key} of {line.place}",
        evidence=evidence,
        verdict=_as_verdict(verdict),
        source=f"paper, {table.section}",
    )


def _as_verdict(word: str) -> Verdict:
    return "agrees" if word == "agrees" else "disagrees"


def _sorted(key: str, value: Any) -> Any:
    """Modules are a set of letters."""
    return sorted(value) if key == "modules" and value else value


def _constant_with_warmup(facts: Facts) -> Iterator[Finding]:
    for table in facts.hyperparameters.tables:
        for column in table.columns:
            stated = table.settings(column)
            if stated.get("schedule") == "constant" and stated.get("warmup_steps"):
                yield Finding(
                    id=f"hyperparameters/table{table.table}/{column.slug}/warm-up",
                    statement=f"Table {table.table}, {column.slug}: schedule and warm-up go together",
                    evidence=f"constant, with {stated['warmup_steps']} warm-up steps",
                    verdict="cannot tell",
                    source=f"paper, {table.section}",
                    entries=("D-36",),
                )


def _open(paper: Paper, tables: list[HyperTable]) -> Iterator[Finding]:
    """Rows whose settings the paper leaves open: whether the YAML says so, and of which settings."""
    for experiment in paper.experiments.values():
        columns = [(t, c) for t in tables if t.experiment == experiment.name for c in t.columns]
        for group in experiment.groups:
            of_group = [
                line for line in paper.lines(experiment.name) if line.group.label == group.label
            ]
            open_rows = {line.row.slug: line for line in of_group if line.row.unstated}
            if open_rows:
                yield Finding(
                    id=f"unstated/{next(iter(open_rows.values())).id.rsplit('/', 1)[0]}",
                    statement=f"{title(experiment.name)}, {group.label}: all settings are stated",
                    evidence="; ".join(_not_stated(line) for line in open_rows.values()),
                    verdict="cannot tell",
                    source="`unstated` in the experiment's YAML",
                )
            silent = {
                line.row.slug: line
                for line in of_group
                if line.row.method == "diablo"
                and not any(_is_about(column, line) for _, column in columns)
                and not set(KEYS[:-1]) - {"warmup_steps"} <= set(line.row.unstated)
            }
            if silent:
                names = [_name(line) for line in silent.values()]
                first = next(iter(silent.values()))
                evidence = f"{', '.join(names)}: not all of {', '.join(KEYS)} are declared unstated"
                if first.row.notes:
                    evidence += f" (note: {' '.join(first.row.notes)})"
                yield Finding(
                    id=f"unstated/{first.id.rsplit('/', 1)[0]}/no-table",
                    statement=f"{title(experiment.name)}, {group.label}: a table of the appendix has DiaBlo's settings",
                    evidence=f"none has; {evidence}",
                    verdict="cannot tell",
                    source="paper, A.4",
                )


def _name(line: Line) -> str:
    return f"{line.row.label}{line.size}"


def _not_stated(line: Line) -> str:
    return f"{_name(line)}: {', '.join(line.row.unstated)}"


def _scripts(facts: Facts) -> Iterator[Finding]:
    """Tables of the appendix beside published code."""
    for script in facts.released.scripts:
        where = script.column
        stated = facts.hyperparameters.column(script.table, where.model, where.num_blocks)
        theirs = script.settings.model_dump(exclude_none=True)
        if script.model:
            stated, theirs = {"model": where.model, **stated}, {"model": script.model, **theirs}
        for key, value in theirs.items():
            if key not in stated:
                continue
            same = _sorted(key, stated[key]) == _sorted(key, value)
            name = f"table{script.table}-{script.entry.lower()}"
            yield Finding(
                id=f"released/{name}/{key}",
                statement=f"{key} of Table {script.table} is that of {script.source}",
                evidence=f"paper {stated[key]}, there {value}",
                verdict="agrees" if same else "disagrees",
                source=script.source,
                entries=(script.entry,),
            )
