"""Snapshots of a fake Hub on loopback: download, check, resume, refusal, offline, mirror."""

from __future__ import annotations

import hashlib
import json

import pytest

from diablo.data import hub
from diablo.data.catalog import load_catalog
from diablo.data.prepare import check_sources, download_model
from diablo.data.source_kinds import HfSource
from diablo.io import read_json

COMMIT = "4" * 40
REPO = "owner/model"
WEIGHTS = b"weights" * 1000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "model.safetensors.index.json": b'{"weight_map": {"w": "model.safetensors"}}',
    "pytorch_model.bin": b"old form",
    "original/consolidated.json": b"{}",
    "README.md": b"not wanted",
}
WANTED = ["config.json", "model.safetensors", "model.safetensors.index.json"]


def a_source(**changes) -> HfSource:
    fields = {
        "kind": "hf",
        "repo": REPO,
        "revision": COMMIT,
        "files": ["*.json", "*.safetensors", "*.bin"],
    }
    return HfSource(**(fields | changes))


@pytest.fixture
def fake_hub(server, monkeypatch):
    """The loopback server in the Hub's place."""
    monkeypatch.setattr(hub, "ENDPOINT", server.url)
    siblings = []
    for name, content in FILES.items():
        lfs = hashlib.sha256(content).hexdigest()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        is_lfs = name.endswith((".safetensors", ".bin"))
        sibling = {"rfilename": name, "size": len(content), "blobId": blob}
        if is_lfs:
            sibling["lfs"] = {"sha256": lfs, "size": len(content), "pointerSize": 100}
        siblings.append(sibling)
        path = f"/{REPO}/resolve/{COMMIT}/{name}"
        server.files[path] = content
        etag = lfs if is_lfs else blob
        server.headers[path] = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
    answer = {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "private": False,
              "tags": [], "downloads": 0, "likes": 0}  # fmt: skip
    tree = [
        {"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"]}
        | (
            {"lfs": {"oid": s["lfs"]["sha256"], "size": s["size"], "pointerSize": 100}}
            if "lfs" in s
            else {}
        )
        for s in siblings
    ]
    for revision in (COMMIT, "main"):
        server.files[f"/api/models/{REPO}/revision/{revision}"] = json.dumps(answer).encode()
        server.files[f"/api/models/{REPO}/tree/{revision}"] = json.dumps(tree).encode()
    for path in list(server.files):
        if path.startswith("/api"):
            server.headers[path] = {"Content-Type": "application/json"}
    return server


def test_snapshot_holds_the_wanted_files_and_is_taken_from_the_cache_next_time(fake_hub, tmp_path):
    snapshot = hub.fetch_snapshot(a_source(), False, cache=tmp_path)
    assert sorted(snapshot.files) == WANTED
    assert (snapshot.origin, snapshot.commit) == ("network", COMMIT)
    assert (snapshot.folder / "model.safetensors").read_bytes() == WEIGHTS
    asked = len(fake_hub.requests)
    assert hub.fetch_snapshot(a_source(), False, cache=tmp_path).origin == "cache"
    assert len(fake_hub.requests) == asked


def test_cache_serves_as_a_mirror(fake_hub, tmp_path):
    hub.fetch_snapshot(a_source(), False, cache=tmp_path / "a")
    fake_hub.status = 500
    snapshot = hub.fetch_snapshot(a_source(), False, tmp_path / "a", tmp_path / "b")
    assert snapshot.origin == "mirror"


def test_branch_is_resolved_to_a_commit(fake_hub, tmp_path):
    source = a_source(revision="main", unpinned=True)
    assert hub.fetch_snapshot(source, False, cache=tmp_path).commit == COMMIT


