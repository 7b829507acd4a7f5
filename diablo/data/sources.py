"""Fetch one pinned file: from the mirror if configured, else the cache, else the network.

Mirror and cache have the same layout (`github/OWNER/NAME/COMMIT/PATH`, `hf-datasets/...`), so a cache copied to a
machine without a network serves as its mirror. Every file is checked by its SHA-256 before use.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests
from tqdm import tqdm

from diablo.data.access import Access, access_of, why_missing
from diablo.data.source_kinds import (
    GeneratedSource,
    GithubSource,
    LocalSource,
    PypiSource,
    RemoteFile,
)
from diablo.io import sha256_file, write_text

#: Where files of GitHub repositories are served (a test points it at a server of its own).
GITHUB_FILES = "https://raw.githubusercontent.com"
#: The same for data sets of the Hugging Face Hub.
HUB_FILES = "https://huggingface.co/datasets"
#: Pauses between attempts, in seconds; a broken download goes on where it stopped.
PAUSES = (1, 5, 15)
#: What a broken connection can lose, in bytes.
CHUNK = 1 << 16

Folder = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Fetched:
    """A file that has been checked: where it is, its SHA-256, and where it came from."""

    path: Path
    sha256: str
    origin: str


def cache_folder(cache: Folder = None) -> Path:
    """The download cache: `cache`, else `DIABLO_CACHE`, else ~/.cache/diablo."""
    default = Path.home() / ".cache" / "diablo"
    return Path(cache or os.environ.get("DIABLO_CACHE") or default).expanduser()


def fetch(
    source: PypiSource | RemoteFile | LocalSource, mirror: Folder = None, cache: Folder = None
) -> Fetched:
    """The source's file, looked up in the mirror, then the cache, then the network.

    Raises:
        ValueError: if the file is nowhere to be had, or its SHA-256 is not the expected one (a bad
            file of the cache is kept aside as `<file>.bad`; a mirror is never changed).
    """
    if isinstance(source, PypiSource):
        return installed_file(source)
    if isinstance(source, LocalSource):
        path = Path(source.path)
        return Fetched(path, _checked(path, source.sha256, keep_aside=False), "local")
    kept = find(source, mirror, cache)
    if kept is not None:
        return kept
    path = cache_folder(cache) / source.location
    with locked(path):
        kept = find(source, None, cache)  # another job may have been faster
        if kept is not None:
            return kept
        access = access_of(source)
        download(address(source), path, _expected(source, path), source.bytes, access)
        digest = sha256_file(path)
        if source.sha256 == "unknown":
            write_text(_note(path), digest + "\n")
    return Fetched(path, digest, "network")


def address(source: RemoteFile) -> str:
    """Where the file is downloaded from; ValueError if it is nowhere to be had any more."""
    if isinstance(source, GithubSource):
        return f"{GITHUB_FILES}/{source.repo}/{source.commit}/{source.path}"
    if source.gone:
        raise ValueError(
            f"{source.name}: {source.gone}. Whoever has a copy puts it into a mirror folder under "
            "this path and gives the folder with `--config mirror=FOLDER` (or `--mirror FOLDER`)"
        )
    return f"{HUB_FILES}/{source.repo}/resolve/{quote(source.commit, safe='')}/{source.path}"


def find(source: RemoteFile, mirror: Folder, cache: Folder) -> Fetched | None:
    """The source's file if the mirror or the cache holds it, checked; None if neither does."""
    if mirror is not None:
        require_folder(mirror)
        path = Path(mirror) / source.location
        if path.is_file():
            return Fetched(
                path, _checked(path, _expected(source, path), keep_aside=False), "mirror"
            )
    path = cache_folder(cache) / source.location
    if path.is_file():
        return Fetched(path, _checked(path, _expected(source, path), keep_aside=True), "cache")
    return None


def problems(
    source: PypiSource | RemoteFile | GeneratedSource | LocalSource,
    mirror: Folder = None,
    cache: Folder = None,
) -> list[str]:
    """What keeps this source from being used without a network; nothing is downloaded."""
    try:
        if isinstance(source, PypiSource):
            installed_file(source)
        elif isinstance(source, LocalSource):
            return []  # looked at while the experiment was read
        elif isinstance(source, GeneratedSource):
            require_version(source.package, source.version)
        elif find(source, mirror, cache) is None:
            places = [str(place) for place in (mirror, cache_folder(cache)) if place]
            return [f"{source.name}: missing (looked in {', '.join(places)}){why_missing(source)}"]
    except ValueError as error:
        return [str(error)]
    return []


