"""The command line: mistakes are one line and exit status 2, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diablo.cli import main
from diablo.config import Config
from diablo.planning import resolve
from diablo.verbs import work_folder


@pytest.fixture
def spec() -> dict:
    return next(s for s in resolve(Config()).runs.values() if s.method == "diablo").model_dump()


def test_resolve_writes_what_it_was_given(tmp_path: Path, spec: dict) -> None:
    out = tmp_path / spec["run"] / "spec.json"
    assert main(["resolve", "--kind", "run", "--json", json.dumps(spec), "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == spec


def test_resolve_refuses_what_is_no_spec(tmp_path: Path, spec: dict, capsys) -> None:
    spec["num_block"] = spec.pop("num_blocks")
    out = tmp_path / "spec.json"
    assert main(["resolve", "--kind", "run", "--json", json.dumps(spec), "--out", str(out)]) == 2
    assert "did you mean 'num_blocks'" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("verb", ["finetune", "generate", "score", "check-serving"])
def test_a_spec_in_another_runs_folder_is_refused(verb, tmp_path: Path, spec: dict, capsys) -> None:
    path = tmp_path / "another" / "spec.json"
    path.parent.mkdir()
    path.write_text(json.dumps(spec))
    more = [] if verb == "finetune" else ["--suite", str(path)]
    assert main([verb, str(path), *more]) == 2
    error = capsys.readouterr().err
    assert spec["run"] in error
    assert "'another'" in error
    assert f"give it as results/<scale>/runs/{spec['run']}/spec.json" in error


def test_a_missing_file_is_named(tmp_path: Path, capsys) -> None:
    assert main(["finetune", str(tmp_path / "spec.json")]) == 2
    assert "spec.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--model", "x"], ["--out", "y"], ["--out", "y", "--model", "a", "--dataset", "b"]],
)
def test_download_says_what_to_give(arguments, capsys) -> None:
    assert main(["download", *arguments]) == 2
    assert "--out and one of --model and --dataset" in capsys.readouterr().err


def test_download_of_an_unknown_name_is_refused(tmp_path: Path, capsys) -> None:
    assert main(["download", "--model", "smollm2-135", "--out", str(tmp_path / "m")]) == 2
    assert "did you mean 'smollm2-135m'" in capsys.readouterr().err


def test_download_check_of_the_demo_needs_no_network(tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("scale: demo\n")
    assert main(["download", "--check", "table1", "--config", str(config)]) == 0
    assert "are here" in capsys.readouterr().out


def test_download_check_lists_what_is_missing(tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"scale: mini\nmirror: {tmp_path}\ncache: {tmp_path / 'cache'}\n")
    assert main(["download", "--check", "table1", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "problem(s) at scale mini" in error
    assert "dataset/boolq/test.json" in error


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ("{", "--judge: not valid JSON"),
        ('{"endpoint": "http://h/v1", "modle": "m"}', "--judge: unknown key 'modle'"),
    ],
)
def test_a_judge_that_does_not_fit_is_refused(judge: str, words: str, capsys) -> None:
    assert main(["score", "spec.json", "--suite", "suite.json", "--judge", judge]) == 2
    assert words in capsys.readouterr().err


def test_what_a_resume_needs_lies_outside_the_runs_folder() -> None:
    folder = work_folder(Path("results/demo/runs/a-run"), "finetune")
    assert folder == Path("results/demo/.work/a-run/finetune")


def test_help_is_there_without_torch() -> None:
    code = (
        "import sys; from diablo.cli import parser; parser().format_help();"
        "sys.exit(bool({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments",
    [["finetune", "{folder}/spec.json"], ["report", "--results", "{folder}"]],
    ids=lambda arguments: arguments[0],
)
def test_what_is_not_there_is_named(arguments, tmp_path, capsys):
    folder = tmp_path / "nothing"
    assert main([text.format(folder=folder) for text in arguments]) == 2
    assert f"{folder}" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resolve", "--kind", "plan", "--json", "{", "--out", "x"], "--json: not valid JSON"),
        (["estimate", "--config", "nope.yaml"], "nope.yaml: no such file"),
        (["download", "--check", "table1", "--config", "nope.yaml"], "nope.yaml: no such file"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(arguments, said: str, capsys) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["filters: [full]", "- scale: paper"])
@pytest.mark.parametrize(
    "verb", [["estimate", "--skip", "full"], ["download", "--check", "table1"]]
)
def test_a_config_that_is_none_is_named(verb, text: str, tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert main([*verb, "--config", str(config), "--scale", "paper"]) == 2
    assert f"{config}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--gpus", "-1"], ["--threads", "0"], ["--threads", "many"], ["--threads", "1.5"]]
)
def test_numbers_are_checked_before_anything_runs(option, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", "spec.json", *option])
    assert stopped.value.code == 2
    assert f"{option[1]}: not a whole number of at least" in capsys.readouterr().err


def test_the_quantisers_text_is_looked_for_too(tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"scale: paper\nmirror: {tmp_path}\ncache: {tmp_path / 'cache'}\n")
    assert main(["download", "--check", "table4", "--config", str(config)]) == 2
    assert "wikitext" in capsys.readouterr().err
