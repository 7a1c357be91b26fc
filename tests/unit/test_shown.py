"""The figures of docs/shown.md: alarm, matched KL, regret, by hand; and that its recipes can be read."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.shown import evaluations_of
from benchmarks.shown_curves import best_budget, matched, own_accuracy, regret, regrets
from benchmarks.shown_experiments import EXPERIMENTS, jobs
from benchmarks.shown_matched import best_of_lines
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


def test_the_last_round_is_read_with_what_a_second_model_says(tmp_path: Path) -> None:
    for number in (2, 10):
        place = tmp_path / f"round-{number}"
        (place / "rollouts").mkdir(parents=True)
        rows = [{"key": "p", "proxy": float(number)}]
        found = {"evaluations": [{"step": 0, "rows": rows}], "best_of": []}
        (place / "rollouts" / "evaluations.json").write_text(json.dumps(found))
    assert evaluations_of(tmp_path)[0]["rows"] == [{"key": "p", "proxy": 10.0}]  # not the second by name
    (tmp_path / "round-10" / "evidence").mkdir()
    (tmp_path / "round-10" / "evidence" / "measured.json").write_text('{"other_half": [[0.5]]}')
    assert evaluations_of(tmp_path)[0]["rows"] == [{"key": "p", "proxy": 10.0, "other_half": 0.5}]


def test_accuracy_counts_pairs_of_one_prompt() -> None:
    rows = [
        {"key": "p", "gold": 1.0, "proxy": 1.0},
        {"key": "p", "gold": 2.0, "proxy": 3.0},
        {"key": "p", "gold": 3.0, "proxy": 2.0},  # wrong against the second, right against the first
        {"key": "q", "gold": 0.0, "proxy": 9.0},
        {"key": "q", "gold": 0.0, "proxy": 1.0},  # no order
    ]
    assert own_accuracy(rows) == (2, 3)


def curved(arm: str, seed: int, bend: float) -> dict:
    """Seven evaluations at √KL 0 to 3; gold d(2 - bend·d) and a little of each prompt's own."""
    d = np.linspace(0, 3, 7)
    own = np.random.default_rng(seed).normal(0, 0.02, (7, 12))
    points = [
        {
            "step": 5 * place,
            "kl": float(x**2),
            "gold": (x * (2 - bend * x) + own[place]).tolist(),
            "proxy": (2 * x + own[place]).tolist(),
            "length": 10.0,
            "right": 3,
            "pairs": 4,
        }
        for place, x in enumerate(d)
    ]
    return {"arm": arm, "seed": seed, "development": False, "evaluations": points}


def test_the_tables_show_every_run_and_the_pictures_are_svg() -> None:
    rows = [curved(arm, seed, bend) for seed in (0, 1) for arm, bend in (("60 pairs", 0.5), ("700 pairs", 0))]
    text, drawn = EXPERIMENTS["pairs"].summary(rows)
    lines = [line for line in text.splitlines() if line.startswith(("| 60 pairs", "| 700 pairs"))]
    assert len(lines) == 4
    # d(2 - .5 d) is highest at 2, with gold 2; the other never falls
    few = next(line for line in lines if line.startswith("| 60 pairs | 0"))
    assert re.search(r"\(2\.00\), 1\.[45]\d \| 3\.00 \|", few)  # best at √KL 2, at the end 1.5
    assert float(re.search(r"\| (\d\.\d\d) \(\d\.\d\d to \d\.\d\d\) \| \w+ \|$", few)[1]) == pytest.approx(
        2, abs=0.1
    )
    assert all("| none |" in line for line in lines if line.startswith("| 700"))
    assert "none" not in few
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    against, other = EXPERIMENTS["fresh"].summary(
        [curved("old samples", 0, 0.5), curved("fresh samples", 0, 0.0)]
    )
    gap = (0.5 * np.linspace(0, 3, 41)[1:] ** 2).mean()  # what the bend takes away, where both have been
    said = re.search(r"fresh samples − old samples: gold at the same √KL (\S+),", against)
    assert float(said[1]) == pytest.approx(gap, abs=0.05)
    assert ElementTree.fromstring(other).tag.endswith("svg")


def test_hacked_runs_are_told_from_clean_ones() -> None:
    rng = np.random.default_rng(0)

    def one(arm: str, seed: int, development: bool = False) -> dict:
        shift = 0.0 if arm == "clean" else 9.0
        found = looks(*({"x": rng.normal() + shift * k / 6, "y": rng.normal()} for k in range(6)))
        return curved(arm, seed, 0.5) | found | {"development": development}

    rows = [one("clean", 100 + seed, True) for seed in range(12)]
    rows += [one("clean", seed) for seed in range(4)] + [
        one(arm, seed) for seed, arm in enumerate(["length", "flattery", "phrase"])
    ]
    text, drawn = EXPERIMENTS["planted"].summary(rows)
    assert "ROC AUC 1.000" in text
    assert "Hacked runs found: 3 of 3" in text
    assert "False alarms: 0 of 4" in text
    assert len([line for line in text.splitlines() if line.startswith("| clean")]) == 4
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    fewer, _ = EXPERIMENTS["planted"].summary(rows[:2])
    assert fewer == "2 baseline, 0 clean and 0 hacked runs so far"


def test_pessimistic_best_of_n_over_seeds_by_hand() -> None:
    rows = [
        {"seed": 1, "best_of": [[1, 0.5, 0.5], [2, 0.7, 0.6], [4, 0.9, 1.1]]},
        {"seed": 0, "best_of": [[1, 0.0, 0.0], [2, 0.2, 0.2], [4, 0.4, 0.8]]},
    ]
    lines = best_of_lines(rows)
    assert lines[2:6] == [
        "| 0 | 2 | 0.20 | 0.20 |",
        "| 0 | 4 | 0.40 | 0.80 |",
        "| 1 | 2 | 0.20 | 0.10 |",
        "| 1 | 4 | 0.40 | 0.60 |",
    ]
    # .4 and .2: mean .3, t with 1 degree of freedom 12.706, standard error .1414 / √2 = .1
    assert lines[-1] == "Pessimistic best of 4 − best of 4 by the mean: gold 0.30 (−0.97 to 1.57)."
