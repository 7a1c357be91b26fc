"""Plackett–Luce against numbers derived by hand, and against the sum over all orders."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor, zeros
from torch.testing import assert_close

from accord.preference_losses import bradley_terry
from accord.ranking_losses import plackett_luce


def f64(values, grad: bool = False) -> Tensor:
    return tensor(values, dtype=torch.float64, requires_grad=grad)


LOG_STRENGTHS = f64([[math.log(3), math.log(2), 0.0]])


def test_by_hand():
    # strengths 3, 2, 1 in this order: 3/6 · 2/3 · 1/1 = 1/3
    assert_close(plackett_luce(LOG_STRENGTHS, tensor([[1, 2, 3]])), f64(math.log(3)))
    # the last first: 1/6 · 3/5 · 2/2 = 1/10; gaps between ranks do not matter
    assert_close(plackett_luce(LOG_STRENGTHS, tensor([[5, 9, 1]])), f64(math.log(10)))


def test_ties_by_breslows_rule():
    # the first two tied: 3/6 · 2/6, then 1/1 = 1/6
    assert_close(plackett_luce(LOG_STRENGTHS, tensor([[1, 1, 2]])), f64(math.log(6)))
    # the last two tied: 3/6, then 2/3 · 1/3 = 1/9
    assert_close(plackett_luce(LOG_STRENGTHS, tensor([[1, 2, 2]])), f64(math.log(9)))
    # a tied pair is twice Bradley–Terry at one half, as the docstring says
    pair = f64([[1.3, -0.4]])
    half = bradley_terry(pair[:, 0], pair[:, 1], soft_label_N=f64([0.5]))
    assert_close(plackett_luce(pair, tensor([[1, 1]])), 2 * half)


def test_weights_and_count():
    # ln 3 and ln 6 with weights 1 and 2: (ln 3 + 2 ln 6) / 3; over a global count of 6 half of that
    scores, ranks = LOG_STRENGTHS.expand(2, 3), tensor([[1, 2, 3], [1, 1, 2]])
    expected = (math.log(3) + 2 * math.log(6)) / 3
    assert_close(plackett_luce(scores, ranks, weight_N=f64([1.0, 2.0])), f64(expected))
    assert_close(plackett_luce(scores, ranks, weight_N=f64([1.0, 2.0]), count=6), f64(expected / 2))


def test_two_answers_are_bradley_terry():
    scores = f64([[1.0, 0.0], [2.0, 4.0]])
    assert_close(plackett_luce(scores, tensor([[1, 2], [1, 2]])), bradley_terry(scores[:, 0], scores[:, 1]))


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_all_orders_have_probability_one(scores):
    orders = list(permutations(range(1, len(scores) + 1)))
    each = [plackett_luce(f64([scores]), tensor([order])) for order in orders]
    assert_close(torch.exp(-torch.stack(each)).sum(), f64(1.0))


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 4)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([math.nan, math.inf, -math.inf, 7.0]),
)
@settings(max_examples=40, deadline=None)
def test_ragged_rankings_are_what_each_is_alone(rows, junk):
    width = max(map(len, rows)) + 1
    score = torch.full((len(rows), width), junk, dtype=torch.float64)
    rank, mask = torch.full((len(rows), width), 99), zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        score[i, : len(row)] = f64([s for s, _ in row])
        rank[i, : len(row)] = tensor([r for _, r in row])
        mask[i, : len(row)] = True
    score.requires_grad_()
    together = plackett_luce(score, rank, mask, count=1)
    together.backward()
    alone = [plackett_luce(f64([[s for s, _ in r]]), tensor([[k for _, k in r]]), count=1) for r in rows]
    assert_close(together.detach(), torch.stack(alone).sum())
    assert (score.grad[~mask] == 0).all()
    assert torch.isfinite(score.grad).all()


def test_gradient_and_refusals():
    ranks, mask = tensor([[1, 2, 2, 0], [3, 1, 2, 1]]), tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    scores = f64([[0.3, -1.0, 0.2, 9.0], [1.0, 0.4, -0.3, 0.1]], True)
    assert torch.autograd.gradcheck(lambda s: plackett_luce(s, ranks, mask), (scores,))
    with pytest.raises(ValueError, match="rank_NK holds integers"):
        plackett_luce(scores, ranks.double())
    with pytest.raises(ValueError, match="rank_NK has K = 3"):
        plackett_luce(scores, ranks[:, :3])
    with pytest.raises(ValueError, match=r"count of 0\.0"):
        plackett_luce(zeros(0, 3), torch.zeros(0, 3, dtype=torch.long))
