"""Figures as data: charts of an experiment's rows, and averages of several tables in one figure.

Also which figures an experiment has, as the workflow and the verb `aggregate` both need to know.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from diablo.validation import Strict, load_yaml

#: Settings that are numbers: lines over a logarithmic axis. Others are bars side by side.
NUMBERS = ("num_blocks", "lr")

#: Figure 1 is a drawing: it has no rows, no plan and no YAML file.
SCHEMATIC = {"name": "figure1", "title": "Full fine-tuning, LoRA and DiaBlo"}

#: Kinds of experiments that look into a model: one figure each, named after what is measured.
LOOKS_INTO_MODELS = ("effective-rank", "gradient-norms")


class Chart(Strict):
    """A figure of accuracy and answer loss over one setting of the rows, beside the table.

    The accuracy is the average or, without one, the only column. Rows that differ in nothing but `x`
    are one series.
    """

    x: Literal["num_blocks", "lr", "modules", "layers"]
    label: str = Field(description="the axis, in words")


class Panel(Strict):
    """Some rows of one group of a table."""

    table: str
    group: str = Field(description="the group's label")
    title: str
    rows: list[str] = Field(min_length=1, description="names of rows, as filters use them")


class Averages(Strict):
    """A figure of the averages of other tables' rows: it trains nothing of its own."""

    name: str
    title: str
    section: str | None = Field(None, description="of the paper")
    notes: list[str] = Field([], description="what a reader of its numbers should know")
    panels: list[Panel] = Field(min_length=1)


def load_averages(folder: Path) -> list[Averages]:
    """All figures of other tables' averages: the YAML files of `folder`, by name.

    Raises:
        ValueError: if one does not fit; the message names the file and the key.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        figure = load_yaml(Averages, path)
        if figure.name != path.stem:
            raise ValueError(f"{path}: name is {figure.name!r}, the file says {path.stem!r}")
        found.append(figure)
    return found


def figure_names(plan: Mapping[str, Any]) -> dict[str, str]:
    """Names of the figures of a table, and what each shows.

    A chart has the table's own name where there is no average, which else has it; the chart then says
    all that a figure of the one column would.
    """
    name = plan["name"]
    if plan["kind"] == "gradient-variance":
        return {name: "gradient norms", f"{name}-variance": "variances"}
    if plan["kind"] == "averages":
        return {name: "averages"}
    if plan["kind"] in LOOKS_INTO_MODELS:
        return {name: plan["kind"].replace("-", " ")}
    if plan["chart"] and not plan["average"]:
        found = {name: f"over {plan['chart']['label']}"}
    else:
        found = {name: "averages"} if plan["average"] else {}
        found[f"{name}-tasks"] = "each task"
        if plan["chart"]:
            found[chart_name(plan)] = "curve"
    if plan.get("across"):
        found[f"{name}-across"] = "rows across groups"
    return found


def chart_name(plan: Mapping[str, Any]) -> str:
    """Name of the figure of a plan's `chart`."""
    return f"{plan['name']}-curve" if plan["average"] else str(plan["name"])
