"""Correlation of score and length: by hand, and against partial correlation by regression residuals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from accord.diagnostics.length_reliance import length_reliance
from accord.records import BadInput


def test_by_hand() -> None:
    # x = 1, 2, 3 and y = 1, 3, 2: Σxy = 13, Σx² = Σy² = 14; centred 1 / √(2 · 2)
    found = length_reliance([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], list("pqr"))
    assert found["correlation"] == pytest.approx(13 / 14)
    assert found["partial"] == pytest.approx(0.5)
    assert found["partial_rank"] == pytest.approx(0.5)


def test_partial_is_what_regression_on_the_label_leaves_over() -> None:
    """Every pair in both orders, label ±1, residuals of score and length after the label, then Pearson."""
    rng = np.random.default_rng(0)
    gap = rng.normal(30, 100, 200)
    margin = 0.01 * gap + rng.normal(0.4, 1, 200)
    label = np.r_[np.ones(200), -np.ones(200)]
    score, length = np.r_[margin, -margin], np.r_[gap, -gap]
    residual = [v - label * (v @ label / 400) for v in (score, length)]
    found = length_reliance(margin, gap, np.arange(200) // 2)
    assert found["partial"] == pytest.approx(stats.pearsonr(*residual).statistic)
    assert found["correlation"] == pytest.approx(stats.pearsonr(score, length).statistic)
    assert found["partial_interval"][0] < found["partial"] < found["partial_interval"][1]


def test_the_order_of_a_pair_does_not_matter_to_the_correlation() -> None:
    rng = np.random.default_rng(1)
    margin, gap, sign = rng.normal(size=50), rng.normal(size=50), rng.choice([-1, 1], 50)
    one = length_reliance(margin, gap, np.arange(50))["correlation"]
    assert length_reliance(margin * sign, gap * sign, np.arange(50))["correlation"] == pytest.approx(one)


def test_a_model_that_follows_length_only_as_far_as_people_has_no_partial_correlation() -> None:
    """Chosen answers are 50 characters longer and score 1 more; around that, score and length are free."""
    rng = np.random.default_rng(2)
    margin, gap = 1 + rng.normal(0, 0.5, 4000), 50 + rng.normal(0, 30, 4000)
    found = length_reliance(margin, gap, np.arange(4000), samples=100)
    assert found["correlation"] > 0.6
    assert abs(found["partial"]) < 0.06


def test_interval_covers_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(3), 0
    for seed in range(100):
        x = rng.normal(size=60)
        y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=60)
        low, high = length_reliance(x, y, np.arange(60), samples=200, seed=seed)["partial_interval"]
        inside += low <= 0.5 <= high
    assert 87 <= inside <= 99  # 95 expected, standard deviation 2.2; the bootstrap of r runs a little short


def test_nothing_varies() -> None:
    for margin, gap in (([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])):
        found = length_reliance(margin, gap, list("pqr"))
        assert found == {
            "correlation": None,
            "correlation_interval": None,
            "partial": None,
            "partial_interval": None,
            "partial_rank": None,
        }
    # a constant lead is no spread beyond the label
    assert length_reliance([0.1] * 3, [5.0, 6.0, 9.0], list("pqr"))["partial"] is None


def test_one_prompt_has_no_interval() -> None:
    found = length_reliance([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], list("ppp"))
    assert found["partial"] == pytest.approx(0.5)
    assert found["partial_interval"] is None


def test_shapes_must_agree() -> None:
    with pytest.raises(BadInput, match="give one of each a pair"):
        length_reliance([1.0, 2.0], [1.0], list("pq"))
