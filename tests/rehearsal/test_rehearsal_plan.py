"""A rehearsal is the paper scale's own plan: the same rows, and of each run only what is declared differs."""

from __future__ import annotations

import json

import pytest

from diablo.config import Config
from diablo.planning import Plan, resolve
from diablo.rehearsal import scale as module
from diablo.rehearsal import sources
from diablo.rehearsal.scale import MARK, NAME, load_rehearsal, rehearsing
from diablo.suites import NO_JUDGE
from diablo.validation import validate

#: Names and folders, and how much is trained.
DIFFER = {
    *("run", "scale", "model", "model_path", "dataset", "data_path", "quantized"),
    *("mask_adapter", "full_adapter"),
    *("train_limit", "max_steps", "batch_size", "micro_batch_size"),
    # By a cap on the examples.
    *("held_out", "gradient_examples"),
}


@pytest.fixture(scope="module")
def paper() -> Plan:
    return resolve(Config(scale="paper", device="gpu"))


@pytest.fixture(scope="module")
def small() -> Plan:
    return resolve(rehearsing(Config(scale="paper", device="gpu", rehearse=True)))


def rows_of(plan: Plan) -> dict[tuple[str, str, str], dict]:
    return {
        (name, group["label"], row["id"]): row
        for name, table in plan.tables.items()
        for group in table["groups"]
        for row in group["rows"]
    }


def test_every_row_that_is_run_is_rehearsed(paper: Plan, small: Plan) -> None:
    theirs, ours = rows_of(paper), rows_of(small)
    assert theirs.keys() == ours.keys()
    for key, row in theirs.items():
        assert (ours[key]["reason"], len(ours[key]["runs"])) == (row["reason"], len(row["runs"])), (
            key
        )
        assert ours[key]["params_counted"] == row["params_counted"], key
    assert len(paper.runs) == len(small.runs)


def test_runs_differ_in_what_is_declared_alone(paper: Plan, small: Plan) -> None:
    theirs, ours = rows_of(paper), rows_of(small)
    for key, row in theirs.items():
        allowed = set(DIFFER)
        if key[0] == "table10":  # every width is a quarter of the paper's
            allowed.add("num_blocks")
        if row["rank_of"]:  # solved for on the model that is used
            allowed |= {"rank", "alpha"}
        if row["layers"]:
            allowed.add("layers")
        if row["method"] == "smt":
            allowed |= {"block_size", "calibration"}
        for one, other in zip(row["runs"], ours[key]["runs"], strict=True):
            a, b = paper.runs[one["run"]].model_dump(), small.runs[other["run"]].model_dump()
            assert {name for name in a | b if a.get(name) != b.get(name)} <= allowed, key
            assert b["model"] == NAME.format(a["model"])
            assert b["dataset"] == (a["dataset"] and NAME.format(a["dataset"]))


def test_suites_and_quantisers_differ_in_what_is_declared_alone(paper: Plan, small: Plan) -> None:
    assert paper.suites.keys() == small.suites.keys()
    for name, suite in paper.suites.items():
        a, b = suite.model_dump(), small.suites[name].model_dump()
        for decoding in (a["decoding"], b["decoding"]):
            decoding.pop("max_new_tokens")
            decoding.pop("max_new_tokens_by_task", None)
        differ = {key for key in a if a[key] != b[key]}
        assert differ <= {"dataset", "data_path", "limit_per_task", "notes"}, name
    allowed = {"name", "model", "model_path", "calibration_path"}
    allowed |= {"samples", "length", "perplexity_tokens", "iterations"}
    for one, other in zip(paper.quantized.values(), small.quantized.values(), strict=True):
        a, b = one.model_dump(), other.model_dump()
        assert {key for key in a if a[key] != b[key]} <= allowed, one.name


def test_a_rehearsal_cannot_be_taken_for_results(small: Plan) -> None:
    assert all(run.scale == "paper-rehearsal" for run in small.runs.values())
    for name, table in small.tables.items():
        assert table["title"].startswith(MARK), name
        assert "REHEARSAL" in table["scale_describe"], name
        assert any("rehearsal" in text for text in table["stand_ins"]), name
        assert any("tiny random" in text for text in table["stand_ins"]), name
    assert Config(scale="paper", rehearse=True).root == "results/paper-rehearsal"


