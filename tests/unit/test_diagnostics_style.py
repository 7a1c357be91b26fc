"""Style: features by hand, partial correlations against residuals of regressions, alarms only for what
grew.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from accord.diagnostics.style import centred, partial_correlations, simultaneous, style_reliance
from accord.diagnostics.style_features import FEATURES, style_features
from accord.records import BadInput

NAMES = list(FEATURES)
PROMPTS = np.repeat(np.arange(50), 2)


def test_features_by_hand() -> None:
    text = "Great question!\n- one **bold** item\n- another wonderful one 😊\nSurely so!"
    row = dict(zip(NAMES, style_features([text])[0], strict=True))
    # words: great question one bold item another wonderful one surely so = 10; 4 lines, 2 of a list
    assert row["length"] == 10
    assert row["lists"] == pytest.approx(0.5)
    assert row["flattery"] == pytest.approx(0.2)
    assert row["certainty"] == pytest.approx(0.1)
    assert row["exclamation"] == pytest.approx(0.2)
    assert row["emphasis"] == pytest.approx(0.2)
    assert row["emoji"] == pytest.approx(0.1)
    assert row["repetition"] == 0
    assert style_features([""]).tolist() == [[0.0] * len(NAMES)]
    assert style_features([]).shape == (0, len(NAMES))


def test_partial_correlations_are_those_of_residuals() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3))
    score = features @ [0.5, -0.2, 0.0] + rng.normal(size=200)
    rows = np.column_stack([score, features]) - np.column_stack([score, features]).mean(axis=0)
    found = partial_correlations((rows.T @ rows)[None])[0]
    for j in range(3):
        others = np.delete(features, j, axis=1)
        residual = [v - LinearRegression().fit(others, v).predict(others) for v in (score, features[:, j])]
        assert found[j] == pytest.approx(stats.pearsonr(*residual).statistic)
    tied = np.column_stack([rows, rows[:, 1]])
    assert np.isnan(partial_correlations((tied.T @ tied)[None])).all()


def test_prompts_are_taken_off_where_they_have_several_answers() -> None:
    rows = np.array([[1.0], [3.0], [10.0], [10.0]])
    assert centred(rows, np.array([0, 0, 1, 1]), 2)[:, 0].tolist() == [-1, 1, 0, 0]
    assert centred(rows, np.arange(4), 4)[:, 0].tolist() == [-5, -3, 4, 4]


def test_simultaneous_intervals_hold_all_at_once_and_are_wider_than_single_ones() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 10))
    low, high = simultaneous(np.zeros(10), draws, 400)
    # ten independent normals: the 95% quantile of the largest |z| is Φ⁻¹((1 + .95^(1/10)) / 2) = 2.80
    assert high == pytest.approx(np.full(10, 2.80), abs=0.1)
    assert low == pytest.approx(-high)
    truth = rng.normal(size=(2000, 10))
    assert np.mean((np.abs(truth) <= high).all(axis=1)) == pytest.approx(0.95, abs=0.02)


def sides(paid: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Score pays .5 for length on both sides, and ``paid`` for flattery on the policy's answers only."""
    rng = np.random.default_rng(3)
    sft, policy = rng.gamma(2, 1, size=(2, 100, len(NAMES)))
    flattery, length = NAMES.index("flattery"), NAMES.index("length")
    level = rng.normal(0, 3, 50)[PROMPTS]
    score_sft = 0.5 * sft[:, length] + level + rng.normal(size=100)
    score_policy = 0.5 * policy[:, length] + paid * policy[:, flattery] + level + rng.normal(size=100)
    return score_sft, score_policy, sft, policy


def test_a_taste_that_was_there_before_is_no_alarm_and_a_new_one_is() -> None:
    same = style_reliance(*sides(0.0), PROMPTS, PROMPTS, NAMES)
    assert (same.verdict, same.evidence["grown"]) == ("good", [])
    assert "goes most with length" in same.sentence
    new = style_reliance(*sides(2.0), PROMPTS, PROMPTS, NAMES)
    assert (new.verdict, new.evidence["grown"]) == ("warn", ["flattery"])
    row = next(r for r in new.evidence["features"] if r["name"] == "flattery")
    assert row["change"] == pytest.approx(row["policy"] - row["sft"])
    assert row["change_interval"][0] > 0
    json.dumps(new.to_json(), allow_nan=False)


def test_features_that_never_vary_are_left_out_by_name() -> None:
    score_sft, score_policy, sft, policy = sides(0.0)
    sft[:, 3] = 0
    policy[:, 4] = 7
    sft[:18, 5], sft[18:, 5] = 0.5 + 0.01 * np.arange(18), 0.5  # varies within nine prompts only
    found = style_reliance(score_sft, score_policy, sft, policy, PROMPTS, PROMPTS, NAMES)
    assert found.evidence["constant"] == [NAMES[3], NAMES[4], NAMES[5]]
    once = style_reliance(
        score_sft[::2], score_policy[::2], sft[::2], policy[::2], range(50), range(50), NAMES
    )
    assert once.evidence["constant"] == [NAMES[3], NAMES[4], NAMES[5]]
    nothing = style_reliance(score_sft, score_policy, 0 * sft, policy, PROMPTS, PROMPTS, NAMES)
    assert (nothing.verdict, nothing.figure) == ("unknown", None)
    flat = style_reliance(0 * score_sft, score_policy, sft, policy, PROMPTS, PROMPTS, NAMES)
    assert flat.verdict == "unknown"
    with pytest.raises(BadInput, match="one row a score and one column a name"):
        style_reliance(score_sft, score_policy, sft[:, :2], policy, PROMPTS, PROMPTS, NAMES)
