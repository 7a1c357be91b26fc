"""Losses of comparisons against numbers derived by hand, numerical gradients, and limits that must agree."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor, zeros
from torch.testing import assert_close

from accord.preference_losses import (
    annotator_bradley_terry,
    annotator_prior,
    bradley_terry,
    centering_penalty,
    davidson,
    davidson_log_probabilities,
    outcome_cross_entropy,
    rao_kupper,
    rao_kupper_log_probabilities,
)


def f64(values, grad: bool = False) -> Tensor:
    return tensor(values, dtype=torch.float64, requires_grad=grad)


# Bradley–Terry


def test_bradley_terry_matches_hand_computation():
    # margins 1 and −2: (log(1+e⁻¹) + log(1+e²)) / 2 = (0.3132617 + 2.1269280) / 2
    assert_close(bradley_terry(tensor([1.0, 2.0]), tensor([0.0, 4.0])), tensor(1.2200948))


def test_bradley_terry_options_by_hand():
    one, nought = f64([1.0]), f64([0.0])
    # a margin of 1 leaves logit 0: ln 2
    assert_close(bradley_terry(one, nought, margin_N=one), f64(0.69314718))
    # a tie, label 1/2: (log(1+e⁻¹) + log(1+e)) / 2 = (0.31326169 + 1.31326169) / 2
    assert_close(bradley_terry(one, nought, soft_label_N=f64([0.5])), f64(0.81326169))
    # smoothing .1: .9 · 0.31326169 + .1 · 1.31326169
    assert_close(bradley_terry(one, nought, label_smoothing=0.1), f64(0.41326169))
    # label 3/4 with smoothing .1 is .75 · .9 + .25 · .1 = .7: .7 · 0.31326169 + .3 · 1.31326169
    both = bradley_terry(one, nought, soft_label_N=f64([0.75]), label_smoothing=0.1)
    assert_close(both, f64(0.61326169))
    # weights 1 and 3 of the first test's terms: (0.31326169 + 3 · 2.12692801) / 4
    weighted = partial(bradley_terry, f64([1.0, 2.0]), f64([0.0, 4.0]), weight_N=f64([1.0, 3.0]))
    assert_close(weighted(), f64(1.67351143))
    # the same sum over a global count of 8
    assert_close(weighted(count=8), f64(0.83675572))


def test_bradley_terry_does_not_overflow():
    # −log σ(−1000) = 1000
    assert_close(bradley_terry(tensor([0.0]), tensor([1000.0])), tensor(1000.0))


def test_bradley_terry_gradient():
    # by hand at equal scores: d/dchosen −log σ(0) = −1/2
    chosen = f64([0.0], grad=True)
    bradley_terry(chosen, f64([0.0])).backward()
    assert_close(chosen.grad, f64([-0.5]))
    loss = partial(
        bradley_terry,
        margin_N=f64([0.3, 0.0, 1.0]),
        weight_N=f64([1.0, 2.0, 0.5]),
        soft_label_N=f64([1.0, 0.5, 0.8]),
        label_smoothing=0.1,
    )
    assert torch.autograd.gradcheck(loss, (f64([0.4, -1.0, 2.0], True), f64([0.1, 0.6, -0.7], True)))


def test_bradley_terry_refuses_nonsense():
    with pytest.raises(ValueError, match="rejected_N needs 1 axes"):
        bradley_terry(zeros(3), zeros(3, 1))
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.5"):
        bradley_terry(zeros(1), zeros(1), label_smoothing=0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        bradley_terry(zeros(1), zeros(1), soft_label_N=tensor([1.5]))
    with pytest.raises(ValueError, match=r"count of 0\.0"):
        bradley_terry(zeros(0), zeros(0))
    # a process whose share of the batch is empty still takes part in a global count
    assert bradley_terry(zeros(0), zeros(0), count=4) == 0


# Annotators


def test_annotators_by_hand():
    # strengths 3 to 1: σ(ln 3) = 3/4. β = 2: 9/10. β = −1: 1/4. β = 0: 1/2. The second says b.
    log3 = f64(math.log(3))
    loss = partial(annotator_bradley_terry, count=1)
    assert_close(loss(log3[None], f64([1.0]), f64([2.0]), f64([0.0])), f64(math.log(10 / 9)))
    assert_close(loss(log3[None], f64([0.0]), f64([2.0]), f64([0.0])), f64(math.log(10)))
    assert_close(loss(log3[None], f64([1.0]), f64([-1.0]), f64([0.0])), f64(math.log(4)))
    assert_close(loss(log3[None], f64([0.0]), f64([0.0]), f64([0.0])), f64(math.log(2)))
    # the side is added to the logit, not multiplied by β: 2 ln 2 + ln 3/4 = ln 3
    half = f64([0.5])
    together = loss(f64([math.log(2)]), half, f64([2.0]), f64([math.log(0.75)]))
    assert_close(together, f64((math.log(4 / 3) + math.log(4)) / 2))
    # weights 1 and 3 of ln 10/9 and ln 4: (ln 10/9 + 3 ln 4) / 4
    both = annotator_bradley_terry(
        log3.expand(2), f64([1.0, 1.0]), f64([2.0, -1.0]), zeros(2).double(), weight_N=f64([1.0, 3.0])
    )
    assert_close(both, f64((math.log(10 / 9) + 3 * math.log(4)) / 4))


def test_one_perfect_annotator_without_side_is_bradley_terry():
    d = f64([1.0, -2.0, 0.3])
    label = f64([1.0, 0.0, 0.5])
    one = annotator_bradley_terry(d, label, torch.ones_like(d), torch.zeros_like(d))
    assert_close(one, bradley_terry(d, torch.zeros_like(d), soft_label_N=label))


def test_annotator_gradients_and_refusals():
    d, beta, side = f64([0.4, -1.2], True), f64([1.3, -0.2], True), f64([0.1, -0.6], True)
    label = f64([1.0, 0.25])
    assert torch.autograd.gradcheck(lambda *x: annotator_bradley_terry(x[0], label, *x[1:]), (d, beta, side))
    with pytest.raises(ValueError, match="a_better_N is a probability"):
        annotator_bradley_terry(d, f64([1.0, math.nan]), beta, side)
    with pytest.raises(ValueError, match="side_N has N = 3"):
        annotator_bradley_terry(d, label, beta, zeros(3).double())


def test_the_annotator_prior_by_hand():
    # β = 3 is one deviation of 2 from 1, β = 1 none; side −2 is two of its: (1² + 2²) / 2, over 5 labels
    beta, side = f64([3.0, 1.0], True), f64([-2.0, 0.0], True)
    assert_close(annotator_prior(beta, side, count=5), f64(0.5))
    assert torch.autograd.gradcheck(lambda *x: annotator_prior(*x, count=5), (beta, side))
    with pytest.raises(ValueError, match="both must be above 0"):
        annotator_prior(beta, side, deviation=0.0, count=5)


# Ties


def test_rao_kupper_by_hand():
    # θ = 2, strengths 2 and 1: P(a) = 2/(2+2·1) = 1/2; P(b) = 1/(1+2·2) = 1/5;
    # P(tie) = (θ²−1)·2·1 / ((2+2)(1+4)) = 6/20 = 3/10
    log2 = f64(math.log(2))
    probability = rao_kupper_log_probabilities(log2[None], log2).exp()
    assert_close(probability, f64([[0.5, 0.2, 0.3]]))
    # one of each outcome: (ln 2 + ln 5 + ln 10/3) / 3 = ln(100/3) / 3
    loss = rao_kupper(log2.expand(3), tensor([0, 1, 2]), log2)
    assert_close(loss, f64(math.log(100 / 3) / 3))
    # weights 0, 1, 1 and a global count of 4: (ln 5 + ln 10/3) / 4
    loss = rao_kupper(log2.expand(3), tensor([0, 1, 2]), log2, weight_N=f64([0, 1, 1]), count=4)
    assert_close(loss, f64(math.log(50 / 3) / 4))


def test_davidson_by_hand():
    # ν = 1, strengths 4 and 1, √(4·1) = 2: probabilities 4/7, 1/7, 2/7
    log4, log_tie = f64(math.log(4)), f64(0.0)
    probability = davidson_log_probabilities(log4[None], log_tie).exp()
    assert_close(probability, f64([[4 / 7, 1 / 7, 2 / 7]]))
    # one of each: −(ln 4/7 + ln 1/7 + ln 2/7) / 3 = ln(343/8) / 3
    assert_close(davidson(log4.expand(3), tensor([0, 1, 2]), log_tie), f64(math.log(343 / 8) / 3))


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(1e-3, 10))
@settings(max_examples=50, deadline=None)
def test_three_outcomes_sum_to_one_and_swap_with_the_sides(differences, tie):
    d = f64(differences)
    for log_probabilities in (rao_kupper_log_probabilities, davidson_log_probabilities):
        probability = log_probabilities(d, f64(tie)).exp()
        assert_close(probability.sum(1), torch.ones_like(d))
        assert_close(log_probabilities(-d, f64(tie)).exp()[:, [1, 0, 2]], probability)


def test_without_ties_both_are_bradley_terry():
    d, wins = f64([1.0, -2.0]), tensor([0, 0])
    expected = bradley_terry(d, zeros(2).double())
    assert_close(rao_kupper(d, wins, f64(1e-9)), expected, atol=1e-8, rtol=0)
    assert_close(davidson(d, wins, f64(-40.0)), expected, atol=1e-8, rtol=0)


def test_gradients_reach_scores_and_the_tie_parameter():
    outcome = tensor([0, 1, 2, 2])
    d = f64([0.3, -0.4, 1.5, -0.2], True)
    assert torch.autograd.gradcheck(lambda x, t: rao_kupper(x, outcome, t), (d, f64(0.4, True)))
    assert torch.autograd.gradcheck(lambda x, t: davidson(x, outcome, t), (d, f64(-0.3, True)))


def test_shares_of_annotators_by_hand():
    # Rao–Kupper's 1/2, 1/5, 3/10 of the test above; of three annotators two said a and one tie
    log2 = f64(math.log(2))
    logp = rao_kupper_log_probabilities(log2[None], log2)
    shares = f64([[2 / 3, 0.0, 1 / 3]])
    assert_close(outcome_cross_entropy(logp, shares), f64(2 / 3 * math.log(2) + math.log(10 / 3) / 3))
    # Davidson's 4/7, 1/7, 2/7 likewise, beside one sure b: weights 3 and 1
    logp = davidson_log_probabilities(f64([math.log(4)] * 2), f64(0.0))
    shares = f64([[2 / 3, 0.0, 1 / 3], [0.0, 1.0, 0.0]])
    expected = (2 * math.log(7 / 4) + math.log(7 / 2) + math.log(7)) / 4
    assert_close(outcome_cross_entropy(logp, shares, weight_N=f64([3.0, 1.0])), f64(expected))
    assert_close(outcome_cross_entropy(logp, shares, weight_N=f64([3.0, 1.0]), count=8), f64(expected / 2))


def test_sure_shares_are_outcomes_and_an_impossible_tie_is_free():
    d, outcome = f64([0.3, -0.4, 1.5]), tensor([0, 1, 2])
    sure = torch.nn.functional.one_hot(outcome, 3).double()
    for model, loss in ((davidson_log_probabilities, davidson), (rao_kupper_log_probabilities, rao_kupper)):
        assert_close(outcome_cross_entropy(model(d, f64(0.7)), sure), loss(d, outcome, f64(0.7)))
    never = davidson_log_probabilities(d[:2], f64(-math.inf))
    assert_close(outcome_cross_entropy(never, sure[:2]), bradley_terry(f64([0.3, 0.4]), zeros(2).double()))


def test_share_gradients_and_refusals():
    d, shares = f64([0.3, -0.4], True), f64([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    for model in (rao_kupper_log_probabilities, davidson_log_probabilities):
        assert torch.autograd.gradcheck(
            lambda x, t, model=model: outcome_cross_entropy(model(x, t), shares), (d, f64(0.4, True))
        )
    logp = davidson_log_probabilities(d, f64(0.0))
    for wrong in ([[0.5, 0.5, 0.5]] * 2, [[1.2, -0.2, 0.0]] * 2, [[math.nan, 0.0, 1.0]] * 2):
        with pytest.raises(ValueError, match="each row must sum to 1"):
            outcome_cross_entropy(logp, f64(wrong))


def test_ties_refuse_nonsense():
    with pytest.raises(ValueError, match="above 0"):
        rao_kupper(zeros(1), tensor([2]), tensor(0.0))
    with pytest.raises(ValueError, match="0 where a wins"):
        davidson(zeros(1), tensor([3]), tensor(0.0))
    with pytest.raises(ValueError, match="outcome_N has N = 2"):
        davidson(zeros(1), tensor([0, 1]), tensor(0.0))
    with pytest.raises(ValueError, match="one number"):
        davidson(zeros(2), tensor([0, 1]), zeros(2))


def test_centering_penalty_by_hand():
    # means 2 and 0: .01 · (4 + 0) / 2
    chosen, rejected = f64([3.0, 1.0], True), f64([1.0, -1.0], True)
    assert_close(centering_penalty(chosen, rejected, 0.01), f64(0.02))
    assert torch.autograd.gradcheck(lambda c, r: centering_penalty(c, r, 0.01), (chosen, rejected))


small = st.floats(-3, 3, width=32)


@given(st.lists(st.tuples(small, small), min_size=2, max_size=8), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_bradley_terry_microbatches_add_up(pairs, cut):
    chosen, rejected = f64(pairs).T
    parts = [
        bradley_terry(chosen[i : i + cut], rejected[i : i + cut], count=len(pairs))
        for i in range(0, len(pairs), cut)
    ]
    assert_close(sum(parts), bradley_terry(chosen, rejected))
