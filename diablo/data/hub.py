"""Models of the Hugging Face Hub: a snapshot at a pinned revision, every file checked.

Mirror and cache hold it as `hf/OWNER/NAME/REVISION/`; beside a folder that was downloaded here lies
`REVISION.json` with the SHA-256 of each file.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diablo.data.access import how_to_get_access
from diablo.data.source_kinds import HfSource
from diablo.data.sources import Folder, cache_folder, locked, require_folder
from diablo.io import read_json, sha256_file, write_json

#: Address of the Hub; None means huggingface_hub's own setting (HF_ENDPOINT).
ENDPOINT: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A checked snapshot: its folder, the SHA-256 of each file, its commit and its origin."""

    folder: Path
    files: dict[str, str]
    commit: str
    origin: str


def fetch_snapshot(
    source: HfSource, gated: bool, mirror: Folder = None, cache: Folder = None
) -> Snapshot:
    """The snapshot, looked up in the mirror, then the cache, then the network.

    Raises:
        ValueError: if access is refused (the message says what to accept and where the token
            goes), the Hub cannot be reached, or a file is not as expected.
    """
    kept = find_snapshot(source, mirror, cache)
    if kept is not None:
        return kept
    folder = cache_folder(cache) / source.location
    with locked(folder):
        kept = find_snapshot(source, None, cache)
        return kept or _download(source, gated, folder)


def find_snapshot(source: HfSource, mirror: Folder, cache: Folder) -> Snapshot | None:
    """The snapshot if the mirror or the cache holds it completely, checked; None if not."""
    if mirror is not None:
        require_folder(mirror)
        folder = Path(mirror) / source.location
        if folder.is_dir():
            return _verified(source, folder, "mirror")
    folder = cache_folder(cache) / source.location
    # Only a finished download has a list beside it.
    return _verified(source, folder, "cache") if _listing(folder).is_file() else None


def problems(source: HfSource, mirror: Folder = None, cache: Folder = None) -> list[str]:
    """What keeps this snapshot from being used without a network; nothing is downloaded."""
    try:
        if find_snapshot(source, mirror, cache) is None:
            places = [str(place) for place in (mirror, cache_folder(cache)) if place]
            return [f"{source.name}: missing (looked in {', '.join(places)})"]
    except ValueError as error:
        return [str(error)]
    return []


def wanted(source: HfSource, names: list[str]) -> list[str]:
    """The files that the source's patterns name; no `.bin` weights where safetensors exist."""
    chosen = [name for name in names if any(fnmatch.fnmatch(name, p) for p in source.files)]
    # fnmatch's star also matches slashes: the originals in sub-folders are not wanted.
    chosen = [name for name in chosen if "/" not in name]
    if any(name.endswith(".safetensors") for name in chosen):
        chosen = [name for name in chosen if ".bin" not in name]
    return sorted(chosen)


def _verified(source: HfSource, folder: Path, origin: str) -> Snapshot:
    """Check a folder: complete by its weight index, and unchanged by its list if it has one."""
    listing = read_json(_listing(folder)) if _listing(folder).is_file() else None
    present = [path.name for path in folder.iterdir() if path.is_file()]
    names = sorted(listing["files"]) if listing else wanted(source, present)
    needed = set(names) | {"config.json"}
    for index in folder.glob("*.index.json"):
        if index.name in names:
            needed |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = sorted(needed - set(present))
    if missing:
        raise ValueError(
            f"{folder}: incomplete, lacks {', '.join(missing)}; "
            + ("complete the mirror" if origin == "mirror" else "remove the folder and run again")
        )
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise ValueError(f"{folder}: holds no weights that match {source.files}")
    files = {name: sha256_file(folder / name) for name in names}
    for name, digest in files.items():
        expected = listing["files"][name] if listing else digest
        if digest != expected:
            raise ValueError(_mismatch(folder / name, "sha256", digest, expected, origin))
    commit = listing["commit"] if listing else source.revision
    return Snapshot(folder, files, commit, origin)


def _mismatch(path: Path, kind: str, actual: str, expected: str, origin: str) -> str:
    if origin == "mirror":
        advice = "The file was left as it is; replace it with an unchanged copy of the source"
    else:
        bad = path.with_name(path.name + ".bad")
        path.replace(bad)
        _listing(path.parent).unlink(missing_ok=True)
        advice = f"It was kept as {bad}; run again to download it anew"
    return f"{path}: {kind} is {actual}, expected {expected}. {advice}"


def _listing(folder: Path) -> Path:
    return folder.with_name(folder.name + ".json")


def _download(source: HfSource, gated: bool, folder: Path) -> Snapshot:
    """Download the snapshot (resumable file by file), check it and write its list."""
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        api = HfApi(endpoint=ENDPOINT)
        info = api.model_info(source.repo, revision=source.revision, files_metadata=True)
        siblings = {file.rfilename: file for file in info.siblings or []}
        names = wanted(source, list(siblings))
        commit = info.sha or source.revision
        snapshot_download(
            source.repo, revision=commit, local_dir=folder, allow_patterns=names, endpoint=ENDPOINT
        )
    except errors.RevisionNotFoundError:
        raise ValueError(f"{source.repo}: the Hub has no revision {source.revision}") from None
    except (errors.HTTPError, OSError) as error:  # the HTTP client's own errors are among these
        raise ValueError(_explain(source, gated, error)) from None
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise ValueError(f"{source.name}: the Hub lists no weights that match {source.files}")
    for name in names:
        _check_against_hub(folder / name, siblings[name])
    files = {name: sha256_file(folder / name) for name in names}
    write_json(_listing(folder), {"repo": source.repo, "commit": commit, "files": files})
    return Snapshot(folder, files, commit, "network")


def _check_against_hub(path: Path, sibling: Any) -> None:
    """Compare a file with what the Hub says of it: LFS files by SHA-256, small ones by git id."""
    if sibling.lfs is not None:
        kind, expected, actual = "sha256", sibling.lfs.sha256, sha256_file(path)
    else:
        content = path.read_bytes()
        header = b"blob %d\0" % len(content)
        kind, expected = "git blob id", sibling.blob_id
        actual = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
    if expected is not None and actual != expected:
        raise ValueError(_mismatch(path, kind, actual, expected, "network"))


def _explain(source: HfSource, gated: bool, error: Exception) -> str:
    """What a user can do about an error of the Hub."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in (401, 403):
        advice = how_to_get_access(source.repo, gated)
        return f"{source.repo}: the Hub refuses access ({status}); {advice}"
    if status == 404:
        return f"{source.repo}: the Hub has no such repository or file at {source.revision}"
    return (
        f"{source.repo}: cannot be downloaded ({type(error).__name__}: {error}). Run again to go "
        "on where it stopped; without a network, give a folder that holds it as "
        f"{source.location} with `--config mirror=FOLDER` (or `--mirror FOLDER`)"
    )
