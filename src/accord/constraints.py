"""A constraint on a second score: at least this much on average, at the least cost to the first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from accord.records import BadInput


@dataclass
class ConstraintMultiplier:
    """Lagrange multiplier λ of ``mean score ≥ threshold``, by dual ascent (Moskovitz et al. 2023,
    2310.04373).

    The policy is paid reward + λ · (score − threshold); λ ← max(0, λ + rate · (threshold − mean score)). So λ
    rises while the constraint is broken, and falls back to 0 where it costs nothing.

    Attributes:
        threshold: in units of the constrained score.
        rate: multiplier per unit of that score and step.
        multiplier: λ now; the whole state to checkpoint.
    """

    threshold: float
    rate: float
    multiplier: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise BadInput(f"constraint: rate is {self.rate}, it must be above 0")
        if not math.isfinite(self.threshold):
            raise BadInput(f"constraint: threshold is {self.threshold}, it must be a number")

    def update(self, mean_score: float) -> float:
        """Moves λ after a step and returns it.

        Args:
            mean_score: over the step's responses, all processes.

        Raises:
            ValueError: the mean is not finite (λ would stay NaN for the rest of the run).
        """
        if not math.isfinite(mean_score):
            raise ValueError(f"the constrained score's mean is {mean_score}: leave the step out")
        self.multiplier = max(0.0, self.multiplier + self.rate * (self.threshold - mean_score))
        return self.multiplier
