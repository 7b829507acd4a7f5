"""How to read the numbers: intervals, seeds, the answer loss, comparisons and their signs."""

from __future__ import annotations

from collections.abc import Sequence

from diablo.tables.measures import BINARY, Measure
from diablo.tables.table import Cell, Group, Row, Table

INTERVALS = "Intervals are 95 % percentile bootstrap intervals over the test examples"
AVERAGE = "the average is the unweighted mean of the tasks, resampled within each task"
WIDTH_ZERO = "An interval of width zero means that all examples came out alike, not that the number is exact."
MARKS = (
    "Bold is best and underlined second best in a column of a group, as printed; full fine-tuning "
    "and zero-shot are not ranked."
)
STRICT = (
    "A strict column is a second reading of the same completions by the library math-verify: what it "
    "differs by is extraction, not the model."
)
#: What the metrics mean that need a word, by the start of their names.
METRICS = {
    "pass@": "Pass@k is the unbiased estimate of Chen et al. (2021) from all samples of a problem, "
    "averaged over the problems; s.e. is its standard error over the problems.",
    "refusal": "Refusal is the share of prompts whose completion counts as a refusal for the judge "
    "of the column.",
    "rating": "Ratings are the judge's, from 1 to 10, averaged over the questions; a verdict that "
    "could not be read is left out and listed.",
    "f1": "F1 and Matthews' correlation are statistics of the whole test set, times 100.",
    "matthews": "F1 and Matthews' correlation are statistics of the whole test set, times 100.",
}
LOWER = "Where lower is better, under the column's name, the lowest number is best."
#: Signs beside a number, by the verdict of its comparison; shapes, so that no colour is needed.
SIGNS = {
    "better": "\N{BLACK UP-POINTING TRIANGLE}",
    "worse": "\N{BLACK DOWN-POINTING TRIANGLE}",
    "no": "\N{ALMOST EQUAL TO}",
}
VERDICTS = {
    "better": "significantly better than",
    "worse": "significantly worse than",
    "no": "not distinguishable from",
}
COMPARED = (
    f"{SIGNS['better']} better than, {SIGNS['worse']} worse than, {SIGNS['no']} not distinguishable "
    "from the best DiaBlo row of the group on the same test examples, at 5 % after Holm's correction."
)
BESIDE = (
    "Under a difference, “inside” says that the paper's number lies in the interval here; “above” and "
    "“below”, that it does not, and on which side of it the number here is."
)
#: What makes a DiaBlo row the reference of its group.
CHOSEN = {
    "average": "highest average",
    "columns": "best mean of the columns",
    "parts": "best mean of the parts, each the mean of its columns,",
    "loss": "lowest answer loss",
}
SIGN_TEST = (
    "exact McNemar test; with several seeds the exact sign test on each example's difference "
    "in the share of seeds that answered right, which equals McNemar's for one seed."
)
PAIRED = "paired bootstrap, both rows resampled alike within each task, seeds averaged first."
DETECTABLE = (
    "The smallest detectable difference is the least true difference that a test on as many examples finds "
    "with a power of 80 %: {how}. What was found does not enter."
)
BY_SIGN = "exact for McNemar's test, given how many examples the two rows answered differently here"
BY_MEAN = "2.80 standard errors at 5 % for a bootstrap"
CORRECTED = (
    "p-values are two-sided; Holm's correction is over the comparisons of one column in one "
    "group. The tests are about the test examples: they do not cover how another seed would have "
    "trained, and the reference, chosen on the same examples, is slightly favoured."
)


def entries(table: Table) -> list[Measure]:
    """What the columns measure that are entries of score files."""
    return [one for key, one in table.measures.items() if key not in ("avg", "loss")]


def plain(table: Table) -> bool:
    """Whether all numbers are accuracies of one part, in percent: then columns need no further words."""
    return len(table.plan["parts"]) == 1 and all(one.metric == "acc" for one in entries(table))


