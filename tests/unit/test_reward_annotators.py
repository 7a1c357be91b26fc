"""Annotators in reward training: soft labels and terms by hand, planted annotators found with the scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from accord.annotators import Annotators
from accord.preference_losses import annotator_bradley_terry, annotator_prior
from accord.records import BadInput, Comparison, Pair, Prompt, Response, Side, Verdict
from accord.reward_annotators import (
    described,
    fit_before,
    fit_to_scores,
    label_terms,
    soft_labels,
)

# inverted, clicker, dull to sharp; one leans to the left
BETA = np.array([-1.6, 0.0, 0.5, 0.8, 1.1, 1.5, 1.9, 2.4, 3.1, 4.2])
SIDE = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.2, 0.0, 0.0, 0.0, 0.0])


def said(
    verdict: Verdict, who: str, prompt: str = "q", a: str = "x", b: str = "y", left: Side = "a"
) -> Comparison:
    return Comparison(Pair(Prompt.from_text(prompt), Response(a), Response(b), left), verdict, who)


def known(beta: list[float], side: list[float]) -> Annotators:
    count, error = len(beta), np.full(len(beta), 0.1)
    names = ("ann", "bob", "cy")[:count]
    labels = np.full(count, 10, dtype=np.intp)
    return Annotators(names, labels, np.array(beta), error, np.array(side), error, -1.0)


# --- soft labels and terms -------------------------------------------------------------------------------


def predictive(mean: float, logits: list[tuple[float, float, float]]) -> float:
    """∫ σ(mean·d) p(d | labels), by scipy: each label is (slope, offset, a's win)."""

    def density(d: float) -> float:
        p = float(stats.norm.pdf(d))
        for slope, offset, won in logits:
            win = special.expit(slope * d + offset)
            p *= win**won * (1 - win) ** (1 - won)
        return p

    whole = integrate.quad(density, -12, 12, epsabs=1e-13)[0]
    return float(
        integrate.quad(lambda d: special.expit(mean * d) * density(d), -12, 12, epsabs=1e-13)[0] / whole
    )


def test_a_soft_label_is_what_an_average_annotator_would_say() -> None:
    both = known([2.0, 1.0], [0.0, 0.5])  # the mean over equally many labels is 1.5
    rows = [
        said("a", "ann"),
        said("b", "bob", left="b"),
        said("a", "bob", a="y", b="x"),  # the same pair the other way round: y won
        said("skip", "ann"),
        said("tie", "ann", prompt="other"),
    ]
    first, second = soft_labels(rows, both)
    assert first.rows == (0, 1, 2)
    # bob, on x against y: y won with y on the left (−½ towards x), twice
    by_hand = predictive(1.5, [(2.0, 0.0, 1.0), (1.0, -0.5, 0.0), (1.0, -0.5, 0.0)])
    assert first.a_better == pytest.approx(by_hand, abs=1e-6)
    assert second == ((4,), pytest.approx(0.5))


def test_a_clicker_moves_no_soft_label_and_an_inverted_one_the_other_way() -> None:
    three = known([3.0, 0.0, -1.0], [0.0, 0.0, 0.0])
    clicker = soft_labels([said("a", "bob")], three)[0].a_better
    inverted = soft_labels([said("a", "cy")], three)[0].a_better
    assert clicker == pytest.approx(0.5)
    assert inverted == pytest.approx(1 - soft_labels([said("b", "cy")], three)[0].a_better)
    assert inverted < 0.5


def test_terms_are_seen_from_side_a() -> None:
    both = known([3.0, 1.0], [0.0, 0.5])
    rows = [said("a", "ann"), said("b", "bob"), said("tie", "bob", left="b"), said("a", "somebody new")]
    terms = label_terms(rows, both)
    np.testing.assert_allclose(terms.scale_N, [1.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(terms.offset_N, [0.0, 0.5, -0.5, 0.0])


# --- together with the scores ----------------------------------------------------------------------------


def crowd(seed: int, features: int = 6) -> tuple[list[Comparison], np.ndarray, np.ndarray]:
    """Ten annotators with 200 labels each, one label a pair: only the texts' features connect the pairs."""
    rng = np.random.default_rng([seed, 77])
    x_NF = rng.normal(size=(2000, features))
    truth_F = rng.normal(size=features)
    d_N = x_NF @ truth_F / np.linalg.norm(truth_F)
    who_N = rng.permutation(np.repeat(np.arange(10), 200))
    left_N = np.where(rng.random(2000) < 0.5, 1.0, -1.0)
    won_N = rng.random(2000) < special.expit(BETA[who_N] * d_N + SIDE[who_N] * left_N)
    rows = [
        said("a" if won else "b", f"p{who}", prompt=f"q{n}", left="a" if left > 0 else "b")
        for n, (won, who, left) in enumerate(zip(won_N, who_N, left_N, strict=True))
    ]
    return rows, x_NF, who_N


def joint(rows: list[Comparison], x_NF: np.ndarray, who_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(difference_N, β_J): scores, β and side in one loss, by gradient."""
    x, who = torch.from_numpy(x_NF), torch.from_numpy(who_N)
    won = torch.tensor([float(row.verdict == "a") for row in rows], dtype=torch.float64)
    left = torch.tensor([1.0 if row.pair.shown_left == "a" else -1.0 for row in rows], dtype=torch.float64)
    w_F = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    beta_J = torch.ones(10, dtype=torch.float64, requires_grad=True)
    side_J = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w_F, beta_J, side_J], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        d_N = x @ w_F
        unit = d_N / d_N.detach().square().mean().sqrt().clamp(min=1e-3)
        # The scores' unit is held, as β and the scores share a free factor
        main = annotator_bradley_terry(unit, won, beta_J[who], side_J[who] * left, count=len(rows))
        total = main + annotator_prior(beta_J, side_J, count=len(rows))
        total.backward()
        return total

    with torch.no_grad():
        w_F += x.T @ (won - 0.5) / len(rows)  # the direction of the majority
    optimiser.step(loss)
    return (x @ w_F).detach().numpy(), beta_J.detach().numpy()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_annotators_are_found_together_with_the_scores(seed: int) -> None:
    rows, x_NF, who_N = crowd(seed)
    difference_N, beta_J = joint(rows, x_NF, who_N)
    assert stats.spearmanr(beta_J, BETA).statistic >= 0.9
    found = fit_to_scores(rows, difference_N)
    order = [found.names.index(f"p{j}") for j in range(10)]
    assert stats.spearmanr(found.inverse_temperature_J[order], BETA).statistic >= 0.9
    assert found.reading("p0") == "against the others"
    assert found.reading("p1") == "cannot be told from chance"
    told = described(found)
    assert any("p0 answers against the others" in warning for warning in told["warnings"])
    assert any("p1 cannot be told from a random clicker" in warning for warning in told["warnings"])
    assert any("p5 leans to the left answer" in warning for warning in told["warnings"])


# --- what cannot be fitted -------------------------------------------------------------------------------


def test_one_annotator_and_one_label_a_pair_are_refused_before_training() -> None:
    with pytest.raises(BadInput, match="one annotator \\('ann'\\)"):
        fit_before([said("a", "ann"), said("b", "ann", prompt="r")])
    with pytest.raises(BadInput, match="no annotator by name"):
        fit_before([said("a", "")])
    with pytest.raises(BadInput, match="none of 2 pairs was judged by two of the 2 annotators"):
        fit_before([said("a", "ann"), said("b", "bob", prompt="r")])
    with pytest.raises(BadInput, match="nobody to compare"):
        fit_to_scores([said("a", "")], [1.0])


def test_annotators_who_together_agree_with_nothing_cannot_weigh_labels() -> None:
    with pytest.raises(BadInput, match="agree with nothing"):
        soft_labels([said("a", "ann")], known([1.0, -1.5], [0.0, 0.0]))


def test_sides_that_never_change_are_taken_as_unknown() -> None:
    rows = [said("a" if n % 3 else "b", "ann", prompt=f"q{n}") for n in range(30)]
    found = fit_to_scores(rows, [1.0 if n % 3 else -1.0 for n in range(30)])
    assert found.side_J[0] == 0
    assert math.isinf(found.side_error_J[0])
    assert described(found)["annotators"][0]["side"] is None
