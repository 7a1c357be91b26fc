"""Calibration against scikit-learn and against simulations whose miscalibration is known exactly."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from accord.diagnostics.calibration import (
    accuracy,
    brier,
    expected_calibration_error,
    fitted_temperature,
    fold,
    reliability_bins,
    reward_metrics,
    reward_model_accuracy,
    squared_calibration_error,
)
from accord.records import BadInput


def simulated_margins(rng: np.random.Generator, pairs: int, temperature: float) -> np.ndarray:
    """Chosen-minus-rejected margins of a model whose true temperature is known (1: calibrated)."""
    margin_N = rng.normal(0, 1.5, size=pairs) * temperature
    a_wins_N = rng.random(pairs) < special.expit(margin_N / temperature)
    return np.where(a_wins_N, margin_N, -margin_N)


def test_brier_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(100), rng.integers(0, 2, 100)
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p))
    assert brier([0.5, 0.5], [1, 0]) == 0.25


def test_reliability_bins_are_scikit_learns_quantile_bins() -> None:
    rng = np.random.default_rng(1)
    p, y = rng.random(503), rng.integers(0, 2, 503)
    share, confidence = calibration_curve(y, p, n_bins=10, strategy="quantile")
    rows = reliability_bins(p, y)
    assert [row["confidence"] for row in rows] == pytest.approx(confidence)
    assert [row["accuracy"] for row in rows] == pytest.approx(share)
    assert sum(row["count"] for row in rows) == 503


def test_equal_predictions_share_a_bin_whatever_the_order() -> None:
    # a calibrated coin, sorted by outcome: split by place it would look wholly miscalibrated
    rows = reliability_bins([0.5] * 100, [0.0] * 50 + [1.0] * 50)
    assert rows == [{"confidence": 0.5, "accuracy": 0.5, "count": 100}]


def test_debiased_error_is_zero_on_average_for_a_calibrated_model() -> None:
    rng = np.random.default_rng(2)
    debiased, plain = [], []
    for _ in range(400):
        p, y = fold(simulated_margins(rng, 200, 1.0))
        debiased.append(squared_calibration_error(p, y))
        rows = reliability_bins(p, y)
        plain.append(sum(r["count"] * (r["confidence"] - r["accuracy"]) ** 2 for r in rows) / 200)
    error = np.std(debiased) / 20
    assert abs(np.mean(debiased)) < 3 * error
    assert np.mean(plain) > 20 * error  # without the correction it is far from 0
    p, y = fold(simulated_margins(rng, 50_000, 1.0))
    assert expected_calibration_error(p, y) < 0.01


def test_debiased_error_recovers_a_known_one() -> None:
    """Confidence .9 where .7 are right: squared error .04, whatever the number of pairs in a bin."""
    rng = np.random.default_rng(3)
    found = [
        squared_calibration_error(np.full(20, 0.9), (rng.random(20) < 0.7).astype(float)) for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(0.04, abs=3 * np.std(found) / math.sqrt(2000))
    assert expected_calibration_error(np.full(40_000, 0.9), rng.random(40_000) < 0.7) == pytest.approx(
        0.2, abs=0.01
    )


def test_debiased_error_by_hand_is_kumars_formula() -> None:
    # one bin, p = .8, y = 1,1,0,1: gap .05; y(1-y)/(n-1) = .1875/3; .0025 - .0625
    assert squared_calibration_error([0.8] * 4, [1, 1, 0, 1]) == pytest.approx(-0.06)
    assert expected_calibration_error([0.8] * 4, [1, 1, 0, 1]) == 0


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_temperature_is_recovered_and_is_logistic_regressions(truth: float) -> None:
    margin_N = simulated_margins(np.random.default_rng(4), 20_000, truth)
    found = fitted_temperature(margin_N)
    assert found == pytest.approx(truth, rel=0.06)
    sign_N = np.where(np.arange(20_000) % 2 == 0, 1.0, -1.0)  # two classes, the same likelihood
    model = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10)
    model.fit((margin_N * sign_N)[:, None], sign_N > 0)
    assert found == pytest.approx(1 / model.coef_[0, 0], rel=1e-3)
    assert fitted_temperature(margin_N * sign_N, (sign_N > 0).astype(float)) == pytest.approx(found, rel=1e-4)


def test_temperature_without_an_optimum_is_the_limit() -> None:
    assert fitted_temperature([1.0, 2.0]) == pytest.approx(0.02)
    assert fitted_temperature([-1.0, -2.0]) == pytest.approx(50)


def test_accuracy_counts_equal_scores_half() -> None:
    assert accuracy([1.0, 0.0, -2.0, 3.0], list("ppqr")).figure == 2.5 / 4


def test_brier_of_equal_scores_is_a_quarter_and_else_what_folding_gives() -> None:
    assert reward_metrics([0.0, 0.0], ["p", "q"])["brier"] == 0.25
    # σ(ln 3) = 3/4, right and wrong: (1/16 + 9/16) / 2
    margin_N = [math.log(3), -math.log(3)]
    assert reward_metrics(margin_N, ["p", "q"])["brier"] == pytest.approx(5 / 16)
    assert brier(*fold(margin_N)) == pytest.approx(5 / 16)


def test_metrics_are_plain_json() -> None:
    margin_N = simulated_margins(np.random.default_rng(5), 60, 1.0)
    metrics = reward_metrics(margin_N, np.arange(60) // 2)
    assert (metrics["pairs_test"], metrics["prompts_test"]) == (60, 30)
    assert metrics["accuracy_interval"][0] < metrics["accuracy"] < metrics["accuracy_interval"][1]
    json.dumps(metrics, allow_nan=False)
    json.dumps(reward_metrics([1.0], ["p"]), allow_nan=False)


def test_finding_says_which_floor_is_not_beaten() -> None:
    rng = np.random.default_rng(6)
    right_N = rng.random(400) < 0.7
    margin_N, prompts = np.where(right_N, 1.0, -1.0), np.arange(400) // 2
    coin_N = (rng.random(400) < 0.5).astype(float)
    assert reward_model_accuracy(margin_N, prompts, {"always_longer": coin_N}).verdict == "good"
    finding = reward_model_accuracy(
        margin_N, prompts, {"always_longer": coin_N, "bag_of_words": right_N * 1.0}
    )
    assert finding.verdict == "warn"
    assert "not shown to beat bag of words" in finding.sentence
    assert finding.evidence["gain_over"]["bag_of_words"]["gain"] == 0
    assert reward_model_accuracy(coin_N - 0.5, prompts).verdict == "bad"
    json.dumps(finding.to_json(), allow_nan=False)


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(BadInput, match=r"probabilities must lie in \[0, 1\], got 0.5 to 2"):
        brier([0.5, 2.0], [0, 1])
    with pytest.raises(BadInput, match="bins is 0"):
        reliability_bins([0.5, 0.6], [0, 1], bins=0)
    with pytest.raises(BadInput, match="2 or more pairs, got 1"):
        squared_calibration_error([0.5], [1])