def test_wrong_weights_are_kept_aside(fake_hub, tmp_path):
    fake_hub.files[f"/{REPO}/resolve/{COMMIT}/model.safetensors"] = b"WEIGHTS" * 1000
    with pytest.raises(ValueError, match=r"model.safetensors: sha256 is .*kept as"):
        hub.fetch_snapshot(a_source(), False, cache=tmp_path)
    folder = tmp_path / a_source().location
    assert (folder / "model.safetensors.bad").exists()
    assert not (folder / "model.safetensors").exists()
    assert hub.find_snapshot(a_source(), None, tmp_path) is None


def test_wrong_small_file_is_noticed_by_its_git_id(fake_hub, tmp_path):
    fake_hub.files[f"/{REPO}/resolve/{COMMIT}/config.json"] = b'{"model_type": "LLAMA"}'
    with pytest.raises(ValueError, match=r"config.json: git blob id is"):
        hub.fetch_snapshot(a_source(), False, cache=tmp_path)


def test_changed_cache_is_noticed(fake_hub, tmp_path):
    folder = hub.fetch_snapshot(a_source(), False, cache=tmp_path).folder
    (folder / "model.safetensors").write_bytes(b"changed")
    assert "sha256 is" in hub.problems(a_source(), None, tmp_path)[0]
    assert hub.fetch_snapshot(a_source(), False, cache=tmp_path).origin == "network"


@pytest.mark.parametrize("status", [401, 403])
def test_gated_model_says_what_to_accept_and_where_the_token_goes(fake_hub, tmp_path, status):
    fake_hub.status, fake_hub.status_headers = status, {"X-Error-Code": "GatedRepo"}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        hub.fetch_snapshot(a_source(), True, cache=tmp_path)
    for words in (f"https://huggingface.co/{REPO}", "ccept its terms", "HF_TOKEN", "hf auth login"):
        assert words in str(error.value)


def test_missing_repository_is_named(fake_hub, tmp_path):
    with pytest.raises(ValueError, match="owner/other: the Hub has no such repository"):
        hub.fetch_snapshot(a_source(repo="owner/other"), False, cache=tmp_path)


def test_offline_message_names_the_mirror(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match=f"hf/{REPO}/{COMMIT}.*mirror=FOLDER"):
        hub.fetch_snapshot(a_source(), False, cache=tmp_path)


def test_incomplete_mirror_names_the_missing_shard(tmp_path):
    folder = tmp_path / a_source().location
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors.index.json"):
        (folder / name).write_bytes(FILES[name])
    with pytest.raises(
        ValueError, match=r"incomplete, lacks model.safetensors; complete the mirror"
    ):
        hub.fetch_snapshot(a_source(), False, tmp_path, tmp_path / "cache")


def test_model_folder_from_the_hub_has_its_files_and_provenance(fake_hub, tmp_path):
    catalog = load_catalog()
    model = catalog.model("llama2-7b").model_copy(update={"sources": [a_source()]})
    catalog = catalog.model_copy(update={"models": {"small": model}})
    where = {"cache": tmp_path / "cache", "catalog": catalog}
    assert "missing" in check_sources(["small"], [], **where)[0]
    download_model("small", tmp_path / "out", **where)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*WANTED, "provenance.json"]
    facts = read_json(tmp_path / "out" / "provenance.json")
    assert facts["commit"] == COMMIT
    assert len(facts["sources"]) == len(WANTED)
    assert check_sources(["small"], [], **where) == []
    # From a mirror the files are copies: nothing done to them can reach the mirror.
    download_model("small", tmp_path / "two", mirror=tmp_path / "cache", catalog=catalog)
    assert (tmp_path / "two" / "config.json").stat().st_nlink == 1


def test_failed_download_leaves_no_model_folder(fake_hub, tmp_path):
    catalog = load_catalog()
    model = catalog.model("llama2-7b").model_copy(update={"sources": [a_source()]})
    catalog = catalog.model_copy(update={"models": {"small": model}})
    fake_hub.status = 403
    with pytest.raises(ValueError, match="HF_TOKEN"):
        download_model("small", tmp_path / "out", cache=tmp_path / "cache", catalog=catalog)
    assert not (tmp_path / "out").exists()
