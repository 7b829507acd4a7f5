"""How the numbers were scored, as the score files' provenance says: sandbox, judge, samples, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diablo.tables.across import gammas, side_by_side
from diablo.tables.detail import Detail
from diablo.tables.runs import Run
from diablo.tables.scores import Entry
from diablo.tables.table import Row, Table

#: Outcomes of candidates in the order in which they are shown.
KINDS = ("passed", "failed", "timeout", "memory", "crashed")


def facts(table: Table) -> dict[str, str]:
    """The sandbox and the judge that were used, each once; empty where none was."""
    runs = list(distinct_runs(table))
    sandboxes = dict.fromkeys(_sandbox(run.scoring) for run in runs if run.scoring.get("sandbox"))
    return {"Sandbox": "; ".join(sandboxes), "Judge": _judges(runs)}


def details(table: Table) -> list[Detail]:
    """Tables of their own: groups side by side, searches of γ, outcomes of code, agreement of judges."""
    found = (side_by_side(table), gammas(table), _candidates(table), _agreement(table))
    return [one for one in found if one.rows]


def samples(row: Row) -> list[str]:
    """`temperature 0.2, 20 samples a prompt`, of each part whose completions are drawn at random."""
    found = []
    for part in row.parts:
        runs = [run for run in row.of_part(part) if isinstance(run, Run)]
        count = drawn(runs)
        many = f"{count} sample{'' if count == '1' else 's'} a prompt" if count else ""
        if text := ", ".join(filter(None, (temperature(runs), many))):
            found.append(f"{part}: {text}" if len(row.parts) > 1 else text)
    return found


def temperature(runs: Sequence[Run]) -> str:
    """`temperature 0.2`, or its range over the tasks; empty for what is not drawn at random."""
    found: set[float] = set()
    for run in runs:
        decoding = run.scoring.get("generated", {}).get("decoding", {})
        found |= {decoding.get("temperature", 0), *decoding.get("temperature_by_task", {}).values()}
    if not any(found):
        return ""
    low, high = min(found), max(found)
    return f"temperature {low:g}" + (f" to {high:g}" if high > low else "")


def drawn(runs: Sequence[Run]) -> str:
    """How many completions of a prompt are scored, `20` or `10 to 20`; empty where it is one."""
    counts = {n for run in runs for entry in run.entries.values() for n in entry.samples}
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"{low} to {high}" if high > low else str(low)


def outcomes(entries: Iterable[Entry]) -> dict[str, int]:
    """How many programs passed, failed, timed out and so on; empty for what is not code."""
    found: dict[str, int] = {}
    for kind, count in ((k, c) for entry in entries for k, c in entry.kinds.items()):
        found[kind] = found.get(kind, 0) + count
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _place(kind: str) -> tuple[int, str]:
    """Where a kind of outcome stands: the known ones first, in their order."""
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def malformed(table: Table) -> list[str]:
    """Verdicts of a judge that could not be read: of which rows and examples, in words."""
    found = []
    for key in table.measures:
        rows = []
        for group, row in table.rows:
            lost = [
                name + (f" of seed {run.seed}" if row.seeds > 1 else "")
                for run in row.runs
                if key in run.entries
                for name in run.entries[key].malformed
            ]
            if lost and not row.plan["same_as"]:
                rows.append(f"{table.row_name(group, row)}: {', '.join(lost)}")
        if rows:
            label = table.columns[key]
            found.append(
                f"{label}: verdicts that could not be read are left out ({'; '.join(rows)})"
            )
    return found


def distinct_runs(table: Table) -> Iterator[Run]:
    """Every run of the table once."""
    yield from {(run.part, run.name): run for _, row in table.rows for run in row.runs}.values()


def _sandbox(scoring: Mapping[str, Any]) -> str:
    """`bubblewrap; each program had 3 s of processor time and 512 MiB`."""
    limits = scoring.get("limits", {})
    given = [
        f"{limits['cpu_seconds']} s of processor time" if "cpu_seconds" in limits else "",
        f"{limits['memory_bytes'] / 2**20:g} MiB" if "memory_bytes" in limits else "",
    ]
    had = " and ".join(filter(None, given))
    return f"{scoring['sandbox']}" + (f"; each program had {had}" if had else "")


def _judges(runs: Iterable[Run]) -> str:
    """Each judge with what all runs asked of it: replies, unreadable ones, tokens and cost."""
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        judge = run.scoring.get("judge")
        if not judge:
            continue
        total = totals.setdefault(
            (judge["model"], judge["endpoint"]),
            {"malformed": 0, "cost": 0.0, "prompts": set()},
        )
        for key in ("calls", "cached", "prompt_tokens", "completion_tokens"):
            total[key] = total.get(key, 0) + judge[key]
        total["malformed"] += sum(len(entry.malformed) for entry in run.entries.values())
        known = total["cost"] is not None and judge["cost"] is not None
        total["cost"] = total["cost"] + judge["cost"] if known else None
        total["prompts"] |= {digest[:12] for digest in judge.get("prompts_sha256", {}).values()}
    texts = []
    for (model, endpoint), total in totals.items():
        prompts = f", prompts {', '.join(sorted(total['prompts']))}" if total["prompts"] else ""
        cost = "not known (no prices given)" if total["cost"] is None else f"{total['cost']:.4g}"
        texts.append(
            f"{model} at {endpoint}{prompts}; {total['calls']} calls and {total['cached']} kept replies, "
            f"{total['malformed']} verdict{'' if total['malformed'] == 1 else 's'} that could not be read; {total['prompt_tokens']:,} tokens of "
            f"prompts and {total['completion_tokens']:,} of replies, cost {cost}"
        )
    return "; ".join(texts)


def _candidates(table: Table) -> Detail:
    """Outcomes of the programs of each row, summed over problems and seeds."""
    lines: list[tuple[str, str, int, str, Mapping[str, int]]] = []
    for group, row in table.rows:
        # Columns of one task, such as pass@1 and pass@5, are of the same programs.
        tasks: dict[tuple[str, str], str] = {}
        for key, one in table.measures.items():
            if one.k:
                tasks.setdefault((one.part, one.task), key)
        for (part, task), key in tasks.items():
            runs = [run for run in row.of_part(part) if key in run.entries]
            kinds = outcomes([run.entries[key] for run in runs])
            if kinds and not row.plan["same_as"]:
                name, n = table.row_name(group, row), len(runs[0].entries[key].ids)
                lines.append((name, task, n, drawn(runs), kinds))
    known = {kind for *_, kinds in lines for kind in kinds}
    shown = sorted(known, key=_place)
    rows = [
        (name, task, str(n), how, *(f"{kinds.get(kind, 0):,}" for kind in shown))
        for name, task, n, how, kinds in lines
    ]
    return Detail(
        "Outcomes of the programs",
        "Each sample is one program, run with the problem's tests; sums over problems and seeds.",
        ("Method", "Task", "Problems", "Samples", *shown),
        rows,
        texts=2,
    )


def _agreement(table: Table) -> Detail:
    """Cohen's kappa between the judges of each run."""
    rows: list[tuple[str, ...]] = []
    for group, row in table.rows:
        several = row.seeds > 1
        for run in row.runs if not row.plan["same_as"] else ():
            name = table.row_name(group, row) + (f", seed {run.seed}" if several else "")
            for one in run.scoring.get("agreement", ()):
                between = " and ".join(each.replace("_", " ") for each in one["judges"])
                rows.append((name, one["task"], between, str(one["n"]), *_kappa(one)))
    return Detail(
        "Agreement of judges",
        "Cohen's kappa over the completions that both judged: 1 is full agreement, 0 what chance gives; "
        "with its 95 % interval (large-sample standard error).",
        ("Method", "Task", "Judges", "n", "agreed, %", "kappa", "interval", "note"),
        rows,
        texts=3,
    )


def _kappa(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    agreed = "" if one["agreed"] is None else f"{100 * one['agreed']:.1f}"
    kappa = "" if one["kappa"] is None else _signed(one["kappa"])
    interval = "" if one["interval"] is None else f"[{', '.join(map(_signed, one['interval']))}]"
    return agreed, kappa, interval, one.get("note") or ""


def _signed(value: float) -> str:
    text = f"{value:.2f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
