"""The sentences around the numbers: what stands in for what, how it was decoded, what was chosen.

How to read the numbers themselves is said in `diablo.tables.legend`.
Every format and every caption takes them from here, so that none can forget a stand-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diablo.tables import legend
from diablo.tables.table import Group, Row, Table


def banner(table: Table) -> str | None:
    """What a reader must know before comparing anything; None where nothing stands in."""
    if not table.plan["stand_ins"]:
        return None
    listed = "; ".join(text.rstrip(".") for text in table.plan["stand_ins"])
    if not table.has_reported:
        return f"Stand-ins: {listed}. All numbers come from the stand-ins."
    return (
        f"Stand-ins: {listed}. Numbers under “here” come from the stand-ins; they do not reproduce "
        "the paper's numbers beside them, and the differences compare different models and data."
    )


def facts(table: Table) -> dict[str, str]:
    """Facts that hold for the whole table, by heading; texts are in the plan's own words."""
    plan = table.plan
    describe = plan.get("scale_describe")
    scored = plan["kind"] == "accuracy"
    limited = plan["limits"] if scored else {**plan["limits"], "test_per_task": None}
    found = {
        "Scale": f"{plan['scale']}: {describe}" if describe else str(plan["scale"]),
        "Protocol": f"{plan['variant']}: {plan['protocol']}" if "protocol" in plan else "",
        "Decoding": decoding(plan["decoding"]) if scored else "",
        "Limits": limits(limited),
        "Trained on": devices(table),
        "Notes": " ".join(plan["notes"]) if scored else "",
    }
    return {key: text for key, text in found.items() if text}


def foot(table: Table) -> list[str]:
    """What stands under every figure: the stand-ins, always, and how the numbers were made."""
    known = facts(table)
    made = " ".join(f"{key}: {known[key]}." for key in ("Decoding", "Limits") if key in known)
    return [text for text in (banner(table), made) if text]


def decoding(value: Any) -> str:
    """Decoding in words; the plan gives a text or the resolved settings."""
    if isinstance(value, str):
        return value
    beams = value["num_beams"]
    lengths = value.get("max_new_tokens_by_task", {}).items()
    others = "".join(f" ({task}: {length})" for task, length in lengths)
    how = "greedy" if beams == 1 else f"beam search, {beams} beams"
    stop = ", ".join(repr(text) for text in value["stop"])
    most = f"at most {value['max_new_tokens']} new tokens{others}"
    return f"{how}, {most}" + (stop and f", stop at {stop}")


def limits(value: Mapping[str, Any]) -> str:
    """The caps in words, or that there are none; `device` says what machine they are meant for."""
    words = {
        "train": "{} training examples in total",
        "test_per_task": "{} test examples per task",
        "steps": "{} optimiser steps",
    }
    given = [text.format(value[key]) for key, text in words.items() if value.get(key) is not None]
    device = f" (as set for {value['device']})" if value.get("device") else ""
    return (", ".join(given) or "none") + device


def devices(table: Table) -> str:
    """The device that the runs were made on; the rows of each where there are several."""
    found: dict[str, list[str]] = {}
    for group, row in table.rows:
        for device in row.devices:
            found.setdefault(device, []).append(row_name(table, group, row))
    if len(found) < 2:
        return "".join(found)
    return "; ".join(f"{device}: {', '.join(rows)}" for device, rows in sorted(found.items()))


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


def test_sizes(table: Table) -> list[str]:
    """Tasks that were not scored on as many examples as the paper's test set has, in words."""
    found = []
    ran = [(group, row) for group, row in table.rows if row.runs]
    for task, size in table.plan["test_sizes_paper"].items():
        rows: dict[int, list[str]] = {}
        for group, row in ran if task in table.columns else ():
            n = len(row.runs[0].outcomes[task])
            rows.setdefault(n, []).append(row_name(table, group, row))
        for n, names in rows.items():
            if n != size:
                whose = "" if len(names) == len(ran) else f" ({', '.join(names)})"
                label = table.columns[task]
                found.append(f"{label}: n = {n}, the paper's test set has {size}{whose}")
    return found


