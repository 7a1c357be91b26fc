"""Intervals against known truth (simulated coverage), against scipy, and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from accord.diagnostics.statistics import (
    Interval,
    by_prompt,
    cluster_bootstrap,
    clustered_share,
    jackknife_interval,
    stream,
    wilson,
)
from accord.records import BadInput


def clustered_data(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0; two thirds of the variance lies between prompts, which have 2 to 5 rows each."""
    size_G = rng.integers(2, 6, size=prompts)
    prompt_N = np.repeat(np.arange(prompts), size_G)
    level_G = rng.normal(0, math.sqrt(2), size=prompts)
    return level_G[prompt_N] + rng.normal(size=len(prompt_N)), prompt_N


@pytest.mark.parametrize("prompts", [12, 60])
def test_interval_covers_the_truth_19_times_of_20(prompts: int) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(400):
        values_N, prompt_N = clustered_data(rng, prompts)
        interval = cluster_bootstrap(values_N, prompt_N, samples=400, seed=seed)
        covered += interval.low <= 0 <= interval.high
    # 400 simulations have a standard error of 1.1%; 2,000 gave .941 (12 prompts) and 1,500 gave .943 (60)
    assert 0.93 <= covered / 400 <= 0.97


def test_an_interval_over_rows_would_be_too_narrow() -> None:
    """Why clusters: the same data taken as independent rows cover the truth far too rarely."""
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        values_N, _ = clustered_data(rng, 60)
        interval = cluster_bootstrap(values_N, np.arange(len(values_N)), samples=400, seed=seed)
        covered += interval.low <= 0 <= interval.high
    assert covered / 100 < 0.85


def test_with_one_row_a_prompt_it_is_scipys_percentile_bootstrap() -> None:
    values_N = np.random.default_rng(2).exponential(size=300)
    ours = cluster_bootstrap(values_N, np.arange(300), samples=8000)
    # 300 clusters: the expansion is .4% of the width
    scipys = stats.bootstrap(
        (values_N,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.figure == pytest.approx(values_N.mean())
    assert ours.low == pytest.approx(scipys.low, abs=0.005)
    assert ours.high == pytest.approx(scipys.high, abs=0.005)


def test_vectorised_mean_agrees_with_the_loop_over_any_statistic() -> None:
    values_N, prompt_N = clustered_data(np.random.default_rng(3), 40)
    fast = cluster_bootstrap(values_N, prompt_N, samples=8000)
    slow = cluster_bootstrap(values_N, prompt_N, lambda rows: float(rows.mean()), samples=8000)
    assert fast.figure == pytest.approx(slow.figure)
    assert fast.low == pytest.approx(slow.low, abs=0.03)  # the mean's standard error is .23
    assert fast.high == pytest.approx(slow.high, abs=0.03)


def test_a_statistic_of_two_columns() -> None:
    rows_N2 = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    interval = cluster_bootstrap(rows_N2, ["p", "q", "r"], lambda r: float(r[:, 1].sum() / r[:, 0].sum()))
    assert interval == pytest.approx((2, 2, 2))


def test_the_same_seed_gives_the_same_interval_and_names_of_prompts_do_not_matter() -> None:
    values_N, prompt_N = clustered_data(np.random.default_rng(4), 20)
    names = [f"prompt {p:03d}" for p in prompt_N]
    assert cluster_bootstrap(values_N, prompt_N, seed=5) == cluster_bootstrap(values_N, names, seed=5)
    assert cluster_bootstrap(values_N, prompt_N, seed=5) != cluster_bootstrap(values_N, prompt_N, seed=6)
    assert stream(0, "a").random() != stream(0, "b").random()


def test_one_prompt_gives_no_interval_instead_of_a_narrow_one() -> None:
    interval = cluster_bootstrap([1.0, 2.0], ["p", "p"])
    assert interval.figure == 1.5
    assert interval.bounds is None
    assert not interval.low > 0
    assert interval.show() == "1.50 (no interval)"
    assert clustered_share([1.0, 1.0], ["p", "p"]).bounds is None


def test_all_wins_are_not_certainty() -> None:
    # 64 of 64: Wilson's lower limit is 64 / (64 + 1.96²) = .9434
    interval = clustered_share(np.ones(128), np.repeat(np.arange(64), 2))
    assert interval == pytest.approx((1.0, 0.943_37, 1.0), abs=1e-4)
    with pytest.raises(BadInput, match=r"lie in \[0, 1\], got 0 to 2"):
        clustered_share([0, 2], ["p", "q"])


@pytest.mark.parametrize(("wins", "count"), [(0, 10), (3, 10), (10, 10), (57, 296)])
def test_wilson_is_scipys(wins: int, count: int) -> None:
    scipys = stats.binomtest(wins, count).proportion_ci(method="wilson")
    assert wilson(wins, count) == pytest.approx((wins / count, scipys.low, scipys.high), abs=1e-12)


def test_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.array([1.0, 4.0, 2.0, 7.0, 3.0])
    left_out = (values.sum() - values) / 4
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert jackknife_interval(values.mean(), left_out) == pytest.approx((3.4, low, high))


def test_mean_by_prompt() -> None:
    mean_G, prompts = by_prompt([1.0, 5.0, 3.0], ["q", "p", "q"])
    assert prompts == ["p", "q"]
    assert mean_G.tolist() == [5.0, 2.0]


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "is empty"),
        ([1.0, math.nan], ["p", "q"], "1 values that are NaN or infinite of 2"),
        ([1.0, 2.0], ["p"], "2 values but 1 prompts"),
        ([[1.0], [2.0]], ["p", "q"], "takes one value a row"),
    ],
)
def test_what_cannot_be_used_is_refused(values: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cluster_bootstrap(values, clusters)


def test_an_interval_in_a_sentence() -> None:
    assert Interval(0.5, 0.25, 0.75).show() == "0.50 (95% interval 0.25 to 0.75)"
    assert Interval(0.5, 0.25, 0.75).show_percent() == "50.0% (95% interval 25.0% to 75.0%)"
