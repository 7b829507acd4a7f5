"""How to read the numbers: intervals, seeds, the answer loss, comparisons and their signs."""

from __future__ import annotations

from diablo.tables.table import Cell, Group, Row, Table

INTERVALS = (
    "Intervals are 95 % percentile bootstrap intervals over the test examples; the average is the "
    "unweighted mean of the tasks, resampled within each task."
)
WIDTH_ZERO = "An interval of width zero means that all examples came out alike, not that the number is exact."
MARKS = (
    "Bold is best and underlined second best in a column of a group, as printed; full fine-tuning "
    "and zero-shot are not ranked."
)
LOSS = (
    "Answer loss is measured on the test examples' gold answers by teacher forcing: nats per token, "
    "unweighted mean of the tasks, lower is better; it separates methods where accuracy cannot."
)
STRICT = (
    "A strict column is a second reading of the same completions by the library math-verify: what it "
    "differs by is extraction, not the model."
)
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
TESTS = (
    "Tasks: exact McNemar test; with several seeds the exact sign test on each example's difference "
    "in the share of seeds that answered right, which equals McNemar's for one seed. Average and "
    "answer loss: paired bootstrap, both rows resampled alike within each task, seeds averaged "
    "first. p-values are two-sided; Holm's correction is over the comparisons of one column in one "
    "group. The tests are about the test examples: they do not cover how another seed would have "
    "trained, and the reference, chosen on the same examples, is slightly favoured."
)


def reading(table: Table) -> str:
    """How to read the numbers: as many sentences as the table needs."""
    cells = [cell for _, row in table.rows for cell in row.cells.values()]
    estimates = [cell.estimate for cell in cells if cell.estimate]
    sentences = [
        INTERVALS,
        WIDTH_ZERO if any(one.low == one.high for one in estimates) else "",
        seeds(table),
        MARKS,
        STRICT if table.plan["readings"] else "",
        LOSS if estimates else "",
        COMPARED if any(group.compared for group in table.groups) else "",
    ]
    return " ".join(filter(None, sentences))


def seeds(table: Table) -> str:
    """What a number of several seeds is; empty where every row has one."""
    counts = sorted({len(row.runs) for _, row in table.rows if len(row.runs) > 1})
    if not counts:
        return ""
    return (
        f"A row with several seeds ({' or '.join(map(str, counts))}) shows their mean ± sample "
        "standard deviation."
    )


def head(table: Table, column: str) -> str:
    """What stands under a column's name: the examples behind it, or the unit of the losses."""
    examples = table.examples(column)
    if column == "loss" or not examples:
        return "nats per token" if column == "loss" else ""
    return f"n = {examples}"


def compared_rows(group: Group) -> list[Row]:
    """The rows that were compared with the group's reference, each pair of runs once."""
    rows = {row.run_names: row for row in reversed(group.rows)}
    compared = [row for row in rows.values() if any(c.comparison for c in row.cells.values())]
    return compared[::-1] if group.comparisons else []


def reference(group: Group) -> str:
    """What the rows of a group were compared with, and how often."""
    assert group.reference is not None
    text = f"Compared with {group.reference.name}, the DiaBlo row with the highest average here: "
    if group.comparisons == 0:
        return text + "all comparisons are those of a group above."
    plural = "" if group.comparisons == 1 else "s"
    return text + f"{group.comparisons} comparison{plural} in each column."


def verdict(group: Group, cell: Cell) -> str:
    """`significantly worse than DiaBlo N=64 (corrected p = 0.003)`; empty where not compared."""
    if cell.comparison is None or group.reference is None:
        return ""
    p = p_value(cell.comparison.p_holm)
    return f"{VERDICTS[cell.comparison.verdict]} {group.reference.name} (corrected p {p})"


def p_value(p: float) -> str:
    """`= 0.012`, or `< 0.001`."""
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
