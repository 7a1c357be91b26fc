"""What a response is paid, beside the run's own reward model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from accord.config_base import Config, Count


class RewardSource(Config):
    """A Python function, or another reward model, with its weight in the sum."""

    path: str = Field(description="module:function or file.py:function; or a model folder or hub id")
    weight: float = 1.0
    label: str | None = Field(
        None, description="of a classifier with several labels: the one that is the score"
    )
    skip_failures: bool = Field(
        False, description="a function that fails on a response: leave the response out, do not stop"
    )


class Constraint(Config):
    """A score whose mean is to be at or above a threshold; a Lagrange multiplier is its weight."""

    path: str = Field(description="as in rewards")
    threshold: float
    rate: Annotated[float, Field(gt=0)] = Field(0.1, description="dual ascent: multiplier per unit and step")
    label: str | None = None


class Shaping(Config):
    """A monotone change of the summed score, before any penalty."""

    kind: Literal["none", "sigmoid", "clip", "whiten"] = Field(
        "none", description="sigmoid: σ(score − centre); clip: to centre ± limit; whiten: scale only, batch"
    )
    centre: float = Field(0.0, description="normalised scores have 0: the mean over reference samples")
    limit: Annotated[float, Field(gt=0)] = 5.0


class Overlong(Config):
    """Soft overlong penalty: it grows over the last tokens before the limit."""

    buffer_tokens: Count = Field(description="tokens before sampling.max_new_tokens over which it grows")
    penalty: Annotated[float, Field(gt=0)] = Field(1.0, description="at the limit, normalised score")
