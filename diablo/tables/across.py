"""Rows of one label in several groups, side by side, and how the γ of retained updates was searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diablo.tables.detail import Detail
from diablo.tables.table import Group, Row, Table

MINUTES = (
    "Minutes are those of the optimiser steps alone, without start-up, checkpoints and evaluation, on {}; the "
    "paper does not name its device."
)


def side_by_side(table: Table) -> Detail:
    """One line a label, a column a group, as the paper prints it; then the minutes of training.

    Groups that share no label with another group have no column. Empty unless the plan asks for it.
    """
    columns = list(table.columns)
    groups = _sharing(table) if table.plan["across"] else []
    labels = dict.fromkeys(row.plan["label"] for group in groups for row in group.rows)
    timed = [group for group in groups if any(_reported_minutes(row) for row in group.rows)]
    rows = []
    for label in labels:
        of_label = {g.label: r for g in groups for r in g.rows if r.plan["label"] == label}
        for key in columns:
            one = table.measures[key]
            what = table.columns[key] + (f", {one.unit}" if one.unit != "points" else "")
            first = key == columns[0]
            reported = [_reported(of_label.get(group.label), key) for group in groups]
            if any(reported):
                minutes = [_number(_reported_minutes(of_label.get(g.label)), 2) for g in timed]
                rows.append(
                    (label, f"{what}, paper", *reported, *(minutes if first else [""] * len(timed)))
                )
            here = [_here(of_label.get(group.label), key) for group in groups]
            minutes = [_number(training_minutes(of_label.get(g.label)), 2) for g in timed]
            rows.append((label, f"{what}, here", *here, *(minutes if first else [""] * len(timed))))
    heads = ("Method", "Number", *(group.label for group in groups))
    return Detail(
        "Groups side by side",
        "The rows above by their labels. "
        + (MINUTES.format(" and ".join(_devices(timed)) or "no device yet") if timed else ""),
        heads + tuple(f"Minutes, {group.label}" for group in timed),
        rows,
        texts=2,
    )


def _sharing(table: Table) -> list[Group]:
    """The groups that have a label which another group has too."""
    groups: dict[str, int] = {}
    for group in table.groups:
        for label in {row.plan["label"] for row in group.rows}:
            groups[label] = groups.get(label, 0) + 1
    return [g for g in table.groups if any(groups[row.plan["label"]] > 1 for row in g.rows)]


def training_minutes(row: Row | None) -> float | None:
    """Mean over the runs of a row of the minutes that their optimiser steps took; None where not recorded."""
    seconds = [run.provenance.get("step_seconds") for run in row.runs] if row else []
    there = [one for one in seconds if one is not None]
    return sum(there) / len(there) / 60 if there and len(there) == len(seconds) else None


def _reported_minutes(row: Row | None) -> float | None:
    return row.plan.get("minutes_reported") if row else None


def _devices(groups: list[Group]) -> list[str]:
    return sorted({device for group in groups for row in group.rows for device in row.devices})


def _reported(row: Row | None, key: str) -> str:
    return _number(row.cells[key].reported, 2) if row else ""


def _here(row: Row | None, key: str) -> str:
    if row is None or not row.runs:
        return "not run" if row else ""
    found = row.cells[key].estimate
    if found is None:
        return row.cells[key].missing or ""
    digits = row.cells[key].digits
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def gammas(table: Table) -> Detail:
    """The search of γ of every retained row, a line a run."""
    rows: list[tuple[str, ...]] = []
    for group, row in table.rows:
        for run in row.runs if not row.plan["same_as"] else ():
            if record := run.provenance.get("retained"):
                name = table.row_name(group, row) + (f", seed {run.seed}" if row.seeds > 1 else "")
                rows.append((name, *_search(record), f"{row.trained:,}"))
    return Detail(
        "Search of γ for the retained updates",
        "W0 + γ (mask ∘ ΔW): the γ with the least answer loss (nats per token) on training examples that the "
        "full fine-tuning left out; no test example is looked at. Every row has as many trials on the "
        "same examples: one list of γ for all, then midpoints beside each row's best. Where the chosen γ is "
        "the least or the greatest that was tried, a better one may lie beyond. Nothing is trained: what "
        "counts as a row's parameters are its live entries, those that differ from the base model's.",
        ("Method", "Tried, γ: loss", "Examples", "γ", "Loss", "Live entries"),
        rows,
        texts=2,
    )


def _search(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    tried = dict(map(tuple, record["tried"]))
    shown = ", ".join(
        f"{gamma:g}: " + ("not finite" if loss is None else f"{loss:.4f}")
        for gamma, loss in sorted(tried.items())
    )
    edge = " (at the edge)" if record["at_edge"] else ""
    best = record["gamma"]
    return shown, str(record["held_out"]), f"{best:g}{edge}", f"{tried[best]:.4f}"
