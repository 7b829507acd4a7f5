"""check_serving(): agreement of the adapter, merged and served model, and reports where there is none."""

from __future__ import annotations

import pytest

from diablo.analysis.serving import View, check_serving, compare, spread
from diablo.generation import generate
from diablo.generation.prompts import suite_prompts
from diablo.io import read_json

METHODS = {
    "lora": {"rank": 2, "alpha": 4.0},
    "dora": {"rank": 2, "alpha": 4.0},
    "pissa": {"rank": 2},
    "milora": {"rank": 2},
    "diablo": {"num_blocks": 4},
}


def trained(spec, folder):
    """Write the artifact of a run whose trainable weights have been moved by noise."""
    import torch

    from diablo.methods import get_method
    from diablo.methods.base import load_base

    torch.manual_seed(0)
    method = get_method(spec.method)
    model = method.prepare(load_base(spec.model_path, "cpu", torch.float32), spec, folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    method.save(model, folder / "adapter")


@pytest.mark.parametrize("method", METHODS)
def test_adapter_equals_merged_equals_served(make_run, make_suite, method):
    spec, folder = make_run(method, method=method, modules=["q_proj", "v_proj"], **METHODS[method])
    trained(spec, folder)
    out = folder / "serving" / "commonsense.json"
    report = check_serving(spec, make_suite(num_beams=3), out, prompts=6, backend="transformers")
    assert report == read_json(out)
    assert report["status"] == "same"
    assert (report["prompts"], report["dtype"], report["backend"]) == (6, "float32", "transformers")
    assert set(report["pairs"]) == {"adapter/merged", "merged/served", "adapter/served"}
    for pair in report["pairs"].values():
        assert pair["disagreement"] == 0
        assert pair["first"] is None
        assert pair["max_logprob_difference"] < 1e-3
    assert report["pairs"]["merged/served"]["max_logprob_difference"] < 1e-5  # alignment
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("method", ["zero-shot", "full"])
def test_methods_without_an_adapter_have_one_pair(make_run, make_suite, method):
    spec, folder = make_run(method, method=method)
    if method == "full":
        trained(spec, folder)
    out = folder / "serving" / "commonsense.json"
    report = check_serving(spec, make_suite(), out, prompts=3, backend="transformers")
    assert list(report["pairs"]) == ["merged/served"]
    assert report["status"] == "same"


def test_a_wrong_merge_is_reported(make_run, make_suite, monkeypatch):
    from diablo import methods

    spec, folder = make_run("lora", method="lora", modules=["q_proj", "v_proj"], **METHODS["lora"])
    trained(spec, folder)
    original = methods.load_for_inference

    def forgets_the_adapter(spec, adapter, device, dtype):
        return original(spec.model_copy(update={"method": "zero-shot"}), adapter, device, dtype)

    monkeypatch.setattr(methods, "load_for_inference", forgets_the_adapter)
    out = folder / "serving" / "commonsense.json"
    report = check_serving(spec, make_suite(), out, prompts=6, backend="transformers")
    assert report["status"] == "differs"
    assert report["pairs"]["merged/served"]["disagreement"] == 0
    wrong = report["pairs"]["adapter/merged"]
    assert wrong["disagreement"] > 0.05
    assert wrong["max_logprob_difference"] > 0.1
    assert wrong["first"]["id"].startswith(wrong["first"]["task"])


def test_first_difference_names_prompt_and_token(make_suite, tiny_model):
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    prompts = suite_prompts(make_suite())[:3]
    one = View([[5, 6], [7, 8], [9]], torch.zeros(3, 2))
    unknown = float("nan")
    other = View([[5, 6], [7], [4]], torch.tensor([[0, unknown], [-0.5, 0.25], [unknown, 0.25]]))
    pair = compare(one, other, prompts, tokenizer)
    assert pair["disagreement"] == pytest.approx(2 / 3)
    assert pair["max_logprob_difference"] == 0.5
    first = pair["first"]
    assert (first["id"], first["position"], first["tokens"]) == ("boolq/1", 1, [8, None])


def test_prompts_are_spread_over_tasks(make_suite):
    prompts = suite_prompts(make_suite())
    assert [prompt.id for prompt in spread(prompts, 3)] == ["boolq/0", "piqa/0", "social_i_qa/0"]
    assert spread(prompts, 99) == prompts


def test_threads_are_kept_to(make_run, make_suite, monkeypatch):
    import torch

    import diablo.analysis.serving as module

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    used: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    view = module._view
    monkeypatch.setattr(module, "_view", lambda *a: used.append(-1) or view(*a))
    spec, folder = make_run("zero-shot")
    out = folder / "serving" / "commonsense.json"
    check_serving(spec, make_suite(), out, prompts=2, backend="transformers", threads=1)
    assert -1 in used
    for place in (i for i, each in enumerate(used) if each == -1):
        assert used[place - 1] == 1


def test_bf16_on_a_cpu_without_it_is_refused(make_run, make_suite, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("diablo.precision.native_bf16", lambda: False)
    spec, folder = make_run(precision="bf16")
    with pytest.raises(ValueError, match=r"run tiny: precision 'bf16'.*set `precision: fp32`"):
        generate(spec, make_suite(), folder, tmp_path / "out.jsonl", tmp_path / "work")
    with pytest.raises(ValueError, match="run tiny: precision 'bf16'"):
        check_serving(spec, make_suite(), folder / "serving" / "commonsense.json")
