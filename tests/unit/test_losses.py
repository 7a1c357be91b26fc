"""Losses of policy and critic against numbers derived by hand, numerical gradients, and training’s needs."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, ones, tensor, zeros
from torch.testing import assert_close

from accord.losses import (
    aggregation_count,
    aggregation_weight,
    clipped_policy_loss,
    clipped_sequence_loss,
    explained_variance,
    negative_log_likelihood,
    policy_statistics,
    truncated_importance_weight,
    value_loss,
)

NAN, INF = math.nan, math.inf


def f64(values, grad: bool = False) -> Tensor:
    return tensor(values, dtype=torch.float64, requires_grad=grad)


# Likelihood and aggregation


def test_negative_log_likelihood_by_hand():
    # −(−1 · 1 − 3 · .5) / 5 = .5; the middle token is padding and may hold anything
    logp = f64([-1.0, -INF, -3.0], True)
    loss = negative_log_likelihood(logp, f64([1.0, 0.0, 0.5]), 5)
    assert_close(loss, f64(0.5))
    loss.backward()
    assert_close(logp.grad, f64([-0.2, 0.0, -0.1]))
    with pytest.raises(ValueError, match=r"weight has \(1, 3\)"):
        negative_log_likelihood(logp, ones(1, 3), 5)
    with pytest.raises(ValueError, match="count of 0"):
        negative_log_likelihood(logp, zeros(3), 0)


def test_aggregations_by_hand():
    # responses of 1 and 3 tokens, terms 8 | 2 2 2, and a dummy row with none
    mask = tensor([[1, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    term = tensor([[8.0, NAN, NAN], [2.0, 2.0, 2.0], [NAN, NAN, NAN]])

    def loss(kind, length=None):
        weight = aggregation_weight(mask, kind, length)
        return negative_log_likelihood(-term, weight, aggregation_count(mask, kind)).item()

    assert loss("token") == pytest.approx(14 / 4)  # (8 + 6) over 4 tokens
    assert loss("sequence") == pytest.approx(5.0)  # (8 + 2) over 2 responses
    assert loss("constant", 4) == pytest.approx(14 / 4 / 2)  # each sum over 4, then over 2 responses
    with pytest.raises(ValueError, match="constant_length is None"):
        aggregation_weight(mask, "constant")
    with pytest.raises(ValueError, match="'mean' is unknown"):
        aggregation_weight(mask, "mean")  # type: ignore[arg-type]


# Policy


def ratio_loss(ratio: float, advantage: float) -> tuple[float, float]:
    """Loss at clip .2, and its gradient with respect to logp."""
    logp = f64([[math.log(ratio)]], True)
    loss = clipped_policy_loss(
        logp, zeros(1, 1).double(), f64([[advantage]]), ones(1, 1), clip=0.2, token_count=1
    )
    loss.backward()
    assert logp.grad is not None
    return loss.item(), logp.grad.item()


def test_clip_binds_only_where_it_limits_the_gain():
    # likelier and should be: cut at 1.2, no further pull
    assert ratio_loss(1.5, 1.0) == pytest.approx((-1.2, 0.0))
    # likelier and should not be: the whole ratio pulls back; d(1.5 · 1)/dlogp = 1.5
    assert ratio_loss(1.5, -1.0) == pytest.approx((1.5, 1.5))
    # less likely and should be likelier: the whole ratio
    assert ratio_loss(0.5, 1.0) == pytest.approx((-0.5, -0.5))
    # less likely and should be: cut at .8
    assert ratio_loss(0.5, -1.0) == pytest.approx((0.8, 0.0))
    # inside the interval nothing is cut
    assert ratio_loss(1.1, 2.0) == pytest.approx((-2.2, -2.2))


def test_at_ratio_one_the_gradient_is_the_policy_gradient():
    # −A / count per token, REINFORCE's
    logp = f64([[-1.0, -2.0]], True)
    loss = clipped_policy_loss(logp, logp.detach(), f64([[3.0, -1.0]]), ones(1, 2), clip=0.2, token_count=2)
    loss.backward()
    assert_close(loss, f64(-1.0))
    assert_close(logp.grad, f64([[-1.5, 0.5]]))


def test_value_clip_by_hand():
    def loss(value, old, target):
        return value_loss(*(f64([[x]]) for x in (value, old, target)), ones(1, 1), clip=0.2, token_count=1)

    # 0 → 1 with return 1: clipped to .2, error .8² = .64 beats 0² ; half: .32
    assert_close(loss(1.0, 0.0, 1.0), f64(0.32))
    # 0 → .1 is inside: .9²/2
    assert_close(loss(0.1, 0.0, 1.0), f64(0.405))
    # 0 → −1, away from the return 1: (−1−1)² = 4 beats (−.2−1)² = 1.44; half: 2
    assert_close(loss(-1.0, 0.0, 1.0), f64(2.0))


def test_value_clip_stops_the_pull_only_where_it_has_moved_towards_the_return():
    # token 1 has moved past the clip towards its return: no gradient
    # token 2 away from it: (v − R)/count = −2/2
    value = f64([[0.5, -1.0]], True)
    value_loss(value, f64([[0.0, 0.0]]), f64([[1.0, 1.0]]), ones(1, 2), clip=0.2, token_count=2).backward()
    assert_close(value.grad, f64([[0.0, -1.0]]))


def test_policy_and_value_gradients():
    old, advantage, mask = f64([[-1.0, -2.0, -0.5]]), f64([[1.0, -2.0, 0.7]]), f64([[1.0, 1.0, 0.0]])
    moved = f64([[-0.9, -1.6, -0.1]], True)
    policy = partial(clipped_policy_loss, clip=0.2, token_count=2)
    assert torch.autograd.gradcheck(lambda x: policy(x, old, advantage, mask), (moved,))
    value = partial(value_loss, clip=0.2, token_count=2)
    assert torch.autograd.gradcheck(lambda x: value(x, old, advantage, mask), (moved,))


small = st.floats(-3, 3, width=32)
cell = st.tuples(small, small, small)
batches = st.lists(st.lists(cell, min_size=1, max_size=5), min_size=1, max_size=5)


def padded(rows, extra: int, junk: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three (B, T) tensors and a mask from ragged rows; ``junk`` fills the padding."""
    width = max(map(len, rows)) + extra
    out = torch.full((3, len(rows), width), junk, dtype=torch.float64)
    mask = zeros(len(rows), width, dtype=torch.float64)
    for i, cells in enumerate(rows):
        out[:, i, : len(cells)] = f64(cells).T
        mask[i, : len(cells)] = 1
    return out[0].clone().requires_grad_(), out[1], out[2], mask


