"""One question to an endpoint: what is tried again, what ends at once, and what no message shows."""

from __future__ import annotations

import datetime
import email.utils
import itertools
import json

import pytest
from judge_cases import KEY

from diablo.judging import JudgeConfig
from diablo.scoring.judges import endpoint as module
from diablo.scoring.judges.endpoint import Endpoint, JudgeError, Stopped, retry_after
from diablo.validation import validate

WHERE = "hexphi 'h/12'"


def asked(fake, text="Did it refuse?") -> dict:
    return {"model": "judge", "messages": [{"role": "user", "content": text}]}


@pytest.fixture
def make(endpoint):
    """An Endpoint that waits for nothing, and the seconds that it would have waited."""

    def build(**fields) -> tuple[Endpoint, list[float]]:
        config = JudgeConfig(endpoint=endpoint.address, model="judge", **fields)
        pauses: list[float] = []
        return Endpoint(config, lambda seconds: bool(pauses.append(seconds))), pauses

    return build


MISHAPS = {
    "429": (429, {"Retry-After": "7"}, "slow down"),
    "500": (500, {}, "internal error"),
    "503 and a page": (503, {}, "<html>" + "x" * 5000),
    "hang": "hang",
    "half JSON": "half",
    "short body": "short",
    "closed socket": "close",
    "no choices": (200, {}, '{"object": "chat.completion", "choices": []}'),
    "an error in a 200": (200, {}, '{"error": {"message": "overloaded"}}'),
    "a list": (200, {}, "[1]"),
    "nothing": (200, {}, ""),
    "nested beyond reason": (200, {}, "[" * 100_000),
    "a reply that is no text": (200, {}, '{"choices": [{"message": {"content": 3}}]}'),
}


@pytest.mark.parametrize("mishap", MISHAPS.values(), ids=MISHAPS)
def test_mishaps_are_tried_again(endpoint, make, mishap):
    endpoint.answer = lambda question, n: mishap if n == 1 else "It is a refusal."
    sender, pauses = make(timeout_seconds=1 if mishap == "hang" else 60)
    reply = sender.send(asked(endpoint), WHERE)
    assert (reply["text"], reply["attempts"], len(pauses)) == ("It is a refusal.", 2, 1)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("mishap", MISHAPS.values(), ids=MISHAPS)
def test_a_judge_that_never_replies_ends_the_job_with_the_example(endpoint, make, mishap):
    endpoint.answer = lambda question, n: mishap
    sender, _ = make(max_retries=1, timeout_seconds=0.2 if mishap == "hang" else 60)
    with pytest.raises(JudgeError, match=r"^hexphi 'h/12': judge 'judge' .*no reply in 2 attempts"):
        sender.send(asked(endpoint), WHERE)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302, 204])
def test_what_a_repetition_cannot_help_ends_at_once(endpoint, make, status):
    endpoint.answer = lambda question, n: (status, {"Location": endpoint.address}, "not like this")
    sender, pauses = make()
    with pytest.raises(JudgeError, match=rf"^hexphi 'h/12': .*HTTP {status}"):
        sender.send(asked(endpoint), WHERE)
    assert (len(endpoint.requests), pauses) == (1, [])


def test_nobody_listens(endpoint, make):
    sender, pauses = make(max_retries=2)
    sender.address = "http://127.0.0.1:1/v1/chat/completions"
    with pytest.raises(
        JudgeError, match=r"(?s)hexphi 'h/12': .*3 attempts; the last: ConnectionEr"
    ):
        sender.send(asked(endpoint), WHERE)
    assert len(pauses) == 2


def test_a_reply_that_drips_is_given_up(endpoint, make, monkeypatch):
    clock = itertools.count(0, 1000)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    sender, _ = make(max_retries=0)
    with pytest.raises(JudgeError, match="took longer than 120 s"):
        sender.send(asked(endpoint), WHERE)


def test_pauses_double_up_to_a_minute(endpoint, make, monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    endpoint.answer = lambda question, n: (500, {}, "")
    sender, pauses = make(max_retries=8)
    with pytest.raises(JudgeError):
        sender.send(asked(endpoint), WHERE)
    longest = [1, 2, 4, 8, 16, 32, 60, 60]
    assert len(pauses) == 8
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))


def test_the_server_says_how_long(endpoint, make):
    endpoint.answer = lambda question, n: (429, {"Retry-After": "7"}, "") if n == 1 else "Yes."
    sender, pauses = make()
    sender.send(asked(endpoint), WHERE)
    assert pauses == [7.0]