def installed_file(source: PypiSource) -> Fetched:
    """The file inside an installed package, its version and SHA-256 checked."""
    require_version(source.package, source.version)
    spec = importlib.util.find_spec(source.module)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / source.path
        if path.is_file():
            return Fetched(path, _checked(path, source.sha256, keep_aside=False), "package")
    raise ValueError(
        f"{source.name}: the installed package has no such file; reinstall it with "
        f"`pip install --force-reinstall {source.package}=={source.version}`"
    )


def require_version(package: str, version: str) -> None:
    """Check that a package of this version is installed; ValueError says what to install."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != version:
        raise ValueError(
            f"package {package}: version {version} is needed, {found} is installed; "
            f"run `pip install {package}=={version}`"
        )


def download(
    url: str,
    path: Path,
    expected: str | None,
    size: int | None = None,
    access: Access | None = None,
) -> None:
    """Download `url` to `path`: resumable (`<path>.part`), checked, atomic, with a progress bar.

    Args:
        expected: SHA-256, or None where nobody knows it yet.
        size: bytes, or None where unknown.
        access: of a gated file.

    Raises:
        ValueError: if the network or the server fails for good, or the content is not as expected
            (it is kept as `<path>.bad`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for pause in (*PAUSES, None):
        try:
            _continue(url, part, size, access.token if access else None)
            break
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            if access and status in (401, 403):
                raise ValueError(f"{url}: refused ({status}). {access.advice}") from None
            if status < 500 and status != 429:
                raise ValueError(
                    f"{url}: the server answered {status}; the source may have moved or been "
                    "taken down. A copy in the mirror's layout can be given with mirror=FOLDER"
                ) from None
            _give_up_or_wait(url, error, pause)
        except (requests.RequestException, OSError) as error:
            _give_up_or_wait(url, error, pause)
    if expected is not None:
        _checked(part, expected, keep_aside=True, final=path)
    part.replace(path)


def _continue(url: str, part: Path, size: int | None, token: str | None) -> None:
    """Append to `part` what is still missing of `url`."""
    start = part.stat().st_size if part.exists() else 0
    if size is not None and start == size:
        return
    # A compressed transfer could not be continued at a byte of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    if token:
        headers["Authorization"] = f"Bearer {token}"  # not passed on to the host of large files
    with requests.get(url, headers=headers, stream=True, timeout=(20, 60)) as response:
        if response.status_code == 416:
            # The part is as long as the file or longer: the hash decides, or it is fetched anew.
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return
            part.unlink()
            raise requests.ConnectionError("the partial file does not fit; starting again")
        response.raise_for_status()
        resumed = response.status_code == 206
        left = int(response.headers.get("Content-Length") or 0)
        with (
            part.open("ab" if resumed else "wb") as out,
            tqdm(
                desc=part.name.removesuffix(".part"),
                initial=start if resumed else 0,
                total=(start if resumed else 0) + left or size,
                unit="B",
                unit_scale=True,
                # A log file gets a line now and then, a terminal a moving bar.
                mininterval=0.2 if sys.stderr.isatty() else 10,
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))


def _give_up_or_wait(url: str, error: Exception, pause: float | None) -> None:
    if pause is not None:
        time.sleep(pause)
        return
    raise ValueError(
        f"{url}: cannot be downloaded ({type(error).__name__}: {error}). Run again to go on where "
        "it stopped; without a network, give a folder that holds the file with "
        "`--config mirror=FOLDER` (or `--mirror FOLDER`)"
    ) from None


def _checked(path: Path, expected: str | None, keep_aside: bool, final: Path | None = None) -> str:
    """SHA-256 of `path`; ValueError if it is not `expected`."""
    actual = sha256_file(path)
    if expected is None or actual == expected:
        return actual
    name = final or path
    if keep_aside:
        bad = name.with_name(name.name + ".bad")
        path.replace(bad)
        advice = f"It was kept as {bad}; run again to download it anew"
    else:
        advice = "The file was left as it is; replace it with an unchanged copy of the source"
    raise ValueError(f"{name}: sha256 is {actual}, expected {expected}. {advice}")


def _expected(source: RemoteFile, path: Path) -> str | None:
    """The pinned hash; where the catalogue has none, the one noted at the first download."""
    if source.sha256 != "unknown":
        return source.sha256
    note = _note(path)
    return note.read_text(encoding="utf-8").strip() if note.is_file() else None


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def require_folder(mirror: str | os.PathLike[str]) -> None:
    """ValueError if the configured mirror is not there at all."""
    if not Path(mirror).is_dir():
        raise ValueError(f"mirror={mirror}: no such folder; give an existing one, or mirror=null")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock for `path`, so that two jobs do not write the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
