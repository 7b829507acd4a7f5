"""Writing a table: CSV for machines, Markdown, HTML and LaTeX for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from diablo.tables import evidence, legend, settings, words
from diablo.tables.latex import latex_escape
from diablo.tables.table import Cell, Group, Row, Table

MINUS = "\N{MINUS SIGN}"


def tidy(table: Table) -> pd.DataFrame:
    """One line per row and column, with everything that is known about it.

    Numbers are in the line's `unit`; missing ones are empty. `used_model`, `stand_in` and
    `stand_ins` stand on every line, so that no line can be read without them.
    """
    records = [
        _record(table, group, row, key) for group, row in table.rows for key in table.columns
    ]
    frame = pd.DataFrame.from_records(records)
    whole = [
        *("row", "seeds", "n", "available", "malformed"),
        *("comparisons", "params_counted", "params_trained"),
    ]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _record(table: Table, group: Group, row: Row, key: str) -> dict[str, Any]:
    plan, cell, measure = table.plan, row.cells[key], table.measures[key]
    found, versus, reference = cell.estimate, cell.comparison, group.reference
    parts = [part for part in plan["parts"] if part["name"] in row.parts]
    parts = [part for part in parts if key in ("avg", "loss") or measure.part == part["name"]]
    runs = [run for part in parts for run in row.of_part(part["name"])]
    entries = [run.entries[key] for run in runs if key in run.entries]
    return {
        "table": plan["name"],
        "scale": plan["scale"],
        "protocol": _of_parts(parts, lambda part: part["variant"]),
        **table.identity(group, row),
        "setting_paper": row.setting,
        "setting_used": row.setting_here or (row.setting if row.runs else ""),
        "paper_lr": row.plan.get("lr"),
        "paper_modules": row.plan.get("modules") or "",
        "paper_layers": row.plan.get("layers") or "",
        "origin": row.plan["origin"] or "",
        "source": row.plan["source"] or "",
        "column": key,
        "column_label": table.columns[key],
        "part": measure.part,
        "metric": measure.metric,
        "unit": measure.unit,
        "lower_is_better": measure.lower_is_better,
        "reported": cell.reported,
        "reported_mark": cell.reported_mark or "",
        "reproduced": found and _rounded(found.value),
        "low": found and _rounded(found.low),
        "high": found and _rounded(found.high),
        "stderr": found and _rounded(found.stderr),
        "seed_sd": found and _rounded(found.seed_sd),
        "seeds": found and found.seeds,
        "n": found and found.n,
        "available": found and table.test_sizes.get(key),
        "malformed": sum(len(entry.malformed) for entry in entries) if entries else None,
        "temperature": evidence.temperature(runs).removeprefix("temperature ") if entries else "",
        "samples": " ".join(
            str(n) for n in sorted({n for entry in entries for n in entry.samples})
        ),
        "outcomes": ", ".join(f"{n} {kind}" for kind, n in evidence.outcomes(entries).items()),
        "difference": _rounded(cell.difference),
        "reproduced_mark": cell.mark or "",
        "reference": reference.name if reference and row.runs else "",
        "is_reference": row.is_reference,
        "difference_to_reference": versus and _rounded(versus.difference),
        "difference_low": versus and _rounded(versus.low),
        "difference_high": versus and _rounded(versus.high),
        "p": versus and _significant(versus.p),
        "p_holm": versus and _significant(versus.p_holm),
        "comparisons": versus and versus.family,
        "detectable": versus and _rounded(versus.detectable),
        "detectable_holm": versus and _rounded(versus.detectable_holm),
        "significant": versus.verdict if versus else "",
        "params_reported": row.plan["params_reported"] or "",
        "params_counted": row.plan["params_counted"],
        "params_counted_percent": row.plan["params_counted_percent"],
        "params_trained": row.trained,
        "params_trained_percent": _rounded(row.trained_percent),
        "learning_rate": " ".join(f"{rate:g}" for rate in row.learning_rates),
        "learning_rate_from": words.learning_rate_source(row),
        "status": cell.missing or row.status,
        "runs": " ".join(run.name for run in runs),
        "device": "; ".join(row.devices),
        "limits": _of_parts(parts, lambda part: settings.limits(part["limits"])),
        "decoding": _of_parts(parts, lambda part: settings.decoding(part["decoding"])),
    }


def _of_parts(
    parts: Sequence[Mapping[str, Any]], text_of: Callable[[Mapping[str, Any]], str]
) -> str:
    """What holds for these parts: once where it is the same for all, else `code: ...; safety: ...`."""
    texts = {part["name"]: text_of(part) for part in parts}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{name}: {text}" for name, text in texts.items())


def _rounded(value: float | None) -> float | None:
    """Six decimals: more than any sample size supports, without binary fractions' tails."""
    return None if value is None else round(value, 6)