def learning_rate(row: Row) -> str:
    """`lr 2e-3 (the paper's value)`; empty for a row without training."""
    if not row.learning_rates:
        return ""
    rates = ", ".join(map(scientific, row.learning_rates))
    by_seed = " by seed" if len(row.learning_rates) > 1 else ""
    return f"lr {rates}{by_seed} ({learning_rate_source(row)})"


def learning_rate_source(row: Row) -> str:
    """Where the row's learning rate is from, with what was tried where it was tuned."""
    source = row.plan["lr_from"]
    if not row.runs or source is None:
        return ""
    if source != "tuned":
        values = {"paper": "the paper's value", "scale": "the scale's value", "given": "as given"}
        return values[source]
    tunings = [run.provenance["tuning"] for run in row.runs]
    texts = [
        f"tuned on {tuning['held_out']} held-out training examples: "
        + ", ".join(scientific(trial["lr"]) for trial in tuning["trials"])
        for tuning in tunings
    ]
    return "; ".join(dict.fromkeys(texts))


def learning_rates(table: Table, group: Group | None = None) -> list[tuple[str, list[str]]]:
    """(learning rate and its source, names of the rows), of the whole table or of one group."""
    found: dict[str, list[str]] = {}
    for one, row in table.rows:
        if (group is None or one is group) and (text := learning_rate(row)):
            name = row_name(table, one, row) if group is None else row.name
            found.setdefault(text, []).append(name)
    return list(found.items())


def notes(table: Table, group: Group) -> list[str]:
    """Notes under one group's numbers: learning rates and test sets of another size, in words."""
    rates = [f"{text}: {', '.join(rows)}" for text, rows in learning_rates(table, group)]
    listed = [("Learning rates", rates), ("Test examples", test_sizes(table))]
    return [f"{what}: {'; '.join(texts)}." for what, texts in listed if texts]


def scientific(value: float) -> str:
    """`2e-3`, `2.5e-4`."""
    mantissa, exponent = f"{value:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def here_remarks(row: Row) -> list[str]:
    """What stands beside the reproduced numbers of a row."""
    remarks = [
        row.status if row.status != "run" else "",
        f"{len(row.runs)} seeds" if len(row.runs) > 1 else "",
        "reference of the comparisons" if row.is_reference else "",
    ]
    return [remark for remark in remarks if remark]


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
    not_run = sum(not row.runs for _, row in table.rows)
    where = place(table)
    sentences = [
        f"{table.heading}{where and f' ({where})'}: {what}.",
        banner(table) or "",
        legend.INTERVALS,
        f"{not_run} of {len(table.rows)} rows were not run." if not_run else "",
    ]
    return " ".join(text for text in sentences if text)


def place(table: Table) -> str:
    """Where the paper has the table; empty for a user's own experiment."""
    section = table.plan["section"]
    return f"section {section} of the paper" if section else ""


#: Heads of `run_facts`.
RUN_FACTS = ("run", "seed", "code", "device", "wall time", "peak memory")


def run_facts(table: Table) -> list[tuple[str, ...]]:
    """What the provenance of each run's adapter says about its making, each run once."""
    runs = {run.name: run for _, row in table.rows for run in row.runs}
    return [
        (name, str(run.seed), _code(run.provenance), run.device, *_cost(run.provenance))
        for name, run in runs.items()
    ]


def _code(provenance: Any) -> str:
    code = provenance.get("code", {})
    if "commit" in code:
        return code["commit"][:12] + (" with changes" if code.get("dirty") else "")
    return code.get("version", "not recorded")


def _cost(provenance: Any) -> tuple[str, str]:
    """Wall time and peak memory, `not recorded` where the provenance has none."""
    seconds = provenance.get("wall_seconds")
    memory = provenance.get("peak_device_memory_bytes") or provenance.get("peak_memory_bytes")
    return (
        "not recorded" if seconds is None else f"{seconds:,.0f} s",
        "not recorded" if memory is None else f"{memory / 2**30:.2f} GiB",
    )
