"""The model of annotators: against quadrature by scipy, by hand, and with planted annotators over seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from accord.annotators import Annotators, fit_annotators, fit_annotators_given_scores, fit_labels
from accord.annotators_labels import Labels, labels_of
from accord.annotators_posterior import Marginal
from accord.annotators_scores import fit_annotators_with_features, response_scores
from accord.records import BadInput, Comparison, Pair, Prompt, Response, Side, Verdict

BETA = np.array([-1.4, 0.0, 0.4, 0.7, 1.0, 1.4, 1.9, 2.4, 3.1, 4.2])  # inverted, clicker, dull to sharp
SIDE = np.array([0.0, 0.5, -0.5, 0.0, 0.0, 0.8, 0.0, 0.0, -0.3, 0.0])
NAMES = tuple(f"p{j}" for j in range(10))


def said(
    verdict: Verdict, who: str = "p0", prompt: str = "q", a: str = "x", b: str = "y", left: Side = "a"
) -> Comparison:
    return Comparison(Pair(Prompt.from_text(prompt), Response(a), Response(b), left), verdict, who)


def crowd(seed: int, overlap: int = 5, labels_each: int = 200) -> Labels:
    """Ten annotators, each with exactly ``labels_each`` labels; every pair has ``overlap`` of them."""
    rng = np.random.default_rng([seed, overlap])
    pairs = 10 * labels_each // overlap
    who_N = np.concatenate([rng.permutation(10) for _ in range(labels_each)])  # overlap divides 10
    pair_N = np.repeat(np.arange(pairs), overlap)
    left_N = np.where(rng.random(len(pair_N)) < 0.5, 1.0, -1.0)
    logit_N = BETA[who_N] * rng.normal(size=pairs)[pair_N] + SIDE[who_N] * left_N
    verdict_N = (rng.random(len(pair_N)) < special.expit(logit_N)).astype(float)
    return Labels(pair_N, who_N, verdict_N, left_N, NAMES)


# --- the posterior ---------------------------------------------------------------------------------------

SMALL = Labels(
    np.array([0, 0, 1, 1, 1, 2]),
    np.array([0, 1, 0, 1, 1, 1]),
    np.array([1.0, 0.0, 1.0, 1.0, 0.5, 0.0]),
    np.array([1.0, -1.0, -1.0, 1.0, 1.0, 0.0]),
    ("ann", "bob"),
)
POINT = np.array([1.3, -0.6, 0.4, -0.2])  # β of ann and bob, then their sides


def minus_log_posterior(x: Any) -> float:
    """The same by adaptive quadrature, straight from the model's one line."""
    total = 0.5 * ((x[:2] - 1) ** 2).sum() / 4 + 0.5 * (x[2:] ** 2).sum()
    for pair in range(3):
        rows = np.flatnonzero(SMALL.pair_N == pair)

        def density(d: float, rows: Any = rows) -> float:
            p = 1.0
            for n in rows:
                j = SMALL.annotator_N[n]
                win = special.expit(x[j] * d + x[2 + j] * SMALL.left_N[n])
                p *= win ** SMALL.verdict_N[n] * (1 - win) ** (1 - SMALL.verdict_N[n])
            return float(p * stats.norm.pdf(d))

        total -= math.log(integrate.quad(density, -12, 12, epsabs=1e-13)[0])
    return float(total)


def test_the_posterior_as_scipy_integrates_it() -> None:
    loss, gradient = Marginal(SMALL, 49).loss_and_gradient(POINT)
    assert loss == pytest.approx(minus_log_posterior(POINT), abs=1e-9)
    np.testing.assert_allclose(gradient, optimize.approx_fprime(POINT, minus_log_posterior, 1e-6), atol=1e-5)


def test_the_information_is_the_second_derivative() -> None:
    marginal = Marginal(SMALL, 49)
    step = 1e-5
    numeric = [
        (marginal.loss_and_gradient(POINT + e)[1] - marginal.loss_and_gradient(POINT - e)[1]) / (2 * step)
        for e in step * np.eye(4)
    ]
    np.testing.assert_allclose(marginal.information(POINT), numeric, atol=1e-7)


def test_the_nodes_are_enough_for_sharp_annotators() -> None:
    labels = crowd(0)
    x = np.concatenate([np.linspace(-6, 6, 10), SIDE])
    few, many = Marginal(labels, 49).loss_and_gradient(x), Marginal(labels, 401).loss_and_gradient(x)
    assert few[0] == pytest.approx(many[0], rel=2e-6)
    np.testing.assert_allclose(few[1], many[1], atol=0.01)  # beside a standard error of 1 at β = 4


def test_one_label_a_pair_tells_nothing_of_sharpness() -> None:
    """By symmetry every win has probability one half whatever β is: the prior N(1, 2²) is what is left."""
    rows = [said("a" if n % 2 else "b", prompt=f"q{n}", left="a" if n % 3 else "b") for n in range(40)]
    fitted = fit_annotators(rows)
    low, high = fitted.interval("p0")
    assert low < 0 < high
    assert fitted.reading("p0") == "cannot be told from chance"


