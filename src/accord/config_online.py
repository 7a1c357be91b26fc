"""How a policy is optimised on its own samples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord.config_base import Config, Count, Optimizer, Probability, Sampling, Weights


class Kl(Config):
    """Penalty on the per-token KL to the SFT policy; it sits in the reward (k1)."""

    coefficient: Annotated[float, Field(gt=0)] = 0.05
    controller: Literal["fixed", "adaptive"] = "fixed"
    target: Annotated[float, Field(gt=0)] = Field(6.0, description="nats per response")
    horizon: Count = Field(10_000, description="samples")


class MissingEnd(Config):
    """What a response that never ends is paid."""

    mode: Literal["none", "subtract", "replace"] = "subtract"
    value: Annotated[float, Field(ge=0)] = Field(1.0, description="size of the penalty, normalised score")


class Online(Config):
    algorithm: Literal["ppo", "rloo", "grpo"] = "ppo"
    steps: Count = 30
    prompts_per_step: Count = 16
    samples_per_prompt: Count = 4
    epochs: Count = 1
    minibatches: Count = 1
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=1e-5, epsilon=1e-5)
    critic_learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    critic_start: Literal["reward", "zero"] = "zero"
    critic_warmup_steps: Annotated[int, Field(ge=0)] = 0
    kl: Kl = Kl()
    sampling: Sampling = Sampling()
    clip: Annotated[float, Field(gt=0)] = 0.2
    importance_cap: Annotated[float, Field(ge=1)] = Field(
        2.0, description="largest weight that corrects a token for the sampler's other arithmetic"
    )
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    value_coefficient: Annotated[float, Field(gt=0)] = 0.1
    gamma: Probability = 1.0
    gae_lambda: Probability = 0.95
    whiten_advantage: bool = Field(True, description="PPO: mean shift and scale, over the whole batch")
    whiten_reward: bool = Field(False, description="scale only, no mean shift")
    group_std: bool = Field(True, description="GRPO: divide by the group's deviation (Dr. GRPO: false)")
    aggregation: Literal["token", "sequence", "constant"] = "token"
    missing_end: MissingEnd = MissingEnd()
    evaluate_every: Count = 10
    max_bad_steps: Count = Field(3, description="stop after so many steps with NaN or infinity in a row")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0

    @model_validator(mode="after")
    def _group(self) -> Online:
        if self.algorithm in ("rloo", "grpo") and self.samples_per_prompt < 2:
            raise ValueError(
                f"samples_per_prompt is {self.samples_per_prompt}, but {self.algorithm} compares the samples"
                " of one prompt: set it to 2 or more, or use algorithm: ppo"
            )
        samples = self.prompts_per_step * self.samples_per_prompt
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