def test_the_judge_is_one_of_its_own_and_asked(small: Plan) -> None:
    endpoint = "https://judge.example.org/v1"
    given = {"endpoint": endpoint, "model": "dear", "api_key_env": "JUDGE_KEY", "concurrency": 2}
    config = validate(Config, {"scale": "paper", "rehearse": True, "judge": given}, "config")
    judge = rehearsing(config).judge
    assert judge is not None
    assert judge.endpoint.startswith("http://127.0.0.1:")
    assert (judge.api_key_env, judge.concurrency) == (None, 2)
    assert rehearsing(config).judge == judge  # the same plan every time
    other = config.model_copy(update={"results": "elsewhere"})
    assert rehearsing(other).judge != judge
    unasked = resolve(Config(scale="paper", device="gpu"))
    for name in ("table3", "table7"):
        assert NO_JUDGE in json.dumps(unasked.tables[name]), name
        assert NO_JUDGE not in json.dumps(small.tables[name]), name


def test_a_user_s_limits_and_trials_do_not_change_it() -> None:
    given = {
        "limits": {"train": 512, "test_per_task": 500},
        "epochs": 3,
        "tune": {"factors": [0.5, 1, 2], "held_out": 100},
    }
    config = validate(Config, {"scale": "paper", "rehearse": True, **given}, "config")
    plan = resolve(rehearsing(config))
    small = load_rehearsal().limits
    assert {suite.limit_per_task for suite in plan.suites.values()} == {small.test_per_task}
    assert all(len(run.trials) == 3 for run in plan.runs.values() if run.trials)
    assert any(run.trials for run in plan.runs.values())


def test_what_is_made_up_follows_its_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sources.declared_digest()
    assert sources.declared_digest() == before
    rehearsal = load_rehearsal()
    name = next(iter(rehearsal.models))
    wider = rehearsal.models[name].model_copy(update={"ffn": 2 * rehearsal.models[name].ffn})
    changed = rehearsal.model_copy(update={"models": rehearsal.models | {name: wider}})
    monkeypatch.setattr(module, "load_rehearsal", lambda: changed)
    assert sources.declared_digest() != before


def test_vllm_decodes_one_run_of_each_listed_model(small: Plan) -> None:
    wanted = load_rehearsal().vllm
    chosen = [small.runs[run] for run, backend in small.backends.items() if backend == "vllm"]
    assert {run.model: run.suite for run in chosen} == {
        NAME.format(model): suite for model, suite in wanted.items()
    }
    assert small.backends.keys() == small.runs.keys()
    asked = Config(scale="paper", rehearse=True, device="cpu", backend="vllm")
    assert resolve(asked).backends == {}


@pytest.mark.parametrize(
    ("native", "device", "changed"),
    [
        (True, "cpu", {("fp16", "bf16")}),
        (False, "cpu", {("fp16", "fp32"), ("bf16", "fp32")}),
        (False, "gpu", set()),
    ],
)
def test_only_what_a_cpu_cannot_do_changes_the_precision(
    paper: Plan, monkeypatch, native, device, changed
) -> None:
    monkeypatch.setattr(module, "native_bf16", lambda: native)
    plan = resolve(Config(scale="paper", rehearse=True, device=device))
    pairs = {
        (paper.runs[one["run"]].precision, plan.runs[other["run"]].precision)
        for key, row in rows_of(paper).items()
        for one, other in zip(row["runs"], rows_of(plan)[key]["runs"], strict=True)
    }
    assert {(a, b) for a, b in pairs if a != b} == changed


def test_what_cannot_be_rehearsed_is_refused() -> None:
    with pytest.raises(ValueError, match="only scale paper is rehearsed, not mini"):
        validate(Config, {"scale": "mini", "rehearse": True}, "config")
    with pytest.raises(ValueError, match="experiments of your own are not rehearsed"):
        validate(Config, {"scale": "paper", "rehearse": True, "experiments": "mine.yaml"}, "config")
