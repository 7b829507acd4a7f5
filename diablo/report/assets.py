"""Where the page's images and files are: inside it, or beside it in a zip archive."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

MIME = {".svg": "image/svg+xml", ".png": "image/png"}
#: Bytes above which a chart with very many points is embedded as PNG, if that is smaller.
LARGE = 400_000


@dataclass
class Assets:
    """Addresses of files as the page names them.

    Attributes:
        results: the folder of results.
        beside: False embeds images as data; True keeps files beside the page.
        files: name in the archive -> file, of all that the page names (with `beside`).
    """

    results: Path
    beside: bool
    files: dict[str, Path] = field(default_factory=dict)

    def image(self, path: Path) -> str:
        """The address of an image."""
        if self.beside:
            return self._kept(path)
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        return f"data:{MIME[path.suffix]};base64,{data}"

    def links(self, paths: list[Path]) -> dict[str, str]:
        """Name -> address of files to open; none where everything is in one file."""
        return {path.name: self._kept(path) for path in paths} if self.beside else {}

    def _kept(self, path: Path) -> str:
        name = path.relative_to(self.results).as_posix()
        self.files[name] = path
        return name


def best_image(folder: Path, name: str) -> Path | None:
    """A figure's SVG, sharp at every size; its PNG where the SVG is large or missing; None without both."""
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    if not svg.is_file():
        return png if png.is_file() else None
    size = svg.stat().st_size
    return png if size > LARGE and png.is_file() and png.stat().st_size < size else svg
