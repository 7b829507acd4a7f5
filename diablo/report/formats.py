"""Times, sizes and values as people read them."""

from __future__ import annotations

import json
from typing import Any


def hours(seconds: float | None) -> str:
    """`1.25 h`; empty for None."""
    return "" if seconds is None else f"{seconds / 3600:.2f} h"


def duration(seconds: float | None) -> str:
    """`8.2 s`, `12 min 5 s`, `3 h 2 min`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def gib(size: float | None) -> str:
    """`1.41 GiB`; empty for None."""
    return "" if size is None else f"{size / 2**30:.2f} GiB"


def plain(value: Any) -> str:
    """A JSON value as short text: `packing: true, bucket: 192`."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return value if isinstance(value, str) else json.dumps(value)


def from_json(text: str) -> Any:
    """A JSON text's value."""
    return json.loads(text)
