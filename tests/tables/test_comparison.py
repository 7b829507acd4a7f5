"""The comparison with the best DiaBlo row: the tests against their definitions, then the rows."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.comparison import LEVEL, Comparison
from diablo.tables.statistics import bootstrap_means, bootstrap_p, generator, holm, sign_test

outcome_pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
p_values = st.lists(st.floats(1e-6, 1), min_size=1, max_size=6)


def differences(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array([a - b for a, b in pairs])


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=14))
@settings(max_examples=80)
def test_mcnemar_is_the_enumeration_of_all_swaps(pairs: list[tuple[int, int]]) -> None:
    """Under the null hypothesis the two outcomes of every discordant pair may be swapped."""
    discordant = [a - b for a, b in pairs if a != b]
    swaps = [abs(sum(signs)) for signs in itertools.product((-1, 1), repeat=len(discordant))]
    extreme = sum(one >= abs(sum(discordant)) for one in swaps)
    assert sign_test(differences(pairs)) == pytest.approx(float(Fraction(extreme, len(swaps))))


@given(outcome_pairs, st.randoms())
@settings(max_examples=80)
def test_sign_test_is_symmetric_and_blind_to_order(pairs: list[tuple[int, int]], random) -> None:
    p = sign_test(differences(pairs))
    assert 0 < p <= 1
    assert sign_test(-differences(pairs)) == pytest.approx(p)
    shuffled = random.sample(pairs, len(pairs))
    assert sign_test(differences(shuffled)) == p
    # Examples that came out alike say nothing.
    assert sign_test(differences([*pairs, (1, 1), (0, 0)])) == p


def test_sign_test_by_hand() -> None:
    # 1 against 9: 2 * (C(10, 0) + C(10, 1)) / 2^10.
    assert sign_test(np.array([1] + [-1] * 9 + [0] * 5)) == pytest.approx(22 / 1024)
    assert sign_test(np.array([3, 2, 1, -1])) == pytest.approx(10 / 16)
    assert sign_test(np.zeros(7)) == 1.0


@given(p_values)
@settings(max_examples=80)
def test_holm_is_the_closed_test_of_bonferroni(values: list[float]) -> None:
    """A hypothesis falls where Bonferroni rejects every set of hypotheses that holds it."""
    everything = range(len(values))
    sets = [s for k in everything for s in itertools.combinations(everything, k + 1)]
    by_sets = [
        max(min(1.0, len(s) * min(values[j] for j in s)) for s in sets if i in s)
        for i in everything
    ]
    assert holm(values) == pytest.approx(by_sets)


@given(p_values, st.randoms())
@settings(max_examples=80)
def test_holm_keeps_the_order_and_forgets_the_places(values: list[float], random) -> None:
    adjusted = holm(values)
    for (p, a), (q, b) in itertools.permutations(zip(values, adjusted, strict=True), 2):
        assert a <= b or p > q
    for p, a in zip(values, adjusted, strict=True):
        assert p <= a <= min(1.0, len(values) * p) + 1e-12
    order = random.sample(range(len(values)), len(values))
    assert holm([values[i] for i in order]) == [adjusted[i] for i in order]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=200))
@settings(max_examples=80)
def test_bootstrap_p_is_symmetric_and_never_zero(draws: list[int]) -> None:
    p = bootstrap_p(np.array(draws))
    assert 0 < p <= 1
    assert bootstrap_p(-np.array(draws)) == p
    assert bootstrap_p(np.array(draws[::-1])) == p
    smaller = min(sum(d <= 0 for d in draws), sum(d >= 0 for d in draws))
    assert p == pytest.approx(min(1.0, 2 * (smaller + 1) / (len(draws) + 1)))


def skilled(skill: float, name: str, n: int = 60) -> dict[str, list[int]]:
    """Outcomes on the tasks of the toy table; harder examples are failed by all alike."""
    rng = generator(0, name)
    hard = np.linspace(0, 1, n)
    return {
        task: [int(x) for x in 0.7 * hard + 0.3 * rng.random(n) < skill]
        for task in ("boolq", "piqa")
    }


def constant(loss: float, n: int = 60) -> dict[str, list[float]]:
    return {"boolq": [4 * loss] * n, "piqa": [4 * loss + i for i in range(n)]}


def group_of(build, **rows):
    """The first group of a table with these rows: name=(method, skill or outcomes, loss)."""
    entries = []
    for name, (method, skill, loss) in rows.items():
        outcomes = skilled(skill, name) if isinstance(skill, float) else skill
        run = build.run(name, method, outcomes=outcomes, nll=constant(loss))
        entries.append(build.row(name, method, runs=[run]))
    return load_table(build.plan(entries), resamples=1000).groups[0]


def test_the_best_diablo_row_is_the_reference(build) -> None:
    group = group_of(
        build,
        lora=("lora", 0.9, 1.0),
        low=("diablo", 0.4, 1.0),
        high=("diablo", 0.6, 1.0),
        zero=("zero-shot", 0.05, 3.0),
    )
    assert group.reference is group.rows[2]
    assert group.comparisons == 3
    assert [row.is_reference for row in group.rows] == [False, False, True, False]
    for row in group.rows:
        assert all((cell.comparison is None) == row.is_reference for cell in row.cells.values())
    found = [row.cells["avg"].comparison for row in group.rows]
    assert [found[i].verdict for i in (0, 1, 3)] == ["better", "worse", "worse"]


def test_differences_are_those_of_the_numbers(build) -> None:
    group = group_of(build, lora=("lora", 0.5, 1.25), best=("diablo", 0.6, 1.0))
    ours, theirs = (row.cells for row in group.rows)
    for key, cell in ours.items():
        expected = cell.estimate.value - theirs[key].estimate.value
        assert cell.comparison.difference == pytest.approx(expected)
        if key != "loss":  # whose difference is the same for every example
            assert cell.comparison.low < cell.comparison.difference < cell.comparison.high
            assert 0 < cell.comparison.detectable == cell.comparison.detectable_holm


def test_tasks_have_mcnemars_p(build) -> None:
    both = {"boolq": [1] * 20 + [0] * 20, "piqa": [1, 0] * 20}
    other = {"boolq": [1] * 12 + [0] * 26 + [1] * 2, "piqa": [1, 0] * 20}
    rows = [
        build.row("LoRA", runs=[build.run("lora", outcomes=other)]),
        build.row("DiaBlo", "diablo", runs=[build.run("best", "diablo", outcomes=both)]),
    ]
    lora = load_table(build.plan(rows), resamples=500).groups[0].rows[0]
    # Discordant: 2 for LoRA, 8 for DiaBlo; 2 * (1 + 10 + 45) / 2^10.
    assert lora.cells["boolq"].comparison.p == pytest.approx(112 / 1024)
    assert lora.cells["piqa"].comparison.p == 1.0
    assert lora.cells["piqa"].comparison.verdict == "no"


def test_losses_resample_the_same_examples(build) -> None:
    """A loss that is higher by the same amount everywhere differs without any uncertainty."""
    group = group_of(build, lora=("lora", 0.6, 1.5), best=("diablo", 0.6, 1.0))
    found = group.rows[0].cells["loss"].comparison
    assert (found.low, found.difference, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.p == pytest.approx(2 / 1001)
    assert found.verdict == "worse"
    estimate = group.rows[0].cells["loss"].estimate
    assert estimate.high - estimate.low > 1


def test_lower_losses_are_better(build) -> None:
    group = group_of(build, lora=("lora", 0.6, 0.5), best=("diablo", 0.6, 1.0))
    assert group.rows[0].cells["loss"].comparison.verdict == "better"
    assert group.rows[0].cells["loss"].mark == "best"


def test_each_column_is_a_family_of_its_own(build) -> None:
    skills = {"a": 0.45, "b": 0.5, "c": 0.55}
    rows = {name: ("lora", skill, 1.0 + skill) for name, skill in skills.items()}
    group = group_of(build, **rows, best=("diablo", 0.6, 1.0))
    for key in group.rows[0].cells:
        found = [row.cells[key].comparison for row in group.rows[:3]]
        assert [one.p_holm for one in found] == pytest.approx(holm([one.p for one in found]))
        assert {one.family for one in found} == {3}


def test_same_runs_are_compared_once(build) -> None:
    lora, best = build.run("lora"), build.run("best", "diablo")
    first = [
        build.row("LoRA r=16", runs=[lora]),
        build.row("LoRA r=32", runs=[lora], same_as="Big0 / LoRA r=16"),
        build.row("DiaBlo", "diablo", num_blocks=64, runs=[best]),
        build.row("DiaBlo", "diablo", num_blocks=128, runs=[best], same_as="Big0 / DiaBlo N=64"),
    ]
    again = [dict(row, same_as="Big0 / above") for row in first]
    full = build.run("full", "full", trainable=9)
    again.insert(0, build.row("Full FT", "full", runs=[full]))
    one, two = load_table(build.plan(first, again), resamples=500).groups
    assert (one.comparisons, two.comparisons) == (1, 1)
    assert [row.is_reference for row in one.rows] == [False, False, True, True]
    shown = [row.cells["avg"].comparison for row in (*one.rows[:2], *two.rows[1:3])]
    assert shown[0].family == 1
    assert all(each is shown[0] for each in shown)
    assert two.rows[0].cells["avg"].comparison.family == 1


def test_without_a_diablo_row_nothing_is_compared(build) -> None:
    rows = [build.row("LoRA", runs=[build.run("lora")]), build.row("DiaBlo", "diablo")]
    (group,) = load_table(build.plan(rows), resamples=200).groups
    assert group.reference is None
    assert not group.compared


def seeds(build, name: str, method: str, outcomes: list[list[int]]):
    runs = [
        build.run(f"{name}{i}", method, seed=i, outcomes={"boolq": one, "piqa": one})
        for i, one in enumerate(outcomes)
    ]
    return build.row(name, method, runs=runs)


def test_several_seeds_count_how_many_answered_right(build) -> None:
    best = seeds(build, "best", "diablo", [[1] * 10, [1] * 8 + [0] * 2])
    lora = seeds(build, "lora", "lora", [[1] * 6 + [0] * 4, [1] * 9 + [0]])
    found = load_table(build.plan([lora, best]), resamples=500).groups[0].rows[0]
    comparison = found.cells["boolq"].comparison
    # Fewer seeds of LoRA on examples 6, 7 and 9; on example 8 each has one.
    assert comparison.p == pytest.approx(2 / 8)
    assert comparison.difference == pytest.approx(-15.0)


def test_one_seed_is_compared_with_the_share_of_several(build) -> None:
    best = seeds(build, "best", "diablo", [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    zero = seeds(build, "zero", "zero-shot", [[1, 0, 0, 0]])
    found = load_table(build.plan([zero, best]), resamples=500).groups[0].rows[0]
    comparison = found.cells["boolq"].comparison
    assert comparison.p == pytest.approx(2 / 4)
    assert comparison.difference == pytest.approx(-25.0)


def test_a_test_that_speaks_against_the_difference_says_nothing(build) -> None:
    """More examples speak for LoRA, by one seed of nine each, but the mean is below DiaBlo's."""
    best = seeds(build, "best", "diablo", [[0] * 16 + [1] * 2] * 9)
    nine = [[1] * 16 + [0] * 2] + [[0] * 18] * 8
    lora = seeds(build, "lora", "lora", nine)
    found = load_table(build.plan([lora, best]), resamples=500).groups[0].rows[0]
    comparison = found.cells["boolq"].comparison
    assert comparison.p_holm <= LEVEL
    assert comparison.difference < 0
    assert comparison.verdict == "no"