def intervals(table: Table) -> str:
    """What the intervals are, and the average where there is one."""
    return f"{INTERVALS}; {AVERAGE}." if "avg" in table.columns else f"{INTERVALS}."


def tests(table: Table) -> str:
    """Which test compares what, as far as the table has it."""
    compared = compared_columns(table)
    found = [one for one in entries(table) if one.key in compared]
    signs = [one for one in found if one.metric in BINARY]
    drawn = [one for one in found if one.metric not in BINARY]
    by_sign = "Tasks" if plain(table) else ", ".join(table.columns[one.key] for one in signs)
    means = [name for key, name in (("avg", "average"), ("loss", "answer loss")) if key in compared]
    others = [*(table.columns[one.key] for one in drawn), " and ".join(means)]
    listed = ", ".join(filter(None, others))
    sentences = [
        f"{by_sign}: {SIGN_TEST}" if signs else "",
        f"{listed[0].upper()}{listed[1:]}: {PAIRED}" if listed else "",
        CORRECTED,
        DETECTABLE.format(
            how="; ".join([*([BY_SIGN] if signs else []), *([BY_MEAN] if listed else [])])
        ),
    ]
    return " ".join(filter(None, sentences))


def reading(table: Table) -> str:
    """How to read the numbers: as many sentences as the table needs."""
    cells = [cell for _, row in table.rows for cell in row.cells.values()]
    estimates = [cell.estimate for cell in cells if cell.estimate]
    shown = entries(table)
    used = [one.metric for one in shown if not one.missing]
    metrics = [
        text for name, text in METRICS.items() if any(metric.startswith(name) for metric in used)
    ]
    sentences = [
        intervals(table),
        WIDTH_ZERO if any(one.low == one.high for one in estimates) else "",
        seeds(table),
        MARKS,
        LOWER if any(one.lower_is_better for one in shown) else "",
        STRICT if any(key.endswith("_strict") for key in table.plan["readings"]) else "",
        _accuracies(table),
        *dict.fromkeys(metrics),
        loss(table) if "loss" in table.columns else "",
        COMPARED if any(group.compared for group in table.groups) else "",
    ]
    return " ".join(filter(None, sentences))


def _accuracies(table: Table) -> str:
    """Which columns are accuracies, where not all are."""
    labels = [table.columns[one.key] for one in entries(table) if one.metric == "acc"]
    if plain(table) or not labels:
        return ""
    return f"{', '.join(labels)}: accuracy, the share of examples that were answered right."


def loss(table: Table) -> str:
    """What the answer loss is, and of which tasks where the columns do not say it."""
    runs = [run for _, row in table.rows for run in row.runs if run.losses]
    tasks = dict.fromkeys(task for run in runs for task in run.losses.examples)  # type: ignore[union-attr]
    which = "" if plain(table) else f" {', '.join(tasks)}"
    many = plain(table) or len(tasks) > 1
    mean = f"unweighted mean of the tasks{which}" if many else f"of the task{which}"
    others = "accuracy" if plain(table) else "the other columns"
    return (
        "Answer loss is measured on the test examples' gold answers by teacher forcing: nats per token, "
        f"{mean}, lower is better; it separates methods where {others} cannot."
    )


def shows_stderr(table: Table) -> bool:
    """Whether the table prints standard errors."""
    return any(one.k for one in entries(table))


def units(table: Table) -> str:
    """`in percent`, or where the units stand."""
    found = {one.unit for one in entries(table)}
    if found == {"points"}:
        return "in points of 1 to 10"
    return (
        "in percent" if found <= {"%"} else "in percent or, where it says so, in points of 1 to 10"
    )


def seeds(table: Table) -> str:
    """What a number of several seeds is; empty where every row has one."""
    counts = sorted({row.seeds for _, row in table.rows if row.seeds > 1})
    if not counts:
        return ""
    return (
        f"A row with several seeds ({' or '.join(map(str, counts))}) shows their mean ± sample "
        "standard deviation."
    )


