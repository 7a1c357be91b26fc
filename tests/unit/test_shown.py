"""The figures of docs/shown.md: alarm, matched KL, regret, by hand; and that its recipes can be read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from benchmarks.shown_curves import best_budget, matched, own_accuracy, regret, regrets
from benchmarks.shown_experiments import EXPERIMENTS, jobs
from benchmarks.shown_planted import auc_interval, exact, limit_of, scores, usable

from accord import config
from accord.stop_rules import kl_budget

RECIPES = Path(__file__).parents[2] / "recipes" / "shown"


def looks(*figures: dict) -> dict:
    return {"findings": [{name: [value, "good"] for name, value in look.items()} for look in figures]}


def run(kl: list[float], gold: list[float], seed: int = 0) -> dict:
    points = [
        {"step": step, "kl": k, "gold": [g, g], "proxy": [float(step)] * 2}
        for step, (k, g) in enumerate(zip(kl, gold, strict=True))
    ]
    return {"seed": seed, "arm": "one", "evaluations": points}


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_a_recipe_and_its_arms_are_valid(name: str) -> None:
    experiment = EXPERIMENTS[name]
    for arm in experiment.arms.values():
        for tiny in ((), experiment.tiny):
            settings = config.load(RECIPES / f"{experiment.recipe}.yaml", [*arm, *tiny], seed=1)
            assert settings.online.steps % settings.online.evaluate_every == 0
            assert isinstance(settings.judge, config.Simulated)  # gold is known, and hidden
    assert jobs(experiment, None, None)


def test_runs_that_count_share_no_seed_with_development() -> None:
    for experiment in EXPERIMENTS.values():
        planned = jobs(experiment, None, None)
        development = {job.seed for job in planned if job.development}
        assert not development & {job.seed for job in planned if not job.development}
        assert len({(job.arm, job.seed) for job in planned}) == len(planned)


def test_a_score_is_the_largest_excess_so_far() -> None:
    # three baseline runs at 0, 1, 2: a new run's error is 1·sqrt(4/3); a figure of 1 + 2 sqrt(4/3) is 2 away
    base = [looks({"x": v, "y": 10 * v}, {"x": v, "y": 10 * v}) for v in (0.0, 1.0, 2.0)]
    far = 1 + 2 * math.sqrt(4 / 3)
    row = looks({"x": far, "y": 10.0}, {"x": 1.0, "y": 10 - 10 * math.sqrt(4 / 3)})
    np.testing.assert_allclose(scores(row, base, ["x", "y"]), [2, 2])
    np.testing.assert_allclose(scores(row, base, ["y"]), [0, 1])


def test_findings_that_say_nothing_are_left_out() -> None:
    rows = [looks({"x": v, "same": 1.0, "none": None if v == 1 else v}) for v in (0.0, 1.0, 2.0)]
    assert usable(rows) == ["x"]


def test_the_limit_is_the_band_of_runs_scored_by_the_others() -> None:
    figures = [0.0, 1.0, 3.0, 7.0]
    rows = [looks({"x": value}) for value in figures]
    logs = []
    for place, value in enumerate(figures):
        others = np.delete(figures, place)
        logs.append(math.log(abs(value - others.mean()) / (others.std(ddof=1) * math.sqrt(4 / 3))))
    # one-sided 95%, 3 degrees of freedom: t = 2.3534 (a table)
    expected = math.exp(np.mean(logs) + 2.3534 * np.std(logs, ddof=1) * math.sqrt(5 / 4))
    assert limit_of(rows, ["x"]) == pytest.approx(expected, rel=1e-4)


def test_shares_and_areas() -> None:
    assert exact(0, 20) == "0 of 20 (0% to 17%)"  # 1 - .025^(1/20) = .168
    area, low, high = auc_interval(np.array([1.0, 2.0]), np.array([1.5, 3.0]))
    assert area == 0.75  # of four pairs one is in the wrong order
    assert low <= area <= high <= 1


def test_matched_kl_compares_where_both_have_been() -> None:
    # √KL 0, 1, 2 and 0, 1: gold d and d/2 over the start, so the mean gap over d up to 1 is that of d/2
    one, other = run([0, 1, 4], [1, 2, 3]), run([0, 1], [5, 5.5])
    assert matched(one, other) == pytest.approx(np.linspace(0, 1, 41)[1:].mean() / 2)
    assert matched(other, one) == -matched(one, other)


def test_regret_and_the_budget_that_others_choose() -> None:
    early = run([0, 1, 4, 9], [0, 2, 1, 0], seed=0)
    late = run([0, 1, 4, 9], [0, 1, 3, 2], seed=1)
    assert regret(early, kl_budget(1)) == 0
    assert regret(late, kl_budget(1)) == 2
    assert best_budget([late]) == 4
    found = regrets([early, late])
    assert found["last checkpoint"] == [2, 1]
    assert found["fixed KL, tuned on the other seeds"] == [1, 2]  # late's 4 nats on early, and the reverse


def test_accuracy_counts_pairs_of_one_prompt() -> None:
    rows = [
        {"key": "p", "gold": 1.0, "proxy": 1.0},
        {"key": "p", "gold": 2.0, "proxy": 3.0},
        {"key": "p", "gold": 3.0, "proxy": 2.0},  # wrong against the second, right against the first
        {"key": "q", "gold": 0.0, "proxy": 9.0},
        {"key": "q", "gold": 0.0, "proxy": 1.0},  # no order
    ]
    assert own_accuracy(rows) == (2, 3)
