"""Explosions of loss and KL: found by the run's own range, not by a figure that somebody else's run gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accord.workspace import NumericalTrouble

WATCHED = {
    "grad_norm": "gradient norm",
    "critic_grad_norm": "critic's gradient norm",
    "value_loss": "value loss",
    "kl_rise": "rise of the KL in one step, nats per response",
}


class PolicyExploded(NumericalTrouble):
    """Loss or KL left the run's own range.

    Attributes:
        kept: the trainer was put back to its last healthy state; without, none had been saved.
    """

    def __init__(self, message: str, *, kept: bool = False) -> None:
        super().__init__(message)
        self.kept = kept


@dataclass
class OwnRange:
    """The largest of each watched figure so far, and what is far beyond it.

    A multiple of the *largest* and not of a deviation: warm-up and a critic that still learns make early
    steps far from normal, and a false stop costs a run.

    Attributes:
        factor: this many times the largest of the steps before counts as an explosion.
        after: steps that make the range before anything is judged.
        largest, last_kl, steps: the state to checkpoint.
    """

    factor: float
    after: int
    largest: dict[str, float] = field(default_factory=dict)
    last_kl: float | None = None
    steps: int = 0

    def judge(self, figures: Mapping[str, float]) -> str | None:
        """A sentence about what exploded in this step, or None; a healthy step widens the range."""
        seen = {name: figures[name] for name in WATCHED if name in figures}
        if self.last_kl is not None and "kl" in figures:
            seen["kl_rise"] = max(0.0, figures["kl"] - self.last_kl)
        finite = {name: value for name, value in seen.items() if math.isfinite(value)}
        if self.steps >= self.after:
            for name, value in finite.items():
                limit = self.factor * self.largest.get(name, math.inf)
                if limit > 0 and value > limit:
                    return (
                        f"{WATCHED[name]} is {value:.3g}, more than {self.factor:g} times the largest of the"
                        f" {self.steps} healthy steps before ({self.largest[name]:.3g})"
                    )
        for name, value in finite.items():
            self.largest[name] = max(self.largest.get(name, 0.0), value)
        self.last_kl = figures.get("kl", self.last_kl)
        self.steps += 1
        return None

    def state(self) -> dict[str, Any]:
        return {"largest": dict(self.largest), "last_kl": self.last_kl, "steps": self.steps}

    def load(self, state: Mapping[str, Any]) -> None:
        self.largest, self.steps = dict(state["largest"]), int(state["steps"])
        self.last_kl = state["last_kl"]
