"""The sentences around the numbers: what stands in for what, how it was decoded, what was chosen.

How to read the numbers themselves is said in `diablo.tables.legend`.
Every format and every caption takes them from here, so that none can forget a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diablo.apart import scientific
from diablo.tables import evidence, legend
from diablo.tables.settings import decoding, limits
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
    """Facts that hold for the whole table, by heading; texts are in the plan's own words.

    What differs between the parts of the experiment is said of each, `Limits (code)`.
    """
    plan = table.plan
    describe = plan.get("scale_describe")
    # Other kinds look into the training or the model: nothing is decoded, and no score has an origin.
    scored = plan["kind"] in ("accuracy", "averages")
    found = {"Scale": f"{plan['scale']}: {describe}" if describe else str(plan["scale"])}
    found |= _by_part(plan, "Protocol", _protocol)
    if scored:
        found |= _by_part(plan, "Decoding", lambda part: decoding(part["decoding"]))
    found |= _by_part(plan, "Limits", lambda part: limits(part["limits"], scored))
    if scored:
        found |= evidence.facts(table)
    found["Trained on"] = devices(table)
    if plan["kind"] == "averages":
        found["Rows"] = " ".join(plan["notes"])
    if scored:
        found |= _by_part(plan, "Notes", lambda part: " ".join(part["notes"]))
    return {key: text for key, text in found.items() if text}


def _by_part(
    plan: Mapping[str, Any], heading: str, text_of: Callable[[Mapping[str, Any]], str]
) -> dict[str, str]:
    """What is said of every part: once where all parts say the same, else with the parts' names."""
    names: dict[str, list[str]] = {}
    for part in plan["parts"]:
        names.setdefault(text_of(part), []).append(part["name"])
    if len(names) == 1:
        return {heading: next(iter(names))}
    return {f"{heading} ({', '.join(parts)})": text for text, parts in names.items()}


def _protocol(part: Mapping[str, Any]) -> str:
    return f"{part['variant']}: {part['protocol']}" if "protocol" in part else ""


def foot(table: Table) -> list[str]:
    """What stands under every figure: the stand-ins, always, and how the numbers were made."""
    shown = ("Decoding", "Limits", "Judge")
    made = " ".join(
        f"{key}: {text}." for key, text in facts(table).items() if key.startswith(shown)
    )
    return [text for text in (banner(table), made) if text]


def devices(table: Table) -> str:
    """The device that the runs were made on; the rows of each where there are several."""
    found: dict[str, list[str]] = {}
    for group, row in table.rows:
        for device in row.devices:
            found.setdefault(device, []).append(table.row_name(group, row))
    if len(found) < 2:
        return "".join(found)
    return "; ".join(f"{device}: {', '.join(rows)}" for device, rows in sorted(found.items()))


def row_notes(table: Table) -> list[tuple[str, list[str]]]:
    """(note, names of the rows it is about), each note once."""
    found: dict[str, list[str]] = {}
    for group, row in table.rows:
        for note in row.plan["notes"]:
            found.setdefault(note, []).append(table.row_name(group, row))
    return [(note, _all_or(table, rows)) for note, rows in found.items()]


def choices(table: Table) -> list[tuple[str, list[str]]]:
    """(settings that the paper leaves open, names of the rows that needed them)."""
    found: dict[str, list[str]] = {}
    of_parts = _by_part(table.plan, "protocol", lambda part: ", ".join(part.get("unstated", ())))
    for whose, settings in of_parts.items():
        if settings:
            found[settings] = [f"all rows ({whose})"]
    for group, row in table.rows:
        if row.plan["unstated"]:
            key = ", ".join(row.plan["unstated"])
            found.setdefault(key, []).append(table.row_name(group, row))
    return [(settings, _all_or(table, rows)) for settings, rows in found.items()]


def _all_or(table: Table, rows: list[str]) -> list[str]:
    """These names, or that they are all: a sweep has dozens."""
    return ["all rows"] if 2 < len(table.rows) == len(rows) else rows


