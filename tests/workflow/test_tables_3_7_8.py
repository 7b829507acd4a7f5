"""Tables 3, 7 and 8 as they are planned: the paper's settings, what is run where, and what a judge changes."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from workspace import Workspace

from diablo.config import Config
from diablo.data.protocol import load_protocol
from diablo.planning import Plan, resolve

JUDGE = {"endpoint": "http://127.0.0.1:1/v1", "model": "judge"}
TABLES = ("table3", "table7", "table8")
#: Distinct runs of each table: at the small scales both models of Table 3 are one.
RUNS = {
    "demo": {"table3": 12, "table7": 6, "table8": 25},
    "mini": {"table3": 12, "table7": 6, "table8": 25},
    "paper": {"table3": 24, "table7": 6, "table8": 25},
}


def plan_of(scale: str = "demo", **config) -> Plan:
    return resolve(Config.model_validate({"scale": scale, "device": "cpu", **config}))


def rows_of(plan: Plan, table: str) -> list[tuple[str, dict]]:
    return [(g["model"], row) for g in plan.tables[table]["groups"] for row in g["rows"]]


def specs_of(plan: Plan, row: dict) -> dict:
    return {run["part"]: plan.runs[run["run"]] for run in row["runs"]}


@pytest.mark.parametrize("scale", RUNS)
def test_tables_plan_the_distinct_runs_of_their_yaml(scale: str) -> None:
    plan = plan_of(scale)
    assert {table: len(plan.runs_of(table)) for table in TABLES} == RUNS[scale]
    for table in TABLES:
        assert not any(row["reason"] for _, row in rows_of(plan, table))


@pytest.mark.parametrize("scale", ["demo", "mini"])
def test_what_stands_in_is_named(scale: str) -> None:
    plan = plan_of(scale)
    for table, model in (("table3", "Llama3-8B and Mistral-7B"), ("table8", "T5-base")):
        text = " ".join(plan.tables[table]["stand_ins"])
        assert f"SmolLM2-135M-Instruct stands in for {model}" in text
    assert all(not plan_of("paper").tables[table]["stand_ins"] for table in TABLES)


def test_table3_follows_its_tables_of_hyper_parameters() -> None:
    plan = plan_of("paper")
    found = {}
    for model, row in rows_of(plan, "table3"):
        specs = specs_of(plan, row)
        assert set(specs) == {"code", "safety"}
        for part, spec in specs.items():
            if row["method"] == "zero-shot":
                continue
            assert (spec.batch_size, spec.max_length, spec.warmup_steps) == (32, 512, 100)
            assert (len(spec.modules), spec.precision, spec.weight_decay) == (7, "bf16", 0)
            if row["method"] == "diablo":
                found[model, spec.num_blocks, part] = (spec.lr, spec.schedule, spec.epochs)
    # Tables 15 and 16 of the paper.
    assert found == {
        ("llama3-8b", 64, "code"): (2e-5, "constant", 2),
        ("llama3-8b", 128, "code"): (3e-5, "constant", 2),
        ("mistral-7b", 64, "code"): (1e-4, "linear", 2),
        ("mistral-7b", 128, "code"): (1e-4, "linear", 2),
        ("llama3-8b", 64, "safety"): (1e-4, "linear", 1),
        ("llama3-8b", 128, "safety"): (1e-4, "linear", 1),
        ("mistral-7b", 64, "safety"): (1e-4, "linear", 1),
        ("mistral-7b", 128, "safety"): (1e-4, "linear", 1),
    }
    methods = Counter(row["method"] for _, row in rows_of(plan, "table3"))
    assert methods == {"zero-shot": 2, "lora": 2, "dora": 2, "lori-d": 2, "diablo": 4}


def test_table7_follows_its_table_of_hyper_parameters() -> None:
    plan = plan_of("paper")
    rows = [row for _, row in rows_of(plan, "table7")]
    (diablo,) = (plan.runs[row["runs"][0]["run"]] for row in rows if row["method"] == "diablo")
    # Table 18 of the paper.
    assert (diablo.num_blocks, diablo.lr, diablo.schedule) == (320, 1.5e-3, "linear")
    assert (diablo.warmup_steps, diablo.warmup_ratio) == (100, None)
    assert (diablo.epochs, diablo.batch_size, diablo.max_length) == (1, 32, 1024)
    # N is kept and padded: 20.90M (D-10).
    assert [row["params_counted"] for row in rows if row["num_blocks"]] == [20_899_840]
    others = [plan.runs[row["runs"][0]["run"]] for row in rows if row["rank"]]
    assert [spec.rank for spec in others] == [8, 8, 8, 8, 128]
    assert {(s.schedule, s.warmup_ratio, s.warmup_steps) for s in others} == {("cosine", 0.03, 0)}


def test_table8_follows_its_table_of_hyper_parameters() -> None:
    plan = plan_of("paper")
    (diablo,) = [row for _, row in rows_of(plan, "table8") if row["method"] == "diablo"]
    specs = specs_of(plan, diablo)
    # Table 19 of the paper.
    assert {part: spec.lr for part, spec in specs.items()} == {
        "mrpc": 1.4e-2, "cola": 1e-2, "sst2": 5e-3, "qnli": 4e-3, "mnli": 2e-3,
    }  # fmt: skip
    for part, spec in specs.items():
        assert (spec.suite, spec.dataset) == (f"glue_{part}", f"glue_{part}")
        assert (spec.schedule, spec.warmup_ratio, spec.warmup_steps) == ("cosine", 0.03, 0)
        assert (spec.epochs, spec.batch_size, spec.max_length) == (1, 32, 128)
        assert spec.modules == ["q", "k", "v", "o", "wi", "wo"]
    # The stand-in's own linear layers, and an adapter of LoRA as large as DiaBlo's, as on T5.
    small = {row["id"]: row for _, row in rows_of(plan_of(), "table8")}
    spec = plan_of().runs[small["lora-r8"]["runs"][0]["run"]]
    assert (len(spec.modules), spec.rank) == (7, 6)
    assert small["lora-r8"]["notes"][-1].endswith(
        "1.10 of the parameters of DiaBlo N = 64 (paper: 1.05 of N = 64)"
    )


@pytest.mark.parametrize("scale", RUNS)
def test_columns_are_entries_of_the_suites_scores(scale: str) -> None:
    plan = plan_of(scale)
    for name in TABLES:
        table = plan.tables[name]
        for part in table["parts"]:
            declared = load_protocol(part["suite"], "paper").entries
            for entry in (*part["columns"], *part["readings"]):
                found = table["entries"][entry]
                assert found == {key: getattr(declared[entry], key) for key in found}
                assert found["task"] in part["tasks"]
    shown = {*plan.tables["table3"]["columns"], *plan.tables["table3"]["readings"]}
    assert ("functions_pass1" in shown) == (scale == "demo")
    assert plan.tables["table8"]["average"] == "Avg"
    assert plan.tables["table8"]["entries"]["cola_matthews"]["metric"] == "matthews"


def test_without_a_judge_what_needs_one_is_missing() -> None:
    plan = plan_of()
    assert plan.tables["table7"]["missing"] == {"mtbench": "no judge"}
    assert list(plan.tables["table7"]["columns"]) == ["mtbench"]
    for _, row in rows_of(plan, "table7"):
        (run,) = row["runs"]
        assert run["scores"] is None
        assert run["losses"].endswith("losses/mtbench.json")
    assert not any("scores" in path for path in plan.results_of("table7"))
    # Keywords judge refusals without one.
    assert set(plan.tables["table3"]["missing"]) == {"hexphi_llm", "harmless_llm"}
    assert all(run["scores"] for _, row in rows_of(plan, "table3") for run in row["runs"])


def test_with_a_judge_nothing_is_missing_and_the_second_turn_is_an_option() -> None:
    plan = plan_of(judge=JUDGE)
    for table in TABLES:
        assert plan.tables[table]["missing"] == {}
    assert plan.tables["table7"]["readings"] == {}
    assert all(run["scores"] for _, row in rows_of(plan, "table7") for run in row["runs"])
    assert not plan.suites["mtbench-paper"].second_turn
    both = plan_of(judge=JUDGE, second_turn=True)
    assert list(both.tables["table7"]["readings"]) == ["mtbench_turn2"]
    assert both.suites["mtbench-paper"].second_turn
    assert {key for key, suite in both.suites.items() if suite.second_turn} == {"mtbench-paper"}


def test_what_a_user_decides_about_scoring_trains_and_generates_nothing_again(
    tmp_path: Path,
) -> None:
    phrases = tmp_path / "phrases.yaml"
    phrases.write_text("version: 1\ndescribe: mine\nphrases: [no way]\n")
    plain = plan_of(judge=JUDGE)
    for change, suites in (
        ({"judge": JUDGE | {"model": "other"}}, {"hexphi-paper", "mtbench-paper"}),
        ({"judge": JUDGE, "refusal_phrases": str(phrases)}, {"hexphi-paper"}),
        ({"judge": JUDGE, "unsafe_execution": True}, {"humaneval-paper"}),
        # How a judge is asked, not what.
        ({"judge": JUDGE | {"max_retries": 1, "timeout_seconds": 3.0}}, set()),
    ):
        plan = plan_of(**change)
        assert plan.runs == plain.runs
        assert plan.suites == plain.suites
        changed = {key for key in plan.suites if plan.scoring[key] != plain.scoring[key]}
        assert changed == suites
    before = plan_of(refusal_phrases=str(phrases)).scoring["hexphi-paper"]
    phrases.write_text("version: 1\ndescribe: mine\nphrases: [no way, never]\n")
    assert plan_of(refusal_phrases=str(phrases)).scoring["hexphi-paper"] != before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"refusal_phrases": "nowhere.yaml"}, "refusal_phrases: nowhere.yaml: no such file"),
        ({"judge": JUDGE | {"prompts": "nowhere.yaml"}}, "judge: prompts: nowhere.yaml: no such file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_there_is_told_before_anything_runs(config, words) -> None:
    with pytest.raises(ValueError, match=words):
        plan_of(**config)


@pytest.mark.slow
def test_a_judge_adds_jobs_to_table7(workspace: Workspace) -> None:
    judge = "judge={endpoint: 'http://127.0.0.1:1/v1', model: judge}"
    done = workspace.run("-n", "table7", "--cores", "1", "--config", "device=cpu", judge)
    jobs = [line.split() for line in done.stdout.splitlines()]
    for rule in ("finetune_run", "generate_suite", "score_suite", "measure_loss"):
        assert [rule, "6"] in jobs


class Judge(BaseHTTPRequestHandler):
    """Rates everything 7, as an OpenAI-compatible endpoint."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"message": {"role": "assistant", "content": "Good. Rating: [[7]]"}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        body = json.dumps({"choices": [message | {"finish_reason": "stop"}], "usage": usage})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_another_judge_scores_again_and_does_no_more(
    tiny_workspace: Workspace, endpoint: str
) -> None:
    limits = {"train": 8, "test_per_task": 2, "steps": 2}
    given = {"device": "cpu", "limits": limits, "filters": {"only": ["lora-r8"]}}
    (run,) = resolve(Config.model_validate(given)).runs_of("table7")
    path = tiny_workspace.folder / "results" / "demo" / "runs" / run / "scores" / "mtbench.json"

    def snakemake(*arguments: str, judge: dict) -> str:
        config = [f"{key}={json.dumps(value)}" for key, value in given.items()]
        config += [
            f"judge={json.dumps(judge)}",
            "second_turn=true",
            f"cache={tiny_workspace.folder}",
        ]
        target = str(path.relative_to(tiny_workspace.folder))
        more = ("--cores", "2", *arguments, target, "--config", *config)
        done = tiny_workspace.run(*more, NO_PROXY="127.0.0.1")
        return done.stdout + done.stderr

    judge = {"endpoint": endpoint, "model": "one"}
    snakemake(judge=judge)
    scores = json.loads(path.read_text())
    assert [entry["value"] for entry in scores["tasks"].values()] == [7, 7]
    assert list(scores["tasks"]) == ["mtbench", "mtbench_turn2"]
    assert scores["provenance"]["judge"]["model"] == "one"
    assert not (path.parents[3] / ".work" / run / "score-mtbench").exists()

    assert "Nothing to be done" in snakemake(judge=judge | {"max_retries": 1})
    other = judge | {"model": "two"}
    planned = snakemake("-n", judge=other)
    assert "score_suite" in planned
    assert "generate_suite" not in planned
    assert "finetune_run" not in planned
    snakemake(judge=other)
    assert json.loads(path.read_text())["provenance"]["judge"]["model"] == "two"
