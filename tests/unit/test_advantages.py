"""Credit assignment against numbers derived by hand and against a second, naive implementation."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, tensor
from torch.testing import assert_close

from accord.advantages import (
    best_and_worst,
    gae,
    grpo,
    missing_end,
    reinforce,
    rewards_to_go,
    rewards_with_kl,
    rloo,
)

NAN = math.nan
unit = st.floats(-5, 5, width=32)


def f64(values) -> Tensor:
    return tensor(values, dtype=torch.float64)


# GAE


def test_gae_by_hand():
    # rewards 0, 0, 1; values .5, .4, .3; γ = 1, λ = .95; the value after the end is 0
    # δ3 = 1 − .3 = .7        A3 = .7
    # δ2 = .3 − .4 = −.1      A2 = −.1 + .95 · .7 = .565
    # δ1 = .4 − .5 = −.1      A1 = −.1 + .95 · .565 = .43675
    # returns A + V: .93675, .965, 1
    advantage, returns = gae(f64([[0, 0, 1]]), f64([[0.5, 0.4, 0.3]]), torch.ones(1, 3), 1.0, 0.95)
    assert_close(advantage, f64([[0.43675, 0.565, 0.7]]))
    assert_close(returns, f64([[0.93675, 0.965, 1.0]]))


def test_gae_discounts_by_hand():
    # γ = .5, λ = .5: δ2 = 4 − 2 = 2; δ1 = 1 + .5 · 2 − 3 = −1; A1 = −1 + .25 · 2 = −.5
    advantage, returns = gae(f64([[1, 4]]), f64([[3, 2]]), torch.ones(1, 2), 0.5, 0.5)
    assert_close(advantage, f64([[-0.5, 2.0]]))
    assert_close(returns, f64([[2.5, 4.0]]))


def test_gae_reads_only_the_response():
    # the numbers of test_gae_by_hand amid a prompt and padding that hold NaN, with one token stepped over
    mask = tensor([[0, 0, 1, 1, 0, 1, 0]], dtype=torch.bool)
    reward = f64([[NAN, 9, 0, 0, NAN, 1, NAN]])
    value = f64([[NAN, 9, 0.5, 0.4, 7, 0.3, NAN]])
    advantage, returns = gae(reward, value, mask, 1.0, 0.95)
    assert_close(advantage, f64([[0, 0, 0.43675, 0.565, 0, 0.7, 0]]))
    assert_close(returns, f64([[0, 0, 0.93675, 0.965, 0, 1.0, 0]]))


def naive_gae(reward: list[float], value: list[float], gamma: float, lam: float) -> list[float]:
    """Schulman et al. 2016, eq. 16, as the double sum that it is."""
    n = len(reward)
    after = [*value[1:], 0.0]
    delta = [reward[t] + gamma * after[t] - value[t] for t in range(n)]
    return [sum((gamma * lam) ** (j - t) * delta[j] for j in range(t, n)) for t in range(n)]


tokens = st.lists(st.tuples(unit, unit), min_size=1, max_size=6)


@given(st.lists(tokens, min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_gae_is_the_double_sum_whatever_the_padding(rows, gamma, lam, extra):
    width = max(map(len, rows)) + extra
    reward, value = torch.full((2, len(rows), width), NAN, dtype=torch.float64)
    mask = torch.zeros(len(rows), width)
    for i, cells in enumerate(rows):
        mask[i, : len(cells)] = 1
        reward[i, : len(cells)] = f64([r for r, _ in cells])
        value[i, : len(cells)] = f64([v for _, v in cells])
    advantage, _ = gae(reward, value, mask, gamma, lam)
    for i, cells in enumerate(rows):
        expected = naive_gae([r for r, _ in cells], [v for _, v in cells], gamma, lam)
        assert_close(advantage[i, : len(cells)], f64(expected), atol=1e-9, rtol=1e-9)
        assert (advantage[i, len(cells) :] == 0).all()


@given(tokens)
@settings(max_examples=40, deadline=None)
def test_gae_with_both_at_one_is_returns_minus_values(cells):
    reward, value = f64([[r for r, _ in cells]]), f64([[v for _, v in cells]])
    advantage, returns = gae(reward, value, torch.ones(1, len(cells)), 1.0, 1.0)
    to_go = f64([[sum(r for r, _ in cells[t:]) for t in range(len(cells))]])
    assert_close(advantage, to_go - value, atol=1e-9, rtol=0)
    assert_close(returns, to_go, atol=1e-9, rtol=0)


def test_gae_of_one_token_and_of_none():
    advantage, returns = gae(f64([[2.0], [9.0]]), f64([[0.5], [9.0]]), tensor([[1], [0]]), 1.0, 0.95)
    assert_close(advantage, f64([[1.5], [0.0]]))
    assert_close(returns, f64([[2.0], [0.0]]))
    assert gae(torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(2, 0), 1.0, 0.95)[0].shape == (2, 0)


def test_advantages_carry_no_gradient():
    value = torch.zeros(1, 2, requires_grad=True)
    advantage, returns = gae(torch.ones(1, 2), value, torch.ones(1, 2), 1.0, 0.95)
    assert not advantage.requires_grad
    assert not returns.requires_grad


# Reward


def test_score_is_added_once_at_the_last_response_token():
    # coefficient .5: −.5 · kl; row 1 ends at column 2 (+ 3), row 2 at column 1 (+ −1), row 3 has no token
    kl = f64([[NAN, 0.2, -0.4, NAN], [1.0, 2.0, 9.0, 9.0], [NAN, NAN, NAN, NAN]])
    mask = tensor([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    reward = rewards_with_kl(f64([3.0, -1.0, 5.0]), kl, mask, 0.5)
    assert_close(reward, f64([[0, -0.1, 3.2, 0], [-0.5, -2.0, 0, 0], [0, 0, 0, 0]]))


@given(st.lists(unit, min_size=1, max_size=6), unit, st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_rewards_sum_to_score_minus_penalty(kl, score, coefficient):
    reward = rewards_with_kl(f64([score]), f64([kl]), torch.ones(1, len(kl)), coefficient)
    assert reward.sum().item() == pytest.approx(score - coefficient * sum(kl), abs=1e-9)


def test_missing_end_by_hand():
    score, finished = tensor([2.0, 2.0, -3.0]), tensor([True, False, False])
    assert_close(missing_end(score, finished, "none", 1.0), tensor([2.0, 2.0, -3.0]))
    assert_close(missing_end(score, finished, "subtract", 1.0), tensor([2.0, 1.0, -4.0]))
    # replace pays −1 whatever the score was, NaN included
    assert_close(missing_end(score, finished, "replace", 1.0), tensor([2.0, -1.0, -1.0]))
    unscored = tensor([2.0, NAN, -3.0])
    assert_close(missing_end(unscored, finished, "replace", 1.0), tensor([2.0, -1.0, -1.0]))
    with pytest.raises(ValueError, match="value is -1"):
        missing_end(score, finished, "replace", -1.0)
    with pytest.raises(ValueError, match="mode 'add' is unknown"):
        missing_end(score, finished, "add", 1.0)  # type: ignore[arg-type]


# RLOO


def test_rloo_leaves_the_sample_out():
    # 1 − (0+0+3)/3 = 0; 0 − (1+0+3)/3 = −4/3 twice; 3 − (1+0+0)/3 = 8/3
    assert_close(rloo(f64([[1, 0, 0, 3]])), f64([[0, -4 / 3, -4 / 3, 8 / 3]]))


def test_rloo_leaves_unscorable_siblings_out():
    # without the second: 1 − (0+3)/2 = −.5; 0 − (1+3)/2 = −2; 3 − (1+0)/2 = 2.5. One or none left: 0.
    score = f64([[1, NAN, 0, 3], [5, NAN, NAN, NAN], [NAN, NAN, NAN, NAN]])
    expected = f64([[-0.5, 0, -2.0, 2.5], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert_close(rloo(score, ~score.isnan()), expected)


groups = st.integers(2, 6).flatmap(
    lambda k: st.lists(st.lists(unit, min_size=k, max_size=k), min_size=1, max_size=4)
)


@given(groups, unit)
@settings(max_examples=50, deadline=None)
def test_rloo_is_centred_and_ignores_a_common_shift(rows, shift):
    score = f64(rows)
    advantage = rloo(score)
    assert_close(advantage.sum(1), torch.zeros(len(rows), dtype=torch.float64), atol=1e-9, rtol=0)
    assert_close(rloo(score + shift), advantage, atol=1e-9, rtol=0)
    # K/(K−1) times the deviation from the group's mean
    k = score.shape[1]
    assert_close(advantage, (score - score.mean(1, keepdim=True)) * k / (k - 1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("credit", [rloo, lambda *a: grpo(*a, divide_by_std=True)])
def test_groups_are_checked(credit):
    with pytest.raises(ValueError, match="2 samples of one prompt"):
        credit(f64([[1.0]]))
    with pytest.raises(ValueError, match="1 scores are not finite"):
        credit(f64([[1.0, NAN]]))
    with pytest.raises(ValueError, match="valid_PK has K = 3"):
        credit(f64([[1.0, 2.0]]), torch.ones(1, 3))


# GRPO


def test_grpo_by_hand():
    # mean 1; deviations 0, −1, −1, 2; squares sum to 6, over K − 1 = 3: standard deviation √2
    advantage, no_spread = grpo(f64([[1, 0, 0, 3]]), divide_by_std=True, epsilon=0.0)
    root = math.sqrt(2)
    assert_close(advantage, f64([[0, -1 / root, -1 / root, 2 / root]]))
    assert no_spread.tolist() == [False]
    # Dr. GRPO: no division
    assert_close(grpo(f64([[1, 0, 0, 3]]), divide_by_std=False)[0], f64([[0, -1, -1, 2]]))
    # scores 0, 2: mean 1, deviation √2, plus epsilon 1: 1 / (1 + √2) = √2 − 1
    assert_close(grpo(f64([[0, 2]]), divide_by_std=True, epsilon=1.0)[0], f64([[1 - root, root - 1]]))


def test_grpo_groups_with_no_spread_carry_no_gradient_and_are_counted():
    # three times 0.1 has a mean that is off in the last place; 1e-6 of jitter is round-off of the scorer
    score = f64([[0.1, 0.1, 0.1], [0.5, 0.5 + 1e-6, 0.5], [0.0, 1.0, 0.5]])
    for divide in (True, False):
        advantage, no_spread = grpo(score, divide_by_std=divide)
        assert no_spread.tolist() == [True, True, False]
        assert (advantage[:2] == 0).all()
        assert (advantage[2, :2] != 0).all()


def test_grpo_leaves_unscorable_siblings_out():
    # left 1, 3: mean 2, deviation √2; two alike, one or none left: no spread
    score = f64([[1, NAN, 3], [1, NAN, 1], [1, NAN, NAN], [NAN, NAN, NAN]])
    advantage, no_spread = grpo(score, ~score.isnan(), divide_by_std=True, epsilon=0.0)
    half = 1 / math.sqrt(2)
    assert_close(advantage, f64([[-half, 0, half], [0, 0, 0], [0, 0, 0], [0, 0, 0]]))
    assert no_spread.tolist() == [False, True, True, True]


@given(groups)
@settings(max_examples=50, deadline=None)
def test_grpo_agrees_with_torch_std(rows):
    score = f64(rows)
    advantage, no_spread = grpo(score, divide_by_std=True)
    expected = (score - score.mean(1, keepdim=True)) / (score.std(1, keepdim=True) + 1e-4)
    assert_close(advantage[~no_spread], expected[~no_spread], atol=1e-9, rtol=1e-9)


def test_reinforce_against_a_given_baseline_and_against_the_others():
    score = tensor([1.0, 0.0, 0.0, 3.0])
    assert_close(reinforce(score, 0.5), tensor([0.5, -0.5, -0.5, 2.5]))
    # the mean of the other three: 1, 4/3, 4/3, 1/3
    assert_close(reinforce(score), tensor([0.0, -4 / 3, -4 / 3, 8 / 3]))
    with pytest.raises(ValueError, match="needs 2 or more, the batch has 1"):
        reinforce(tensor([1.0]))


def test_rewards_to_go_by_hand():
    # response tokens at columns 1, 2, 4; what lies elsewhere does not count, NaN included
    reward = tensor([[9.0, 1.0, -2.0, math.nan, 5.0]])
    mask = tensor([[False, True, True, False, True]])
    assert_close(rewards_to_go(reward, mask), tensor([[0.0, 4.0, 3.0, 0.0, 5.0]]))


def test_best_and_worst_take_the_first_of_equals_and_no_unscorable_one():
    score = tensor([[1.0, 3.0, 3.0, -1.0], [2.0, 2.0, 2.0, 2.0], [math.nan, 1.0, 0.5, 0.7]])
    valid = torch.isfinite(score)
    best, worst = best_and_worst(score, valid)
    assert best.tolist() == [1, 0, 1]
    assert worst.tolist() == [3, 0, 2]
