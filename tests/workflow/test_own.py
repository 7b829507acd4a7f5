"""A user's own experiment while it is planned: run as written, and every mistake is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from own_cases import CONFIG, comparison, edit, sums, write

from diablo.cli import main
from diablo.config import Config
from diablo.estimate import sizes
from diablo.estimate.facts import load_assumptions
from diablo.planning import Plan, resolve


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return comparison(tmp_path / "mine")


def plan_of(path: Path, **config) -> Plan:
    return resolve(Config.model_validate({"experiments": str(path), **config}))


def specs(plan: Plan) -> list:
    return [plan.runs[run] for run in plan.runs_of("my_table")]


@pytest.mark.parametrize("scale", ["demo", "mini", "paper"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_it_is_run_as_written_at_every_scale(path: Path, scale: str, device: str) -> None:
    plan = plan_of(path, scale=scale, device=device, protocol="peer")
    lora, diablo = specs(plan)
    assert (lora.rank, lora.alpha, lora.num_blocks) == (8, 16, None)
    assert (diablo.rank, diablo.num_blocks) == (None, 64)
    for spec in (lora, diablo):
        assert (spec.epochs, spec.batch_size, spec.warmup_steps) == (3, 8, 2)
        assert (spec.max_length, spec.precision, spec.train_limit) == (128, "fp32", None)
        assert (spec.variant, spec.model, spec.dataset) == ("own", "mine", "sums")
        assert spec.data_path == f"results/{scale}/data/sums"
        rates = [plan.runs[name].lr for name in spec.trials]
        assert rates == pytest.approx([0.5 * spec.lr, spec.lr])
    table, suite = plan.tables["my_table"], plan.suites["my_table-own"]
    assert (table["variant"], table["section"], table["stand_ins"]) == ("own", None, [])
    assert "scale changes nothing" in table["scale_describe"]
    assert suite.decoding == {"num_beams": 1, "max_new_tokens": 16, "stop": ["\n"]}
    assert (suite.tasks, suite.limit_per_task) == (["sums"], None)
    (group,) = table["groups"]
    assert (group["used_model"], group["used_model_title"]) == ("mine", "My model")
    assert [row["lr_from"] for row in group["rows"]] == ["tuned", "tuned"]
    assert not any(row["reported"] or row["notes"] or row["reason"] for row in group["rows"])


def test_its_records_are_counted_for_the_estimate(path: Path) -> None:
    plan, known = plan_of(path), load_assumptions()
    data, suite = plan.catalog.datasets["sums"], plan.suites["my_table-own"]
    assert sizes.train_size("sums", data, known).examples == 24
    (count,) = sizes.test_sizes(suite, data, known).values()
    assert count.examples == 12
    assert "test.jsonl" in count.source


def test_the_command_line_holds(path: Path) -> None:
    limits = {"train": 20, "test_per_task": 3, "steps": 5}
    filters = {"only": ["diablo-n64"]}
    plan = plan_of(path, limits=limits, epochs=1, seeds=[3, 4], filters=filters)
    found = specs(plan)
    assert [(spec.method, spec.seed) for spec in found] == [("diablo", 3), ("diablo", 4)]
    assert {(s.train_limit, s.max_steps, s.epochs) for s in found} == {(20, 5, 1)}
    assert plan.suites["my_table-own"].limit_per_task == 3
    assert plan.runs_of("table1")  # a filter of rows holds for all experiments


def test_without_trials_the_rate_is_the_one_given(path: Path) -> None:
    edit(path, lambda v: v.pop("tune"))
    plan = plan_of(path)
    assert {row["lr_from"] for row in plan.tables["my_table"]["groups"][0]["rows"]} == {"given"}
    assert not any(spec.trials for spec in specs(plan))


def test_only_what_training_depends_on_trains_again(path: Path) -> None:
    before = plan_of(path)
    edit(path, lambda v: v["protocol"].update(pattern=r"is (\d+)", max_new_tokens=8, stop=[]))
    scored_again = plan_of(path)
    assert scored_again.runs_of("my_table") == before.runs_of("my_table")
    assert scored_again.suites["my_table-own"] != before.suites["my_table-own"]
    for key, text in (("prompt", "{question}"), ("response", "{answer}!"), ("mask_prompt", False)):
        edit(path, lambda v, change={key: text}: v["protocol"].update(change))
        trained_again = plan_of(path)
        assert not set(trained_again.runs_of("my_table")) & set(before.runs_of("my_table"))
        before = trained_again


def test_the_data_sets_digest_follows_its_content_not_its_place(path: Path) -> None:
    before = plan_of(path).catalog.datasets["sums"].digest
    moved = Path(shutil.move(path.parent, path.parent.with_name("moved"))) / path.name
    assert plan_of(moved).catalog.datasets["sums"].digest == before
    write(moved.parent / "train.jsonl", sums(range(3)))
    assert plan_of(moved).catalog.datasets["sums"].digest != before


def test_a_folder_of_files_and_models_of_the_catalogue(path: Path) -> None:
    other = path.with_name("other.yaml")
    shutil.copy(path, other)
    edit(other, lambda v: (v.update(name="other"), v["groups"][0].update(model="smollm2-135m")))
    plan = plan_of(path.parent)
    assert plan.models_of("my_table") == ["mine"]
    assert plan.models_of("other") == ["smollm2-135m"]
    assert plan.datasets_of("other") == ["sums"]
    assert [Path(file).name for file in plan.model_files("mine")] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert plan.model_files("smollm2-135m") == []


def protocol(**changes):
    return lambda v: v["protocol"].update(changes)


def row(**changes):
    return lambda v: v["groups"][0]["rows"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(colums={}), "unknown key 'colums'; did you mean 'columns'"),
        (protocol(promt="x"), "unknown key 'promt'; did you mean 'prompt'"),
        (lambda v: v["data"]["sums"].update(tran="x"), "unknown key 'tran'; did you mean 'train'"),
        (lambda v: v["models"]["mine"].update(pth="x"), "unknown key 'pth'; did you mean 'path'"),
        (row(rnak=3), "unknown key 'rnak'; did you mean 'rank'"),
        (lambda v: v.pop("protocol"), "protocol: this key is required"),
        (lambda v: v.pop("name"), "name: this key is required"),
        (protocol(pattern="(a"), r"protocol.pattern = '(a': not a regular expression"),
        (protocol(prompt="{qestion}"), "prompt: unknown field 'qestion'; did you mean 'question'"),
        (protocol(response="{anwser}"), "response: unknown field 'anwser'; did you mean 'answer'"),
        (protocol(prompt="What? {"), "protocol.prompt = 'What? {'"),
        (protocol(prompt="{} {question}"), "{} names no field"),
        (protocol(prompt="What?"), "names no field of a record"),
        (protocol(prompt="{question} {answer}"), "shows {answer}"),
        (protocol(prompt="{question[text]}"), "train.jsonl:1: prompt cannot be filled in"),
        (protocol(max_new_tokens=0), "protocol.max_new_tokens = 0"),
        (protocol(stop=[""]), "would stop at once"),
        (lambda v: v.update(train="sum"), "unknown data set 'sum'; did you mean 'sums'"),
        (lambda v: v.update(columns={}), "columns: name at least one task"),
        (lambda v: v.update(average=None), "average: give the heading"),
        (lambda v: v.update(kind="gradient-variance"), "gradient-variance"),
        (lambda v: v.update(columns={"sums": "S", "more": "M"}), "train.jsonl:1: has no `task`"),
        (lambda v: v["data"]["sums"].update(test="tset.jsonl"), "tset.jsonl: no such file"),
        (lambda v: v["models"]["mine"].update(path="modle"), "config.json: no such file"),
        (lambda v: v["groups"][0].update(model="mien"), "unknown model 'mien'; did you mean 'mine'"),
        (row(method="lroa"), "unknown method 'lroa'; did you mean 'lora'"),
        (row(rank=None), "My model / LoRA: method 'lora' needs rank"),
        (row(lr=None), "LoRA: no learning rate; give `lr` to the row"),
        (row(modules="qx"), "unknown module letter 'x'"),
        (lambda v: v.update(name="table1"), "'table1' is taken by an experiment of the project"),
        (lambda v: v.update(name="audit"), "'audit' is taken by a rule of the workflow"),
        (lambda v: v.update(name="aggregate_table1"), "is taken by a rule of the workflow"),
        (lambda v: v.update(name="score_suite"), "is taken by a rule of the workflow"),
        (lambda v: v.update(name="My-Table"), "use small letters"),
        (lambda v: v.update(suite="commonsense"), "'commonsense' is a protocol of the project"),
        (lambda v: v.update(data={"commonsense_8": v["data"]["sums"]}, train="commonsense_8"), "data.commonsense_8: another data set"),
        (lambda v: v["models"].update({"llama2-7b": v["models"]["mine"]}), "models.llama2-7b: another model has this name"),
        (lambda v: v["models"].update({"a/b": v["models"]["mine"]}), "models: 'a/b'"),
    ],
)  # fmt: skip
def test_mistakes_in_the_yaml_are_told(path: Path, change, words: str) -> None:
    edit(path, change)
    with pytest.raises(ValueError, match="my_table") as caught:
        plan_of(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train.jsonl", "\n", "train.jsonl: has no records"),
        ("test.jsonl", "\n\n{not json\n", "test.jsonl:3: not valid JSON"),
        ("test.jsonl", '["question"]\n', "test.jsonl:1: must be an object"),
        ("test.jsonl", '{"question": "1"}\n', "test.jsonl:1: answer: unknown field 'answer'"),
        ("test.jsonl", '{"question": "1", "answer": true}\n', "answer = True must be a text"),
        ("test.jsonl", '{"question": "1", "answer": "1", "task": "sum"}\n', "unknown task 'sums'"),
        ("model/config.json", "{}", "model_type None is no Llama-like decoder"),
        ("model/config.json", json.dumps(CONFIG | {"model_type": "gpt2"}), "'gpt2' is no Llama-like"),
        ("model/config.json", json.dumps(CONFIG | {"head_dim": 64}), "4 heads of 64 are not hidden"),
        ("model/config.json", json.dumps(CONFIG | {"quantization_config": {"bits": 4}}), "quantised"),
        ("model/config.json", json.dumps(CONFIG | {"vocab_size": "many"}), "vocab_size = 'many'"),
    ],
)  # fmt: skip
def test_mistakes_in_the_files_are_told(path: Path, name: str, text: str, words: str) -> None:
    (path.parent / name).write_text(text)
    with pytest.raises(ValueError, match="my_table") as caught:
        plan_of(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"), [("model.safetensors", "no weights"), ("tokenizer.json", "no tokenizer")]
)
def test_an_incomplete_model_is_refused(path: Path, name: str, words: str) -> None:
    (path.parent / "model" / name).unlink()
    with pytest.raises(ValueError, match=f"models.mine: .*{words}"):
        plan_of(path)


def test_files_of_a_folder_must_not_contradict_each_other(path: Path) -> None:
    other = path.with_name("other.yaml")
    shutil.copy(path, other)
    with pytest.raises(ValueError, match=r"'my_table' is taken by .*my_table\.yaml"):
        plan_of(path.parent)
    edit(other, lambda v: (v.update(name="other"), v["protocol"].update(prompt="{question} ")))
    with pytest.raises(ValueError, match=r"other: data\.sums: .*same files with another prompt"):
        plan_of(path.parent)
    edit(other, lambda v: v.update(data={"again": v["data"]["sums"]}, train="again"))
    assert {"my_table", "other"} <= set(plan_of(path.parent).tables)
    edit(other, lambda v: v.update(suite="my_table"))
    with pytest.raises(ValueError, match="suite my_table is evaluated in another way"):
        plan_of(path.parent)


@pytest.mark.parametrize("name", ["none.yaml", "empty"])
def test_no_file_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"experiments=.*{name}: no such YAML file"):
        plan_of(tmp_path / name)


def test_planning_needs_neither_torch_nor_network(path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from diablo.config import Config; from diablo.planning import resolve\n"
        f"assert resolve(Config(experiments={str(path)!r})).runs_of('my_table')\n"
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_check_of_the_sources(path: Path, tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"experiments: {path}\n")
    check = ["download", "--check", "my_table", "--config", str(config)]
    assert main(check) == 0
    assert "all sources of my_table are here" in capsys.readouterr().out
    config.write_text("")
    assert main(check) == 2
    assert main([*check, "--experiments", str(path)]) == 0
    (path.parent / "train.jsonl").unlink()
    assert main([*check, "--experiments", str(path)]) == 2
    assert "train.jsonl: no such file" in capsys.readouterr().err
