"""generate(): the transformers backend against `model.generate`, resume, subsets, refusals."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from generation_cases import TASKS, records

from diablo.data.protocol import Decoding, load_protocol
from diablo.generation import generate
from diablo.generation.engines import choose_backend, end_ids, merged_folder, open_engine
from diablo.generation.prompts import suite_prompts
from diablo.generation.transformers_engine import TransformersEngine
from diablo.generation.vllm_engine import VllmEngine
from diablo.io import read_json, read_jsonl, write_jsonl


@pytest.fixture
def run_generate(make_run, tmp_path):
    """Generate with the transformers backend; returns the rows."""

    def run(suite, out="out.jsonl", **options):
        spec, folder = make_run()
        path = tmp_path / out
        options = {"backend": "transformers", "threads": 1, **options}
        generate(spec, suite, folder, path, tmp_path / "work", **options)
        return read_jsonl(path)

    return run


@pytest.fixture(scope="module")
def reference(tiny_model):
    """One prompt at a time, by `model.generate` itself, without padding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def complete(text: str, num_beams: int, max_new_tokens: int = 12) -> str:
        inputs = tokenizer(text, return_tensors="pt")
        out = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=torch.ones_like(inputs.input_ids),
            do_sample=False,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            pad_token_id=0,
            eos_token_id=0,
        )
        new = out[0, inputs.input_ids.shape[1] :]
        return tokenizer.decode(new, skip_special_tokens=True)

    return complete


@pytest.mark.parametrize("num_beams", [1, 3])
def test_equals_direct_generate(run_generate, make_suite, reference, tmp_path, num_beams):
    rows = run_generate(make_suite(num_beams=num_beams))
    assert [row["task"] for row in rows] == [task for task in TASKS for _ in range(7)]
    expected = [reference(row["prompt"], num_beams) for row in rows]
    assert [row["completions"] for row in rows] == [[text] for text in expected]
    # The case is worth something: answers differ, and some, not all, end before the limit.
    tokens = read_json(tmp_path / "out.provenance.json")["generated_tokens"]
    assert len(set(expected)) > 5
    assert 21 * 3 < tokens < 21 * 12 - 21


@pytest.mark.parametrize("num_beams", [1, 3])
def test_batching_and_order_do_not_matter(run_generate, make_suite, num_beams):
    suite = make_suite(num_beams=num_beams)
    turned = make_suite(num_beams=num_beams, tasks=TASKS[::-1])
    expected = {row["id"]: row for row in run_generate(suite)}
    for other in (
        run_generate(suite, "one.jsonl", batch_size=1),
        run_generate(suite, "five.jsonl", batch_size=5),
        run_generate(turned, "turned.jsonl", batch_size=4),
    ):
        assert {row["id"]: row for row in other} == expected


def test_provenance_says_how(run_generate, make_suite, tmp_path):
    run_generate(make_suite(num_beams=2, limit_per_task=3))
    made = read_json(tmp_path / "out.provenance.json")
    assert made["backend"] == "transformers"
    assert made["dtype"] == "float32"
    assert made["decoding"] == {"num_beams": 2, "max_new_tokens": 12, "stop": []}
    assert (made["run"], made["suite"], made["variant"], made["n"]) == (
        "tiny",
        "commonsense",
        "paper",
        9,
    )
    assert "transformers" in made["packages"]
    assert not (tmp_path / "work").exists()