def _significant(p: float) -> float:
    """Six significant digits: a p-value is never rounded to 0."""
    return float(f"{p:.6g}")


def to_csv(table: Table) -> str:
    """The tidy table as CSV."""
    return tidy(table).to_csv(index=False, lineterminator="\n")


def number(value: float | None, digits: int = 1) -> str:
    """A number as printed, with a true minus sign; empty for None. Never prints -0.0."""
    if value is None:
        return ""
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """A difference as printed: `+1.2`, `−0.4`, `0.0`."""
    text = number(value, digits)
    return f"+{text}" if value is not None and float(f"{value:.{digits}f}") > 0 else text


def spread(cell: Cell) -> str:
    """` ± 0.8`, the standard deviation over seeds; empty for one seed."""
    if cell.estimate is None or cell.estimate.seed_sd is None:
        return ""
    return f" \N{PLUS-MINUS SIGN} {number(cell.estimate.seed_sd, cell.digits)}"


def interval(cell: Cell) -> str:
    """`[38.1, 44.5]`, over the examples; with the standard error, `, s.e. 1.6`, where it is printed."""
    found = cell.estimate
    if found is None:
        return ""
    text = f"[{number(found.low, cell.digits)}, {number(found.high, cell.digits)}]"
    if cell.shows_stderr and found.stderr is not None:
        text += f", s.e. {number(found.stderr, cell.digits)}"
    return text


def versus(cell: Cell) -> str:
    """`−3.1 [−6.0, −0.2]`: the number minus the reference's, with its interval if it has one."""
    found = cell.comparison
    if found is None:
        return ""
    text = signed(found.difference, cell.digits)
    if found.low is None:
        return text
    return f"{text} [{number(found.low, cell.digits)}, {number(found.high, cell.digits)}]"


def sign(cell: Cell) -> str:
    """The sign of the comparison's verdict; empty where nothing was compared."""
    return legend.SIGNS[cell.comparison.verdict] if cell.comparison else ""


def beside(cell: Cell) -> str:
    """`inside`, where the paper's number lies in the interval here; else where the number here lies.

    Empty where there is nothing to set beside each other.
    """
    found = cell.estimate
    if found is None or cell.reported is None:
        return ""
    if found.low <= cell.reported <= found.high:
        return "inside"
    return "above" if found.value > cell.reported else "below"


def marked(cell: Cell, what: str, best: str, second: str) -> str:
    """A cell's printed number inside the wrapping of its mark.

    Args:
        what: "reported" or "here".
        best, second: the wrappings, which hold one `{}`.
    """
    value, mark = cell.reported, cell.reported_mark
    if what == "here":
        value, mark = cell.estimate.value if cell.estimate else None, cell.mark
    wrapping = {"best": best, "second": second}.get(mark or "", "{}")
    return wrapping.format(number(value, cell.digits))


def templates(autoescape: bool = False, **filters: Callable[..., str]) -> jinja2.Environment:
    """The templates, with the helpers above and a format's own filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("diablo.tables"),
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = {"num": number, "signed": signed, "spread": spread, "interval": interval}
    environment.filters |= {**shared, "versus": versus, "sign": sign, "beside": beside, **filters}
    environment.globals |= {"words": words, "legend": legend, "evidence": evidence}
    return environment


def markdown_escape(text: str) -> str:
    """Text that means itself inside a Markdown table cell."""
    escaped = "".join("\\" + one if one in "\\|*_<>[]`" else one for one in str(text))
    return " ".join(escaped.split())


def to_markdown(table: Table) -> str:
    """Markdown with one table per group; a row takes a line each for paper, here and difference."""
    mark = partial(marked, best="**{}**", second="<u>{}</u>")
    environment = templates(esc=markdown_escape, marked=mark)
    return environment.get_template("table.md.jinja").render(table=table)


def to_html(table: Table) -> str:
    """A self-contained page: no script, no request, readable in grey and on narrow screens."""

    def mark(cell: Cell, what: str) -> Markup:
        return Markup(marked(cell, what, "<strong>{}</strong>", "<u>{}</u>"))

    environment = templates(autoescape=True, marked=mark)
    return environment.get_template("table.html.jinja").render(table=table)


def to_latex(table: Table) -> str:
    """Floats of the tables and of their comparisons, for `\\input`; needs the packages booktabs and graphicx."""

    def mark(cell: Cell, what: str) -> str:
        return marked(cell, what, r"\textbf{{{}}}", r"\underline{{{}}}").replace(MINUS, "$-$")

    environment = templates(esc=latex_escape, marked=mark)
    return environment.get_template("table.tex.jinja").render(table=table)


WRITERS: dict[str, Callable[[Table], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": to_html,
    ".tex": to_latex,
}
