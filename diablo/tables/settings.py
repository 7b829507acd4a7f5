"""A plan's resolved settings in words: how is decoded, and what is capped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def decoding(value: Any) -> str:
    """Decoding in words; the plan gives a text or the resolved settings."""
    if isinstance(value, str):
        return value
    beams = value["num_beams"]
    lengths = value.get("max_new_tokens_by_task", {}).items()
    others = "".join(f" ({task}: {length})" for task, length in lengths)
    how = sampling(value) or ("greedy" if beams == 1 else f"beam search, {beams} beams")
    stop = ", ".join(repr(text) for text in value["stop"])
    most = f"at most {value['max_new_tokens']} new tokens{others}"
    return f"{how}, {most}" + (stop and f", stop at {stop}")


def sampling(value: Any) -> str:
    """`temperature 0.2, top-p 0.95, 20 samples a prompt`; empty where nothing is drawn at random."""
    if isinstance(value, str):
        return ""
    by_task = value.get("temperature_by_task", {})
    if not value.get("temperature") and not by_task:
        return ""
    others = ", ".join(f"{task} {each:g}" for task, each in by_task.items())
    others = f" ({others})" if others else ""
    samples = value.get("samples", 1)
    return (
        f"temperature {value.get('temperature', 0):g}{others}, top-p {value.get('top_p', 1):g}, "
        f"{samples} sample{'' if samples == 1 else 's'} a prompt"
    )


def limits(value: Mapping[str, Any], scored: bool = True) -> str:
    """The caps in words, or that there are none; `device` says what machine they are meant for."""
    words = {
        "train": "{} training examples in total",
        "test_per_task": "{} test examples per task" if scored else "",
        "steps": "{} optimiser steps",
        "probe": "{} training examples looked at",
    }
    given = [
        text.format(value[key])
        for key, text in words.items()
        if text and value.get(key) is not None
    ]
    device = f" (as set for {value['device']})" if value.get("device") else ""
    return (", ".join(given) or "none") + device