def test_stop_strings_are_cut(run_generate, make_suite):
    whole = {row["id"]: row["completions"][0] for row in run_generate(make_suite())}
    text = max(whole.values(), key=len)
    stop = text[len(text) // 2 :][:2]
    for num_beams in (1, 3):
        free = run_generate(make_suite(num_beams=num_beams), f"free{num_beams}.jsonl")
        cut = run_generate(make_suite(num_beams=num_beams, stop=[stop]), f"cut{num_beams}.jsonl")
        assert any(stop in row["completions"][0] for row in free) or num_beams > 1
        for before, after in zip(free, cut, strict=True):
            assert after["completions"][0] == before["completions"][0].split(stop)[0]


def test_limit_is_a_fixed_subset_of_each_task(run_generate, make_suite):
    def ids(limit, out):
        rows = run_generate(make_suite(limit_per_task=limit), out)
        return {task: {r["id"] for r in rows if r["task"] == task} for task in TASKS}

    two, four = ids(2, "two.jsonl"), ids(4, "four.jsonl")
    assert {len(names) for names in two.values()} == {2}
    assert all(two[task] < four[task] for task in TASKS)
    assert two["boolq"] == {"boolq/3", "boolq/4"}  # pinned: every result depends on it


def test_resumes_with_finished_batches_only(run_generate, make_suite, tmp_path, monkeypatch):
    suite = make_suite()
    expected = run_generate(suite, batch_size=4)
    original = TransformersEngine.complete
    calls = []

    def dies_at_third(self, prompts, *ended):
        calls.append(len(prompts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, prompts, *ended)

    monkeypatch.setattr(TransformersEngine, "complete", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_generate(suite, "again.jsonl", batch_size=4)
    assert not (tmp_path / "again.jsonl").exists()
    (partial,) = (tmp_path / "work").glob("generated-*.jsonl")
    with partial.open("a") as out:
        out.write('{"rows": [1, 2')  # as a kill in the middle of a write leaves it

    calls.clear()
    monkeypatch.setattr(
        TransformersEngine,
        "complete",
        lambda self, p, *ended: calls.append(len(p)) or original(self, p, *ended),
    )
    assert run_generate(suite, "again.jsonl", batch_size=4) == expected
    assert calls == [4, 4, 4, 1]  # 21 prompts, of which 8 were done
    assert read_json(tmp_path / "again.provenance.json")["reused_from_partial"] == 8
    assert not (tmp_path / "work").exists()


def test_partial_of_another_setting_is_not_reused(run_generate, make_suite, monkeypatch):
    original = TransformersEngine.complete

    def dies_after_first(self, prompts, *ended):
        if getattr(self, "used", False):
            raise KeyboardInterrupt
        self.used = True
        return original(self, prompts, *ended)

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "complete", dies_after_first)
        with pytest.raises(KeyboardInterrupt):
            run_generate(make_suite(max_new_tokens=3), batch_size=4)
    rows = run_generate(make_suite(), batch_size=4)
    assert rows == run_generate(make_suite(), "whole.jsonl", batch_size=4)


def test_adapters_are_merged(make_run, make_suite, tmp_path):
    """LoRA: the completions are those of the merged model, which differ from the base's."""
    import torch

    from diablo.methods import get_method, load_for_inference
    from diablo.methods.base import load_base

    base_spec, base_folder = make_run("base")
    spec, folder = make_run("lora", method="lora", rank=2, alpha=4.0, modules=["q_proj", "v_proj"])
    torch.manual_seed(0)
    model = get_method("lora").prepare(load_base(spec.model_path, "cpu", torch.float32), spec)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.5)
    get_method("lora").save(model, folder / "adapter")

    suite = make_suite(limit_per_task=2)
    texts = {}
    for each, at in ((base_spec, base_folder), (spec, folder)):
        out = tmp_path / f"{each.run}.jsonl"
        generate(each, suite, at, out, tmp_path / "work", backend="transformers")
        texts[each.run] = [row["completions"][0] for row in read_jsonl(out)]
    assert texts["base"] != texts["lora"]

    merged = load_for_inference(spec, folder / "adapter")
    with merged_folder(spec, folder / "adapter", tmp_path / "work", "float32") as served:
        reloaded = load_base(str(served), "cpu", torch.float32)
        ids = torch.arange(1, 9)[None]
        torch.testing.assert_close(reloaded(ids).logits, merged(ids).logits)
    assert not served.exists()
    with merged_folder(base_spec, base_folder / "adapter", tmp_path / "work", "float32") as served:
        assert str(served) == base_spec.model_path  # nothing to merge, nothing copied


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ["boolq", "piqua"]}, "unknown task 'piqua'; did you mean 'piqa'"),
        ({"tasks": ["hellaswag"]}, r"test.jsonl \(tasks it has\): unknown task 'hellaswag'"),
        ({"data_path": "/nowhere"}, "/nowhere/test.jsonl: no such file; .* `diablo download`"),
        ({"decoding": {"num_beam": 4}}, "unknown decoding key 'num_beam'; did you mean"),
        ({"decoding": {"num_beams": 0}}, "num_beams=0"),
        ({"decoding": {"max_new_tokens": 500}}, "'boolq/0': .* do not fit .* .512 positions."),
    ],
)
def test_refusals_name_the_value(run_generate, make_suite, fields, message):
    with pytest.raises(ValueError, match=message):
        run_generate(make_suite(**fields))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows + rows[:1], "task 'boolq' has id 'boolq/0' more than once"),
        (lambda rows: [{**rows[0], "answer": "yes"}], "'boolq/0': answer 'yes' is not one of"),
        (lambda rows: [{"id": "x", "task": "boolq"}], "record 1 has no 'instruction'"),
    ],
)
def test_bad_data_is_refused(make_suite, tmp_path, change, message):
    write_jsonl(tmp_path / "test.jsonl", change(records(["boolq"])))
    with pytest.raises(ValueError, match=message):
        suite_prompts(make_suite(data_path=str(tmp_path), tasks=["boolq"]))


