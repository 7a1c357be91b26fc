"""What every stage's configuration is made of; plain values only, nothing here imports torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_the_defaults_of_a_section(cls, values: Any) -> Any:
        """A recipe that sets one value of a section keeps the others as the stage has them.

        Without this, ``online.optimizer.learning_rate=…`` alone would take Adam's ε back from 1e-5 to 1e-8.
        """
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for name, given in values.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if isinstance(default, Config) and isinstance(given, dict):
                filled[name] = default.model_dump(exclude_unset=True) | given
        return filled


class Optimizer(Config):
    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class Weights(Config):
    """Which weights are trained. With ``top`` and ``lora`` the reference shares the frozen trunk."""

    train: Literal["all", "top", "lora"] = "all"
    top_layers: Count = 8
    lora_rank: Count = 16
    lora_layers: Count | None = Field(
        None, description="LoRA in the top layers only, the rest is a trunk to share; None: in all layers"
    )


class Sampling(Config):
    """Plain sampling: nothing is inherited from the model's own generation settings."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    max_new_tokens: Count = 24
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = Field(0, description="0: off")
    batch_size: Count = 64


class Aggregation(Config):
    """How the members of an ensemble make one score; coefficients are in the members' own deviations."""

    rule: Literal["mean", "worst", "uwo", "lcb"] = Field(
        "mean", description="uwo: mean - coefficient x variance; lcb: mean - coefficient x deviation"
    )
    coefficient: Annotated[float, Field(ge=0)] = 0.5
