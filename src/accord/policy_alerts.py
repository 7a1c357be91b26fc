"""Alerts on training health: the value, the limit, and what to try.

A limit is either what a figure means (a critic that explains less than nothing), a target that the recipe
sets, or the run's own start. The literature's round numbers are said to be that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accord.config import Online


@dataclass(frozen=True)
class Alert:
    """One figure that is not as it should be."""

    figure: str
    value: float
    limit: float
    what_to_try: str

    def sentence(self) -> str:
        return f"{self.figure} is {self.value:.3g}, the limit is {self.limit:.3g}: {self.what_to_try}"

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "value": self.value,
            "limit": self.limit,
            "what_to_try": self.what_to_try,
        }


@dataclass(frozen=True)
class _Rule:
    figure: str
    limit: float
    beyond: Callable[[float, float], bool]
    what_to_try: str
    from_step: int = 0


def _above(value: float, limit: float) -> bool:
    return value > limit


def _below(value: float, limit: float) -> bool:
    return value < limit


_RULES = (
    _Rule("skipped_updates", 0, _above, "lower the learning rate, or set model.dtype to float32"),
    _Rule(
        "clip_fraction",
        0.3,
        _above,
        "lower the learning rate or online.epochs (0.3 is the literature's round number)",
    ),
    _Rule(
        "effective_share", 0.5, _below, "half of the samples count for nothing: fewer epochs or minibatches"
    ),
    _Rule(
        "explained_variance",
        0.0,
        _below,
        "the critic is worse than none: raise critic_learning_rate or critic_warmup_steps, or use rloo",
        from_step=10,
    ),
    _Rule(
        "no_spread_share",
        0.5,
        _above,
        "most prompts teach nothing: raise samples_per_prompt or the temperature, or set dynamic_sampling",
    ),
    _Rule(
        "unfinished_share",
        0.5,
        _above,
        "most responses are cut off: raise sampling.max_new_tokens, or penalise length (overlong)",
    ),
    _Rule("unscored_share", 0.1, _above, "the reward function fails on many responses: mend it"),
)


@dataclass
class Watch:
    """Alerts of a run; it remembers the entropy of the first step, and what is alight already.

    Attributes:
        entropy_at_start, alight: the state to checkpoint.
    """

    config: Online
    entropy_at_start: float | None = None
    alight: set[str] = field(default_factory=set)

    def look(self, step: int, figures: Mapping[str, float]) -> tuple[list[Alert], list[Alert]]:
        """(all alerts of the step, those among them that the step before did not have)."""
        found = [
            Alert(rule.figure, figures[rule.figure], rule.limit, rule.what_to_try)
            for rule in _RULES
            if step >= rule.from_step
            and math.isfinite(figures.get(rule.figure, math.nan))
            and rule.beyond(figures[rule.figure], rule.limit)
        ]
        # What the controller steers: with reference_ema the KL to the average, which the target is about.
        kl = figures.get("kl_penalised", figures.get("kl", math.nan))
        target = self.config.kl.target
        if self.config.kl.controller != "fixed" and kl > 1.5 * target:
            found.append(
                Alert("kl", kl, 1.5 * target, "the penalty does not hold it: raise kl.coefficient or kl.rate")
            )
        entropy = figures.get("entropy", math.nan)
        if self.entropy_at_start is None and math.isfinite(entropy):
            self.entropy_at_start = entropy
        if self.entropy_at_start is not None and entropy < 0.2 * self.entropy_at_start:
            found.append(
                Alert(
                    "entropy",
                    entropy,
                    0.2 * self.entropy_at_start,
                    "a fifth of its start: the policy is collapsing, raise kl.coefficient or stop earlier",
                )
            )
        new = [alert for alert in found if alert.figure not in self.alight]
        self.alight = {alert.figure for alert in found}
        return found, new

    def state(self) -> dict[str, Any]:
        return {"entropy_at_start": self.entropy_at_start, "alight": sorted(self.alight)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.entropy_at_start, self.alight = state["entropy_at_start"], set(state["alight"])