def test_unknown_backend():
    with pytest.raises(ValueError, match="unknown backend 'vlm'; did you mean 'vllm'"):
        choose_backend("vlm")


def test_auto_is_transformers_on_a_cpu_and_vllm_on_a_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_backend("auto") == ("transformers", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_backend("auto") == ("vllm", "cuda")
    assert choose_backend("transformers") == ("transformers", "cuda")


def test_vllm_beams_with_several_ends_are_refused_by_name():
    with pytest.raises(ValueError, match=r"vllm: num_beams=4 .* \[2, 7\].* --backend transformers"):
        VllmEngine("folder", 4, [2, 7], "float32", 64)


def test_missing_vllm_is_explained(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    monkeypatch.setattr("diablo.generation.vllm_engine._set_environment", lambda threads: None)
    with pytest.raises(ValueError, match=r"vLLM cannot be imported .* --backend transformers"):
        VllmEngine("folder", 1, [2], "float32", 64)


class FakeVllm:
    """Stands for the package `vllm` on a GPU, and keeps what the engine is started with."""

    def __init__(self):
        self.started = {}
        self.platforms = SimpleNamespace(
            current_platform=SimpleNamespace(is_cpu=lambda: False), __name__="vllm.platforms"
        )

    def LLM(self, **options):
        self.started = options
        core = SimpleNamespace(shutdown=lambda: None)
        return SimpleNamespace(llm_engine=SimpleNamespace(engine_core=core))


@pytest.mark.parametrize(("device", "size"), [("cuda", 2), ("cpu", 1)])
def test_vllm_splits_the_model_over_the_jobs_gpus(
    make_run, tiny_model, tmp_path, monkeypatch, device, size
):
    from transformers import AutoTokenizer

    fake = FakeVllm()
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.platforms", fake.platforms)
    monkeypatch.setattr("diablo.generation.vllm_engine._set_environment", lambda threads: None)
    spec, folder = make_run()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    options = ("vllm", device, Decoding(), tokenizer, 64)
    with open_engine(spec, folder, tmp_path, *options, gpus=2):
        assert fake.started["tensor_parallel_size"] == size


def test_engine_stops_its_threads_and_ends(make_run, make_suite, tiny_model, tmp_path):
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert end_ids(tiny_model, tokenizer) == [0]
    spec, folder = make_run()
    before = torch.get_num_threads()
    with open_engine(
        spec, folder, tmp_path, "transformers", "cpu", Decoding(), tokenizer, 64, threads=1
    ):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_prompts_use_the_variant(make_suite):
    for variant in ("paper", "released", "peer"):
        protocol = load_protocol("commonsense", variant)
        prompt = suite_prompts(make_suite(variant=variant))[0]
        assert prompt.text == protocol.prompt_for_evaluation(records()[0])
        assert json.dumps(prompt.record)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_tasks_may_have_completions_of_other_lengths(
    run_generate, make_suite, reference, tmp_path, num_beams
):
    suite = make_suite(num_beams=num_beams)
    by_task = {"max_new_tokens_by_task": {"piqa": 5}}
    suite = suite.model_copy(update={"decoding": suite.decoding | by_task})
    rows = run_generate(suite)
    # Also with beams as if each task had been generated by itself: not the longer text, cut.
    lengths = {"boolq": 12, "piqa": 5, "social_i_qa": 12}
    expected = [reference(row["prompt"], num_beams, lengths[row["task"]]) for row in rows]
    assert [row["completions"] for row in rows] == [[text] for text in expected]
    assert [row["task"] for row in rows] == [task for task in TASKS for _ in range(7)]
    made = read_json(tmp_path / "out.provenance.json")
    assert made["decoding"]["max_new_tokens_by_task"] == {"piqa": 5}
    assert {"length", "eos"} == {row["finish"][0] for row in rows if row["task"] == "piqa"}


def test_lengths_by_task_must_be_positive():
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        Decoding(max_new_tokens_by_task={"math": 0})
