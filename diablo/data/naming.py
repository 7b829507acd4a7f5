"""Names that a user gives: messages for unknown ones, and the fields that a format string names."""

from __future__ import annotations

import difflib
import re
import string
from typing import Any


def unknown(kind: str, name: object, valid: Any, where: str) -> str:
    """Message for an unknown name: what, where, and the nearest valid one."""
    names = sorted(map(str, valid))
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where}: unknown {kind} {str(name)!r}; {hint}valid: {', '.join(names)}"


def format_fields(template: str) -> list[str]:
    """Names of the fields of a format string, each once, in order.

    Raises:
        ValueError: if it is no format string, or a field has no name.
    """
    names = []
    for _, name, _, _ in string.Formatter().parse(template):
        if name is not None:
            first = re.split(r"[.\[]", name)[0]
            if not first or first.isdigit():
                raise ValueError(f"{{{name}}} names no field of a record (write {{{{ for a brace)")
            names.append(first)
    return list(dict.fromkeys(names))
