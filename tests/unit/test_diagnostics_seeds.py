"""Over seeds: scipy's trimmed mean, a plain-loop bootstrap, prediction bands against scipy's t."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from accord.diagnostics.baseline import Band, against_seeds, excess, seed_band
from accord.diagnostics.seeds import interquartile_mean, over_seeds, seed_difference, seeds_finding
from accord.records import BadInput, Finding


def test_interquartile_mean_by_hand() -> None:
    # 8 values: two cut at each end
    assert interquartile_mean(np.array([[1.0, 2, 3, 4, 5, 6, 7, 100]]))[0] == pytest.approx(
        (3 + 4 + 5 + 6) / 4
    )
    # 5 values: int(1.25) = 1 cut at each end
    assert interquartile_mean(np.array([[1.0, 2, 3, 4, 100]]))[0] == 3
    assert interquartile_mean(np.array([[1.0, 2, 9]]))[0] == 4


def test_the_interval_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    strata = {"a": rng.normal(0, 1, 6).tolist(), "b": rng.normal(2, 1, 6).tolist()}
    found = over_seeds(strata, samples=8000)
    draws = []
    for _ in range(8000):
        drawn = np.concatenate([rng.choice(values, 6) for values in strata.values()])
        draws.append(stats.trim_mean(drawn, 0.25))
    half = stats.t.ppf(0.975, 10) * math.sqrt(6 / 5) * np.std(draws, ddof=1)
    assert found.low == pytest.approx(found.figure - half, abs=0.02)
    assert found.high == pytest.approx(found.figure + half, abs=0.02)
    assert found.figure == pytest.approx(stats.trim_mean(np.concatenate(list(strata.values())), 0.25))


def test_strata_keep_their_sizes() -> None:
    # values are the same within a stratum: whatever is drawn, the mean of the middle is the same
    found = over_seeds({"a": [0.0] * 4, "b": [10.0] * 4})
    assert (found.figure, found.low, found.high) == (5, 5, 5)


def test_differences_between_two_sets_of_seeds() -> None:
    found = seed_difference({"a": [1.0, 1.0, 1.0]}, {"a": [3.0, 3.0, 3.0]})
    assert (found.figure, found.low, found.high) == (2, 2, 2)
    wide = seed_difference({"a": [0, 1, 2, 3, 4, 5, 6, 7]}, {"a": [0.1, 1, 2, 3, 4, 5, 6, 6.9]})
    assert wide.figure == 0
    # the middle four of eight numbers 1 apart: each mean has an error of about 1, the difference of about 1.4
    assert wide.low == pytest.approx(-wide.high, abs=0.4)
    assert 2.0 < wide.high < 5.0


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.6, 0.62, 0.64, 0.66], "good"),
        ([0.4, 0.42, 0.44, 0.46], "bad"),
        ([0.3, 0.45, 0.55, 0.7], "warn"),
        ([0.6, 0.7], "unknown"),
    ],
)
def test_verdicts(values: list[float], verdict: str) -> None:
    found = seeds_finding({"demo": values}, what="the win rate", unit="share", null=0.5)
    assert found.verdict == verdict
    assert (found.interval is None) == (verdict == "unknown")
    assert found.evidence["values"] == {"demo": values}


def test_band_is_the_prediction_interval() -> None:
    # mean 2, s 1, n 3: 2 ± t(2) √(4/3) = 2 ± 4.302653 · 1.154701
    assert seed_band([1, 2, 3]) == pytest.approx((2 - 4.968275, 2 + 4.968275), abs=1e-5)
    assert excess(4, [1, 2, 3]) == pytest.approx(2 / 1.154701, abs=1e-5)
    assert (excess(5, [5, 5, 5]), excess(6, [5, 5, 5]), excess(4, [5, 5, 5])) == (0, math.inf, -math.inf)
    with pytest.raises(BadInput, match="the baseline has 2 runs"):
        seed_band([1, 2])
    with pytest.raises(BadInput, match="no runs"):
        over_seeds({})


def test_a_finding_is_judged_anew_by_its_baseline() -> None:
    def finding(figure: float | None, verdict: str) -> Finding:
        return Finding("x", "?", figure, None, "", verdict, "It moved.", {"kept": 1})  # type: ignore[arg-type]

    inside = against_seeds(finding(2.5, "warn"), [1, 2, 3])
    assert (inside.verdict, inside.evidence["verdict_before"], inside.evidence["kept"]) == ("good", "warn", 1)
    assert "inside the 95% band of 3 baseline runs (-2.97 to 6.97)" in inside.sentence
    assert against_seeds(finding(8.0, "good"), [1, 2, 3]).verdict == "warn"
    assert against_seeds(finding(2.5, "bad"), [1, 2, 3]).verdict == "bad"
    assert against_seeds(finding(None, "unknown"), [1, 2, 3]).verdict == "unknown"
    assert isinstance(seed_band([1, 2, 3]), Band)
