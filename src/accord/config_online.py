"""How a policy is optimised on its own samples."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord.config_base import Aggregation, Config, Count, Optimizer, Probability, Sampling, Weights
from accord.config_rewards import Constraint, Overlong, RewardSource, Shaping

COMPARES_SAMPLES = ("rloo", "grpo", "gspo", "online_dpo")


class Kl(Config):
    """Penalty on the KL to the SFT policy, and who sets its size."""

    placement: Literal["reward", "loss", "none"] = Field(
        "reward", description="reward: k1 per token; loss: k2 of the response; none: measured, not penalised"
    )
    estimator: Literal["k1", "k2", "k3"] | None = Field(
        None, description="the one that the placement allows; written out, it is checked"
    )
    coefficient: float = Field(0.05, description="score per nat, above 0")
    controller: Literal["fixed", "adaptive", "budget"] = "fixed"
    target: Annotated[float, Field(gt=0)] = Field(6.0, description="nats per response")
    horizon: Count = Field(10_000, description="samples (adaptive)")
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="budget: largest change of the penalty's logarithm in a step"
    )

    @model_validator(mode="after")
    def _right_gradient(self) -> Kl:
        if not 0 < self.coefficient < math.inf:
            raise ValueError(
                f"coefficient is {self.coefficient:g}, it must be above 0: to leave the penalty out, set"
                " placement: none"
            )
        if self.placement == "loss" and self.estimator == "k1":
            raise ValueError(
                "estimator: k1 cannot be a KL loss, its expected gradient is zero: use k2, or placement:"
                " reward"
            )
        if self.placement == "loss" and self.estimator == "k3":
            raise ValueError(
                "estimator: k3 cannot be a KL loss, its gradient is that of KL(reference ‖ policy): use k2;"
                " k3 is logged in any case"
            )
        if self.placement == "reward" and self.estimator not in (None, "k1"):
            raise ValueError(
                f"estimator: {self.estimator} cannot be in the reward, its mean or its gradient there is not"
                " the KL's: use k1, or placement: loss with k2"
            )
        if self.placement == "none" and self.controller != "fixed":
            raise ValueError(
                f"placement is none, so that controller: {self.controller} steers nothing: use reward or loss"
            )
        return self


class MissingEnd(Config):
    """What a response that never ends is paid."""

    mode: Literal["none", "subtract", "replace"] = "subtract"
    value: Annotated[float, Field(ge=0)] = Field(1.0, description="size of the penalty, normalised score")


class DynamicSampling(Config):
    """DAPO: prompts whose samples all score the same are sampled again, then left out of the batch."""

    tries: Count = Field(3, description="samplings of a prompt, the first one included")


class Explosion(Config):
    """When a loss or the KL has exploded: a multiple of the run's own range so far."""

    factor: Annotated[float, Field(gt=1)] = Field(
        10.0, description="times the largest gradient norm, value loss and rise of the KL of the steps before"
    )
    after: Annotated[int, Field(ge=2)] = Field(
        10, description="values above 0 that make a figure's own range"
    )
    shrink: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="rollback: factor on the step size")
    rollbacks: Count = Field(3, description="after so many the run stops")


