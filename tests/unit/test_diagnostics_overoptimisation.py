"""Over-optimisation: exact curves of Gao et al., false alarms counted on flat and on rising gold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from accord.diagnostics.overoptimisation import fit_form, fitted_curves, overoptimisation
from accord.records import BadInput

DISTANCE = np.linspace(0, 4, 9)


def test_best_of_n_form_is_recovered() -> None:
    # d(1 - .25 d) + .3: peak α/2β = 2, height 1.3
    fit = fit_form(DISTANCE, 0.3 + DISTANCE * (1 - 0.25 * DISTANCE), "best_of_n")
    assert (fit.start, fit.alpha, fit.beta, fit.peak) == pytest.approx((0.3, 1, 0.25, 2))
    assert fit.r_squared == pytest.approx(1)


def test_rl_form_is_recovered() -> None:
    # d(1 - .6 ln d): peak exp(1/.6 - 1) = 1.9477
    log = np.log(np.where(DISTANCE > 0, DISTANCE, 1))
    fit = fit_form(DISTANCE, DISTANCE * (1 - 0.6 * log), "rl")
    assert (fit.start, fit.alpha, fit.beta) == pytest.approx((0, 1, 0.6), abs=1e-12)
    assert fit.peak == pytest.approx(1.947_734, abs=1e-5)
    peak = np.argmax([d * (1 - 0.6 * math.log(d)) for d in np.linspace(0.001, 4, 100_000)])
    assert fit.peak == pytest.approx(np.linspace(0.001, 4, 100_000)[peak], abs=1e-3)


def test_monotone_forms_are_recovered_and_have_no_peak() -> None:
    fit = fit_form(DISTANCE, 0.1 + 2 * (1 - np.exp(-DISTANCE / 1.5)), "saturating")
    assert (fit.alpha, fit.beta) == pytest.approx((2, 1.5), rel=0.05)
    assert fit.peak is None
    assert fit_form(DISTANCE, 1 + 2 * DISTANCE, "line").alpha == pytest.approx(2)


def test_aicc_by_hand() -> None:
    # n 4 would leave nothing; a line on 5 points with residuals ±: k = 3, n-k-1 = 1, correction 24
    gold = np.array([0.0, 2.0, 1.0, 4.0, 3.0])
    fit = fit_form(np.arange(5.0), gold, "line")
    residual = 10 - 8**2 / 10  # total sum of squares 10, Sxy 8, Sxx 10
    assert fit.residual == pytest.approx(residual)
    assert fit.aicc == pytest.approx(5 * math.log(residual / 5) + 6 + 24)
    assert fit_form(np.arange(4.0), gold[:4], "line").aicc is None


def test_a_peak_is_reported_where_there_is_one() -> None:
    rng = np.random.default_rng(0)
    gold = DISTANCE * (1 - 0.25 * DISTANCE)
    draws_SP = gold + rng.normal(0, 0.03, size=(500, 9))
    curves = fitted_curves(DISTANCE, gold + rng.normal(0, 0.02, size=9), draws_SP)
    assert curves["peak"] == pytest.approx(2, abs=0.15)
    assert curves["peak_interval"][0] < 2 < curves["peak_interval"][1]


def test_a_high_r_squared_is_no_evidence_of_a_peak() -> None:
    """Gold levels off but never falls: a peaked form fits with R² above .9, and no peak is reported."""
    rng = np.random.default_rng(1)
    reported, good_fits, inner = 0, 0, 0
    for _ in range(100):
        gold = 1 - np.exp(-DISTANCE) + rng.normal(0, 0.02, size=9)
        curves = fitted_curves(DISTANCE, gold, gold + rng.normal(0, 0.02, size=(200, 9)))
        reported += curves["peak"] is not None
        inner += 0 < (curves["fits"]["best_of_n"]["peak"] or 0) < 4
        good_fits += curves["fits"]["best_of_n"]["r_squared"] > 0.9
    assert good_fits > 90
    assert inner > 90  # and its peak lies inside the observed range
    assert reported <= 5


def test_few_points_are_not_fitted() -> None:
    curves = fitted_curves([0, 1, 2, 3], [0, 1, 1, 0])
    assert curves["peak"] is None
    assert "4 points are too few" in curves["no_peak_because"]


def simulate(
    rng: np.random.Generator, proxy_P: list[float], gold_P: list[float], prompts: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts differ in level (shared by all points) and each sample has its own noise."""
    shape = (len(proxy_P), prompts)
    proxy = np.array(proxy_P)[:, None] + rng.normal(size=prompts) + rng.normal(0, 0.5, size=shape)
    gold = np.array(gold_P)[:, None] + rng.normal(size=prompts) + rng.normal(0, 0.5, size=shape)
    return proxy, gold


