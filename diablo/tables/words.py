"""The sentences around the numbers: what stands in for what, how it was decoded, what was chosen.

Every format and every caption takes them from here, so that none can forget a stand-in.
"""

from __future__ import annotations

from typing import Any

from diablo.tables.collect import Group, Row, Table

READING = (
    "Intervals are 95 % percentile bootstrap intervals over the test examples; the average is the "
    "unweighted mean of the tasks, resampled within each task. An interval of width zero means that "
    "all examples came out alike, not that the number is exact."
)
MARKS = (
    "Bold is best and underlined second best in a column of a group, as printed; full fine-tuning "
    "and zero-shot are not ranked."
)


def banner(table: Table) -> str | None:
    """What a reader must know before comparing anything; None where nothing stands in."""
    if not table.plan["stand_ins"]:
        return None
    listed = "; ".join(text.rstrip(".") for text in table.plan["stand_ins"])
    return (
        f"Stand-ins: {listed}. Numbers under “here” come from the stand-ins; they do not reproduce "
        "the paper's numbers beside them, and the differences compare different models and data."
    )


def facts(table: Table) -> dict[str, str]:
    """Facts that hold for the whole table, by heading; texts are in the plan's own words."""
    plan = table.plan
    describe = plan.get("scale_describe")
    found = {
        "Scale": f"{plan['scale']}: {describe}" if describe else str(plan["scale"]),
        "Protocol": f"{plan['variant']}: {plan['protocol']}" if "protocol" in plan else "",
        "Decoding": decoding(plan["decoding"]),
        "Limits": limits(plan["limits"]),
        "Notes": " ".join(plan["notes"]),
    }
    return {key: text for key, text in found.items() if text}


def decoding(value: Any) -> str:
    """Decoding in words; the plan gives a text or the resolved settings."""
    if isinstance(value, str):
        return value
    beams = value["num_beams"]
    how = "greedy" if beams == 1 else f"beam search, {beams} beams"
    stop = ", ".join(repr(text) for text in value["stop"])
    return f"{how}, at most {value['max_new_tokens']} new tokens" + (stop and f", stop at {stop}")


def limits(value: dict[str, int | None]) -> str:
    """The caps in words, or that there are none."""
    words = {
        "train": "{} training examples in total",
        "test_per_task": "{} test examples per task",
        "steps": "{} optimiser steps",
    }
    given = [words.get(k, k + " {}").format(v) for k, v in value.items() if v is not None]
    return ", ".join(given) if given else "none"


def row_name(table: Table, group: Group, row: Row) -> str:
    """A row's name, with its group where the table has several."""
    return f"{group.label} / {row.name}" if len(table.groups) > 1 else row.name


def row_notes(table: Table) -> list[tuple[str, list[str]]]:
    """(note, names of the rows it is about), each note once."""
    found: dict[str, list[str]] = {}
    for group, row in table.rows:
        for note in row.plan["notes"]:
            found.setdefault(note, []).append(row_name(table, group, row))
    return list(found.items())


def choices(table: Table) -> list[tuple[str, list[str]]]:
    """(settings that the paper leaves open, names of the rows that needed them)."""
    found: dict[str, list[str]] = {}
    if table.plan.get("unstated"):
        found[", ".join(table.plan["unstated"])] = ["all rows (protocol)"]
    for group, row in table.rows:
        if row.plan["unstated"]:
            key = ", ".join(row.plan["unstated"])
            found.setdefault(key, []).append(row_name(table, group, row))
    return list(found.items())


def parameters_here(row: Row) -> str:
    """Trainable parameters of the trained model: `0.42 % (563,200)`."""
    return "" if row.trained is None else f"{row.trained_percent:.2f} % ({row.trained:,})"


def parameters_paper(row: Row) -> str:
    """The paper's #Params beside the count for the paper's model: `1.04% (counted 0.89 %)`."""
    reported, percent = row.plan["params_reported"], row.plan["params_counted_percent"]
    counted = "" if percent is None else f"(counted {percent:.2f} %)"
    return f"{reported or ''} {counted}".strip()


def caption(table: Table, what: str) -> str:
    """One paragraph for a figure or a table: what is shown, from what, and how to read it."""
    plan = table.plan
    not_run = sum(not row.runs for _, row in table.rows)
    sentences = [
        f"{table.heading} (section {plan['section']} of the paper): {what}.",
        banner(table) or "",
        READING.split(" An interval")[0],
        f"{not_run} of {len(table.rows)} rows were not run." if not_run else "",
    ]
    return " ".join(text for text in sentences if text)


#: Heads of `run_facts`.
RUN_FACTS = ("run", "seed", "code", "device", "wall time", "peak memory")


def run_facts(table: Table) -> list[tuple[str, ...]]:
    """What the provenance of each run's adapter says about its making, each run once."""
    runs = {run.name: run for _, row in table.rows for run in row.runs}
    return [
        (name, str(run.seed), _code(run.provenance), *_cost(run.provenance))
        for name, run in runs.items()
    ]


def _code(provenance: Any) -> str:
    code = provenance.get("code", {})
    if "commit" in code:
        return code["commit"][:12] + (" with changes" if code.get("dirty") else "")
    return code.get("version", "not recorded")


def _cost(provenance: Any) -> tuple[str, str, str]:
    """Device, wall time and peak memory, `not recorded` where the provenance has none."""
    seconds = provenance.get("wall_seconds")
    memory = provenance.get("peak_device_memory_bytes") or provenance.get("peak_memory_bytes")
    return (
        provenance.get("device", "not recorded"),
        "not recorded" if seconds is None else f"{seconds:,.0f} s",
        "not recorded" if memory is None else f"{memory / 2**30:.2f} GiB",
    )
