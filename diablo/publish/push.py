"""A run on the Hugging Face Hub: its adapter or merged model, its card, and the records behind the card."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diablo.data.access import how_to_get_access
from diablo.io import atomic_path, read_json, write_json
from diablo.methods import get_method
from diablo.publish import check_trained
from diablo.publish.card import Base, card
from diablo.publish.merge import merge


def push(
    spec: Any,
    run: Path,
    repo: str,
    merged: bool = False,
    base: str | None = None,
    dry_run: Path | None = None,
) -> None:
    """Write the folder of a model repository and upload it.

    Args:
        spec: RunSpec.
        run: its folder.
        repo: OWNER/NAME on the Hub; made if need be.
        merged: the merged model instead of the adapter.
        base: repository of the base model, for one that the catalogue lacks.
        dry_run: folder to write instead of uploading, which must not be there.

    Raises:
        ValueError: if the run has no provenance, is not what that says, or has no adapter; if the base
            model is not known; or if the Hub refuses or cannot be reached. Nothing is uploaded then.
    """
    _check_repo(repo)
    if base is not None:
        _check_repo(base)
    check_trained(run, spec.method)
    if get_method(spec.method).artifact == "model" and not merged:
        raise ValueError(f"{run}: method {spec.method!r} leaves a whole model; add --merged")
    if dry_run is not None and dry_run.exists():
        raise ValueError(f"{dry_run}: is there already; remove it, or give another --dry-run")
    page, found = card(spec, run, repo, merged, base)
    with atomic_path(dry_run) if dry_run else _temporary() as folder:
        if merged:
            merge(spec, run, folder)
        else:
            _copy_adapter(run, folder, found)
        _copy_records(spec, run, folder / "run")
        (folder / "README.md").write_text(str(page), encoding="utf-8")
        if dry_run is None:
            _upload(folder, repo, spec.run)
    print(f"{dry_run}: what would be uploaded" if dry_run else f"https://huggingface.co/{repo}")


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "model"


def _check_repo(repo: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    with contextlib.suppress(HFValidationError):
        validate_repo_id(repo)
        if repo.count("/") == 1:
            return
    raise ValueError(f"{repo!r} is no repository of the Hub; give OWNER/NAME")


def _copy_adapter(run: Path, folder: Path, base: Base) -> None:
    """The adapter, with the base model's name on the Hub in place of its folder on this machine."""
    ignored = shutil.ignore_patterns("provenance.json")
    shutil.copytree(run / "adapter", folder, ignore=ignored)
    path = folder / "adapter_config.json"
    named = {"base_model_name_or_path": base.hub, "revision": base.revision}
    write_json(path, {**read_json(path), **named})


def _copy_records(spec: Any, run: Path, folder: Path) -> None:
    """What the card's numbers rest on, as it is."""
    folder.mkdir()
    shutil.copy(run / "spec.json", folder)
    shutil.copy(run / "adapter" / "provenance.json", folder)
    for kind in ("scores", "losses"):
        path = run / kind / f"{spec.suite}.json"
        if path.is_file():
            shutil.copy(path, folder / f"{kind}.json")


def _upload(folder: Path, repo: str, run: str) -> None:
    from huggingface_hub import HfApi, errors

    try:
        api = HfApi()
        api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Run {run}")
    except (errors.HTTPError, OSError) as error:  # the HTTP client's own errors are among these
        login = how_to_get_access(repo, gated=False).replace("read token", "token that may write")
        raise ValueError(
            f"{repo}: cannot be uploaded ({type(error).__name__}: {error}). To be let in, {login}; "
            "without a network, --dry-run FOLDER writes what would be uploaded"
        ) from None