def test_sizes(table: Table) -> list[str]:
    """Tasks that were not scored on as many examples as the paper's test set has, in words."""
    sizes = {
        (part["name"], task): size
        for part in table.plan["parts"]
        for task, size in part["test_sizes_paper"].items()
    }
    found = []
    for (part, task), size in sizes.items():
        keys = [key for key, one in table.measures.items() if (one.part, one.task) == (part, task)]
        if not keys:
            continue
        ran = [(group, row) for group, row in table.rows if row.of_part(part)]
        rows: dict[int, list[str]] = {}
        for group, row in ran:
            entries = row.of_part(part)[0].entries
            if scored := [key for key in keys if key in entries]:
                n = len(entries[scored[0]].ids)
                rows.setdefault(n, []).append(table.row_name(group, row))
        for n, names in rows.items():
            if n != size:
                whose = "" if len(names) == len(ran) else f" ({', '.join(names)})"
                # Several columns of one task, such as pass@1 and pass@5, have one test set.
                columns = [key for key in keys if not table.measures[key].reading]
                label = table.columns[columns[0]] if len(columns) == 1 else task
                found.append(f"{label}: n = {n}, the paper's test set has {size}{whose}")
    return found


def remarks(table: Table) -> list[str]:
    """What a reader must know of the examples behind the numbers, in words."""
    return [*test_sizes(table), *evidence.malformed(table)]


def learning_rate(row: Row) -> str:
    """`lr 2e-3 (the paper's value)`, of each part where they differ; empty without training."""
    found: dict[tuple[float, ...], list[str]] = {}
    for part in row.parts:
        used = {run.learning_rate for run in row.of_part(part)}
        if rates := tuple(sorted(rate for rate in used if rate is not None)):
            found.setdefault(rates, []).append(part)
    if not found:
        return ""
    texts = []
    for rates, parts in found.items():
        by_seed = " by seed" if len(rates) > 1 else ""
        whose = f"{', '.join(parts)}: " if len(found) > 1 else ""
        texts.append(f"{whose}{', '.join(map(scientific, rates))}{by_seed}")
    return f"lr {'; '.join(texts)} ({learning_rate_source(row)})"


def learning_rate_source(row: Row) -> str:
    """Where the row's learning rate is from, with what was tried where it was tuned."""
    source = row.plan["lr_from"]
    if not row.runs or source is None:
        return ""
    if source != "tuned":
        values = {"paper": "the paper's value", "scale": "the scale's value", "given": "as given"}
        return values[source]
    found: dict[str, list[str]] = {}
    for run in row.runs:
        tuning = run.provenance["tuning"]
        tried = ", ".join(scientific(trial["lr"]) for trial in tuning["trials"])
        text = f"tuned on {tuning['held_out']} held-out training examples: {tried}"
        found.setdefault(text, []).append(run.part)
    if len(row.parts) == 1:
        return "; ".join(found)
    whose = {text: ", ".join(dict.fromkeys(parts)) for text, parts in found.items()}
    return "; ".join(f"{whose[text]}: {text}" if len(found) > 1 else text for text in found)


def learning_rates(table: Table, group: Group | None = None) -> list[tuple[str, list[str]]]:
    """(learning rate and its source, names of the rows), of the whole table or of one group."""
    found: dict[str, list[str]] = {}
    for one, row in table.rows:
        if (group is None or one is group) and (text := learning_rate(row)):
            name = table.row_name(one, row) if group is None else row.name
            found.setdefault(text, []).append(name)
    return list(found.items())


def notes(table: Table, group: Group) -> list[str]:
    """Notes under one group's numbers: learning rates and test sets of another size, in words."""
    rates = [f"{text}: {', '.join(rows)}" for text, rows in learning_rates(table, group)]
    listed = [
        ("Learning rates", rates),
        ("Test examples", test_sizes(table)),
        ("Verdicts", evidence.malformed(table)),
    ]
    return [f"{what}: {'; '.join(texts)}." for what, texts in listed if texts]


def here_remarks(row: Row) -> list[str]:
    """What stands beside the reproduced numbers of a row."""
    remarks = [
        row.status if row.status != "run" else "",
        f"{row.seeds} seeds" if row.seeds > 1 else "",
        *evidence.samples(row),
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
        legend.intervals(table),
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