KL = [0.0, 0.5, 2.0, 5.0, 9.0, 14.0, 20.0]
UP = [0.0, 0.5, 1.0, 1.4, 1.7, 1.9, 2.0]


@pytest.mark.parametrize(
    ("proxy_P", "gold_P", "verdict", "reason"),
    [
        (UP, UP, "good", None),
        (UP, [0.0, 0.5, 1.0, 1.2, 1.0, 0.8, 0.6], "bad", "gold_fell"),
        (UP, [0.0] * 7, "bad", "gold_not_up"),
        (UP, [0.0, 0.2, 0.1, -0.1, -0.3, -0.5, -0.8], "bad", "gold_below_start"),
        ([0.0] * 7, [0.0] * 7, "warn", None),
    ],
)
def test_verdicts(proxy_P: list[float], gold_P: list[float], verdict: str, reason: str | None) -> None:
    proxy, gold = simulate(np.random.default_rng(3), proxy_P, gold_P)
    finding = overoptimisation(KL, proxy, gold, gold_name="positivity")
    assert (finding.verdict, finding.evidence["reason"]) == (verdict, reason)
    assert finding.figure == pytest.approx(gold[-1].mean() - gold[0].mean())
    assert "positivity" in finding.sentence
    json.dumps(finding.to_json(), allow_nan=False)


def test_the_luck_of_the_best_point_is_not_called_a_fall() -> None:
    """Gold jumps up once and then stays: picking its best of seven points must not look like a fall."""
    rng = np.random.default_rng(4)
    flat_after_jump = [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    verdicts, naive = [], 0
    for seed in range(150):
        proxy, gold = simulate(rng, UP, flat_after_jump, prompts=40)
        finding = overoptimisation(KL, proxy, gold, samples=300, seed=seed)
        verdicts.append(finding.verdict)
        gap_G = gold[gold.mean(axis=1).argmax()] - gold[-1]
        naive += gap_G.mean() > 1.96 * gap_G.std(ddof=1) / math.sqrt(40)
    assert np.mean([verdict == "bad" for verdict in verdicts]) < 0.06
    assert naive / 150 > 0.07  # what testing the best point alone would cry


def test_without_gold_nothing_is_claimed() -> None:
    proxy, _ = simulate(np.random.default_rng(5), UP, UP)
    finding = overoptimisation(KL, proxy, None)
    assert (finding.verdict, finding.figure) == ("unknown", None)
    assert "no gold" in finding.sentence
    json.dumps(finding.to_json(), allow_nan=False)


def test_one_prompt_and_a_negative_sampled_kl() -> None:
    finding = overoptimisation([-0.01, 1.0], [[0.0], [1.0]], [[0.0], [1.0]])
    assert finding.verdict == "unknown"
    assert finding.evidence["distance"] == [0, 1]
    json.dumps(finding.to_json(), allow_nan=False)


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(BadInput, match=r"proxy has shape \(2, 1\) for 3 points"):
        overoptimisation([0, 1, 2], [[0.0], [1.0]], None)
    with pytest.raises(BadInput, match="must be the same samples"):
        overoptimisation([0, 1], [[0.0], [1.0]], [[0.0, 1.0], [1.0, 2.0]])
    with pytest.raises(BadInput, match="3 or more points"):
        fit_form([0, 1], [0, 1], "line")
