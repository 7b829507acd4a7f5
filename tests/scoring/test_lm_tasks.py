"""The lm-eval task files: complete, in step with the protocol, and usable by lm-eval's own CLI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from generation_cases import TASKS, records
from scoring_cases import suite_of

import diablo
from diablo.data.protocol import load_protocol
from diablo.generation.prompts import suite_prompts
from diablo.io import read_json, write_jsonl
from diablo.scoring.accuracy import TASKS as FOLDER
from diablo.scoring.accuracy import task_name
from diablo.scoring.lm_tasks import DATA_VARIABLE, documents
from diablo.scoring.replay import Replay

VARIANTS = ("paper", "released", "peer")


@pytest.fixture(scope="module")
def manager(dataset):
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=FOLDER, include_defaults=False, metadata={"data": str(dataset)})


def test_every_task_and_variant_has_a_file(manager):
    labels = load_protocol("commonsense", "paper").labels
    expected = {task_name(task, variant) for task in labels for variant in VARIANTS}
    assert set(manager.all_subtasks) == expected
    assert set(manager.all_groups) == {
        "diablo_commonsense",
        "diablo_commonsense_released",
        "diablo_commonsense_peer",
    }


def test_task_files_say_the_same_as_their_names_and_the_protocol(manager):
    for name, entry in manager.task_index.items():
        if "group" in entry.cfg:
            suffix = name.removeprefix("diablo_commonsense")
            labels = load_protocol("commonsense", "paper").labels
            assert entry.cfg["task"] == [f"diablo_{task}{suffix}" for task in labels]
            continue
        given = entry.cfg["dataset_kwargs"]
        assert name == task_name(given["task"], given["variant"])
        decoding = load_protocol(given["suite"], given["variant"]).decoding
        assert entry.cfg["generation_kwargs"] == {
            "max_gen_toks": decoding.max_new_tokens,
            "until": list(decoding.stop),
            "do_sample": False,
            "num_beams": decoding.num_beams,
        }


@pytest.mark.parametrize("variant", VARIANTS)
def test_documents_have_the_pipelines_prompts(dataset, variant):
    docs = documents("commonsense", variant, "piqa", data=str(dataset), limit_per_task=3)["test"]
    suite = suite_of(dataset, variant=variant, tasks=["piqa"], limit_per_task=3)
    assert docs["prompt"][:] == [prompt.text for prompt in suite_prompts(suite)]
    assert set(docs.column_names) == {"suite", "variant", "task", "id", "prompt", "answer"}


def test_missing_data_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=r"diablo_boolq: .* --metadata .* DIABLO_TASK_DATA=FOLDER"):
        documents("commonsense", "paper", "boolq", pretrained="some/model")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=r"test.jsonl: no such file; .* `diablo download`"):
        documents("commonsense", "paper", "boolq")


def request(task="piqa", name="piqa/1", prompt="Which?"):
    return SimpleNamespace(doc={"task": task, "id": name}, args=(prompt, {}))


def test_replay_refuses_what_was_not_generated():
    replay = Replay({("piqa", "piqa/1"): ("Which?", "solution1")})
    assert replay.generate_until([request()]) == ["solution1"]
    with pytest.raises(ValueError, match="piqa 'piqa/2': nothing was generated"):
        replay.generate_until([request(name="piqa/2")])
    with pytest.raises(ValueError, match=r"piqa 'piqa/1': lm-eval asks 'Where\?', generated was"):
        replay.generate_until([request(prompt="Where?")])
    with pytest.raises(NotImplementedError, match="no likelihoods"):
        replay.loglikelihood([])


def test_group_is_the_plain_mean_of_its_tasks(tmp_path):
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    names = list(load_protocol("commonsense", "peer").labels)
    # Unequal sizes, so that a mean weighted by size would differ.
    rows = [row for n, task in enumerate(names) for row in records([task], each=2 + n)]
    write_jsonl(tmp_path / "test.jsonl", rows)
    suite = suite_of(tmp_path, variant="peer", tasks=names)
    prompts = suite_prompts(suite)
    stored = {(p.task, p.id): (p.text, p.answer if p.id.endswith("/1") else "") for p in prompts}
    manager = TaskManager(
        include_path=FOLDER, include_defaults=False, metadata={"data": str(tmp_path)}
    )
    found = evaluate(Replay(stored), manager.load(["diablo_commonsense_peer"]), bootstrap_iters=1)
    means = [1 / (2 + n) for n in range(8)]
    value = found["results"]["diablo_commonsense_peer"]["acc,label"]
    assert value == pytest.approx(sum(means) / 8)


@pytest.mark.slow
def test_lm_eval_command_line(dataset, tiny_model, tmp_path):
    """The real CLI, offline, from another folder: same n, same prompts, a metric with its error."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(diablo.__file__).parents[1]),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }
    environment.pop(DATA_VARIABLE, None)
    where = {"data": str(dataset), "limit_per_task": 3}
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf"),
        *("--model_args", f"pretrained={tiny_model},dtype=float32", "--device", "cpu"),
        *("--include_path", str(FOLDER), "--batch_size", "3"),
        *("--tasks", ",".join(task_name(task, "released") for task in TASKS)),
        *("--metadata", json.dumps(where)),
        *("--output_path", str(tmp_path / "out"), "--log_samples"),
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "out").rglob("results_*.json")
    results = read_json(path)
    for task in TASKS:
        name = task_name(task, "released")
        assert results["n-samples"][name] == {"original": 3, "effective": 3}
        assert 0 <= results["results"][name]["acc,label"] <= 1
        assert results["results"][name]["acc_stderr,label"] >= 0
    suite = suite_of(dataset, variant="released", limit_per_task=3)
    asked = set()
    for samples in (tmp_path / "out").rglob("samples_*.jsonl"):
        asked |= {json.loads(line)["arguments"]["gen_args_0"]["arg_0"] for line in samples.open()}
    assert asked == {prompt.text for prompt in suite_prompts(suite)}
