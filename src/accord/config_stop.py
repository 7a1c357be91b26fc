"""When RL stops, and which checkpoint it keeps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from accord.config_base import Config

# Findings that every evaluation can be asked for. Not gold's: no real run has it.
Watched = Literal[
    "length_shift",
    "length_share",
    "repetition_shift",
    "diversity_shift",
    "entropy_shift",
    "style_reliance",
    "classifier_drift",
    "mmd_drift",
    "mode_collapse",
    "ensemble_spread",
]


LOOKS_FOR_A_PEAK = 6  # labelled evaluations that a curve with a peak is fitted to, SFT's included


class KlBudget(Config):
    rule: Literal["kl_budget"]
    limit: Annotated[float, Field(gt=0)] = Field(description="nats a response")


class TurnedDown(Config):
    rule: Literal["turned_down"]
    score: Literal["other_half", "pessimistic"] = Field(
        "other_half", description="of the held-out labels' model, or the ensemble's lowest member"
    )


class PredictedPeak(Config):
    """The judge labels each evaluation's samples against SFT's; needs one that answers at once."""

    rule: Literal["predicted_peak"]


class Alarm(Config):
    rule: Literal["alarm"]
    finding: Watched


StopRule = Annotated[KlBudget | TurnedDown | PredictedPeak | Alarm, Field(discriminator="rule")]


class Stop(Config):
    """Rules that are asked after every evaluation; the best checkpoint by them is the round's policy."""

    rules: tuple[StopRule, ...] = ()
    when: Literal["any", "all"] = Field("any", description="stop at the first rule that says so, or the last")
