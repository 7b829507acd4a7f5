"""Figures 2 and 5 to 7 as they are planned: counts, solved ranks, layers, names, filters, refusals."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from diablo import apart
from diablo.averages import averages_plan
from diablo.config import Config
from diablo.experiments import WORKFLOW, Experiment, Row, load_experiment
from diablo.figures import Averages, load_averages
from diablo.planning import Plan, resolve
from diablo.scales import load_scale
from diablo.settings import MODULES
from diablo.shapes import Shapes, diablo_parameters, lora_parameters
from diablo.validation import validate

LLAMA3 = Shapes(32, 4096, 1024, 14336, 8_030_261_248)
#: Distinct runs; 17 rows of Tables 1, 2 and 4 (without Table 2, whose average the real data do not allow).
RUNS = {
    ("demo", "cpu"): {"figure2": 8, "figure5": 16, "figure6": 12, "figure7": 4},
    ("demo", "gpu"): {"figure2": 17, "figure5": 30, "figure6": 12, "figure7": 4},
    ("mini", "cpu"): {"figure2": 13, "figure5": 30, "figure6": 12, "figure7": 4},
    ("mini", "gpu"): {"figure2": 13, "figure5": 30, "figure6": 12, "figure7": 4},
    ("paper", "gpu"): {"figure2": 17, "figure5": 36, "figure6": 12, "figure7": 4},
}


def plan_of(scale: str = "demo", **config: Any) -> Plan:
    return resolve(Config.model_validate({"scale": scale, "device": "cpu", **config}))


@pytest.fixture(scope="module")
def demo() -> Plan:
    return plan_of()


@pytest.fixture(scope="module")
def paper() -> Plan:
    return plan_of("paper")


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """A copy of the declarations that a test may spoil."""
    return Path(shutil.copytree(WORKFLOW, tmp_path / "workflow"))


def edit(path: Path, change) -> None:
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def rows_of(plan: Plan, table: str) -> list[dict]:
    return [row for group in plan.tables[table]["groups"] for row in group["rows"]]


@pytest.mark.parametrize(("scale", "device"), RUNS)
def test_figures_plan_the_distinct_runs_of_their_yaml(scale: str, device: str) -> None:
    plan, expected = plan_of(scale, device=device), RUNS[scale, device]
    assert {name: len(plan.runs_of(name)) for name in expected} == expected
    for name in ("figure5", "figure6", "figure7"):
        assert plan.figures_of(name).keys() == {name}
        assert bool(plan.tables[name]["stand_ins"]) == (scale != "paper")


def test_figure5_says_what_the_demo_leaves_out(demo: Plan) -> None:
    reasons = Counter(row["reason"] for row in rows_of(demo, "figure5"))
    assert reasons == {
        None: 16,
        "not run at scale demo on a CPU": 16,
        "wider than the layer at this scale": 4,
    }
    specs = [demo.runs[run] for run in demo.runs_of("figure5")]
    assert {spec.num_blocks for spec in specs} == {16, 64, 96, 192}
    # 4e-4 is the scale's 2e-3.
    assert sorted({spec.lr for spec in specs}) == [5e-4, 2e-3, 4e-3, 8e-3]


def test_figure5_follows_table_20_around_its_learning_rate(paper: Plan) -> None:
    specs = [paper.runs[run] for run in paper.runs_of("figure5")]
    grid = {(spec.num_blocks, spec.lr) for spec in specs}
    rates = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)
    assert grid == {(n, lr) for n in (16, 32, 64, 128, 256, 512) for lr in rates}
    for spec in specs:
        assert (spec.weight_decay, spec.schedule, spec.warmup_steps) == (0, "linear", 20)
        assert (spec.epochs, spec.batch_size, spec.max_length) == (2, 32, 512)
        assert (len(spec.modules), spec.dataset, spec.suite) == (7, "gsm8k", "gsm8k")


def test_figure6_solves_for_the_rank(paper: Plan) -> None:
    found = {}
    for row in rows_of(paper, "figure6"):
        if row["rank_of"]:
            (run,) = row["runs"]
            spec = paper.runs[run["run"]]
            assert spec.alpha == 2 * spec.rank == 2 * row["rank"]
            found[row["modules"], row["rank_of"]] = spec.rank
            widths = LLAMA3.widths([MODULES[letter] for letter in row["modules"]])
            ratio = lora_parameters(widths, spec.rank) / diablo_parameters(widths, row["rank_of"])
            assert f"{ratio:.2f} of the parameters of DiaBlo" in row["notes"][0]
            assert row["params_counted"] == lora_parameters(widths, spec.rank)
            # No other rank is nearer.
            wanted = diablo_parameters(widths, row["rank_of"])
            distance = {
                r: abs(lora_parameters(widths, r) - wanted)
                for r in range(spec.rank - 1, spec.rank + 2)
            }
            assert min(distance, key=distance.__getitem__) == spec.rank
    assert found == {
        ("qk", 64): 25, ("vug", 64): 45, ("od", 64): 44,
        ("qk", 128): 12, ("vug", 128): 23, ("od", 128): 22,
    }  # fmt: skip


def test_figure6_solves_again_on_the_model_that_is_used(demo: Plan) -> None:
    ranks = {row["id"]: row["setting_used"]["rank"] for row in rows_of(demo, "figure6")}
    assert ranks["lora-as-n64-qk"] == 4
    assert ranks["lora-as-n64-vug"] == 6
    # N = 128 is 96 here.
    assert ranks["lora-as-n128-qk"] == 2
    notes = {row["id"]: row["notes"] for row in rows_of(demo, "figure6")}
    assert notes["lora-as-n128-qk"] == [
        "rank 2 here: 0.83 of the parameters of DiaBlo N = 96 in the same layers"
    ]


def test_a_rank_for_blocks_that_are_too_wide_is_not_run(workflow: Path) -> None:
    def widen(value: dict) -> None:
        for row in value["groups"][0]["rows"]:
            row.update({key: 512 for key in ("num_blocks", "rank_of") if row.get(key) == 128})

    edit(workflow / "experiments/figure6.yaml", widen)
    rows = rows_of(resolve(Config(device="cpu"), workflow), "figure6")
    reasons = Counter(row["reason"] for row in rows)
    assert reasons == {None: 6, "wider than the layer at this scale": 6}


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_figure7_trains_quarters_that_are_all_of_the_layers(scale: str) -> None:
    plan = plan_of(scale)
    specs = [plan.runs[run] for run in plan.runs_of("figure7")]
    of = 32 if scale == "paper" else 30
    assert [index for spec in specs for index in spec.layers] == list(range(of))
    counts = [len(spec.layers) for spec in specs]
    assert counts == ([8, 8, 8, 8] if scale == "paper" else [7, 8, 7, 8])
    assert {spec.num_blocks for spec in specs} == {64}


def test_figure7_prints_layers_and_parameters(demo: Plan) -> None:
    rows = rows_of(demo, "figure7")
    assert [row["layers"] for row in rows] == [
        "layers 0-7", "layers 8-15", "layers 16-23", "layers 24-31"
    ]  # fmt: skip
    assert [row["setting_used"]["layers"] for row in rows] == [
        "layers 0-6", "layers 7-14", "layers 15-21", "layers 22-29"
    ]  # fmt: skip
    quarter = diablo_parameters(LLAMA3.widths(list(MODULES.values())), 64) // 4
    assert [row["params_counted"] for row in rows] == [quarter] * 4
    # q, o: 64 * 9 * 9; k, v: 64 * 9 * 3; gate, up, down: 64 * 9 * 24, in each layer.
    layer = 64 * 9 * (2 * 9 + 2 * 3 + 3 * 24)
    assert [row["notes"][-1] for row in rows] == [
        f"{row['setting_used']['layers']} here for the paper's {row['layers']}: {n} of 30 layers, "
        f"{n * layer:,} parameters"
        for row, n in zip(rows, (7, 8, 7, 8), strict=True)
    ]
    assert [row["reported"]["gsm8k"] for row in rows] == [60.67, 58.92, 40.47, 31.63]


def test_figure2_trains_nothing_of_its_own(demo: Plan) -> None:
    shared = set(demo.runs_of("table1")) | set(demo.runs_of("table2")) | set(demo.runs_of("table4"))
    assert set(demo.runs_of("figure2")) < shared
    assert demo.datasets_of("figure2") == [
        "arithmetic_generated", "commonsense_generated", "metamath_generated"
    ]  # fmt: skip
    reasons = {row["reason"] for row in rows_of(plan_of("mini"), "figure2")}
    assert "table2 has no average at this scale" in reasons
    filtered = plan_of(filters={"only": ["diablo"], "skip": []})
    assert len(filtered.runs_of("figure2")) == 4
    assert len(rows_of(filtered, "figure2")) == 19


@pytest.mark.parametrize(
    ("only", "skip", "kept"),
    [
        (["diablo-n64", "lr4e-4"], [], {"diablo-n64-lr4e-4"}),
        (["diablo-n64-lr4e-4", "diablo-n16-lr1e-4"], [], {"diablo-n64-lr4e-4", "diablo-n16-lr1e-4"}),
        (["diablo-n16"], ["lr8e-4"], {"diablo-n16-lr1e-4", "diablo-n16-lr4e-4", "diablo-n16-lr1.6e-3"}),
        (["lr1e-4"], ["diablo-n16"], {f"diablo-n{n}-lr1e-4" for n in (64, 128, 256)}),
    ],
)  # fmt: skip
def test_filters_name_what_tells_rows_apart(only, skip, kept) -> None:
    rows = rows_of(plan_of(filters={"only": only, "skip": skip}), "figure5")
    assert {row["id"] for row in rows if row["runs"]} == kept


def test_filters_name_modules_and_layers() -> None:
    plan = plan_of(filters={"only": ["qk", "layers4of4"], "skip": ["lora-as-n64"]})
    kept = {row["id"] for row in rows_of(plan, "figure6") if row["runs"]}
    assert kept == {"diablo-n64-qk", "diablo-n128-qk", "lora-as-n128-qk"}
    assert [bool(row["runs"]) for row in rows_of(plan, "figure7")] == [False] * 3 + [True]
    assert not plan.runs_of("figure5")
    with pytest.raises(ValueError, match="'layers5of4'; did you mean 'layers4of4'"):
        plan_of(filters={"only": ["layers5of4"]})


def test_names_of_all_other_rows_are_method_and_size() -> None:
    for name in ("table1", "table2", "table3", "table4", "table6", "table8", "table10"):
        for group in load_experiment(name).groups:
            assert not any(apart.apart(group, row) for row in group.rows)
            names = [apart.name(group, row) for row in group.rows]
            assert names == [row.slug for row in group.rows]
            assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 4}, "`rank` and `rank_of` exclude each other"),
        ({"num_blocks": 4}, "`num_blocks` and `rank_of` exclude each other"),
        ({"alpha": 4.0}, "`alpha` and `rank_of` exclude each other"),
        ({"rank_of": None}, "`alpha_of_rank` is for rows with `rank_of`"),
        ({"rank_of": 0}, "rank_of = 0"),
    ],
)
def test_a_row_has_one_size(change: dict, words: str) -> None:
    row = {"label": "LoRA", "method": "lora", "rank_of": 64, "alpha_of_rank": 2.0}
    assert validate(Row, row, "row").slug == "lora-as-n64"
    with pytest.raises(ValueError, match=words):
        validate(Row, row | change, "row")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chart": {"x": "rank", "label": "r"}}, "chart.x: unknown value 'rank'"),
        ({"chart": {"over": "lr", "label": "r"}}, "unknown key 'over'"),
        ({"columns": {"gsm8k": "GSM8K", "math": "MATH"}}, "chart: needs an `average`, or one column"),
    ],
)  # fmt: skip
def test_a_chart_needs_one_number_and_a_setting(change: dict, words: str) -> None:
    value = load_experiment("figure5").model_dump() | change
    with pytest.raises(ValueError, match=f"figure5.yaml.*{words}"):
        validate(Experiment, value, "figure5.yaml")


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("scales/demo.yaml", lambda v: v["experiments"]["figure5"]["skip"].update(cpu=["lr5e-6"]),
         r"scale demo: experiments\.figure5\.skip\.cpu: unknown row 'lr5e-6'; did you mean 'lr5e-5'"),
        ("scales/demo.yaml", lambda v: v["experiments"]["figure5"]["skip"].update(tpu=["lr5e-5"]),
         r"demo\.yaml.*experiments.*skip"),
        ("figures/figure2.yaml", lambda v: v["panels"][0].update(table="tabel1"),
         r"figure2\.yaml: panels: unknown table 'tabel1'; did you mean 'table1'"),
        ("figures/figure2.yaml", lambda v: v["panels"][0].update(group="Llama2"),
         r"figure2\.yaml: panels: table1: unknown group 'Llama2'; did you mean 'Llama2-7B'"),
        ("figures/figure2.yaml", lambda v: v["panels"][0]["rows"].append("lora-r31"),
         r"figure2\.yaml: panels: table1: Llama2-7B: unknown row 'lora-r31'; did you mean 'lora-r32'"),
        ("figures/figure2.yaml", lambda v: v["panels"][0].update(table="table3"),
         r"figure2\.yaml: panels: table3: a figure of averages is for tables of accuracies"),
        ("figures/figure2.yaml", lambda v: v.update(name="figure3"), "name is 'figure3', the file says"),
        ("figures/figure2.yaml", lambda v: v.update(panel=[]), "unknown key 'panel'; did you mean 'panels'"),
        ("scales/demo.yaml", lambda v: v["experiments"]["figure2"].update(skip={"cpu": ["dora-r17"]}),
         r"figure2\.skip\.cpu: unknown row 'dora-r17'; did you mean 'dora-r16'"),
        ("scales/demo.yaml", lambda v: v["experiments"]["figure2"].update(limits={"steps": 1}),
         r"figure2: it trains nothing of its own; give `skip` alone"),
        ("experiments/figure7.yaml", lambda v: v["groups"][0]["rows"][0].update(layers="5/4"),
         r"figure7\.yaml.*layers = 5/4: there is no part 5 of 4"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_while_planning(workflow: Path, file, change, words) -> None:
    edit(workflow / file, change)
    with pytest.raises(ValueError, match=words):
        resolve(Config(device="cpu"), workflow)


def test_a_figure_of_averages_is_made_of_other_plans(demo: Plan) -> None:
    (figure,) = load_averages(WORKFLOW / "figures")
    titles = {name: model.title for name, model in demo.catalog.models.items()}
    skip = load_scale("demo").skipped("figure2", "cpu")
    plan = averages_plan(figure, demo.tables, titles, skip)
    assert plan == demo.tables["figure2"]
    left = {
        r["id"]: r["reason"] for group in plan["groups"] for r in group["rows"] if r["id"] in skip
    }
    assert len(skip) == len(left) == 9
    assert left["dora-r16"] == "left to table1 at scale demo"
    assert all(not r["runs"] for g in plan["groups"] for r in g["rows"] if r["id"] in skip)
    assert [panel["name"] for panel in plan["panels"]] == ["table1", "table2", "table4", "table4"]
    again = Averages.model_validate(figure.model_dump())
    assert again == figure


def test_the_scale_skips_rows_that_there_are() -> None:
    assert load_scale("demo").skipped("figure5", "cpu") == {"diablo-n32", "lr5e-5", "lr2e-4"}
    assert load_scale("demo").skipped("figure5", "gpu") == set()
    assert load_scale("mini").skipped("figure5", "cpu") == set()
