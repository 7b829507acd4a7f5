"""Many questions: each is asked once ever, replies outlive everything, cost is counted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from judge_cases import KEY

from diablo.judging import JudgeConfig
from diablo.scoring.judges import asking
from diablo.scoring.judges.asking import Asker, Question
from diablo.scoring.judges.endpoint import JudgeError

QUESTIONS = [Question(f"hexphi 'h/{i}'", f"Question {i}?") for i in range(6)]
TEXTS = [question.text for question in QUESTIONS]


@pytest.fixture
def make(endpoint, tmp_path):
    def build(**fields) -> Asker:
        config = JudgeConfig(endpoint=endpoint.address, model="judge", **fields)
        return Asker(config, tmp_path / "judge")

    return build


def test_replies_come_in_the_order_of_the_questions(endpoint, make):
    endpoint.answer = lambda question, n: f"About {question}"
    assert make().ask(QUESTIONS) == [f"About {text}" for text in TEXTS]
    body = endpoint.requests[0][1]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge", 0, 2048)
    assert make().ask([]) == []


def test_after_a_restart_nothing_is_asked_again(endpoint, make):
    first = make().ask(QUESTIONS)
    endpoint.answer = lambda question, n: "another reply"
    again = make()
    assert again.ask(QUESTIONS) == first
    assert len(endpoint.requests) == 6
    facts = again.facts()
    assert (facts["calls"], facts["cached"], facts["prompt_tokens"]) == (0, 6, 0)


def test_another_request_is_another_question(endpoint, make):
    make().ask(QUESTIONS[:1])
    make(max_tokens=7).ask(QUESTIONS[:1])
    make(api_key_env=None, timeout_seconds=3, concurrency=1).ask(QUESTIONS[:1])
    assert [body["max_tokens"] for _, body in endpoint.requests] == [2048, 7]


def test_cost_counts_what_was_asked_now(endpoint, make):
    prices = {
        "price_per_million_prompt_tokens": 30.0,
        "price_per_million_completion_tokens": 60.0,
    }
    make(**prices).ask(QUESTIONS[:2])
    endpoint.answer = lambda question, n: (500, {}, "") if n == 3 else "[[COMPLIED]]"
    endpoint.finish = "length"
    asker = make(**prices)
    asker.ask(QUESTIONS)
    assert asker.facts() == {
        "endpoint": endpoint.address.removeprefix("http://").removesuffix("/v1"),
        "model": "judge",
        "answered_by": ["judge-0001"],
        "temperature": 0,
        "max_tokens": 2048,
        "calls": 4,
        "cached": 2,
        "retries": 1,
        "cut_off": 4,
        "uncounted": 0,
        "prompt_tokens": 40,
        "completion_tokens": 12,
        "price_per_million_tokens": [30.0, 60.0],
        "cost": pytest.approx((40 * 30 + 12 * 60) / 1e6),
    }


def test_without_counted_tokens_or_prices_there_is_no_cost(endpoint, make):
    unpriced = make()
    unpriced.ask(QUESTIONS[:1])
    assert (unpriced.facts()["cost"], unpriced.facts()["prompt_tokens"]) == (None, 10)
    endpoint.usage = None
    prices = {"price_per_million_prompt_tokens": 1, "price_per_million_completion_tokens": 1}
    asker = make(**prices)
    asker.ask(QUESTIONS[1:])
    assert (asker.facts()["cost"], asker.facts()["uncounted"]) == (None, 5)


def test_the_same_question_is_asked_once_by_threads_and_jobs(endpoint, make, monkeypatch):
    """The first reply comes when all four threads, of two askers, have found that there is none."""
    arrived = threading.Semaphore(0)
    locked = asking.locked

    def counted(path):
        arrived.release()
        return locked(path)

    def answer(question: str, n: int) -> str:
        for _ in range(4 if n == 1 else 0):
            arrived.acquire()
        return f"reply {n}"

    monkeypatch.setattr(asking, "locked", counted)
    endpoint.answer = answer
    askers = [make(), make()]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda asker: asker.ask(QUESTIONS[:1]), askers * 2))
    assert replies == [["reply 1"]] * 4
    assert len(endpoint.requests) == 1
    assert sum(asker.facts()["cached"] for asker in askers) == 3


def test_the_same_question_of_two_examples_is_asked_once(endpoint, make):
    asker = make(concurrency=6)
    twins = [Question(f"hexphi 'h/{i}'", "The same?") for i in range(6)]
    assert asker.ask(twins) == ["[[REFUSED]]"] * 6
    assert len(endpoint.requests) == 1
    assert (asker.facts()["calls"], asker.facts()["cached"]) == (1, 5)


def test_what_was_judged_stays_when_a_question_fails(endpoint, make):
    broken = TEXTS[3]
    endpoint.answer = lambda question, n: (
        (500, {}, "down") if question == broken else f"About {question}"
    )
    with pytest.raises(JudgeError, match=r"hexphi 'h/3': .*no reply in 3 attempts.*HTTP 500: down"):
        make(concurrency=1, max_retries=2).ask(QUESTIONS)
    before = endpoint.times
    assert before[broken] == 3
    assert all(before[text] == 1 for text in TEXTS[:3])
    endpoint.answer = lambda question, n: f"About {question}"
    assert make().ask(QUESTIONS) == [f"About {text}" for text in TEXTS]
    assert all(endpoint.times[text] == 1 for text in TEXTS if text != broken)
    assert endpoint.times[broken] == 4


def test_one_that_fails_stops_those_that_wait_for_a_retry(endpoint, make, monkeypatch):
    monkeypatch.setattr("diablo.scoring.judges.endpoint.FIRST_PAUSE", 20.0)
    waiting = threading.Event()

    def answer(question: str, n: int):
        if question == TEXTS[0]:
            waiting.set()
            return (500, {}, "")
        waiting.wait()
        return (401, {}, "who are you?")

    endpoint.answer = answer
    with pytest.raises(JudgeError, match=r"hexphi 'h/[1-5]': .*HTTP 401: who are you"):
        make(concurrency=2).ask(QUESTIONS)
    assert endpoint.times[TEXTS[0]] == 1
    assert len(endpoint.requests) <= 3


@pytest.mark.parametrize("left", ["", '{"text": "[[REF'])
def test_a_reply_of_which_a_part_is_left_is_asked_again(endpoint, make, tmp_path, left):
    make().ask(QUESTIONS[:1])
    (kept,) = (tmp_path / "judge").rglob("*.json")
    kept.write_text(left)
    assert make().ask(QUESTIONS[:1]) == ["[[REFUSED]]"]
    assert len(endpoint.requests) == 2


def test_the_key_and_the_questions_are_nowhere_on_the_disk(
    endpoint, make, monkeypatch, tmp_path, capfd
):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    endpoint.answer = lambda question, n: (
        (401, {}, f"not with {KEY}") if question == TEXTS[5] else "[[REFUSED]]"
    )
    with pytest.raises(JudgeError) as error:
        make(api_key_env="JUDGE_KEY", concurrency=1).ask(QUESTIONS)
    assert endpoint.requests[0][0]["Authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".json" for path in files) == 5
    written = "".join(str(path) + path.read_text() for path in files)
    for secret in (KEY, "Question 1?"):
        assert secret not in written + str(error.value) + "".join(capfd.readouterr())
    assert "hexphi 'h/1'" in written
