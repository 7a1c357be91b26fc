"""The learning curve: the fit against SciPy, the answer by hand, and honesty where there is no answer."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import optimize

from accord.diagnostics.learning_curve import Laws, Measurement, _round, fit, learning_curve
from accord.records import BadInput
from accord.report.learning_curve import learning_curve_chart

SIZES = np.array([100.0, 200, 400, 800, 1600])


def law(asymptote: float, drop: float, exponent: float) -> Laws:
    return Laws(np.array([asymptote]), np.array([drop]), np.array([exponent]))


def measured(
    accuracy, tested: int = 400, runs: int = 3, noise: float = 1.0, seed: int = 0
) -> list[Measurement]:
    rng, points = np.random.default_rng(seed), []
    for n in SIZES:
        for _ in range(runs):
            p = accuracy(n)
            value = p + noise * rng.normal() * np.sqrt(p * (1 - p) / tested)
            points.append(Measurement(int(n), float(np.clip(value, 0, 1)), tested))
    return points


def test_more_labels_by_hand() -> None:
    # 0.8 − n^−½: .75 at 400; .76 needs n^−½ = .04, n = 625
    found = law(0.8, 1.0, 0.5)
    assert found.at(400)[0] == pytest.approx(0.75)
    assert found.more(400, 0.01)[0] == pytest.approx(225)
    # .80 is never reached, nor by a flat law
    assert found.more(400, 0.05)[0] == math.inf
    assert law(0.8, 0.0, 0.5).more(400, 0.01)[0] == math.inf
    assert math.isfinite(law(0.8, 1.0, 0.05).more(400, 0.01)[0])


def test_the_fit_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        accuracy = 0.78 - 1.5 * SIZES**-0.45 + rng.normal(0, 0.004, 5)
        weight = rng.uniform(0.5, 2, 5)
        found = fit(SIZES, accuracy[None], weight)

        def gap(v, accuracy=accuracy, weight=weight):
            return np.sqrt(weight) * (accuracy - v[0] + v[1] * SIZES ** -v[2])

        best = optimize.least_squares(gap, [0.75, 1.0, 0.4], bounds=([0, 0, 0.05], [1, np.inf, 2]))
        ours = (gap((found.asymptote_S[0], found.drop_S[0], found.exponent_S[0])) ** 2).sum()
        assert ours <= 2 * best.cost * 1.02 + 1e-9  # a grid in steps of 2% misses the best by next to nothing
        assert found.at(800.0)[0] == pytest.approx(best.x[0] - best.x[1] * 800 ** -best.x[2], abs=5e-4)


def test_bounds_hold() -> None:
    falling = fit(SIZES, np.array([[0.8, 0.75, 0.7, 0.65, 0.6]]), np.ones(5))
    assert falling.drop_S[0] == 0
    assert falling.asymptote_S[0] == pytest.approx(0.7)  # the mean: a flat law is the best that does not fall
    steep = fit(SIZES, np.array([[0.5, 0.6, 0.7, 0.8, 0.9]]), np.ones(5))
    assert steep.asymptote_S[0] == 1
    assert steep.drop_S[0] > 0


def test_a_planted_law_is_recovered_with_its_answer() -> None:
    finding = learning_curve(measured(lambda n: 0.85 - 1.6 * n**-0.4, tested=20_000))
    # .7661 at 1600; .7761 needs n^−.4 = .04618, n = 2178
    truth = (1.6 / (1.6 * 1600**-0.4 - 0.01)) ** 2.5 - 1600
    assert finding.figure == pytest.approx(truth, rel=0.25)
    low, high = finding.interval
    assert low < truth < high
    assert finding.verdict == "good"
    assert "takes about" in finding.sentence
    assert finding.evidence["law"]["asymptote"] == pytest.approx(0.85, abs=0.03)
    assert finding.evidence["dispersion"] == pytest.approx(1, abs=0.8)
    json.dumps(finding.to_json(), allow_nan=False)


def test_a_curve_that_has_levelled_out_gets_no_number() -> None:
    finding = learning_curve(measured(lambda n: 0.7, tested=5000))
    assert finding.figure is None
    assert finding.interval is None
    assert finding.verdict == "unknown"
    assert "cannot be said" in finding.sentence
    json.dumps(finding.to_json(), allow_nan=False)


def test_an_interval_without_an_upper_end_gets_no_number() -> None:
    """Rising as far as one can see, but 300 test pairs cannot tell rising from level."""
    finding = learning_curve(measured(lambda n: 0.7 - 1.2 * n**-0.5, tested=300))
    assert finding.evidence["more"]["high"] is None
    assert finding.figure is None
    assert "cannot be said: it takes at least" in finding.sentence
    assert finding.evidence["more"]["low"] > 0


def test_scatter_beyond_the_binomial_widens_the_interval() -> None:
    def width(noise: float) -> float:
        low, high = learning_curve(
            measured(lambda n: 0.8 - n**-0.3, 5000, noise=noise), samples=300
        ).evidence["law"]["asymptote_interval"]
        return high - low

    assert width(6.0) > 1.5 * width(1.0)


def test_intervals_of_the_curve_cover_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(40):
        points = measured(lambda n: 0.75 - 1.5 * n**-0.45, seed=seed)
        curve = learning_curve(points, samples=200, seed=seed).evidence["curve"]
        end = curve[-1]
        inside += end["low"] <= 0.75 - 1.5 * end["pairs"] ** -0.45 <= end["high"]
    assert 33 <= inside <= 40  # 38 expected, standard deviation 1.4


def test_rounding_is_no_pretence() -> None:
    assert [_round(n) for n in (0.2, 7.4, 123, 1872, 98_765, 3.2e12)] == [
        "1",
        "7",
        "120",
        "1,900",
        "99,000",
        "3e+12",
    ]


def test_the_chart_shows_runs_and_law() -> None:
    finding = learning_curve(measured(lambda n: 0.8 - n**-0.3), samples=100)
    chart = learning_curve_chart(finding.evidence, floor=0.6)
    assert str(chart.svg).startswith("<svg")
    assert ("mean of the runs (bars: lowest, highest)", "100") in {row[:2] for row in chart.rows}
    assert 'class="level"' in str(chart.svg)


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(BadInput, match="got no measurement"):
        learning_curve([])
    with pytest.raises(BadInput, match="needs 4 sizes or more, got 2"):
        learning_curve([Measurement(n, 0.6, 100) for n in (100, 200, 200)])
    with pytest.raises(BadInput, match=r"a share in \[0, 1\]"):
        learning_curve([Measurement(n, 1.2, 100) for n in (1, 2, 3, 4)])
    with pytest.raises(BadInput, match="NaN"):
        learning_curve([Measurement(n, math.nan, 100) for n in (1, 2, 3, 4)])