def head(table: Table, column: str) -> list[str]:
    """What stands under a column's name: part, unit, direction, and the examples behind it."""
    # The losses are of all the examples, which the other columns say, unless only some have an answer.
    examples = "" if column == "loss" and plain(table) else table.examples(column)
    return [*kind(table, column), *([f"n = {examples}"] if examples else [])]


def kind(table: Table, column: str) -> list[str]:
    """`code`, `points of 1 to 10`, `lower is better`: what a column's name does not say."""
    if column == "loss":
        return ["nats per token"]
    one = table.measures[column]
    label = "".join(filter(str.isalnum, table.columns[column])).casefold()
    words = [
        one.part if len(table.plan["parts"]) > 1 and one.part.casefold() != label else "",
        "points of 1 to 10" if one.unit == "points" else "",
        "lower is better" if one.lower_is_better else "",
    ]
    return [word for word in words if word]


def compared_columns(table: Table) -> dict[str, str]:
    """Names of the columns in which any rows were compared."""
    rows = [row for _, row in table.rows]
    return {
        key: label
        for key, label in table.columns.items()
        if any(row.cells[key].comparison for row in rows)
    }


def compared_rows(group: Group) -> list[Row]:
    """The rows that were compared with the group's reference, each pair of runs once."""
    rows = {row.run_names: row for row in reversed(group.rows)}
    compared = [row for row in rows.values() if any(c.comparison for c in row.cells.values())]
    return compared[::-1] if group.comparisons else []


def reference(group: Group) -> str:
    """What the rows of a group were compared with, and how often."""
    assert group.reference is not None
    best = CHOSEN[group.chosen_by]
    text = f"Compared with {group.reference.name}, the DiaBlo row with the {best} here: "
    if group.comparisons == 0:
        return text + "all comparisons are those of a group above."
    plural = "" if group.comparisons == 1 else "s"
    cells = [cell for row in compared_rows(group) for cell in row.cells.values()]
    where = "each column" if all(cell.comparison for cell in cells) else "each column with numbers"
    return text + f"{group.comparisons} comparison{plural} in {where}."


def detectable(table: Table, group: Group) -> str:
    """The smallest differences that the comparisons of a group could detect, by column, in words."""
    texts = []
    for key, label in table.columns.items():
        cells = [row.cells[key] for row in compared_rows(group)]
        found = [cell.comparison for cell in cells if cell.comparison]
        if not found:
            continue
        one = table.measures[key]
        unit = "points" if one.unit == "%" else one.unit
        plain = _range([each.detectable for each in found], one.digits)
        strict = _range([each.detectable_holm for each in found], one.digits)
        if not plain:
            texts.append(f"{label}: not known, these examples show none or do not vary")
        elif max(each.family for each in found) > 1:
            beyond = strict or "none"
            texts.append(
                f"{label} {plain} {unit} ({beyond} after Holm's correction at its strictest)"
            )
        else:
            texts.append(f"{label} {plain} {unit}")
    if not texts:
        return ""
    return f"Smallest detectable difference at 5 % with 80 % power: {'; '.join(texts)}."


def _range(values: Sequence[float | None], digits: int) -> str:
    """`4.1`, or `4.1 to 5.0`; empty where one is missing."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return ""
    low, high = f"{min(there):.{digits}f}", f"{max(there):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def verdict(group: Group, cell: Cell) -> str:
    """`significantly worse than DiaBlo N=64 (corrected p = 0.003)`; empty where not compared."""
    if cell.comparison is None or group.reference is None:
        return ""
    p = p_value(cell.comparison.p_holm)
    return f"{VERDICTS[cell.comparison.verdict]} {group.reference.name} (corrected p {p})"


def p_value(p: float) -> str:
    """`= 0.012`, or `< 0.001`."""
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