@pytest.mark.parametrize("loss", [clipped_policy_loss, value_loss])
@given(rows=batches, extra=st.integers(0, 3), junk=st.sampled_from([NAN, INF, -INF, 1e30]))
@settings(max_examples=40, deadline=None)
def test_right_padding_changes_neither_loss_nor_gradient(loss, rows, extra, junk):
    count = sum(map(len, rows))
    x, old, target, mask = padded(rows, extra, junk)
    got = loss(x, old, target, mask, clip=0.2, token_count=count)
    got.backward()
    expected, gradients = f64(0.0), []
    for cells in rows:  # one row at a time, no padding at all
        one, one_old, one_target, one_mask = padded([cells], 0, 0.0)
        term = loss(one, one_old, one_target, one_mask, clip=0.2, token_count=count)
        term.backward()
        expected = expected + term.detach()
        gradients.append(one.grad)
    assert_close(got.detach(), expected)
    for i, gradient in enumerate(gradients):
        n = gradient.shape[1]
        assert_close(x.grad[i, :n], gradient[0])
        assert (x.grad[i, n:] == 0).all()


@pytest.mark.parametrize("kind", ["token", "sequence", "constant"])
@given(rows=batches, cut=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_microbatches_over_a_global_count_give_the_full_batch(kind, rows, cut):
    def step(parts):
        count = sum(aggregation_count(padded(part, 0, 0.0)[3], kind) for part in parts)
        total, gradients = f64(0.0), []
        for part in parts:
            x, old, advantage, mask = padded(part, 0, 0.0)
            weight = aggregation_weight(mask, kind, 7)
            loss = clipped_policy_loss(x, old, advantage, weight, clip=0.2, token_count=count)
            loss.backward()
            total = total + loss.detach()
            gradients += [x.grad[i, : len(cells)] for i, cells in enumerate(part)]
        return total, torch.cat(gradients)

    whole, whole_gradient = step([rows])
    parts, parts_gradient = step([rows[i : i + cut] for i in range(0, len(rows), cut)])
    # the weights of 1/3 are float32
    assert_close(parts, whole, atol=1e-6, rtol=1e-6)
    assert_close(parts_gradient, whole_gradient, atol=1e-6, rtol=1e-6)


def test_truncated_importance_weight_by_hand():
    # ratios 2, 1/2 and 8 (cut at 4); padding is 0 whatever it holds
    logp, sampled = f64([[2.0, 0.5, 8.0, 1.0]]).log(), f64([[0.0, 0.0, 0.0, NAN]])
    weight = truncated_importance_weight(logp, sampled, tensor([[1, 1, 1, 0]]), cap=4.0)
    assert_close(weight, f64([[2.0, 0.5, 4.0, 0.0]]))


# Statistics


def test_policy_statistics_by_hand():
    # ratios 1, 2, 1/4, 1; the other two tokens are padding
    # outside [.8, 1.2]: 2 of 4
    # k3 = mean(r − 1 − ln r) = (0 + (1 − ln 2) + (−3/4 + 2 ln 2) + 0) / 4 = (1/4 + ln 2) / 4
    # effective: 4.25² / (4 · (1 + 4 + 1/16 + 1)) = 18.0625 / 24.25
    logp = f64([[1.0, 2.0, 0.25], [1.0, 9.0, 9.0]]).log()
    mask = tensor([[1, 1, 1], [1, 0, 0]])
    got = policy_statistics(logp, torch.zeros_like(logp), mask, clip=0.2)
    assert got.clip_fraction == 0.5
    assert got.kl_k3 == pytest.approx(0.23578680)
    assert got.log_ratio_max == pytest.approx(math.log(4))
    assert got.ratio_p99 == pytest.approx(2.0)
    assert got.effective_share == pytest.approx(0.74484536)
    assert got.tokens == 4


def test_ratio_p99_is_the_nearest_rank():
    # of the ratios 1 … 200, 198 do not exceed 198: 99%
    logp = torch.arange(1, 201).double().log()[None]
    assert policy_statistics(logp, zeros(1, 200), ones(1, 200), 0.2).ratio_p99 == pytest.approx(198.0)


def test_policy_statistics_before_the_first_update():
    logp = tensor([[-1.5, -0.2, NAN]])
    got = policy_statistics(logp, logp, tensor([[1, 1, 0]]), 0.2)
    assert (got.clip_fraction, got.kl_k3, got.log_ratio_max) == (0, 0, 0)
    assert (got.ratio_p99, got.effective_share) == (1, 1)
    with pytest.raises(ValueError, match="mask is empty"):
        policy_statistics(logp, logp, zeros(1, 3), 0.2)


def test_explained_variance_by_hand():
    # returns 0, 2, 4: variance 8/3. errors 0, 1, −1: variance 2/3. 1 − 1/4
    mask = tensor([[1, 1, 1, 0]])
    returns, value = tensor([[0.0, 2.0, 4.0, NAN]]), tensor([[0.0, 1.0, 5.0, NAN]])
    assert explained_variance(value, returns, mask) == pytest.approx(0.75)
    # a constant offset is not held against the critic by this measure; a constant critic explains nothing
    assert explained_variance(returns + 7, returns, mask) == pytest.approx(1.0)
    assert explained_variance(ones(1, 4), returns, mask) == pytest.approx(0.0)
    assert math.isnan(explained_variance(value, ones(1, 4), mask))


def test_clip_higher_widens_the_upper_limit_alone():
    # ratios 1.25 and 0.75; limits [0.8, 1.3]: the first is inside, the second is held at 0.8 where A < 0
    logp = tensor([[1.25, 0.75]]).log()
    seen = partial(clipped_policy_loss, logp, zeros(1, 2), token_count=1, clip=0.2)
    gain, loss = tensor([[1.0, 0.0]]), tensor([[0.0, -1.0]])
    both = ones(1, 2)
    assert_close(seen(gain, both), tensor(-1.2))
    assert_close(seen(gain, both, clip_high=0.3), tensor(-1.25))
    assert_close(seen(loss, both, clip_high=0.3), tensor(0.8))


def test_sequence_ratio_is_normalised_by_length_and_clipped_once():
    # ratio 2 · 1 over two tokens: √2; ratio 2 over one token, with padding that holds a 1: 2
    logp = tensor([[2.0, 1.0], [2.0, 1.0]]).log()
    mask = tensor([[True, True], [True, False]])
    old = zeros(2, 2)
    weight, advantage = ones(2), tensor([1.0, 1.0])
    wide = clipped_sequence_loss(logp, old, advantage, mask, weight, clip=0.5, clip_high=3.0, count=2)
    assert_close(wide, tensor(-(2**0.5 + 2) / 2))
    tight = clipped_sequence_loss(logp, old, advantage, mask, weight, clip=0.5, clip_high=0.1, count=2)
    assert_close(tight, tensor(-1.1))
    # at ratio 1 the gradient of a token is −A / length / count (GSPO, eq. 10)
    start = zeros(2, 2, requires_grad=True)
    clipped_sequence_loss(
        start, old, tensor([3.0, -1.0]), mask, weight, clip=0.1, clip_high=0.1, count=2
    ).backward()
    assert_close(start.grad, tensor([[-0.75, -0.75], [0.5, 0.0]]))


def test_clip_fraction_knows_two_limits():
    logp = tensor([[1.25, 0.85, 1.0, 0.7]]).log()
    seen = partial(policy_statistics, logp, zeros(1, 4), ones(1, 4))
    assert seen(0.2).clip_fraction == 0.5  # 1.25 and 0.7
    assert seen(0.2, 0.3).clip_fraction == 0.25
