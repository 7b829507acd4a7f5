"""An estimate as text: a table of the experiments, one of the rules, and what each number rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

WIDTH = 110


def render(found: dict[str, Any]) -> str:
    """The value of `run.estimate` for a reader."""
    gpu, total = found["gpu"], found["total"]
    where = (
        "training steps were timed on this card"
        if gpu["measured"]
        else "this card was not measured"
    )
    lines = [
        f"Estimate at scale {found['scale']}, {cards(found)} ({where}). Nothing here was run.",
        "",
        *_experiments(found["targets"], total),
        "",
        *_rules(total),
        "",
        f"While a job runs, up to {_bytes(total['temporary_bytes'])} more lie on the disk (a checkpoint or a merged model).",
        "",
        "What the numbers rest on:",
    ]
    for rule, notes in found["rests_on"].items():
        for note in notes:
            lines += _wrapped(f"{rule}: {note}")
    lines += [
        "",
        "Ranges (low to high; those of all are the rules' sums, as if all erred the same way):",
    ]
    for rule, why in found["ranges"].items():
        if total["rules"][rule]["gpu_hours"]:
            one = total["rules"][rule]
            low = one["gpu_hours_low"] / one["gpu_hours"]
            high = one["gpu_hours_high"] / one["gpu_hours"]
            lines += _wrapped(f"{rule} × {low:.2f} to × {high:.2f}: {why}")
    if more := found["unmeasured_card"]:
        lines += _wrapped(
            f"of these, × {1 / more['factor']:.2f} and × {more['factor']:.2f}: {more['why']}"
        )
    lines += _wrapped(f"not counted: {'; '.join(found['not_counted'])}")
    if waiting := found["wait_for_them"]:
        lines += _wrapped(f"{len(waiting)} run(s) wait for runs that do not fit, and are left out")
    return "\n".join(lines)


def cards(found: dict[str, Any]) -> str:
    """What its runs compute on, in words."""
    count, title = found["gpus"], found["gpu"]["title"]
    return f"one {title}" if count == 1 else f"up to {count} {title} a run"


def _experiments(targets: Sequence[dict[str, Any]], total: dict[str, Any]) -> list[str]:
    head = (
        "experiment",
        "runs",
        "shared",
        "left out",
        "GPU-hours",
        "low to high",
        "disk",
        "download",
    )
    rows = [
        (one["name"], str(one["runs"]), str(one["shared_runs"]), str(one["left_out_runs"]), *_cost(one))
        for one in targets
    ]  # fmt: skip
    if len(targets) > 1:
        rows.append(("all, once", str(total["runs"]), "", "", *_cost(total)))
    return _table(head, rows)


def _rules(total: dict[str, Any]) -> list[str]:
    head = ("rule", "jobs", "PFLOP", "GPU-hours", "low to high", "disk", "download")
    rows = [
        (name, str(one["jobs"]), f"{one['flops'] / 1e15:,.0f}", *_cost(one))
        for name, one in total["rules"].items()
    ]
    return _table(
        head, [*rows, ("all", str(total["jobs"]), f"{total['flops'] / 1e15:,.0f}", *_cost(total))]
    )


def _cost(one: dict[str, Any]) -> tuple[str, str, str, str]:
    hours, low, high = one["gpu_hours"], one["gpu_hours_low"], one["gpu_hours_high"]
    return (
        _hours(hours),
        f"{_hours(low)} to {_hours(high)}" if hours else "",
        _bytes(one["disk_bytes"]),
        _bytes(one["download_bytes"]),
    )


def _hours(value: float) -> str:
    return "0" if not value else f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.1 else "< 0.1"  # fmt: skip


def _bytes(value: float) -> str:
    """Decimal units: 1 GB is 1e9 bytes."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B" if value else "0"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return [line(head), "  ".join("-" * w for w in widths), *map(line, rows)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="- ", subsequent_indent="  ")
