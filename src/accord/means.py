"""The one mean that every loss takes: a weighted sum over an explicit, global count."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

Count: TypeAlias = float | Tensor


def weighted_mean(term: Tensor, weight: Tensor | None, count: Count | None) -> Tensor:
    """Σ weight · term / count; without a count, over the sum of the weights. Weight 0 silences any term.

    Raises:
        ValueError: there is nothing to divide by.
    """
    if weight is None:
        weight = torch.ones_like(term)
    if count is None:
        count = float(weight.sum())
    if not isinstance(count, Tensor) and not count > 0:  # a tensor is not looked at: that would stall a GPU
        raise ValueError(f"the loss is divided by a count of {count}: it must be above 0")
    return (torch.where(weight != 0, term, 0.0) * weight).sum() / count
