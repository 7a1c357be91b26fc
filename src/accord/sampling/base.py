"""The seam between training and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from accord.batches import Rollouts, Tokens
from accord.config import Sampling


class Sampler(Protocol):
    def sample(self, prompts: Sequence[Tokens], k: int, sampling: Sampling, seed: int) -> Rollouts:
        """k responses to each prompt. The same seed and weights give the same tokens."""
        ...
