"""ODIN's terms against numbers derived by hand, NumPy and numerical gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, tensor, zeros
from torch.testing import assert_close

from accord.length_losses import length_correlation_loss, orthogonality_penalty, pearson


def f64(values, grad: bool = False) -> Tensor:
    return tensor(values, dtype=torch.float64, requires_grad=grad)


def test_pearson_by_hand_and_as_numpy():
    # centred (−1, 0, 1) and (−1, 1, 0): 1 / √(2 · 2)
    assert_close(pearson(f64([1.0, 2.0, 3.0]), f64([1.0, 3.0, 2.0])), f64(0.5))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50) + 100
    assert_close(pearson(torch.tensor(x), torch.tensor(y)), f64(np.corrcoef(x, y)[0, 1]))


def test_length_loss_by_hand():
    length = f64([1.0, 2.0, 3.0])
    # quality ρ = −1/2 counts as 1/2; the length head's ρ = 1 is taken off
    assert_close(length_correlation_loss(f64([3.0, 1.0, 2.0]), length, length), f64(-0.5))
    # the length head's ρ = −1 is no success: 1/2 + 1
    assert_close(length_correlation_loss(f64([1.0, 3.0, 2.0]), f64([3.0, 2.0, 1.0]), length), f64(1.5))


def test_constant_scores_or_lengths_have_no_correlation_and_no_gradient():
    constant = f64([0.1, 0.1, 0.1], True)
    assert pearson(constant, f64([1.0, 2.0, 3.0])) == 0
    assert pearson(f64([1.0, 2.0, 3.0]), f64([7.0, 7.0, 7.0])) == 0
    quality = f64([1.0, 3.0, 2.0], True)
    length_correlation_loss(quality, constant, f64([1.0, 2.0, 3.0])).backward()
    assert torch.isfinite(quality.grad).all()
    assert constant.grad is None


def test_orthogonality_by_hand():
    # (3, 4) · (4, 3) = 24 over 5 · 5, whatever the sign and the size
    assert_close(orthogonality_penalty(f64([3.0, 4.0]), f64([4.0, 3.0])), f64(0.96))
    assert_close(orthogonality_penalty(f64([3.0, 4.0]), f64([-40.0, -30.0])), f64(0.96))
    assert orthogonality_penalty(f64([1.0, 0.0]), f64([0.0, 2.0])) == 0


def test_gradients():
    quality, head, length = f64([0.3, -1.0, 2.0], True), f64([1.0, 0.2, 0.7], True), f64([5.0, 9.0, 2.0])
    assert torch.autograd.gradcheck(lambda q, h: length_correlation_loss(q, h, length), (quality, head))
    assert torch.autograd.gradcheck(orthogonality_penalty, (quality, head))


def test_scores_alone_first_give_the_same_gradient_as_the_whole_graph():
    """The way that the docstring names for batches beyond memory."""
    weight, x_BH = f64([0.5, -1.0], True), f64([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0], [1.0, 1.0]])
    length, head = f64([3.0, 1.0, 8.0, 4.0]), f64([0.0, 1.0, 2.0, 5.0])
    length_correlation_loss(x_BH @ weight, head, length).backward()
    whole, weight.grad = weight.grad.clone(), None
    cached = (x_BH @ weight).detach().requires_grad_()
    length_correlation_loss(cached, head, length).backward()
    for part in (slice(0, 1), slice(1, 4)):
        (x_BH[part] @ weight).backward(cached.grad[part])
    assert_close(weight.grad, whole)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="2 responses or more, got 1"):
        pearson(zeros(1), zeros(1))
    with pytest.raises(ValueError, match="all 0"):
        orthogonality_penalty(zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="length_B has B = 2"):
        length_correlation_loss(zeros(3), zeros(3), zeros(2))