# --- planted annotators ----------------------------------------------------------------------------------


def test_planted_annotators_are_recovered_in_every_seed() -> None:
    """10 annotators × 200 labels, 5 of them a pair; benchmarks/annotators.py has more designs and seeds."""
    ranks, inside, sides, clicker = [], [], [], []
    for seed in range(6):
        fitted = fit_labels(crowd(seed))
        ranks.append(stats.spearmanr(fitted.inverse_temperature_J, BETA).statistic)
        inside.append(np.abs(fitted.inverse_temperature_J - BETA) < 1.96 * fitted.error_J)
        sides.append(np.abs(fitted.side_J - SIDE) < 1.96 * fitted.side_error_J)
        assert fitted.reading("p0") == "against the others"
        clicker.append(fitted.reading("p1"))
        assert {fitted.reading(name) for name in NAMES[4:]} == {"agrees"}  # from β = 1 up
        assert fitted.side_interval("p5")[0] > 0  # 0.8 planted
    assert min(ranks) >= 0.9
    # A clicker's 95% interval misses 0 in one seed of twenty
    assert clicker.count("cannot be told from chance") >= 5
    # 60 intervals of 95% each: fewer than 50 that hold has a probability below 1 in 1,000
    assert np.sum(inside) >= 50
    assert np.sum(sides) >= 50


def test_labels_through_comparisons_and_through_arrays_are_one() -> None:
    labels = crowd(1, labels_each=40)
    rows = []
    for pair, j, verdict, left in zip(*labels[:4], strict=True):
        turned = (pair + j) % 2 == 0  # which answer the row calls a does not matter
        a_won, a_left = bool(verdict) != turned, (left > 0) != turned
        sides = ("y", "x") if turned else ("x", "y")
        rows.append(said("a" if a_won else "b", NAMES[j], f"q{pair}", *sides, left="a" if a_left else "b"))
    fitted, direct = fit_annotators(rows), fit_labels(labels)
    order = [fitted.names.index(name) for name in NAMES]
    np.testing.assert_allclose(fitted.inverse_temperature_J[order], direct.inverse_temperature_J, atol=1e-4)
    np.testing.assert_allclose(fitted.side_J[order], direct.side_J, atol=1e-4)


def test_files_that_name_a_winner_say_nothing_of_sides() -> None:
    """There the winner is always a, and a is always "left": that is no bias."""
    rows = [said("a", "ann", f"q{n}", f"{n % 2}x", f"{(n + 1) % 2}y") for n in range(30)]
    rows += [said("a", "bob", f"q{n}", f"{n % 2}x", f"{(n + 1) % 2}y") for n in range(30)]
    labels = labels_of(rows)
    assert set(labels.left_N) == {0.0}
    assert set(labels.verdict_N) == {0.0, 1.0}
    fitted = fit_annotators(rows)
    np.testing.assert_array_equal(fitted.side_J, 0)
    assert np.isinf(fitted.side_error_J).all()
    assert fitted.reading("ann") == "agrees"  # bob says the same 30 times


def test_what_is_no_label() -> None:
    rows = [said("skip"), said("both_bad"), said("a", "")]
    with pytest.raises(BadInput, match="nobody to compare"):
        fit_annotators(rows)
    labels = labels_of([*rows, said("tie"), said("b", "p1", a="y", b="x", left="b")])
    assert labels.names == ("p0", "p1")
    assert labels.verdict_N.tolist() == [0.5, 1.0]  # x wins in the second, though it is b there
    assert labels.pair_N.tolist() == [0, 0]


# --- what a reward model takes ---------------------------------------------------------------------------

FITTED = Annotators(
    ("sharp", "dull", "odd"),
    np.array([10, 10, 20]),
    np.array([3.0, 1.0, -0.5]),
    np.array([0.1, 0.6, 0.1]),
    np.array([0.5, 0.0, 0.0]),
    np.full(3, 0.2),
    0.0,
)


