"""The pydantic models: what a user's mistake is told, and that the exported schemas are in step."""

from __future__ import annotations

import json

import pytest

from diablo.config import Config
from diablo.experiments import WORKFLOW, Experiment, load_experiment
from diablo.scales import Scale, load_scale
from diablo.schemas import SCHEMAS
from diablo.settings import Settings
from diablo.specs import RunSpec, SuiteSpec
from diablo.validation import validate


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"scales": "demo"}, ["unknown key 'scales'", "did you mean 'scale'"]),
        ({"scale": "dmo"}, ["scale", "'dmo'", "did you mean 'demo'"]),
        ({"limits": {"trian": 3}}, ["unknown key 'trian'", "did you mean 'train'"]),
        ({"limits": {"train": 0}}, ["limits.train = 0", "greater than or equal to 2"]),
        ({"limits": {"train": "many"}}, ["limits.train = 'many'", "integer"]),
        ({"seeds": []}, ["seeds = []"]),
        ({"seeds": [1, 1]}, ["has a seed twice"]),
        ({"filters": {"only": "lora"}}, ["filters.only = 'lora'", "list"]),
        ({"protocol": "papre"}, ["'papre'", "did you mean 'paper'"]),
        ({"epochs": -1}, ["epochs = -1"]),
        ({"backend": "vlm"}, ["'vlm'", "did you mean 'vllm'"]),
        ({"unsafe_execution": "perhaps"}, ["unsafe_execution = 'perhaps'"]),
        (
            {"judge": {"endpoint": "localhost:8000", "model": "m"}},
            ["judge.endpoint", "an address such as"],
        ),
        (
            {"judge": {"endpoint": "http://h/v1", "modle": "m"}},
            ["unknown key 'modle'", "did you mean 'model'"],
        ),
        ({"second_turn": True}, ["second_turn: nothing but a judge rates", "give `judge`"]),
    ],
)
def test_a_mistake_in_the_config_is_named_with_the_nearest_valid_word(value, words) -> None:
    with pytest.raises(ValueError, match=r"^config\.yaml") as caught:
        validate(Config, value, "config.yaml")
    for word in words:
        assert word in str(caught.value)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="scael") as caught:
        validate(Config, {"scael": "demo", "limits": {"steps": -1}}, "config.yaml")
    assert "limits.steps = -1" in str(caught.value)


def test_a_bad_key_deep_in_an_experiment_names_the_keys_of_that_place() -> None:
    experiment = load_experiment("table1").model_dump()
    experiment["groups"][1]["rows"][2]["num_block"] = 3
    with pytest.raises(ValueError, match="did you mean 'num_blocks'"):
        validate(Experiment, experiment, "table1.yaml")


def test_a_reported_number_of_no_column_is_refused() -> None:
    experiment = load_experiment("table1").model_dump()
    experiment["groups"][0]["rows"][0]["reported"]["boolqq"] = 1.0
    with pytest.raises(ValueError, match="did you mean 'boolq'"):
        validate(Experiment, experiment, "table1.yaml")


def test_unknown_module_letters_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown module letter 'x'"):
        validate(Settings, {"modules": "qkx"}, "row")


@pytest.mark.parametrize(("load", "name"), [(load_experiment, "tabel1"), (load_scale, "dmo")])
def test_unknown_names_are_refused_with_the_nearest(load, name) -> None:
    with pytest.raises(ValueError, match="did you mean"):
        load(name)


def test_settings_take_the_first_value_given() -> None:
    top, middle = Settings(lr=1.0), Settings(lr=2.0, epochs=3)
    assert top.over(middle, Settings(epochs=4, dropout=0.5)) == Settings(
        lr=1.0, epochs=3, dropout=0.5
    )


def test_of_two_ways_to_say_a_warmup_the_closest_holds() -> None:
    steps, ratio = Settings(warmup_steps=7), Settings(warmup_ratio=0.5, epochs=2)
    assert steps.over(ratio) == Settings(warmup_steps=7, epochs=2)
    assert Settings(lr=1.0).over(ratio, steps) == Settings(lr=1.0, warmup_ratio=0.5, epochs=2)
    with pytest.raises(ValueError, match=r"warmup_steps = 0 and warmup_ratio = 0\.1: give one"):
        validate(Settings, {"warmup_steps": 0, "warmup_ratio": 0.1}, "row")


def test_a_run_says_nothing_of_what_came_later() -> None:
    """So that runs of before keep their names, and their files stay as they are."""
    fields = dict.fromkeys(("run", "scale", "model", "model_path", "suite", "variant"), "x")
    before = RunSpec(**fields, method="lora", dataset=None, data_path=None)
    later = before.model_copy(update={"warmup_ratio": 0.1})
    assert "warmup_ratio" not in before.model_dump()
    assert RunSpec.model_validate(later.model_dump()) == later
    assert before.digest != later.digest
    suite = SuiteSpec(suite="x", variant="x", dataset="x", data_path="x", tasks=[], decoding={})
    assert "second_turn" not in suite.model_dump()
    assert suite.model_copy(update={"second_turn": True}).model_dump()["second_turn"]


@pytest.mark.parametrize("name", ["demo", "mini", "paper"])
def test_scales_load(name: str) -> None:
    assert isinstance(load_scale(name), Scale)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_files_are_in_step_with_the_models(name: str) -> None:
    path = WORKFLOW / "schemas" / f"{name}.json"
    assert json.loads(path.read_text()) == SCHEMAS[name].model_json_schema(), (
        f"{path} is stale: run `python -m diablo.schemas` to write the schemas again"
    )
