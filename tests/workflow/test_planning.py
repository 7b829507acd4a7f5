"""From experiment × scale × config to runs: counts, repeats, filters, ranks, refusals, no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from diablo.config import Config
from diablo.experiments import WORKFLOW
from diablo.planning import Plan, resolve
from diablo.rows import is_trained
from diablo.shapes import Shapes, diablo_parameters, lora_parameters, matched_rank

LLAMA2 = Shapes(32, 4096, 4096, 11008, 6_738_415_616)
QKVUD = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]


def rows_of(plan: Plan, table: str = "table1") -> list[tuple[str, dict]]:
    return [(g["model"], row) for g in plan.tables[table]["groups"] for row in g["rows"]]


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


def test_demo_trains_each_distinct_run_of_table1_once() -> None:
    plan = plan_with()
    runs = plan.runs_of("table1")
    assert len(runs) == len(set(runs)) == 12
    methods = Counter(plan.runs[run].method for run in runs)
    # Two SMT rows a group; the larger budgets differ between the two groups that have them.
    assert methods == {
        "full": 1, "zero-shot": 1, "lora": 1, "dora": 2, "pissa": 1, "milora": 1, "smt": 3, "diablo": 2,
    }  # fmt: skip


@pytest.mark.parametrize("scale", ["demo", "mini"])
def test_later_groups_say_whose_run_theirs_is(scale: str) -> None:
    repeated = [row for model, row in rows_of(plan_with(scale=scale)) if model != "llama2-7b"]
    for row in repeated:
        if row["method"] == "smt":
            continue
        assert row["reason"] or row["same_as"].startswith("Llama2-7B / "), row


def test_paper_scale_trains_every_row_on_its_own_model() -> None:
    plan = plan_with(scale="paper")
    assert not any(row["same_as"] for _, row in rows_of(plan))
    assert plan.tables["table1"]["stand_ins"] == []
    diablo = {
        (model, row["num_blocks"]): plan.runs[row["runs"][0]["run"]]
        for model, row in rows_of(plan)
        if row["method"] == "diablo"
    }
    # The paper's Table 12.
    assert diablo["llama2-7b", 64].lr == 2e-4
    assert diablo["llama2-7b", 128].lr == 3e-4
    assert diablo["llama3-8b", 64].lr == 5e-5
    assert diablo["llama3-8b", 128].lr == 1e-4
    for spec in diablo.values():
        assert (spec.batch_size, spec.epochs, spec.warmup_steps) == (16, 3, 100)
        assert (spec.max_length, spec.precision, spec.schedule) == (256, "fp16", "linear")
        assert spec.modules == QKVUD


def test_stand_ins_are_named_at_the_small_scales() -> None:
    for scale in ("demo", "mini"):
        text = " ".join(plan_with(scale=scale).tables["table1"]["stand_ins"])
        assert "SmolLM2" in text
        assert "Llama2-7B, Llama3-8B and Llama-13B" in text


@pytest.mark.parametrize(("blocks", "millions"), [(64, 70.25), (128, 35.13)])
def test_counts_of_llama2_7b_are_the_known_ones(blocks: int, millions: float) -> None:
    assert diablo_parameters(LLAMA2.widths(QKVUD), blocks) / 1e6 == pytest.approx(
        millions, abs=0.01
    )
    assert lora_parameters(LLAMA2.widths(QKVUD), 32) / 1e6 == pytest.approx(56.10, abs=0.01)


def test_counted_parameters_know_grouped_query_attention() -> None:
    counted = {
        (model, row["id"]): row["params_counted_percent"] for model, row in rows_of(plan_with())
    }
    assert counted["llama2-7b", "diablo-n64"] == pytest.approx(1.043, abs=5e-4)
    assert counted["llama3-8b", "diablo-n64"] == pytest.approx(0.888, abs=5e-4)
    assert counted["llama-13b", "diablo-n128"] == pytest.approx(0.529, abs=5e-4)
    # SMT's blocks follow from its printed percentages.
    for row in (row for _, row in rows_of(plan_with()) if row["method"] == "smt"):
        assert f"{row['params_counted_percent']:.2f}%" == row["params_reported"]


def test_a_scaled_rank_keeps_the_papers_ratio() -> None:
    small = Shapes(30, 576, 192, 1536, 134_515_008).widths(QKVUD)
    assert matched_rank(0.7986, small, 64) == 4
    assert matched_rank(0.001, small, 64) == 1
    plan = plan_with()
    ranks = {row["id"]: row["setting_used"]["rank"] for _, row in rows_of(plan) if row["runs"]}
    assert ranks["lora-r32"] == 4
    assert ranks["dora-r16"] == 2
    lora = next(row for _, row in rows_of(plan) if row["id"] == "lora-r32")
    assert any("0.76 of the parameters of DiaBlo" in note for note in lora["notes"])


@pytest.mark.parametrize(
    ("only", "skip", "kept"),
    [
        (["zero-shot", "lora", "diablo-n64"], [], {"zero-shot", "lora-r32", "diablo-n64"}),
        (["llama2-7b", "diablo"], [], {"diablo-n64", "diablo-n128"}),
        (
            ["llama2-7b"],
            ["dora", "full", "smt"],
            {"zero-shot", "lora-r32", "pissa-r32", "milora-r32", "diablo-n64", "diablo-n128"},
        ),
        ([], ["diablo", "lora", "dora", "pissa", "milora", "smt", "full"], {"zero-shot"}),
    ],
)
def test_filters_keep_rows_methods_and_groups(only, skip, kept) -> None:
    plan = plan_with(filters={"only": only, "skip": skip})
    rows = rows_of(plan)
    assert {row["id"] for _, row in rows if row["runs"]} == kept
    for model, row in rows:
        if not row["runs"]:
            assert row["reason"] == "filtered"
        if "llama2-7b" in only and model != "llama2-7b":
            assert not row["runs"]


def test_a_filter_of_nothing_is_refused_with_the_nearest_word() -> None:
    with pytest.raises(ValueError, match=r"filters\.only: unknown .*'loar'.*did you mean 'lora'"):
        plan_with(filters={"only": ["loar"]})


def test_what_is_only_reported_says_why(workflow: Path) -> None:
    edit(
        workflow / "experiments/table1.yaml",
        lambda v: v["groups"][0]["rows"][3].update(method="apiq", not_run="out of reach"),
    )
    rows = rows_of(resolve(Config(), workflow))
    row = next(row for _, row in rows if row["method"] == "apiq")
    assert (row["reason"], row["runs"]) == ("out of reach", [])


def test_seeds_repeat_what_is_trained_and_only_that() -> None:
    rows = {row["id"]: row for _, row in rows_of(plan_with(seeds=[0, 1, 2]))}
    assert [run["seed"] for run in rows["diablo-n64"]["runs"]] == [0, 1, 2]
    assert len({run["run"] for run in rows["diablo-n64"]["runs"]}) == 3
    assert len(rows["zero-shot"]["runs"]) == 1


def test_command_line_caps_reach_runs_and_suites() -> None:
    plan = plan_with(limits={"train": 32, "test_per_task": 3, "steps": 5}, epochs=2)
    trained = [spec for spec in plan.runs.values() if is_trained(spec.method)]
    assert {(s.train_limit, s.max_steps, s.epochs) for s in trained} == {(32, 5, 2)}
    assert plan.suites["commonsense-paper"].limit_per_task == 3
    limits = plan.tables["table1"]["limits"]
    assert limits == {"train": 32, "test_per_task": 3, "steps": 5, "device": "cpu"}


def test_every_setting_that_changes_a_result_changes_the_runs_folder() -> None:
    names = [set(plan_with(**c).runs) for c in ({}, {"epochs": 2}, {"protocol": "peer"})]
    assert not names[0] & names[1] or names[0] & names[1] == {
        run for run in names[0] if "zero-shot" in run
    }
    assert not names[0] & names[2]


def test_evaluation_caps_do_not_train_again() -> None:
    assert set(plan_with().runs) == set(plan_with(limits={"test_per_task": 2}).runs)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("experiments/table1.yaml", lambda v: v["groups"][0].update(model="lama2-7b"), "did you mean 'llama2-7b'"),
        ("experiments/table1.yaml", lambda v: v["groups"][0]["rows"][2].update(method="lroa"), "did you mean 'lora'"),
        ("experiments/table1.yaml", lambda v: v.update(suite="comonsense"), "did you mean 'commonsense'"),
        ("experiments/table1.yaml", lambda v: v.update(name="table2"), "name is 'table2'"),
        ("experiments/table1.yaml", lambda v: v.update(columns=v["columns"] | {"bolq": "B"}), "did you mean 'boolq'"),
        ("scales/demo.yaml", lambda v: v["settings"].update(lroa={"lr": 1.0}), "did you mean 'lora'"),
        ("scales/demo.yaml", lambda v: v["settings"].pop("lora"), None),
        ("scales/demo.yaml", lambda v: v["datasets"].update(commonsense_170k="comonsense_generated"), "did you mean 'commonsense_generated'"),
        ("scales/demo.yaml", lambda v: v["suites"]["commonsense"]["decoding"].update(num_beam=1), "did you mean 'num_beams'"),
    ],
)  # fmt: skip
def test_mistakes_in_the_yaml_are_refused_while_planning(workflow, file, change, words) -> None:
    edit(workflow / file, change)
    if words is None:
        resolve(Config(), workflow)
        return
    with pytest.raises(ValueError, match=words):
        resolve(Config(), workflow)


def test_a_row_without_a_learning_rate_is_refused(workflow: Path) -> None:
    edit(workflow / "scales/demo.yaml", lambda v: v["settings"].pop("lora"))
    edit(workflow / "experiments/table1.yaml", lambda v: v["groups"][0]["rows"][2].pop("lr"))
    with pytest.raises(ValueError, match="no learning rate"):
        resolve(Config(), workflow)


def test_a_users_own_experiment_needs_only_yaml(workflow: Path) -> None:
    value = yaml.safe_load((workflow / "experiments/table1.yaml").read_text())
    value |= {"name": "mine", "title": "Mine"}
    value["groups"] = value["groups"][:1]
    value["columns"] = {"piqa": "PIQA"}
    value["groups"][0]["rows"] = [
        {"label": "LoRA wide", "method": "lora", "origin": "unknown", "rank": 64, "alpha": 64,
         "lr": 1e-3, "reported": {}},
    ]  # fmt: skip
    (workflow / "experiments/mine.yaml").write_text(yaml.safe_dump(value))
    plan = resolve(Config(), workflow)
    (run,) = plan.runs_of("mine")
    assert plan.runs[run].rank == 8
    assert plan.datasets_of("mine") == ["commonsense_generated"]
    assert plan.models_of("mine") == ["smollm2-135m"]


@pytest.mark.parametrize("scale", ["demo", "mini", "paper"])
@pytest.mark.slow
def test_planning_imports_no_torch(scale: str) -> None:
    code = (
        "import sys; from diablo.config import Config; from diablo.planning import resolve;"
        f"resolve(Config(scale={scale!r}));"
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_table10_counts_what_the_paper_prints() -> None:
    rows = [row for _, row in rows_of(plan_with(), "table10") if row["num_blocks"]]
    # In units of 2^20, with the true width of K and V, N kept and padded.
    counted = [f"{row['params_counted'] / 2**20 + 1e-9:.2f}M" for row in rows]
    assert counted == [row["params_reported"] for row in rows]
    assert [row["num_blocks"] for row in rows] == [2**power for power in range(3, 12)]


@pytest.mark.parametrize("scale", ["demo", "mini"])
def test_table10_says_why_its_widest_rows_are_not_run_at_the_small_scales(scale: str) -> None:
    rows = [row for _, row in rows_of(plan_with(scale=scale), "table10") if row["num_blocks"]]
    used = {row["num_blocks"]: row["setting_used"]["num_blocks"] for row in rows if row["runs"]}
    assert used == {8: 8, 16: 16, 32: 32, 64: 64, 128: 96, 256: 192}
    assert {row["reason"] for row in rows if not row["runs"]} == {
        "wider than the layer at this scale"
    }


#: Runs of each table: every distinct one once, as counted by hand from the YAML.
RUNS = {
    "demo": {"table1": 12, "table6": 6, "table9": 2, "table10": 7},
    "mini": {"table1": 12, "table6": 6, "table9": 2, "table10": 7},
    "paper": {"table1": 28, "table6": 12, "table9": 2, "table10": 10},
}


@pytest.mark.parametrize("scale", RUNS)
def test_tables_plan_the_distinct_runs_of_their_yaml(scale: str) -> None:
    plan = plan_with(scale=scale)
    assert {table: len(plan.runs_of(table)) for table in RUNS[scale]} == RUNS[scale]


def test_tables_share_runs_where_their_settings_are_equal() -> None:
    demo = plan_with()
    shared = set(demo.runs_of("table1")) & set(demo.runs_of("table10"))
    assert Counter(demo.runs[run].method for run in shared) == {"full": 1, "diablo": 2}
    # At the paper scale Table 9 looks at two runs of Table 1, and trains nothing of its own.
    paper = plan_with(scale="paper")
    assert set(paper.runs_of("table9")) < set(paper.runs_of("table1"))


def test_table6_follows_lori() -> None:
    plan = plan_with(scale="paper")
    rates = {
        (model, row["id"]): plan.runs[row["runs"][0]["run"]].lr
        for model, row in rows_of(plan, "table6")
        if row["method"] == "diablo"
    }
    # The paper's Table 13.
    assert rates == {
        ("mistral-7b", "diablo-n64"): 5e-5,
        ("mistral-7b", "diablo-n128"): 5e-5,
        ("llama3-8b", "diablo-n64"): 1e-4,
        ("llama3-8b", "diablo-n128"): 2e-4,
    }
    for run in plan.runs_of("table6"):
        spec = plan.runs[run]
        assert (spec.batch_size, spec.epochs, spec.warmup_steps) == (32, 1, 100)
        assert (spec.max_length, spec.precision, spec.suite) == (512, "bf16", "commonsense_lori")
        assert len(spec.modules) == (0 if spec.method == "full" else 7)


def test_what_a_gpu_can_do_is_planned_for_a_gpu_alone() -> None:
    cpu, gpu = plan_with(), plan_with(device="gpu")
    assert gpu.tables["table1"]["limits"]["steps"] > cpu.tables["table1"]["limits"]["steps"]
    assert gpu.tables["table1"]["limits"]["device"] == "gpu"
    # A cap from the command line holds on both.
    given = plan_with(device="gpu", limits={"steps": 7})
    assert {spec.max_steps for spec in given.runs.values() if is_trained(spec.method)} == {7}


def test_lori_s_waits_for_the_lori_d_run_of_its_rank_and_seed(workflow: Path) -> None:
    def add(value) -> None:
        rows = value["groups"][0]["rows"]
        lori = next(row for row in rows if row["method"] == "lori-d")
        rows.append(lori | {"label": "LoRI-S", "method": "lori-s", "reported": {}})

    edit(workflow / "experiments/table6.yaml", add)
    plan = resolve(Config(seeds=[0, 1]), workflow)
    sparse = [plan.runs[run] for run in plan.runs_of("table6") if plan.runs[run].method == "lori-s"]
    assert len(sparse) == 2
    for spec in sparse:
        dense = plan.runs[Path(spec.mask_adapter).parent.name]
        assert (dense.method, dense.rank, dense.seed) == ("lori-d", spec.rank, spec.seed)
    with pytest.raises(ValueError, match="LoRI-S needs the mask of a LoRI-D run"):
        resolve(Config(filters={"skip": ["lori-d"]}), workflow)


def test_a_scales_number_of_new_tokens_holds_for_all_tasks() -> None:
    whole = plan_with(scale="paper").suites["metamath-paper"].decoding
    assert whole["max_new_tokens_by_task"] == {"math": 512}
    assert plan_with(scale="demo").suites["metamath-paper"].decoding == {
        "num_beams": 1, "max_new_tokens": 48, "stop": [],
    }  # fmt: skip


def test_known_flaws_can_be_left_out_one_by_one() -> None:
    plan = plan_with(scale="paper", protocol="released-without-beams-without-train_indent")
    name = "released-without-beams-without-train_indent"
    assert plan.suites[f"metamath-{name}"].decoding["num_beams"] == 1
    assert plan.suites[f"commonsense-{name}"].decoding["num_beams"] == 4
    with pytest.raises(ValueError, match="unknown flaw 'beam'"):
        plan_with(protocol="released-without-beam")


def test_gpus_of_a_run_change_neither_its_name_nor_its_spec(workflow: Path) -> None:
    before = resolve(Config(device="gpu"), workflow)
    edit(
        workflow / "scales/demo.yaml",
        lambda v: v["gpu"]["settings"].update({"diablo": {"lr": 4.0e-3, "gpus": 2}}),
    )
    plan = resolve(Config(device="gpu"), workflow)
    assert plan.runs == before.runs
    for run, spec in plan.runs.items():
        assert (before.gpus[run], plan.gpus[run]) == (1, 2 if spec.method == "diablo" else 1)
    # Its jobs have none where the plan is for a CPU.
    assert set(resolve(Config(device="cpu"), workflow).gpus.values()) == {1}


def test_of_two_rows_that_share_a_run_the_one_with_more_gpus_decides(workflow: Path) -> None:
    def double(value: dict) -> None:
        rows = [row for row in value["groups"][0]["rows"] if row["method"] == "diablo"]
        rows[0]["gpus"] = 4
        value["groups"][0]["rows"].insert(0, {**rows[0], "label": "again", "gpus": 2})

    edit(workflow / "experiments/table1.yaml", double)
    plan = resolve(Config(device="gpu"), workflow)
    (again,) = [row for _, row in rows_of(plan) if row["label"] == "again"]
    assert plan.gpus[again["runs"][0]["run"]] == 4


def test_a_batch_that_cannot_be_dealt_out_is_refused(workflow: Path) -> None:
    edit(
        workflow / "scales/demo.yaml",
        lambda v: v["settings"].update({"lora": {"lr": 1e-3, "gpus": 3, "batch_size": 16}}),
    )
    words = r"LoRA: batch_size = 16 cannot be dealt out evenly to gpus = 3; give gpus one of 1, 2, 4, 8, 16"
    with pytest.raises(ValueError, match=words):
        resolve(Config(), workflow)
