"""Names of a plan's rows outside their groups, and which rows repeat another's runs. No torch here."""

from __future__ import annotations

from typing import Any


def mark_repeats(groups: list[dict[str, Any]]) -> None:
    """Say `same run as ...` in rows whose runs an earlier row has already."""
    first: dict[tuple[str, ...], str] = {}
    for group in groups:
        for row in group["rows"]:
            key = tuple(run["run"] for run in row["runs"])
            if key and (same := first.setdefault(key, row_name(group, row))) != row_name(
                group, row
            ):
                row["same_as"] = same


def row_name(group: dict[str, Any], row: dict[str, Any]) -> str:
    """A row's name outside its group, such as `Llama2-7B / LoRA r=32`."""
    setting = f" N={row['num_blocks']}" if row["num_blocks"] else ""
    setting = setting or (f" r={row['rank']}" if row["rank"] else "")
    return " ".join([f"{group['label']} / {row['label']}{setting}", *row["apart"].values()])
