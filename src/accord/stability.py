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
        after: values above 0 of a figure that make its range before it is judged: while a critic warms up,
            the KL stands still, and its first rise would be infinitely many times the largest before.
        largest, counts, last_kl: the state to checkpoint.
    """

    factor: float
    after: int
    largest: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    last_kl: float | None = None

    def judge(self, figures: Mapping[str, float]) -> str | None:
        """A sentence about what exploded in this step, or None; a healthy step widens the range."""
        seen = {name: figures[name] for name in WATCHED if name in figures}
        if self.last_kl is not None and "kl" in figures:
            seen["kl_rise"] = max(0.0, figures["kl"] - self.last_kl)
        moved = {name: value for name, value in seen.items() if math.isfinite(value) and value > 0}
        for name, value in moved.items():
            count = self.counts.get(name, 0)
            if count >= self.after and value > self.factor * self.largest[name]:
                return (
                    f"{WATCHED[name]} is {value:.3g}, more than {self.factor:g} times the largest of the"
                    f" {count} healthy steps before ({self.largest[name]:.3g})"
                )
        for name, value in moved.items():
            self.largest[name] = max(self.largest.get(name, 0.0), value)
            self.counts[name] = self.counts.get(name, 0) + 1
        self.last_kl = figures.get("kl", self.last_kl)
        return None

    def state(self) -> dict[str, Any]:
        return {"largest": dict(self.largest), "counts": dict(self.counts), "last_kl": self.last_kl}

    def load(self, state: Mapping[str, Any]) -> None:
        self.largest, self.counts = dict(state["largest"]), dict(state["counts"])
        self.last_kl = state["last_kl"]