def test_terms_of_each_label_by_hand() -> None:
    # mean over labels: (10 × 3 + 10 × 1 − 20 × 0.5) / 40 = 0.75
    rows = [
        said("a", "sharp"),
        said("b", "sharp"),  # a was on the left, so b won against the lean
        said("b", "sharp", left="b"),
        said("a", "dull"),
        said("a", "odd"),
        said("a", "somebody"),
    ]
    terms = FITTED.terms(rows)
    np.testing.assert_allclose(terms.scale_N, [4, 4, 4, 4 / 3, -2 / 3, 1])
    np.testing.assert_allclose(terms.offset_N, [0.5, -0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(terms.weight_N, [4, 4, 4, 4 / 3, 0, 1])
    assert [FITTED.reading(name) for name in FITTED.names] == [
        "agrees",
        "cannot be told from chance",
        "against the others",
    ]
    with pytest.raises(BadInput, match="comparison 1 is tie"):
        FITTED.terms([said("tie")])
    lost = Annotators(("x",), np.array([1]), np.array([-1.0]), *[np.ones(1)] * 3, 0.0)
    with pytest.raises(BadInput, match="they agree with nothing"):
        lost.terms([said("a", "x")])


def test_scores_of_answers_by_hand() -> None:
    """One label, β = 3: scores ±s with 3 (1 − σ(6 s)) = 2 s, the maximum of log σ(3 · 2s) − 2 s²."""
    score = response_scores([said("a", "sharp", left="b")], FITTED_FAIR)
    s = score[Prompt.from_text("q").key, "x"]
    assert s == pytest.approx(-score[Prompt.from_text("q").key, "y"])
    assert 3 * (1 - special.expit(6 * s)) == pytest.approx(2 * s, abs=1e-6)
    # an inverted annotator's win counts against the winner
    upside_down = response_scores([said("a", "odd")], FITTED_FAIR)
    assert upside_down[Prompt.from_text("q").key, "x"] < 0
    with pytest.raises(BadInput, match="nothing to score"):
        response_scores([said("a", "somebody")], FITTED)


FITTED_FAIR = Annotators(
    FITTED.names,
    FITTED.labels_J,
    FITTED.inverse_temperature_J,
    FITTED.error_J,
    np.zeros(3),
    FITTED.side_error_J,
    0.0,
)


# --- scores from elsewhere -------------------------------------------------------------------------------


def one_label_a_pair(seed: int, features: int = 6) -> tuple[Any, Any, list[str], Any, Any, Any]:
    rng = np.random.default_rng(seed)
    x_NF = rng.normal(size=(2000, features))
    w_F = rng.normal(size=features)
    w_F /= np.linalg.norm(w_F)
    who_N = np.repeat(np.arange(10), 200)
    left_N = np.where(rng.random(2000) < 0.5, 1.0, -1.0)
    logit_N = BETA[who_N] * (x_NF @ w_F) + SIDE[who_N] * left_N
    verdict_N = (rng.random(2000) < special.expit(logit_N)).astype(float)
    return x_NF, verdict_N, [NAMES[j] for j in who_N], left_N, x_NF @ w_F, w_F


def test_given_scores_each_annotator_is_a_logistic_regression() -> None:
    """Against a general optimiser on the same posterior, and the unit of the scores does not matter."""
    _, verdict_N, who_N, left_N, difference_N, _ = one_label_a_pair(1)
    fitted = fit_annotators_given_scores(100 * difference_N, verdict_N, who_N, left_N)
    unit = np.sqrt((difference_N**2).mean())
    for j, name in enumerate(fitted.names):
        mine = np.array(who_N) == name

        def loss(x: Any, mine: Any = mine) -> float:
            logit_N = x[0] * difference_N[mine] / unit + x[1] * left_N[mine]
            prior = (x[0] - 1) ** 2 / 8 + x[1] ** 2 / 2
            return float((np.logaddexp(0, logit_N) - verdict_N[mine] * logit_N).sum() + prior)

        found = optimize.minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-7}).x
        np.testing.assert_allclose([fitted.inverse_temperature_J[j], fitted.side_J[j]], found, atol=1e-4)
        hessian = optimize.approx_fprime(found, lambda x: optimize.approx_fprime(x, loss, 1e-4), 1e-4)
        assert fitted.error_J[j] == pytest.approx(math.sqrt(np.linalg.inv(hessian)[0, 0]), rel=0.01)
    assert fitted.reading("p0") == "against the others"
    assert fitted.reading("p1") == "cannot be told from chance"


def test_features_and_annotators_in_turns_need_one_label_a_pair() -> None:
    for seed in range(4):
        x_NF, verdict_N, who_N, left_N, _, w_F = one_label_a_pair(seed)
        fitted, found_F = fit_annotators_with_features(x_NF, verdict_N, who_N, left_N)
        assert stats.spearmanr(fitted.inverse_temperature_J, BETA).statistic >= 0.9
        assert found_F @ w_F / np.linalg.norm(found_F) > 0.97  # the direction of the planted weights
        assert fitted.reading("p0") == "against the others"
        np.testing.assert_allclose(np.sqrt(((x_NF @ found_F) ** 2).mean()), 1.0)


def test_scores_that_cannot_be_used() -> None:
    good: Any = ([1.0], [1.0], ["x"], [1.0])
    for place, bad, reason in (
        (0, [math.nan], "NaN"),
        (0, [0.0], "all differences of scores are 0"),
        (0, [1.0, 2.0], "2 differences, 1 verdicts"),
        (1, [0.7], "verdicts must be 0, 1 or one half"),
        (3, [2.0], "verdicts must be 0, 1 or one half"),
    ):
        given = list(good)
        given[place] = bad
        with pytest.raises(BadInput, match=reason):
            fit_annotators_given_scores(*given)
    with pytest.raises(BadInput, match="shape"):
        fit_annotators_with_features([1.0], *good[1:])
    with pytest.raises(BadInput, match="ridge is -1"):
        fit_annotators_with_features([[1.0]], *good[1:], ridge=-1)
