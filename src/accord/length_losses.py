"""ODIN's losses: one head takes up what length explains, so that the other need not (Chen et al. 2024).

Two linear heads read the same hidden state: quality and length. Bradley–Terry is trained on their *sum*, and
in RL the length head is thrown away. Two terms keep the heads apart (arXiv 2402.07319, section 4), with ρ
Pearson's correlation over the batch and L the response's length:

    length         |ρ(r_quality, L)| − ρ(r_length, L)
    orthogonality  |w_quality · w_length|, the weights normalised

Axes: B responses, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.axes import check_axes


def pearson(x_B: Tensor, y_B: Tensor) -> Tensor:
    """Pearson's correlation, a scalar with gradient; 0 without gradient where either side is constant.

    Raises:
        ValueError: shapes differ, or fewer than 2 responses.
    """
    check_axes(x_B=x_B, y_B=y_B)
    if len(x_B) < 2:
        raise ValueError(f"a correlation needs 2 responses or more, got {len(x_B)}")
    x_B, y_B = x_B - x_B.mean(), y_B - y_B.mean()
    square = x_B.square().sum() * y_B.square().sum()
    # A constant side leaves round-off in place of 0; dividing by its root would make noise of any size.
    if not float(square.detach()) > 1e-20:
        return torch.zeros_like(square.detach())
    return (x_B * y_B).sum() / square.sqrt()


def length_correlation_loss(quality_B: Tensor, length_head_B: Tensor, length_B: Tensor) -> Tensor:
    """|ρ(quality, length)| − ρ(length head, length), between −1 and 2; −1 is the goal.

    A correlation is no sum over responses, so microbatches do not add up: pass the responses of the whole
    step, chosen and rejected alike. Where they do not fit in memory, score them without a graph first, take
    the gradient of this loss by the scores, and send that back through each microbatch.

    Args:
        quality_B: scores of the head that is kept.
        length_head_B: scores of the head that is thrown away.
        length_B: lengths (tokens of the response), as floating point.
    """
    check_axes(quality_B=quality_B, length_head_B=length_head_B, length_B=length_B)
    return pearson(quality_B, length_B).abs() - pearson(length_head_B, length_B)


def orthogonality_penalty(quality_H: Tensor, length_H: Tensor) -> Tensor:
    """|cosine| of the two heads' weights, in [0, 1]; 0 is the goal, whatever their size.

    Raises:
        ValueError: shapes differ, or a head of zeros, which has no direction.
    """
    check_axes(quality_H=quality_H, length_H=length_H)
    size = quality_H.norm() * length_H.norm()
    if not float(size.detach()) > 0:
        raise ValueError("a head's weights are all 0, so it has no direction: start both heads at random")
    cosine: Tensor = (quality_H @ length_H).abs() / size
    return cosine
