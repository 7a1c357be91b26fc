"""Masked arithmetic by hand, and head log-probabilities against log_softmax on full logits."""

from __future__ import annotations

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from accord import tensors
from accord.tensors import head_logps, head_sum, masked_mean, whiten


def test_masked_mean_counts_only_the_mask():
    value, mask = tensor([[1.0, 2.0, 90.0], [4.0, 90.0, 90.0]]), tensor([[1, 1, 0], [1, 0, 0]])
    assert_close(masked_mean(value, mask), tensor(7 / 3))
    assert_close(masked_mean(value, mask, 14), tensor(0.5))


def test_whiten_by_hand():
    # 1, 2, 3, 6: mean 3, biased variance (4 + 1 + 0 + 9) / 4 = 3.5
    value, mask = tensor([[1.0, 2.0, 50.0], [3.0, 6.0, 50.0]]), tensor([[1, 1, 0], [1, 1, 0]])
    expected = tensor([[-2.0, -1.0, 0.0], [0.0, 3.0, 0.0]]) / 3.5**0.5
    assert_close(whiten(value, mask), expected)
    assert_close(whiten(value, mask, shift_mean=False), expected + 3 * mask)


@pytest.mark.parametrize("rows", [1, 4, 100])  # 1: two products of 8 chunks and a rest; 4: three chunks; one
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_head_logps_value_entropy_and_gradient(temperature, rows, monkeypatch):
    monkeypatch.setitem(tensors.HEAD_CHUNK, "cpu", rows * 17)
    draw = torch.Generator().manual_seed(1)
    hidden = torch.randn(11, 6, generator=draw, requires_grad=True)
    weight = torch.randn(17, 6, generator=draw, requires_grad=True)
    target = torch.randint(0, 17, (11,), generator=draw)
    upstream = torch.randn(11, generator=draw)
    logp, entropy = head_logps(hidden, weight, target, temperature=temperature, entropy=True)
    got = torch.autograd.grad((logp * upstream).sum(), (hidden, weight))
    full = (hidden @ weight.t() / temperature).log_softmax(1)
    chosen = full.gather(1, target[:, None])[:, 0]
    expected = torch.autograd.grad((chosen * upstream).sum(), (hidden, weight), retain_graph=True)
    assert_close(logp, chosen, atol=1e-5, rtol=1e-5)
    assert_close(entropy, -(full.exp() * full).sum(1), atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(got, expected, strict=True):
        assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_head_logps_of_no_tokens():
    logp, entropy = head_logps(torch.zeros(0, 6), torch.zeros(17, 6), torch.zeros(0, dtype=torch.long))
    assert logp.shape == entropy.shape == (0,)


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("frozen", [None, "hidden", "weight"])
def test_head_sum_is_the_weighted_sum_of_head_logps(frozen, rows, monkeypatch):
    monkeypatch.setitem(tensors.HEAD_CHUNK, "cpu", rows * 17)
    draw = torch.Generator().manual_seed(2)
    inputs = {
        name: torch.randn(count, 6, generator=draw).requires_grad_(name != frozen)
        for name, count in (("hidden", 11), ("weight", 17))
    }
    target, weight = torch.randint(0, 17, (11,), generator=draw), torch.randn(11, generator=draw)
    trained = [value for value in inputs.values() if value.requires_grad]
    total = head_sum(inputs["hidden"], inputs["weight"], target, weight)
    full = (inputs["hidden"] @ inputs["weight"].t()).log_softmax(1)
    expected = (full.gather(1, target[:, None])[:, 0] * weight).sum()
    assert_close(total, expected, atol=1e-5, rtol=1e-5)
    got = torch.autograd.grad(total * -3, trained)  # a factor from outside, as a scaled loss has
    for mine, theirs in zip(got, torch.autograd.grad(expected * -3, trained), strict=True):
        assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