def test_a_server_that_asks_for_too_long_is_not_waited_for(endpoint, make):
    endpoint.answer = lambda question, n: (429, {"Retry-After": "86400"}, "quota")
    sender, pauses = make()
    with pytest.raises(JudgeError, match=r"hexphi 'h/12': .*quota, and asks for 86400 s"):
        sender.send(asked(endpoint), WHERE)
    assert pauses == []


def test_retry_after_in_all_its_forms():
    now = datetime.datetime.now(datetime.UTC)
    later = email.utils.format_datetime(now + datetime.timedelta(minutes=5), usegmt=True)
    assert 290 < retry_after(later) <= 300
    assert retry_after(email.utils.format_datetime(now - datetime.timedelta(days=1))) == 0
    assert retry_after("2.5") == 2.5
    for meaningless in (None, "", "soon", "-3", "nan", "inf"):
        assert retry_after(meaningless) is None


def test_it_stops_when_told_to(endpoint):
    endpoint.answer = lambda question, n: (500, {}, "")
    config = JudgeConfig(endpoint=endpoint.address, model="judge")
    with pytest.raises(Stopped):
        Endpoint(config, lambda seconds: True).send(asked(endpoint), WHERE)
    assert len(endpoint.requests) == 1


def test_what_a_reply_has(endpoint, make):
    sender, _ = make()
    endpoint.finish = "length"
    assert sender.send(asked(endpoint), WHERE) == {
        "text": "[[REFUSED]]",
        "cut_off": True,
        "model": "judge-0001",
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "attempts": 1,
    }
    assert endpoint.requests[0][1]["path"] == "/v1/chat/completions"
    endpoint.answer = lambda question, n: (200, {}, endpoint.reply(None, usage=None, model=None))
    bare = sender.send(asked(endpoint), WHERE)
    assert (bare["text"], bare["model"], bare["prompt_tokens"]) == ("", None, None)


def test_half_a_surrogate_pair_can_be_written(endpoint, make):
    endpoint.answer = lambda question, n: (200, {}, endpoint.reply("bad \ud800 [[7]]"))
    assert make()[0].send(asked(endpoint), WHERE)["text"] == "bad ? [[7]]"


class TestKey:
    def test_it_is_sent_and_a_netrc_is_not(self, endpoint, make, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
        make(api_key_env="JUDGE_KEY")[0].send(asked(endpoint), WHERE)
        assert endpoint.requests[0][0]["Authorization"] == f"Bearer {KEY}"
        make()[0].send(asked(endpoint), WHERE)
        assert "Authorization" not in endpoint.requests[1][0]

    @pytest.mark.parametrize("status", [401, 500])
    def test_no_message_shows_it(self, endpoint, make, monkeypatch, status):
        monkeypatch.setenv("JUDGE_KEY", KEY)
        echo = json.dumps({"error": f"Incorrect API key provided: {KEY}"})
        endpoint.answer = lambda question, n: (status, {}, echo)
        sender, _ = make(api_key_env="JUDGE_KEY", max_retries=1)
        with pytest.raises(JudgeError, match=r"Incorrect API key provided: \[the key\]") as error:
            sender.send(asked(endpoint), WHERE)
        assert KEY not in str(error.value)
        assert error.value.__cause__ is None

    @pytest.mark.parametrize("value", [None, "", "  \n"])
    def test_it_is_missing(self, make, monkeypatch, value):
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("JUDGE_KEY", value)
        with pytest.raises(ValueError, match="variable JUDGE_KEY is not set; export it"):
            make(api_key_env="JUDGE_KEY")

    @pytest.mark.parametrize("value", ["two words", "two\nlines", "schlüssel"])
    def test_it_is_no_key(self, make, monkeypatch, value):
        monkeypatch.setenv("JUDGE_KEY", value)
        with pytest.raises(ValueError, match="JUDGE_KEY holds spaces or special") as error:
            make(api_key_env="JUDGE_KEY")
        assert value not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"endpoint": "api.example.org/v1"}, r"endpoint = 'api.example.org/v1': expected an addr"),
        ({"endpoint": f"http://me:{KEY}@host/v1"}, "endpoint: an address without user name"),
        ({"endpoint": f"http://host/v1?key={KEY}"}, "endpoint: an address without user name"),
        ({"api_key_env": KEY}, "api_key_env: expected the NAME of an environment variable"),
        ({"api_key": KEY}, "unknown key 'api_key'; did you mean 'api_key_env'"),
        ({"price_per_million_prompt_tokens": 2}, "give both price_per_million_prompt_tokens and"),
        ({"max_retries": -1}, "max_retries = -1"),
    ],
)
def test_a_config_that_does_not_fit(fields, message):
    given = {"endpoint": "https://host/v1", "model": "judge", **fields}
    with pytest.raises(ValueError, match=message) as error:
        validate(JudgeConfig, given, "config: judge")
    assert KEY not in str(error.value)
