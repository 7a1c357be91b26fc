"""LOWESS against statsmodels 0.15's numbers; the calibration takes length out and says what that costs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from accord.diagnostics.reward_evaluation import ScoredPairs
from accord.records import BadInput, Prompt
from accord.scoring.function import FunctionScorer
from accord.scoring.length_calibration import (
    LengthCalibratedScorer,
    LengthCurve,
    calibrated,
    cost,
    fit_length_curve,
)
from accord.scoring.lowess import lowess
from tests.unit.comparisons import compared

# 24 points by a rule, one of them an outlier
X = np.array([(7 * i * i + 3 * i) % 97 + i / 10 for i in range(24)])
Y = np.sin(X / 15) + 0.01 * X + np.array([((13 * i) % 11 - 5) / 10 for i in range(24)])
Y[5] += 6


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


# statsmodels.nonparametric.smoothers_lowess.lowess(y, x, frac=…, it=…)
STATSMODELS = {
    (2 / 3, 0): numbers(
        """
        0.26512756 0.38801534 0.41409251 0.44828997 0.60762209 0.71983552 0.77675493 0.47396314
        0.43785303 0.31182745 0.11436898 0.04966757 -0.01974138 -0.09212658 -0.25990412 -0.23460238
        -0.085589 0.1138965 0.29165506 1.23775196 1.64555657 2.19307639 2.28143169 2.55222599
        """
    ),
    (2 / 3, 3): numbers(
        """
        0.28032742 0.37842207 0.39938396 0.42701727 0.55871124 0.65676596 0.73872179 0.47123879
        0.43640525 0.31932302 0.13055079 0.06703614 -0.00106922 -0.07239366 -0.24036469 -0.23624879
        -0.19157333 -0.13147295 -0.07235535 0.27883352 0.43564218 0.64638397 0.68026408 0.78388927
        """
    ),
    (0.4, 3): numbers(
        """
        -0.1876813 0.20098961 0.28903248 0.40810575 0.90274869 1.01643115 0.87281246 0.57686482
        0.57582884 0.39004543 0.0167593 -0.12736691 -0.21415231 -0.24105657 -0.29410475 -0.31971238
        -0.32665876 -0.31111168 -0.238569 0.11283318 0.44540094 0.89989077 0.97295679 1.19771879
        """
    ),
}
X_TIED = np.array([1.0, 1, 2, 2, 2, 3, 5, 8, 8, 9, 9, 9, 12, 15, 20])
Y_TIED = np.array([0.0, 1, 2, 1, 3, 2, 4, 3, 5, 4, 6, 5, 6, 7, 9])
# frac=0.5, it=2, one value for each distinct x
TIED = [0.67558872, 1.51538655, 2.0, 4.0, 4.60548614, 4.90983592, 5.98960423, 7.06351498, 8.97791745]


@pytest.mark.parametrize(("fraction", "iterations"), list(STATSMODELS))
def test_lowess_is_statsmodels(fraction: float, iterations: int) -> None:
    knots, values = lowess(X, Y, fraction=fraction, iterations=iterations)
    assert knots.tolist() == sorted(X.tolist())
    assert values == pytest.approx(STATSMODELS[fraction, iterations], abs=2e-8)


def test_lowess_is_statsmodels_where_x_repeats() -> None:
    knots, values = lowess(X_TIED, Y_TIED, fraction=0.5, iterations=2)
    assert knots.tolist() == [1, 2, 3, 5, 8, 9, 12, 15, 20]
    assert values == pytest.approx(TIED, abs=2e-8)


def test_a_line_is_reproduced_whatever_the_order() -> None:
    x = np.array([5.0, 1, 9, 3, 7, 2])
    knots, values = lowess(x, 2 * x + 1, fraction=1.0)
    assert values == pytest.approx(2 * knots + 1)


def test_many_points_are_fitted_at_400_knots() -> None:
    rng = np.random.default_rng(0)
    x = rng.gamma(2, 100, 3000)
    knots, values = lowess(x, np.log1p(x), fraction=0.2, iterations=1)
    assert len(knots) <= 400
    assert (knots[0], knots[-1]) == (x.min(), x.max())
    inside = np.quantile(x, [0.1, 0.5, 0.9])
    assert np.interp(inside, knots, values) == pytest.approx(np.log1p(inside), abs=0.05)


def test_what_lowess_cannot_use() -> None:
    with pytest.raises(BadInput, match="3 points or more"):
        lowess(X[:2], Y[:2])
    with pytest.raises(BadInput, match="fraction is 0"):
        lowess(X, Y, fraction=0)
    with pytest.raises(BadInput, match=r"leaves 1 neighbours of 24"):
        lowess(X, Y, fraction=0.05)
    with pytest.raises(BadInput, match="y holds 1 values that are NaN"):
        lowess(X, np.r_[np.nan, Y[1:]])


# Calibration


def biased_pairs(count: int, seed: int, taste: float) -> ScoredPairs:
    """Scores are quality plus a length bias; ``taste`` is how much people themselves like 100 characters."""
    rng, rows, scores = np.random.default_rng(seed), [], []
    for i in range(count):
        length, quality = rng.integers(10, 300, 2), rng.normal(size=2)
        worth = quality + taste * length / 100
        a_wins = rng.random() < 1 / (1 + np.exp(2 * (worth[1] - worth[0])))
        texts = [f"{side}{i} ".ljust(n, "x") for side, n in zip("ab", length, strict=True)]
        rows.append(compared(f"p{i}", *texts, "a" if a_wins else "b"))
        scores.append(quality + 0.02 * length)
    return ScoredPairs(rows, np.array(scores))


def curve_of(pairs: ScoredPairs) -> LengthCurve:
    texts = [r.text for row in pairs.comparisons for r in (row.pair.a, row.pair.b)]
    return fit_length_curve(texts, pairs.score_N2.reshape(-1))


def test_where_people_do_not_care_for_length_calibration_gains() -> None:
    found = cost(biased_pairs(400, 2, 0.0), curve_of(biased_pairs(400, 1, 0.0)), samples=300)
    assert found["before"]["partial"] > 0.7
    assert abs(found["after"]["partial"]) < 0.15
    assert found["correlation_left"] < 0.25
    assert found["change"]["interval"][0] > 0.05
    assert found["after"]["accuracy"] - found["before"]["accuracy"] == pytest.approx(
        found["change"]["figure"]
    )
    json.dumps(found, allow_nan=False)


def test_where_people_do_like_length_calibration_costs() -> None:
    found = cost(biased_pairs(400, 2, 2.0), curve_of(biased_pairs(400, 1, 2.0)), samples=300)
    assert found["change"]["interval"][1] < 0


def test_the_mean_score_stays_and_the_trend_goes() -> None:
    pairs = biased_pairs(300, 3, 0.0)
    after = calibrated(pairs, curve_of(pairs))
    assert after.score_N2.mean() == pytest.approx(pairs.score_N2.mean())
    lengths = [len(r.text) for row in pairs.comparisons for r in (row.pair.a, row.pair.b)]
    assert abs(np.corrcoef(lengths, after.score_N2.reshape(-1))[0, 1]) < 0.05


def test_the_scorer_takes_the_curve_off() -> None:
    curve = LengthCurve((10.0, 20.0), (-1.0, 3.0), 50, 0.5, 3)
    scorer = LengthCalibratedScorer(FunctionScorer(lambda p, r: [5.0] * len(r)), curve)
    # 15 characters lie half-way; beyond the ends the nearest counts
    texts = ["x" * n for n in (10, 15, 20, 500, 0)]
    assert scorer.score([Prompt.from_text("p")] * 5, texts) == [6.0, 4.0, 2.0, 2.0, 6.0]


def test_a_curve_survives_its_file(tmp_path) -> None:
    curve = curve_of(biased_pairs(40, 0, 0.0))
    path = curve.save(tmp_path)
    assert path.name == "length_curve.json"
    assert LengthCurve.load(path) == curve
    tokens = replace(curve, unit="tokens")
    assert LengthCurve.from_json(tokens.to_json()) == tokens
    with pytest.raises(BadInput, match="is of tokens, and texts have characters"):
        LengthCalibratedScorer(FunctionScorer(lambda p, r: [0.0]), tokens)
    for damage in (
        {"format": 2},
        {"unit": "words"},
        {"bias_K": [1.0]},
        {"length_K": [2, 1]},
        {"answers": None},
    ):
        with pytest.raises(BadInput, match="no length curve of accord"):
            LengthCurve.from_json(curve.to_json() | damage)
    path.write_text("{")
    with pytest.raises(BadInput, match="cannot be read as a length curve"):
        LengthCurve.load(path)


def test_what_calibration_cannot_use() -> None:
    with pytest.raises(BadInput, match="needs 20 answers or more"):
        fit_length_curve(["x"] * 5, [1.0] * 5)
    with pytest.raises(BadInput, match="all answers have 3 characters"):
        fit_length_curve(["abc"] * 30, np.arange(30.0))
    tied = ScoredPairs([compared("p", "x", "y", "tie")], np.zeros((1, 2)))
    with pytest.raises(BadInput, match="no accuracy to lose"):
        cost(tied, LengthCurve((1.0,), (0.0,), 20, 0.5, 3))
