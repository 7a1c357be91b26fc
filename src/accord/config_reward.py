"""How a reward model is trained, and what it must show before a policy is optimised against it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accord.config_base import Config, Count, Optimizer, Probability, Weights


class Ensemble(Config):
    """Several reward models in the place of one."""

    members: Annotated[int, Field(ge=2)] = 4
    kind: Literal["heads", "full"] = Field(
        "heads", description="heads: on one body, one pass for all; full: models, trained one after another"
    )
    bootstrap: bool = Field(True, description="each member has its own resample of the pairs")
    bases: tuple[str, ...] = Field(
        (), description="full: models that members start from, in turn; empty: the stage's own"
    )
    average: bool = Field(False, description="full: one model with the members' mean weights (WARM)")

    @model_validator(mode="after")
    def _whole_models(self) -> Ensemble:
        if self.kind == "heads" and (self.bases or self.average):
            raise ValueError("bases and average are for members that are whole models: set kind: full")
        if self.bases and self.average:
            raise ValueError("weights of different base models have no mean: leave out bases or average")
        return self


class Reward(Config):
    base: str | None = Field(
        None, description="the pretrained model it starts from (any tokenizer); None: the SFT policy"
    )
    epochs: Annotated[int, Field(ge=0)] = Field(2, description="0: the fitted head alone (head_start: probe)")
    head_start: Literal["normal", "probe"] = Field(
        "normal", description="normal: N(0, 1/√(d+1)); probe: fitted to the frozen hidden states first"
    )
    pairs_per_step: Count = 32
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=5e-5, warmup_steps=5, schedule="linear")
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    centering: Annotated[float, Field(ge=0)] = 1e-2
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    ties: Literal["drop", "half", "rao_kupper", "davidson"] = Field(
        "drop", description="half: a tie is a soft label of one half"
    )
    labels: Literal["each", "pooled"] = Field(
        "each", description="pooled: the labels of one pair are one soft label, and the pair counts once"
    )
    annotators: Literal["none", "soft", "fitted", "joint"] = Field(
        "none",
        description="named annotators who differ in sharpness and side bias. soft: one soft label a pair;"
        " fitted: each label's loss by its annotator, fitted to the labels before training; joint: fitted to"
        " the reward model's scores after every epoch",
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="nats by which the better score must lead, for each unit of a label's strength"
    )
    pair_weights: Literal["one", "given"] = Field("one", description="given: each label's meta.weight")
    rankings: Literal["pairs", "plackett_luce"] = Field(
        "pairs", description="a ranking of K answers as its K(K-1)/2 pairs, or whole"
    )
    criteria: tuple[str, ...] = Field(
        (), description="one head each, learned from the labels of that criterion; empty: one head for all"
    )
    ensemble: Ensemble | None = None
    length: Literal["keep", "odin", "lowess"] = Field(
        "keep",
        description="odin: a second head takes up what length explains, and is thrown away; lowess: a curve"
        " of score against length is fitted after training and taken off every score",
    )
    length_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="odin: of the correlation term")
    orthogonality_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="odin: of the heads' cosine")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    minimum_pairs: Count = 50
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0

    @model_validator(mode="after")
    def _trained(self) -> Reward:
        if self.epochs == 0 and self.head_start == "normal":
            raise ValueError(
                "epochs is 0 and the head is random: set epochs to 1 or more, or head_start: probe"
            )
        if len(set(self.criteria)) < len(self.criteria) or len(self.criteria) == 1:
            raise ValueError(
                f"criteria are {list(self.criteria)}: name two or more different ones, or leave them out"
            )
        if self.annotators != "none" and self.labels == "pooled":
            raise ValueError(
                "labels are pooled, and pooled labels have no annotator: set labels to each, or annotators to"
                " none"
            )
        if self.annotators == "joint" and self.epochs < 2 and self.head_start == "normal":
            raise ValueError(
                "annotators are fitted to the scores after an epoch, and there is no second one: set epochs"
                " to 2 or more, or head_start: probe"
            )
        heads = self.ensemble is not None and self.ensemble.kind == "heads"
        several = heads or bool(self.criteria)
        if self.length == "lowess" and several:
            raise ValueError(
                "length: lowess fits one curve to one score, and there are several heads: set length to keep,"
                " or leave criteria and the ensemble of heads out"
            )
        if self.length == "lowess" and self.ensemble is not None and self.ensemble.average:
            raise ValueError(
                "length: lowess fits a curve to each member, and averaged weights are none of them: leave"
                " ensemble.average or lowess out"
            )
        if sum([heads, bool(self.criteria), self.length == "odin"]) > 1:
            raise ValueError(
                "criteria, length: odin and an ensemble of heads give the heads other meanings: choose one"
            )
        if self.criteria and self.ensemble is not None:
            raise ValueError("criteria have one model with a head each: leave out ensemble or criteria")
        if self.annotators == "joint" and several:
            raise ValueError(
                "annotators: joint is fitted to one score, and there are several heads: set annotators to"
                " fitted, or leave criteria and the ensemble of heads out"
            )
        return self


class Gate(Config):
    """What a reward model must show before a policy is optimised against it (docs/decisions/020)."""

    minimum_pairs: Count = Field(100, description="fewer held-out pairs: a warning")
    accuracy_above: Probability = Field(
        0.5, description="lower end of the accuracy's interval; else rejected"
    )
    gain_over_length: float = Field(
        0.0,
        description="accuracy beyond the best length rule: below it rejected, lower end below it warned",
    )
    gain_over_words: float = Field(
        0.0, description="accuracy beyond a bag of words: lower end of its interval at or below it is warned"
    )
    exploitable_share: Probability = Field(
        0.5,
        description="share of answers whose score an edit raises: lower end above it counts as exploitable",
    )
    warned_rise: Annotated[float, Field(ge=0)] = Field(
        0.1,
        description="mean rise by an exploitable addition, in deviations of the score; lower end",
    )
    rejected_rise: Annotated[float, Field(ge=0)] = Field(1.0, description="as warned_rise, but rejects")
    maximum_calibration_error: Probability = Field(0.1, description="above: a warning")
    maximum_length_correlation: Probability = Field(
        0.3,
        description="partial correlation of score and length, end nearest to 0; above: a warning",
    )
    maximum_unscorable: Probability = Field(
        0.01, description="share of pairs without a finite score; else rejected"
    )
    stop_on_reject: bool = Field(True, description="the pipeline stops before RL")
    probed_answers: Annotated[int, Field(ge=0)] = Field(
        32, description="in a run: answers that each probe edits; 0 leaves the probes out"
    )
