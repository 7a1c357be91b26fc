"""Everything about a lab run that can be changed with ``--set``; the defaults are the reported ones."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from accord.config import Config
from accord.diagnostics.statistics import FloatArray
from accord.lab.reward import RewardSettings
from accord.lab.world import Share, WorldSettings

PairCount = Annotated[int, Field(ge=2, le=1_000_000)]
Noise = Annotated[float, Field(gt=0, le=1000)]


class LabSettings(Config):
    """The sliders' levels are sorted and distinct; the defaults of a slider are among its levels."""

    world: WorldSettings = WorldSettings()
    reward: RewardSettings = RewardSettings()
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="of the first reward model; the others follow it"
    )
    seeds: Annotated[int, Field(ge=2, le=1000)] = Field(
        16, description="reward-model seeds: labels and pretraining"
    )
    farthest: Annotated[float, Field(gt=0)] = Field(
        2.4, description="√KL in √nats at the end of optimisation"
    )
    points: Annotated[int, Field(ge=11)] = Field(25, description="checkpoints, the start among them")
    pairs: tuple[PairCount, ...] = (100, 200, 300, 600, 1200, 2400)
    noise: tuple[Noise, ...] = (0.25, 0.5, 1.0)
    misspecification: tuple[Share, ...] = (0.0, 0.5, 0.75, 1.0)
    members: tuple[Annotated[int, Field(ge=1, le=100)], ...] = (1, 3, 8)
    few_pairs: PairCount = Field(
        300, description="where a reward model is weak: items 1, 4 and 5 of the acceptance list"
    )
    usual_noise: Noise = 0.5
    annotator_bias: Annotated[float, Field(ge=0)] = Field(
        1.0, description="gold that biased annotators wrongly give a deviation of length"
    )
    rounds: Annotated[int, Field(ge=1, le=20)] = Field(3, description="after the first")
    round_kl: Annotated[float, Field(gt=0)] = Field(2.25, description="nats, of every round's policy")
    fixed_kl: Annotated[float, Field(gt=0)] = Field(
        2.89, description="nats: the budget of the fixed stop rule"
    )
    checkpoint_labels: Annotated[int, Field(ge=1)] = Field(
        100, description="labels for each labelled checkpoint"
    )

    @model_validator(mode="after")
    def _levels(self) -> LabSettings:
        for name in ("pairs", "noise", "misspecification", "members"):
            levels = getattr(self, name)
            if not levels or list(levels) != sorted(set(levels)):
                raise ValueError(f"{name} must be levels that rise, got {list(levels)}")
        for name, value, levels in (
            ("few_pairs", self.few_pairs, self.pairs),
            ("usual_noise", self.usual_noise, self.noise),
        ):
            if value not in levels:
                raise ValueError(f"{name} is {value:g}, but the levels are {list(levels)}: name one of them")
        if not {0.0, 1.0} <= set(self.misspecification):
            raise ValueError(f"misspecification needs the levels 0 and 1, got {list(self.misspecification)}")
        if self.members[0] != 1 or len(self.members) < 2:
            raise ValueError(f"members needs 1 and a larger level, got {list(self.members)}")
        limit = float(np.sqrt(0.8 * np.log(self.world.responses)))
        if self.farthest > limit:
            raise ValueError(
                f"farthest is {self.farthest:g}, but {self.world.responses} responses allow {limit:.2f}"
                " before a policy is a handful of answers: take more responses or a smaller distance"
            )
        return self

    @property
    def distance_P(self) -> FloatArray:
        """√KL of the checkpoints, equally spaced, the start first."""
        return np.linspace(0.0, self.farthest, self.points)
