"""Writing a table of variances: CSV for machines, Markdown, HTML and LaTeX for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jinja2
import pandas as pd

from diablo.tables import settings, words
from diablo.tables.gradients import GradientRow, Variance, VarianceCell, gradient_rows
from diablo.tables.latex import latex_escape
from diablo.tables.render import markdown_escape, number, templates
from diablo.tables.table import Group, Table

NO_INTERVAL = (
    "No interval over steps is given: the steps of one run are correlated and have a trend that is part "
    "of the variance, so only other seeds say how much it would vary."
)
DETAILS = (
    "One line a seed and epoch. “Every step”: the variance over all steps of the epoch. “Mean of "
    "matrices”: the variance of the mean norm of the group's matrices, over the same steps as the number "
    "in the table. “Range”: least and largest variance of all ways to take one step in so many."
)
#: Heads of `details`.
DETAIL_HEADS = (
    *("row", "epoch", "seed", "variance", "steps", "skipped", "mean norm"),
    *("every step", "steps in all", "range", "mean of matrices"),
)


def reading(table: Table) -> str:
    """How to read the numbers: of what they are variances, and what says how sure they are."""
    every = table.plan["every"]
    numbers = "" if every == 1 else f" whose number is a multiple of {every}"
    several = [str(n) for n in sorted({len(row.runs) for _, row in table.rows}) if n > 1]
    seeds = f"With several seeds ({' or '.join(several)}): mean ± sample standard deviation. "
    return (
        f"Population variance, over the steps of an epoch{numbers}, of the global L2 norm of a group of parameters' gradient "
        "(of the whole batch, unscaled, before clipping). The paper does not say of what it takes the "
        f"norm. {seeds if several else ''}{NO_INTERVAL}"
    )


def significant(value: float | None, figures: int = 3) -> str:
    """A number with so many significant digits: `22.3`, `0.0523`, `1.2e-5`; empty for None."""
    if value is None:
        return ""
    digits = _digits(value, figures)
    if digits is None:
        return words.scientific(float(f"{value:.{figures - 1}e}"))
    return number(value, digits)


def _digits(value: float, figures: int = 3) -> int | None:
    """Decimals that show the significant digits; None where only powers of ten are readable."""
    if value == 0:
        return 0
    if not 1e-4 <= abs(value) < 1e5:
        return None
    return max(0, figures - 1 - math.floor(math.log10(abs(value))))


def here(cell: VarianceCell) -> str:
    """The reproduced number as printed, with its spread over seeds: `1.23 ± 0.10`."""
    text = significant(cell.value)
    if cell.value is None or cell.seed_sd is None:
        return text
    digits = _digits(cell.value)
    spread = significant(cell.seed_sd) if digits is None else number(cell.seed_sd, digits)
    return f"{text} \N{PLUS-MINUS SIGN} {spread}"


def remark(cell: VarianceCell) -> str:
    """What stands under the number: the steps behind it and the cell's note."""
    steps = f"{cell.steps.replace(' ', ' and ')} steps" if cell.value is not None else ""
    return "; ".join(text for text in (steps, cell.note) if text)


def details(table: Table) -> list[tuple[str, ...]]:
    """The numbers of every seed and epoch, as printed, under :data:`DETAIL_HEADS`."""
    return [
        (table.row_name(group, row), table.columns[key], str(run.seed), *_detail(one))
        for group, row in gradient_rows(table)
        for key, cell in row.cells.items()
        for run, one in zip(row.runs, cell.seeds, strict=True)
    ]


def _detail(one: Variance) -> tuple[str, ...]:
    return (
        *(significant(one.value), str(one.steps), str(one.skipped), significant(one.norm)),
        *(significant(one.of_all_steps), str(one.all_steps)),
        " to ".join(map(significant, one.offsets or ())),
        significant(one.of_means),
    )


def tidy_variances(table: Table) -> pd.DataFrame:
    """One line per row and column, with everything that is known about it; missing ones are empty.

    With several seeds the numbers are means over them; `steps`, `steps_skipped` and `runs` list them.
    """
    records = [
        _record(table, group, row, key)
        for group, row in gradient_rows(table)
        for key in table.columns
    ]
    return pd.DataFrame.from_records(records).astype({"seeds": "Int64"})


def _record(table: Table, group: Group, row: GradientRow, key: str) -> dict[str, Any]:
    plan, cell = table.plan, row.cells[key]
    ranges = [one.offsets for one in cell.seeds if one.offsets]
    return {
        "table": plan["name"],
        "scale": plan["scale"],
        "protocol": plan["variant"],
        **table.identity(group, row),
        "parameters": row.plan["group"],
        "setting_paper": row.setting,
        "setting_used": row.setting_here or (row.setting if row.runs else ""),
        "origin": row.plan["origin"] or "",
        "source": row.plan["source"] or "",
        "column": key,
        "column_label": table.columns[key],
        "reported": cell.reported,
        "reproduced": _rounded(cell.value),
        "seed_sd": _rounded(cell.seed_sd),
        "seeds": len(cell.seeds) or None,
        "difference": _rounded(cell.difference),
        "every": plan["every"],
        "steps": " ".join(str(one.steps) for one in cell.seeds),
        "steps_skipped": " ".join(str(one.skipped) for one in cell.seeds),
        "norm": _rounded(cell.mean("norm")),
        "every_step": _rounded(cell.mean("of_all_steps")),
        "every_step_steps": " ".join(str(one.all_steps) for one in cell.seeds),
        "offsets_low": _rounded(min((low for low, _ in ranges), default=None)),
        "offsets_high": _rounded(max((high for _, high in ranges), default=None)),
        "mean_of_matrices": _rounded(cell.mean("of_means")),
        "note": cell.note,
        "learning_rate": " ".join(f"{rate:g}" for rate in row.learning_rates),
        "learning_rate_from": words.learning_rate_source(row),
        "status": row.status,
        "runs": " ".join(row.run_names),
        "device": "; ".join(row.devices),
        "limits": settings.limits(plan["limits"]),
    }


def _rounded(value: float | None) -> float | None:
    """Six significant digits: the log has single precision, and variances may be small."""
    return None if value is None else float(f"{value:.6g}")


def to_csv(table: Table) -> str:
    """The tidy table as CSV."""
    return tidy_variances(table).to_csv(index=False, lineterminator="\n")


def to_markdown(table: Table) -> str:
    """Markdown with one table per group and the details of each seed below."""
    return _template("gradients.md.jinja", esc=markdown_escape).render(table=table)


def to_html(table: Table) -> str:
    """A self-contained page: no script, no request."""
    return _template("gradients.html.jinja", autoescape=True).render(table=table)


def to_latex(table: Table) -> str:
    """One `table` float per group, for `\\input`; needs the packages booktabs and graphicx."""
    return _template("gradients.tex.jinja", esc=latex_escape).render(table=table)


def _template(
    name: str, autoescape: bool = False, **filters: Callable[..., str]
) -> jinja2.Template:
    shared: dict[str, Callable[..., str]] = {
        "significant": significant,
        "here": here,
        "remark": remark,
    }
    environment = templates(autoescape, **shared, **filters)
    environment.globals |= {
        "reading": reading,
        "details": details,
        "DETAILS": DETAILS,
        "DETAIL_HEADS": DETAIL_HEADS,
    }
    return environment.get_template(name)


WRITERS: dict[str, Callable[[Table], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": to_html,
    ".tex": to_latex,
}