class Online(Config):
    algorithm: Literal["ppo", "rloo", "grpo", "reinforce", "reinforce++", "gspo", "online_dpo"] = "ppo"
    ensemble: Aggregation = Field(
        Aggregation(), description="one score from the members of an ensemble of reward models"
    )
    criteria_weights: dict[str, float] = Field(
        {}, description="of a reward model's criteria; empty: all alike, summing to 1"
    )
    steps: Count = 30
    prompts_per_step: Count = 16
    samples_per_prompt: Count = 4
    epochs: Count = 1
    minibatches: Count = 1
    max_staleness: Annotated[int, Field(ge=0)] = Field(
        0, description="batches that the policy may have been trained on since it made the rollouts"
    )
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=1e-5, epsilon=1e-5)
    critic_learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    critic_start: Literal["reward", "zero"] = "zero"
    critic_warmup_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="PPO: batches from which the critic alone learns"
    )
    kl: Kl = Kl()
    reference_ema: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="the penalty is to a moving average of the policy with this decay; null: to SFT"
    )
    sampling: Sampling = Sampling()
    dynamic_sampling: DynamicSampling | None = None
    clip: Annotated[float, Field(gt=0)] = 0.2
    clip_high: Annotated[float, Field(gt=0)] | None = Field(
        None, description="another limit above 1 (DAPO's clip-higher); null: clip"
    )
    sequence_clip: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (3e-4, 4e-4), description="GSPO: limits below and above 1 of the response's ratio ^ (1 / length)"
    )
    importance_cap: Annotated[float, Field(ge=1)] = Field(
        2.0, description="largest weight that corrects a token for the sampler's other arithmetic"
    )
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    value_coefficient: Annotated[float, Field(gt=0)] = 0.1
    gamma: Probability = 1.0
    gae_lambda: Probability = 0.95
    whiten_advantage: bool = Field(
        True, description="PPO, REINFORCE++: mean shift and scale, over the whole batch"
    )
    whiten_reward: bool = Field(False, description="scale only, no mean shift")
    baseline: Literal["batch", "running"] = Field(
        "batch", description="REINFORCE: mean of the batch's other responses, or of the batches before"
    )
    group_std: bool = Field(True, description="GRPO, GSPO: divide by the group's deviation (Dr. GRPO: false)")
    pair_labels: Literal["hard", "soft"] = Field(
        "hard", description="online DPO: the better one wins, or with the probability σ(difference of scores)"
    )
    aggregation: Literal["token", "sequence", "constant"] = "token"
    reward_weight: float = Field(1.0, description="of the run's own reward model, beside `rewards`")
    rewards: tuple[RewardSource, ...] = ()
    constraint: Constraint | None = None
    shaping: Shaping = Shaping()
    length_penalty: Annotated[float, Field(ge=0)] = Field(0.0, description="score per response token")
    overlong: Overlong | None = None
    missing_end: MissingEnd = MissingEnd()
    evaluate_every: Count = 10
    max_bad_steps: Count = Field(3, description="stop after so many steps with NaN or infinity in a row")
    on_explosion: Literal["stop", "rollback", "none"] = "stop"
    explosion: Explosion = Explosion()
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0

    @property
    def policy_waits(self) -> int:
        """Batches in which the policy is left alone: without a critic there is nothing to wait for."""
        return self.critic_warmup_steps if self.algorithm == "ppo" else 0

    @property
    def looks(self) -> int:
        """Evaluations of a run that nothing stops: at step 0, on the way, at the last step."""
        return -(-self.steps // self.evaluate_every) + 1

    @model_validator(mode="after")
    def _group(self) -> Online:
        if self.algorithm in COMPARES_SAMPLES and self.samples_per_prompt < 2:
            raise ValueError(
                f"samples_per_prompt is {self.samples_per_prompt}, but {self.algorithm} compares the samples"
                " of one prompt: set it to 2 or more, or use algorithm: ppo"
            )
        if self.dynamic_sampling and self.samples_per_prompt < 2:
            raise ValueError(
                "dynamic_sampling looks at the spread between a prompt's samples, but samples_per_prompt is"
                " 1: set it to 2 or more"
            )
        samples = self.prompts_per_step * self.samples_per_prompt
        if self.algorithm == "reinforce" and samples < 2:
            raise ValueError("a step has 1 sample, which leaves no baseline: raise prompts_per_step")
        if self.kl.controller == "adaptive" and self.kl.horizon <= 0.2 * samples:
            raise ValueError(
                f"kl.horizon is {self.kl.horizon}, but a step has {samples} samples:"
                f" set it above {0.2 * samples:g}"
            )
        if self.minibatches > self.prompts_per_step:
            raise ValueError(
                f"minibatches is {self.minibatches}, more than prompts_per_step ({self.prompts_per_step})"
            )
        return self

    @model_validator(mode="after")
    def _choices_that_fit(self) -> Online:
        if self.algorithm == "gspo" and self.aggregation != "sequence":
            raise ValueError(
                f"aggregation is {self.aggregation}, but gspo has one ratio a response: set aggregation:"
                " sequence"
            )
        if self.algorithm == "online_dpo" and self.kl.placement != "reward":
            raise ValueError(
                "online_dpo holds the KL in its own loss, with kl.coefficient as β: leave kl.placement out"
            )
        if self.reference_ema is not None and self.kl.placement == "none":
            raise ValueError(
                f"reference_ema is {self.reference_ema}, but kl.placement is none, so that nothing is held to"
                " the average: set placement to reward or loss, or leave reference_ema out"
            )
        if self.clip_high is not None and self.algorithm in ("gspo", "online_dpo"):
            raise ValueError(
                f"clip_high is a limit of a token's ratio, which {self.algorithm} has not: leave it out"
                " (gspo: sequence_clip)"
            )
        if self.overlong and self.overlong.buffer_tokens > self.sampling.max_new_tokens:
            raise ValueError(
                f"overlong.buffer_tokens is {self.overlong.buffer_tokens}, more than sampling.max_new_tokens"
                f" ({self.sampling.max_new_tokens})"
            )
        if not self.reward_weight and not self.rewards:
            raise ValueError("reward_weight is 0 and there are no rewards: nothing would be optimised")
        return self
