"""Figures 3 and 4 planned: runs, probes and files at every scale; settings of the paper; refusals."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import yaml
from workspace import Workspace

from diablo.config import Config
from diablo.experiments import WORKFLOW, Experiment, load_experiment
from diablo.planning import Plan, resolve
from diablo.specs import RunSpec
from diablo.validation import validate


def plan_with(**config) -> Plan:
    return resolve(Config.model_validate({"device": "cpu", **config}))


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """A copy of the declarations that a test may spoil."""
    return Path(shutil.copytree(WORKFLOW, tmp_path / "workflow"))


def edit(path: Path, change) -> None:
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value, sort_keys=False))


@pytest.mark.parametrize(("scale", "layers"), [("demo", 30), ("mini", 30), ("paper", 32)])
def test_figure3_probes_one_drawn_layer_of_two_runs(scale: str, layers: int) -> None:
    plan = plan_with(scale=scale)
    probe, table = plan.probes["figure3"], plan.tables["figure3"]
    assert probe.layer == random.Random("layer 0").randrange(layers)
    assert probe.layer_from == "drawn with seed 0"
    assert table["probe"]["layers"] == layers
    assert [plan.runs[run].method for run in plan.runs_of("figure3")] == ["diablo", "full"]
    files = plan.results_of("figure3")
    # No scores and no losses: nothing is generated.
    assert [Path(path).name for path in files] == ["provenance.json", "figure3.json"] * 2
    assert plan.figures_of("figure3") == {"figure3": "effective rank"}


@pytest.mark.parametrize("scale", ["demo", "mini", "paper"])
def test_figure4_monitors_one_run_of_five_epochs(scale: str) -> None:
    plan = plan_with(scale=scale)
    (run,) = plan.runs_of("figure4")
    spec = plan.runs[run]
    assert (spec.method, spec.epochs, spec.num_blocks) == ("diablo", 5, 64)
    assert len(spec.modules) == 7
    files = [Path(path).name for path in plan.results_of("figure4")]
    assert files == ["provenance.json", "gradients.jsonl"]
    assert len(plan.tables["figure4"]["columns"]) == 6
    (data,) = plan.datasets_of("figure4")
    assert data == spec.dataset
    # No epoch is cut short.
    if spec.max_steps is not None:
        assert spec.max_steps >= 5 * -(-spec.train_limit // spec.batch_size)


def test_the_papers_settings_and_all_of_its_examples() -> None:
    plan = plan_with(scale="paper")
    for name in ("figure3", "figure4"):
        spec = plan.runs[plan.runs_of(name)[0]]
        assert (spec.lr, spec.weight_decay, spec.schedule) == (4e-4, 0, "linear")
        assert (spec.warmup_steps, spec.batch_size, spec.max_length) == (20, 32, 512)
        assert spec.dataset == "gsm8k"
    assert spec.gradient_examples == 7473
    assert plan.probes["figure3"].examples == 64


def test_demo_looks_at_few_examples_and_a_cap_at_fewer() -> None:
    demo = plan_with()
    spec = demo.runs[demo.runs_of("figure4")[0]]
    assert spec.gradient_examples == spec.train_limit == 24
    assert demo.probes["figure3"].examples == 32
    capped = plan_with(limits={"probe": 5})
    assert capped.runs[capped.runs_of("figure4")[0]].gradient_examples == 5
    assert capped.probes["figure3"].examples == 5
    # Only the runs that are looked at while they train are others.
    assert demo.runs_of("figure3") == capped.runs_of("figure3")
    assert demo.runs_of("table1") == capped.runs_of("table1")


def test_only_monitored_runs_say_so() -> None:
    plan = plan_with()
    told = {run for run, spec in plan.runs.items() if "gradient_examples" in spec.model_dump()}
    assert told == set(plan.runs_of("figure4"))
    assert "probe" not in plan.tables["table1"]
    assert "probe" not in plan.tables["table1"]["limits"]
    (run,) = told
    assert RunSpec.model_validate(plan.runs[run].model_dump()) == plan.runs[run]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("figure3", lambda v: v["probe"].update(layer=30), r"figure3: probe\.layer = 30: the model has 30 layers, 0 to 29"),
        ("figure3", lambda v: v["groups"][0]["rows"][0].update(method="zero-shot", num_blocks=None), "Llama3-8B / DiaBlo: kind effective-rank looks at fine-tuned models only"),
        ("figure4", lambda v: v["groups"][0]["rows"][0].update(method="full", num_blocks=None), "Llama3-8B / DiaBlo: method = full: .* only diablo can be a row"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_refused(workflow: Path, name, change, words) -> None:
    edit(workflow / "experiments" / f"{name}.yaml", change)
    with pytest.raises(ValueError, match=words):
        resolve(Config(device="cpu"), workflow)


def test_a_model_with_two_stacks_of_layers_is_refused(workflow: Path) -> None:
    def change(value) -> None:
        value["groups"][0]["model"] = "t5-base"
        value["groups"][0]["defaults"]["modules"] = "all"

    edit(workflow / "experiments" / "figure3.yaml", change)
    with pytest.raises(ValueError, match="Llama3-8B: probe: not for encoder-decoders"):
        resolve(Config(scale="paper", device="cpu"), workflow)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("figure3", {"probe": None}, "probe: an experiment of kind effective-rank needs it"),
        ("figure4", {"gradient_examples": None}, "gradient_examples: .* gradient-norms needs it"),
        ("figure3", {"gradient_examples": 3}, "gradient_examples: .* effective-rank has none"),
        ("table1", {"gradient_examples": 3}, "it is for kind gradient-norms"),
    ],
)
def test_keys_of_another_kind_are_refused(name, change, words) -> None:
    value = load_experiment(name).model_dump() | change
    with pytest.raises(ValueError, match=words):
        validate(Experiment, value, f"{name}.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [("thresholds", [1.0]), ("thresholds", []), ("blocks", [0]), ("examples", 0), ("layer", -1)],
)
def test_a_probe_out_of_range_is_refused(key, value) -> None:
    experiment = load_experiment("figure3").model_dump()
    experiment["probe"][key] = value
    with pytest.raises(ValueError, match=rf"figure3\.yaml.*probe\.{key}"):
        validate(Experiment, experiment, "figure3.yaml")


JOBS = {
    "figure3": {"finetune_run": 2, "probe_ranks": 2, "aggregate_figure3": 1},
    "figure4": {"finetune_monitored": 1, "aggregate_figure4": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("figure", JOBS)
def test_snakemake_plans_neither_generation_nor_scores(workspace: Workspace, figure: str) -> None:
    done = workspace.run("-n", figure, "--cores", "1")
    words = [line.split() for line in done.stdout.splitlines()]
    jobs = {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit()}
    assert {rule: jobs[rule] for rule in JOBS[figure]} == JOBS[figure]
    assert not {"generate_suite", "score_suite", "measure_loss"} & set(jobs)
    if figure == "figure4":
        assert "finetune_run" not in jobs


@pytest.mark.slow
def test_figure4_on_a_tiny_model_and_then_nothing_to_do(tiny_workspace: Workspace) -> None:
    given = ("--config", "limits={train: 6, probe: 4}")
    tiny_workspace.run("--cores", "1", "figure4", *given)
    results = tiny_workspace.folder / "results" / "demo"
    for form in ("csv", "md", "html", "tex"):
        assert (results / "tables" / f"figure4.{form}").stat().st_size > 500
    (gradients,) = results.glob("runs/*/gradients.jsonl")
    lines = [json.loads(line) for line in gradients.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert {line["examples"] for line in lines} == {4}
    assert "4 of 6 training examples" in (results / "tables" / "figure4.md").read_text()
    assert "Nothing to be done" in "".join(
        vars(tiny_workspace.run("--cores", "1", "figure4", *given))[key]
        for key in ("stdout", "stderr")
    )
