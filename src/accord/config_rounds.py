"""How rounds follow each other: what a later one starts from, and which pairs it asks about."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from accord.config_base import Config, Count, Probability, Sampling

Strategy = Literal["random", "disagreement", "double_thompson", "information_gain"]


class BetweenRounds(Config):
    """What a later round starts from. The KL is to SFT either way."""

    policy_from: Literal["sft", "previous"] = Field(
        "sft", description="previous: RL goes on from the last policy"
    )
    reward_from: Literal["sft", "previous"] = Field(
        "sft",
        description="sft: fresh on all labels; previous: the last reward model is trained further on all",
    )


class Collect(Config):
    """Samples of the current policy, paired for comparison. Sides are drawn at random and recorded."""

    samples_per_prompt: Annotated[int, Field(ge=2)] = 4
    pairs: Count = Field(400, description="pairs to be labelled in a round: its label budget")
    sampling: Sampling = Sampling()
    strategy: Strategy = Field(
        "random", description="which pairs a later round asks about; the first has no labels to ask from"
    )
    random_share: Probability = Field(
        0.2,
        description="of the pairs: random ones, on the prompts that the reward model is tested on",
    )
    members: Annotated[int, Field(ge=2)] = Field(
        8, description="heads on bootstrap draws of the labels, by which a strategy chooses"
    )
