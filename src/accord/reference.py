"""The reference policy: a frozen copy on the shared trunk, or the policy itself with LoRA off; and, where
asked for, a moving average of the policy beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from accord import models, towers
from accord.config import Weights
from accord.towers import Tower


class Reference:
    """The policy as it was when this was made; make it before any weight is selected for training.

    Args:
        start: the policy's bottom layers that stay frozen; the reference shares them.
        given: another model to be the reference, where the policy starts from an optimised one.
    """

    def __init__(self, policy: Any, weights: Weights, start: int, given: Any | None = None) -> None:
        if given is not None:
            self._lora, self.model = None, given.requires_grad_(False).eval()
            base = towers.base_of(given)
            shared = towers.common_layers(towers.base_of(policy), base) >= start > 0
            self._copy_tower: Tower | None = Tower(base, start if shared else 0)
            return
        self._lora = policy if weights.train == "lora" else None
        self.model = policy if self._lora is not None else _frozen_copy(policy, start)
        self._copy_tower = None if self._lora is not None else Tower(towers.base_of(self.model), start)

    @contextmanager
    def tower(self, policy_tower: Tower) -> Iterator[Tower]:
        """The tower of the reference, for as long as the context is open."""
        if self._copy_tower is not None:
            yield self._copy_tower
            return
        models.set_lora(self._lora, False)
        try:
            yield policy_tower
        finally:
            models.set_lora(self._lora, True)


class MovingAverage:
    """An exponential moving average of the weights that are trained: θ̄ ← decay · θ̄ + (1 − decay) · θ.

    The average is kept in float32: in bfloat16 a step of 1% of a small difference is rounded away. Frozen
    layers are nowhere copied, and the policy's own modules compute with the average for as long as `tower` is
    open: so trunk, LoRA and head need no second arrangement. With LoRA it is the average of the two matrices,
    not of their product.

    Args:
        trained: the policy's trained weights by name.
        decay: share of the old average that a step keeps.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._trained = list(trained.values())
        self._mean = [parameter.detach().float().clone() for parameter in self._trained]

    @torch.no_grad()
    def update(self) -> None:
        """Call once after a batch's updates."""
        for mean, parameter in zip(self._mean, self._trained, strict=True):
            mean.mul_(self.decay).add_(parameter, alpha=1 - self.decay)

    @contextmanager
    def tower(self, policy_tower: Tower) -> Iterator[Tower]:
        """The policy's own tower with the averaged weights; only inside ``torch.no_grad()``."""
        kept = [parameter.data for parameter in self._trained]
        for mean, parameter in zip(self._mean, self._trained, strict=True):
            parameter.data = mean.to(parameter.dtype)
        try:
            yield policy_tower
        finally:
            for data, parameter in zip(kept, self._trained, strict=True):
                parameter.data = data

    def state(self) -> list[Tensor]:
        """Everything that a bit-identical continuation needs."""
        return self._mean

    @torch.no_grad()
    def load(self, state: list[Tensor]) -> None:
        for mean, saved in zip(self._mean, state, strict=True):
            mean.copy_(saved)


def _frozen_copy(policy: Any, shared_layers: int) -> Any:
    """A copy whose frozen bottom layers stay shared with the policy."""
    base = towers.base_of(policy)
    memo: dict[int, Any] = {id(layer): layer for layer in base.layers[:shared_layers]}
    if shared_layers:
        memo |= {id(base.embed_tokens.weight): base.embed_tokens.weight}
    reference = copy.deepcopy(policy, memo)
    return reference.requires_grad_(False).eval()