@pytest.mark.parametrize(
    ("p", "direction", "verdict"),
    [(0.05, 1, "better"), (0.05, -1, "worse"), (0.0501, 1, "no"), (0.001, 0, "no")],
)
def test_verdicts(p: float, direction: int, verdict: str) -> None:
    assert Comparison(1.0, None, None, p / 2, p, 2, direction).verdict == verdict


def test_rows_on_other_examples_are_not_compared(build) -> None:
    rows = [
        build.row("LoRA", runs=[build.run("lora", shift=1)]),
        build.row("DiaBlo", "diablo", runs=[build.run("best", "diablo")]),
    ]
    with pytest.raises(ValueError, match=r"runs/lora/scores/toy\.json: task boolq .*'boolq/0'"):
        load_table(build.plan(rows))


def test_rows_with_other_tokens_are_not_compared(build) -> None:
    lora = build.run("lora")
    content = read_json(Path(lora["losses"]))
    entry = content["tasks"]["boolq"]
    for one in entry["examples"]:
        one["tokens"], one["nll"] = 8, 2 * one["nll"]
    entry["tokens"] *= 2
    write_json(lora["losses"], content)
    rows = [
        build.row("LoRA", runs=[lora]),
        build.row("DiaBlo", "diablo", runs=[build.run("best", "diablo")]),
    ]
    with pytest.raises(ValueError, match=r"lora/losses/toy\.json: boolq 'boolq/0' has 8 tokens"):
        load_table(build.plan(rows))


def test_equal_models_are_rarely_told_apart() -> None:
    """The paired bootstrap of an average keeps its level where nothing differs."""
    rejected = 0
    for trial in range(400):
        rng = generator(1, f"trial-{trial}")
        tasks = [rng.integers(0, 2, 80) - rng.integers(0, 2, 80) for _ in range(3)]
        draws = [
            bootstrap_means(task, generator(2, f"{trial}-{i}"), 500) for i, task in enumerate(tasks)
        ]
        rejected += bootstrap_p(np.mean(draws, axis=0)) <= 0.05
    assert 0.01 <= rejected / 400 <= 0.09
