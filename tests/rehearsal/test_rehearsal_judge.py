"""The rehearsal's judge: asked as any endpoint is, and read back as a judge's replies are."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from diablo.judging import JudgeConfig
from diablo.scoring.judges.endpoint import Endpoint
from diablo.scoring.judges.prompts import load_prompts

COMMAND = [sys.executable, "-m", "diablo.rehearsal.judge"]


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.fixture
def judge(address: str, monkeypatch) -> Iterator[subprocess.Popen]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    process = subprocess.Popen([*COMMAND, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"
    yield process
    process.communicate(timeout=60)  # closes its input
    assert process.returncode == 0


def test_every_prompt_gets_what_is_read_back(judge, address) -> None:
    asked = Endpoint(JudgeConfig(endpoint=address, model="rehearsal"), lambda seconds: True)
    prompts = load_prompts(None).model_dump(exclude={"version"})
    for name, prompt in prompts.items():
        body = {"model": "rehearsal", "messages": [{"role": "user", "content": prompt}]}
        reply = asked.send(body, name)
        assert ("[[NEITHER]]" if name == "refusal" else "[[5]]") in reply["text"], name
        assert (reply["attempts"], reply["cut_off"]) == (1, False)


def test_an_address_that_is_taken_is_named(judge, address) -> None:
    done = subprocess.run([*COMMAND, address], capture_output=True, text=True, input="")
    assert done.returncode == 1
    assert address in done.stderr
    assert "another rehearsal" in done.stderr
