"""Loss files: read, refused, and turned into the answer loss of a row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.losses import Losses, loss_draws
from diablo.tables.statistics import bootstrap_ratios, generator, percentile_interval

answers = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 9)), min_size=1, max_size=30)


def losses_of(*tasks: list[tuple[float, int]], name: str = "l") -> Losses:
    examples = {
        f"t{i}": {str(j): one for j, one in enumerate(task)} for i, task in enumerate(tasks)
    }
    return Losses(Path(f"{name}.json"), examples)


@given(st.lists(answers, min_size=1, max_size=3))
@settings(max_examples=40)
def test_the_loss_is_the_mean_over_tasks_of_nats_per_token(tasks: list) -> None:
    losses = [losses_of(*tasks)]
    by_seed, draws = loss_draws([(f"t{i}", losses) for i in range(len(tasks))], 300, 0)
    ratios = [sum(n for n, _ in task) / sum(t for _, t in task) for task in tasks]
    assert by_seed == pytest.approx([np.mean(ratios)])
    each = [n / t for task in tasks for n, t in task]
    assert min(each) - 1e-9 <= draws.min() <= draws.max() <= max(each) + 1e-9


def test_seeds_are_averaged_example_by_example() -> None:
    seeds = [losses_of([(1.0, 2), (6.0, 2)]), losses_of([(3.0, 2), (2.0, 2)], name="m")]
    by_seed, draws = loss_draws([("t0", seeds)], 400, 0)
    assert by_seed == pytest.approx([7 / 4, 5 / 4])
    # The means are 2 and 4 nats over two tokens: only 1, 1.5 and 2 can be drawn.
    assert set(np.round(draws, 9)) == {1.0, 1.5, 2.0}


def test_seeds_with_other_tokens_are_refused() -> None:
    seeds = [losses_of([(1.0, 2)]), losses_of([(1.0, 3)], name="m")]
    with pytest.raises(ValueError, match=r"m\.json: t0 '0' has 3 tokens, in l\.json it has 2"):
        loss_draws([("t0", seeds)], 10, 0)


def test_ratios_agree_with_resampling_one_by_one() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(1, 30, 40).astype(float)
    nll = tokens * rng.random(40)
    plain = []
    for _ in range(4000):
        index = rng.integers(0, 40, 40)
        plain.append(nll[index].sum() / tokens[index].sum())
    ours = bootstrap_ratios(nll, tokens, generator(0, "ratio"), 20_000)
    assert ours.mean() == pytest.approx(np.mean(plain), abs=0.005)
    assert percentile_interval(ours) == pytest.approx(
        percentile_interval(np.array(plain)), abs=0.01
    )


@pytest.mark.parametrize("n", [7, 2**19])
def test_ratios_of_equal_generators_draw_the_same_examples(n: int) -> None:
    """With many examples the draws are made in parts; the pairing must survive that."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, 9, n).astype(float)
    nll = tokens * rng.random(n)
    one = bootstrap_ratios(nll, tokens, generator(0, "x"), 5)
    shifted = bootstrap_ratios(nll + 0.5 * tokens, tokens, generator(0, "x"), 5)
    assert shifted - one == pytest.approx(np.full(5, 0.5))
    assert len(set(one)) == 5


@pytest.mark.parametrize("tokens", [[], [1.0], [[1.0, 1.0]]])
def test_ratios_need_as_many_denominators(tokens: list) -> None:
    with pytest.raises(ValueError, match="one number per example each"):
        bootstrap_ratios(np.ones(len(tokens) * 2), np.array(tokens), generator(0))


def test_the_column_follows_the_average(build) -> None:
    run = build.run("lora", nll={"boolq": [4.0] * 40, "piqa": [2.0] * 40})
    table = load_table(build.plan([build.row(runs=[run])]), resamples=100)
    assert list(table.columns) == ["boolq", "piqa", "avg", "loss"]
    cell = table.groups[0].rows[0].cells["loss"]
    assert (cell.estimate.value, cell.estimate.n) == (pytest.approx(0.75), 80)
    assert (cell.reported, cell.difference, cell.digits) == (None, None, 3)
    assert Path(run["losses"]) in table.inputs


def change(key: str, **fields):
    """Change one example of BoolQ, or with key "task" the task itself."""

    def changed(content: dict) -> dict:
        entry = content["tasks"]["boolq"]
        target = entry if key == "task" else entry["examples"][0]
        target.update(fields)
        return content

    return changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c | {"provenance": None}, "has no provenance; run `diablo measure`"),
        (lambda c: c | {"run": "other"}, "run is 'other', the plan says 'lora'"),
        (lambda c: c | {"suite": "math"}, "suite is 'math', the plan says 'toy'"),
        (lambda c: c | {"tasks": {"boolq": c["tasks"]["boolq"]}}, "task piqa is missing"),
        (change("task", n=41), "n = 41, 40 examples and 40 distinct ids"),
        (change("task", value=9.0), "says value 9.0 over 160 tokens, its examples give"),
        (change("task", tokens=161), "over 161 tokens, its examples give .* over 160"),
        (change("example", id="boolq/1"), "40 examples and 39 distinct ids"),
        (change("example", id="x"), "on other examples than those that were scored"),
        (change("example", nll=-1.0), "'boolq/0' has nll = -1.0"),
        (change("example", tokens=0), "'boolq/0' has nll = .* over tokens = 0"),
    ],
)
def test_losses_that_do_not_fit_are_refused(build, spoil, message: str) -> None:
    run = build.run("lora")
    write_json(run["losses"], spoil(read_json(run["losses"])))
    with pytest.raises(ValueError, match=message) as error:
        load_table(build.plan([build.row(runs=[run])]))
    assert run["losses"] in str(error.value)


def test_infinite_losses_are_refused(build) -> None:
    run = build.run("lora")
    text = json.dumps(change("example", nll=float("inf"))(read_json(run["losses"])))
    Path(run["losses"]).write_text(text)
    with pytest.raises(ValueError, match="has nll = inf"):
        load_table(build.plan([build.row(runs=[run])]))


def test_missing_losses_name_the_file_and_the_verb(build) -> None:
    run = build.run("lora")
    Path(run["losses"]).unlink()
    with pytest.raises(ValueError, match=r"lora/losses/toy\.json: no such loss file; run `diablo"):
        load_table(build.plan([build.row(runs=[run])]))
