"""How a policy learns from preferences themselves: the direct methods, and rejection sampling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord.config_base import Config, Count, Optimizer, Sampling, Weights

DirectAlgorithm = Literal["dpo", "cdpo", "robust_dpo", "ipo", "kto", "orpo", "simpo"]
SMOOTHED = ("cdpo", "robust_dpo")
# What the papers use, where nothing is given. SimPO's is applied to means over tokens, the others' to sums.
BETA = {"simpo": 2.0}
DEFAULT_BETA = 0.1
DEFAULT_SMOOTHING = 0.1
# Options of one algorithm each: another one would take them and do nothing with them.
OWNERS = {"gamma": "simpo", "odds_weight": "orpo", "good_weight": "kto", "bad_weight": "kto"}


class Direct(Config):
    """A policy trained on comparisons, without sampling and without a reward model.

    The reward model of the recipe is still trained on the same comparisons: it is the proxy that the report
    measures the policy by, and no gradient comes from it.
    """

    algorithm: DirectAlgorithm = "dpo"
    beta: Annotated[float, Field(gt=0)] | None = Field(
        None, description="nats of reward per nat of log ratio; None: 0.1, and 2 for simpo"
    )
    gamma: Annotated[float, Field(ge=0)] = Field(1.0, description="simpo: the margin to reach, nats")
    odds_weight: Annotated[float, Field(gt=0)] = Field(0.1, description="orpo: λ of the odds ratio")
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(
        None, description="cdpo, robust_dpo: share of labels that are the wrong way round; None: 0.1"
    )
    ties: Literal["drop", "rao_kupper", "davidson"] = Field("drop", description="dpo only, unless dropped")
    good_weight: Annotated[float, Field(gt=0)] = Field(1.0, description="kto: λ_D")
    bad_weight: Annotated[float, Field(gt=0)] = Field(1.0, description="kto: λ_U")
    reference: Literal["cached", "live"] = Field(
        "cached", description="cached: log-probabilities computed once and kept on disk; live: at every step"
    )
    epochs: Count = 1
    pairs_per_step: Count = Field(32, description="comparisons (kto: answers that were judged alone)")
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=5e-6, warmup_steps=3, schedule="linear")
    sampling: Sampling = Field(
        Sampling(), description="of the evaluation; log-probabilities are taken at its temperature"
    )
    evaluate_every: Count = 10
    max_bad_steps: Count = Field(3, description="stop after so many steps with NaN or infinity in a row")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0

    @property
    def strength(self) -> float:
        """β as it is used."""
        return BETA.get(self.algorithm, DEFAULT_BETA) if self.beta is None else self.beta

    @property
    def smoothing(self) -> float:
        """Label smoothing as it is used: 0 where the algorithm has none."""
        if self.algorithm not in SMOOTHED:
            return 0.0
        return DEFAULT_SMOOTHING if self.label_smoothing is None else self.label_smoothing

    @property
    def needs_reference(self) -> bool:
        return self.algorithm not in ("orpo", "simpo")

    @model_validator(mode="after")
    def _fits(self) -> Direct:
        if self.label_smoothing is not None and self.algorithm not in SMOOTHED:
            raise ValueError(
                f"label_smoothing is {self.label_smoothing}, but {self.algorithm} has none:"
                " use algorithm: cdpo or robust_dpo, or leave it out"
            )
        if self.beta is not None and self.algorithm == "orpo":
            raise ValueError(
                f"beta is {self.beta:g}, but orpo has no reference to be held to: set odds_weight, its λ"
                " (beta in TRL), and leave beta out"
            )
        for name, owner in OWNERS.items():
            if self.algorithm != owner and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {getattr(self, name):g}, but {self.algorithm} has none: use algorithm:"
                    f" {owner}, or leave it out"
                )
        if self.ties != "drop" and self.algorithm != "dpo":
            raise ValueError(
                f"ties is {self.ties}, but {self.algorithm} has no model of ties:"
                " use algorithm: dpo, or ties: drop"
            )
        return self


class Rejection(Config):
    """Rejection-sampling fine-tuning: the best of n samples of each training prompt, imitated.

    The reward model picks (best of n, ``samples_per_prompt``), then the policy is fine-tuned on what it
    picked: one round of it, from the SFT policy.
    """

    samples_per_prompt: Annotated[int, Field(ge=2)] = Field(8, description="n; the best of them is kept")
    epochs: Count = 2
    tokens_per_step: Count = Field(1024, description="packed tokens in one optimiser step")
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=2e-5, warmup_steps=3, schedule="linear")
    sampling: Sampling = Sampling()
    evaluate_every: Count = 10
    max_bad_steps: Count = 3
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
