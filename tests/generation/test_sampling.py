"""Completions drawn at random: from the right distribution, and the same ones again."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import accumulate

import pytest
from generation_cases import TASKS

from diablo.analysis.serving import check_serving
from diablo.data.decoding import Decoding
from diablo.generation import generate, vllm_engine
from diablo.generation.draws import draw, likeliest, prompt_seed
from diablo.generation.prompts import Prompt, prompt_decoding, suite_prompts
from diablo.generation.transformers_engine import TransformersEngine, batches
from diablo.io import read_json, read_jsonl

DRAWN = {"max_new_tokens": 12, "temperature": 0.7, "top_p": 0.9, "samples": 3, "seed": 5}


@pytest.fixture
def engine(tiny_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return TransformersEngine(AutoModelForCausalLM.from_pretrained(tiny_model), tokenizer, [0])


@pytest.fixture
def prompts(engine, make_suite):
    """Token ids of six prompts of different lengths with a common start."""
    texts = [prompt.text for prompt in suite_prompts(make_suite())[:6]]
    return [engine._tokenizer(text).input_ids for text in texts]


@pytest.fixture
def sample(make_run, make_suite, tmp_path):
    """Generate with draws; returns the rows. Keywords change the decoding, `suite` the suite."""

    def run(out="out.jsonl", suite=None, options=None, **decoding):
        spec, folder = make_run()
        made = make_suite(decoding={**DRAWN, **decoding}, **(suite or {}))
        settings = {"backend": "transformers", "threads": 1, **(options or {})}
        generate(spec, made, folder, tmp_path / out, tmp_path / "work", **settings)
        return read_jsonl(tmp_path / out)

    return run


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("top_p", [0.01, 0.6, 0.95, 1.0])
def test_tokens_are_drawn_in_proportion_and_from_the_nucleus_alone(temperature, top_p):
    import torch
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    torch.manual_seed(0)
    scores = torch.randn(1, 50) * 2
    kept = TemperatureLogitsWarper(temperature)(None, scores)
    if top_p < 1:
        kept = TopPLogitsWarper(top_p)(None, kept)
    expected = kept.softmax(-1)[0]
    count = 20_000
    # Evenly spaced numbers hit each token in proportion to its share, but for one at each end.
    numbers = (torch.arange(count).double() + 0.5) / count
    tokens = draw(scores.expand(count, 50) / temperature, top_p, numbers)
    share = torch.bincount(tokens, minlength=50) / count
    torch.testing.assert_close(share, expected, atol=1.5 / count, rtol=0)
    assert set(tokens.tolist()) <= set(expected.nonzero().flatten().tolist())


def test_the_last_number_draws_a_token_of_the_nucleus():
    import torch

    scores = torch.tensor([[0.0, 5.0, 4.9, -torch.inf]])
    last = torch.tensor([1 - 2**-24]).double()
    assert draw(scores, 0.9, last).item() == 2
    assert draw(scores, 1.0, last).item() == 2
    assert draw(scores, 1.0, torch.zeros(1).double()).item() == 0


def test_a_flat_distribution_needs_more_tokens_than_are_looked_at_first():
    import torch

    torch.manual_seed(0)
    shares = torch.stack([torch.full((3000,), 1 / 3000), torch.randn(3000).mul(9).softmax(0)])
    found, tokens = likeliest(shares, 0.5)
    assert found.shape == (2, 3000)
    assert (found > 0).sum(1)[0] in (1500, 1501)
    whole, order = shares[1].sort(descending=True)
    needed = int((whole.cumsum(0) < 0.5).sum()) + 1
    assert (found[1] > 0).sum() == needed
    assert tokens[1, :needed].tolist() == order[:needed].tolist()


def by_hand(model, prompt: list[int], decoding: Decoding, eos: int = 0) -> list[list[int]]:
    """One sample after the other, without padding, cache or `generate`."""
    import torch
    from transformers import TopPLogitsWarper

    generator = torch.Generator().manual_seed(prompt_seed(decoding.seed, prompt))
    numbers = torch.rand(decoding.samples, decoding.max_new_tokens, generator=generator)
    found = []
    for row in numbers:
        ids = list(prompt)
        for number in row.tolist():
            scores = model(torch.tensor([ids])).logits[:, -1].float() / decoding.temperature
            shares = TopPLogitsWarper(decoding.top_p)(None, scores).softmax(-1)[0].tolist()
            falling = sorted(range(len(shares)), key=lambda token: -shares[token])
            sums = list(accumulate(shares[token] for token in falling))
            token = falling[bisect_right(sums, number * sums[-1])]
            if token == eos:
                break
            ids.append(token)
        found.append(ids[len(prompt) :])
    return found


def test_a_batch_gives_what_each_sample_alone_gives(engine, prompts):
    import torch

    decoding = Decoding(**{**DRAWN, "max_new_tokens": 6})
    with torch.inference_mode():
        expected = [by_hand(engine.model, prompt, decoding) for prompt in prompts]
    assert engine.complete(prompts, decoding) == expected
    assert engine.complete(prompts[2:3], decoding) == expected[2:3]
    assert engine.complete([prompts[0][:1]], decoding) != [expected[0]]
    assert len({tuple(ids) for samples in expected for ids in samples}) > 12
    other = Decoding(**{**DRAWN, "max_new_tokens": 6, "seed": 6})
    assert engine.complete(prompts, other) != expected


def test_what_prompt_and_samples_share_is_computed_once(engine, prompts, monkeypatch):
    """The common start once, the rest of a prompt once for all of its samples."""
    computed = []
    forward = engine.model.forward

    def counting(*args, **kwargs):
        computed.append(kwargs["input_ids"].numel())
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine.model, "forward", counting)
    engine.complete(prompts, Decoding(**{**DRAWN, "max_new_tokens": 1, "samples": 4}))
    width, start = max(map(len, prompts)), computed[0]
    assert start > 20
    assert computed == [start, 6 * (width - 1 - start), 6 * 4]


def test_the_first_token_has_the_models_own_distribution(engine, prompts):
    import torch

    decoding = Decoding(max_new_tokens=1, temperature=0.8, samples=2000, seed=1)
    (samples,) = engine.complete(prompts[:1], decoding)
    with torch.inference_mode():
        logits = engine.model(torch.tensor(prompts[:1])).logits[0, -1]
    shares = (logits / 0.8).softmax(-1)
    counts = Counter(ids[0] if ids else 0 for ids in samples)
    for token in shares.topk(8).indices.tolist():
        share = shares[token].item()
        spread = (share * (1 - share) / 2000) ** 0.5
        assert counts[token] / 2000 == pytest.approx(share, abs=4 * spread)


def test_every_sample_is_stored_with_why_it_ended(sample, tmp_path):
    rows = sample()
    assert len(rows) == 21
    assert all(len(row["completions"]) == len(row["finish"]) == 3 for row in rows)
    assert sum(len(set(row["completions"])) > 1 for row in rows) > 15
    reasons = Counter(why for row in rows for why in row["finish"])
    assert set(reasons) == {"eos", "length"}
    made = read_json(tmp_path / "out.provenance.json")
    assert made["finish"] == dict(sorted(reasons.items()))
    assert made["n"] == 21
    assert made["decoding"] == {"num_beams": 1, "stop": [], **DRAWN}
    assert made["generated_tokens"] > 3 * 21 * 3


def test_samples_depend_on_seed_and_prompt_alone(sample):
    expected = {row["id"]: row for row in sample()}
    for other in (
        sample("one.jsonl", options={"batch_size": 1}),
        sample("five.jsonl", options={"batch_size": 5}),
        sample("few.jsonl", suite={"limit_per_task": 3, "tasks": TASKS[::-1]}),
    ):
        assert other
        assert all(expected[row["id"]] == row for row in other)
    changed = sample("seed.jsonl", seed=6)
    assert all(expected[row["id"]]["completions"] != row["completions"] for row in changed)


def test_a_killed_job_goes_on_with_the_same_samples(sample, tmp_path, monkeypatch):
    expected = sample(options={"batch_size": 4})
    original, calls = TransformersEngine.complete, []

    def dies_at_third(self, prompts, *rest):
        calls.append(len(prompts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, prompts, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "complete", dies_at_third)
        with pytest.raises(KeyboardInterrupt):
            sample("again.jsonl", options={"batch_size": 4})
    assert sample("again.jsonl", options={"batch_size": 4}) == expected
    assert read_json(tmp_path / "again.provenance.json")["reused_from_partial"] == 8


def test_stop_strings_cut_each_sample(sample):
    free = sample()
    text = max((text for row in free for text in row["completions"]), key=len)
    stop = text[len(text) // 2 :][:2]
    cut = sample("cut.jsonl", stop=[stop])
    stopped = 0
    for before, after in zip(free, cut, strict=True):
        assert after["completions"] == [text.split(stop)[0] for text in before["completions"]]
        for text, why in zip(before["completions"], after["finish"], strict=True):
            assert (why == "stop") == (stop in text)
            stopped += why == "stop"
    assert stopped > 0


def test_tasks_have_temperatures_of_their_own(sample, make_suite, monkeypatch):
    """Cold ones are as if all were cold, warm ones as if all were warm, and no batch has both."""
    single = {"samples": 1}
    cold = {row["id"]: row for row in sample("cold.jsonl", temperature=0.0, **single)}
    warm = {row["id"]: row for row in sample("warm.jsonl", temperature=0.7, **single)}
    asked, original = [], TransformersEngine.complete

    def recording(self, prompts, decoding, *rest):
        asked.append((len(prompts), decoding.temperature))
        return original(self, prompts, decoding, *rest)

    monkeypatch.setattr(TransformersEngine, "complete", recording)
    mixed = sample("mixed.jsonl", temperature=0.0, temperature_by_task={"piqa": 0.7}, **single)
    assert mixed == [(warm if row["task"] == "piqa" else cold)[row["id"]] for row in mixed]
    by_temperature = {t: sum(n for n, each in asked if each == t) for t in (0.0, 0.7)}
    assert by_temperature == {0.0: 14, 0.7: 7}
    assert any(cold[name] != warm[name] for name in cold if name.startswith("piqa"))


def test_a_decoding_may_follow_from_the_record(sample, monkeypatch):
    def by_record(decoding, prompt):
        short = int(prompt.id.split("/")[1]) % 3 == 0
        return Decoding(**{**DRAWN, "max_new_tokens": 4 if short else 12})

    monkeypatch.setattr("diablo.generation.run.prompt_decoding", by_record)
    rows = {row["id"]: row for row in sample(options={"batch_size": 5})}
    monkeypatch.undo()
    long = {row["id"]: row for row in sample("long.jsonl")}
    short = {row["id"]: row for row in sample("short.jsonl", max_new_tokens=4)}
    for name, row in rows.items():
        assert row == (short if int(name.split("/")[1]) % 3 == 0 else long)[name]


def test_a_question_is_drawn_at_the_temperature_of_its_category():
    decoding = Decoding(temperature_by_task={"writing": 0.7, "stem": 0.1})
    found = [
        prompt_decoding(
            decoding, Prompt("?", {"task": "mtbench", "category": category})
        ).temperature
        for category in ("writing", "stem", "math")
    ]
    assert found == [0.7, 0.1, 0.0]


def test_batches_count_samples():
    lengths = [40] * 60
    sizes = {}
    for device in ("cpu", "cuda"):
        for samples in (1, 3):
            decoding = Decoding(temperature=0.5, samples=samples, max_new_tokens=60)
            # 128 times as many prompts for the budget of a GPU.
            grouped = batches(lengths * 128, decoding, device)
            sizes[device, samples] = len(grouped[0])
    # On a CPU a prompt counts once for all its samples.
    assert sizes == {
        ("cpu", 1): 3072 // 100,
        ("cpu", 3): 3072 // 220,
        ("cuda", 1): 131072 // 100,
        ("cuda", 3): 131072 // 300,
    }
    groups = vllm_engine.batches(lengths, Decoding(temperature=0.5, samples=16), "cpu")
    assert [len(group) for group in groups] == [4] * 15


def test_the_check_of_serving_of_a_drawn_suite_is_greedy(make_run, make_suite):
    spec, folder = make_run("zero-shot")
    suite = make_suite(decoding={**DRAWN, "temperature_by_task": {"piqa": 1.5}})
    out = folder / "serving" / "commonsense.json"
    report = check_serving(spec, suite, out, prompts=6, backend="transformers")
    assert report["pairs"]["merged/served"]["disagreement"] == 0


def test_vllm_gets_every_setting_and_each_prompt_a_seed():
    one, other, again = vllm_engine.sampling([[1, 2], [1, 3], [1, 2]], Decoding(**DRAWN))
    assert one == {
        "n": 3, "temperature": 0.7, "top_p": 0.9, "max_tokens": 12, "stop": [],
        "seed": prompt_seed(5, [1, 2]),
    }  # fmt: skip
    assert one == again
    assert one["seed"] != other["seed"] != prompt_seed(6, [1, 3])
    assert 0 <= one["seed"] < 2**56
    cold = vllm_engine.sampling([[1, 2]], Decoding(stop=("###",)))
    assert cold == [{"temperature": 0.0, "max_tokens": 32, "stop": ["###"]}]
