"""One frozen, validated configuration per stage; YAML plus ``a.b=c`` overrides.

A typo or an impossible size is refused where it is written, with the nearest known key named.
Configurations contain plain values only; nothing here imports torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from accord.records import BadInput

PACKAGED_MODEL = "smollm2-135m-instruct"

Probability = Annotated[float, Field(ge=0, le=1)]
T = TypeVar("T", bound="Config")
Count = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Model(Config):
    """Which pretrained model everything starts from."""

    path: str = Field(PACKAGED_MODEL, description="hub id, local folder, .gguf file, or the packaged default")
    chat_template: str | None = Field(
        None, description="chatml, plain, or a Jinja file; None keeps the tokenizer's own"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"


class Data(Config):
    """Files, relative to the recipe. Prompts are split into train and test by content hash."""

    demonstrations: str | None = Field(None, description="SFT data: messages or prompt/completion rows")
    prompts: str | None = Field(None, description="prompts for sampling and RL")
    test_prompts: str | None = Field(None, description="held-out prompts; None: split off `prompts`")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    comparisons: str | None = Field(None, description="existing labels: they replace round 0's collection")
    test_comparisons: str | None = Field(None, description="held-out labels; None: split off by prompt")
    max_prompt_tokens: Count = 512
    max_response_tokens: Count = 512


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


class Sampling(Config):
    """Plain sampling: nothing is inherited from the model's own generation settings."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    max_new_tokens: Count = 24
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = Field(0, description="0: off")
    batch_size: Count = 64


class Sft(Config):
    epochs: Count = 2
    tokens_per_step: Count = Field(1024, description="packed tokens in one optimiser step")
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=2e-5, warmup_steps=3, schedule="linear")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0


class Collect(Config):
    """Samples of the current policy, paired for comparison. Sides are drawn at random and recorded."""

    samples_per_prompt: Annotated[int, Field(ge=2)] = 4
    pairs: Count = Field(400, description="pairs to be labelled in a round")
    sampling: Sampling = Sampling()


class Simulated(Config):
    """Simulated annotators: a stand-in for people that says so wherever it appears."""

    kind: Literal["simulated"] = "simulated"
    gold: Literal["positivity", "positivity_brief"] = Field(
        "positivity", description="the hidden utility; no training stage may read it"
    )
    annotators: Count = 5
    labels_per_pair: Count = 1
    noise: Annotated[float, Field(gt=0)] = Field(
        0.25, description="Bradley-Terry temperature, in units of gold"
    )
    reliability_spread: Annotated[float, Field(ge=0)] = Field(
        0.3, description="standard deviation of log inverse temperature between annotators"
    )
    tie_margin: Annotated[float, Field(ge=0)] = Field(
        0.05, description="Rao-Kupper threshold, in units of gold"
    )
    length_bias: float = Field(0.0, description="units of gold that annotators give per extra 10 words")
    side_bias: float = Field(0.0, description="units of gold that annotators give to the left answer")

    @model_validator(mode="after")
    def _enough(self) -> Simulated:
        if self.labels_per_pair > self.annotators:
            raise ValueError(
                f"labels_per_pair is {self.labels_per_pair}, but there are {self.annotators} annotators"
            )
        return self


class FileJudge(Config):
    """Labels that people (or another program) write into a file; the run pauses until it is there."""

    kind: Literal["file"] = "file"
    path: str = Field(description="JSON Lines: {pair id, verdict, annotator}; {round} is replaced")


class HumanJudge(Config):
    """People who compare the pairs in the labelling app (``accord label RUN``); the run waits for them."""

    kind: Literal["human"] = "human"
    labels_per_pair: Count = Field(1, description="different people that judge each pair")
    criterion: str = Field(
        "", description="which of the app's questions the reward model learns; empty: the overall one"
    )


class LlmJudge(Config):
    """A language model as judge, over any endpoint that speaks OpenAI's chat completions.

    Every pair is asked in both orders; replies that disagree make a tie. Never recorded as a person.
    """

    kind: Literal["llm"] = "llm"
    model: str = Field(min_length=1, description="the model's name at the endpoint")
    url: str = Field(pattern=r"^https?://", description="up to the version: http://localhost:8000/v1")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key; '' sends none"
    )
    guidelines: str = Field("", description="what to judge by, added to the instruction")
    request: dict[str, Any] = Field(
        {"temperature": 0, "max_tokens": 512}, description="sent with every request as it is"
    )
    concurrency: Count = Field(4, description="pairs asked at once")
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    tries: Count = Field(6, description="for one request, where the endpoint is busy or away")
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    price_in: Annotated[float, Field(ge=0)] = Field(0.0, description="per million tokens sent")
    price_out: Annotated[float, Field(ge=0)] = Field(0.0, description="per million tokens received")
    budget: Annotated[float, Field(gt=0)] | None = Field(
        None, description="in the unit of the prices; what earlier runs spent counts"
    )

    @model_validator(mode="after")
    def _priced(self) -> LlmJudge:
        if self.budget is not None and not self.price_in and not self.price_out:
            raise ValueError(
                f"budget is {self.budget:g}, but price_in and price_out are 0: give prices per million tokens"
            )
        return self


class FunctionJudge(Config):
    """A Python function as judge: pairs in, verdicts out. Never recorded as a person."""

    kind: Literal["function"] = "function"
    path: str = Field(pattern=r"^.+:[A-Za-z_]\w*$", description="module.name:function or ./file.py:function")
    batch_size: Count = Field(64, description="pairs in one call, stored before the next")


Judge = Annotated[Simulated | FileJudge | HumanJudge | LlmJudge | FunctionJudge, Field(discriminator="kind")]


class Reward(Config):
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
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    minimum_pairs: Count = 50
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0

    @model_validator(mode="after")
    def _trained(self) -> Reward:
        if self.epochs == 0 and self.head_start == "normal":
            raise ValueError(
                "epochs is 0 and the head is random: set epochs to 1 or more, or head_start: probe"
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


class Evaluate(Config):
    """The evidence: samples on held-out prompts at every evaluation step."""

    prompts: Count = 64
    samples_per_prompt: Count = 2
    curve_samples_per_prompt: Count = Field(1, description="at evaluations during RL")
    best_of: Annotated[int, Field(ge=2)] = 8
    best_of_prompts: Count = 32
    bootstrap: Count = 2000


class Logging(Config):
    tensorboard: bool = True
    wandb: str | None = Field(None, description="project name; needs accord[wandb]")
    trackio: str | None = Field(None, description="project name; needs accord[trackio]")


class Run(Config):
    """Everything that ``accord run`` needs."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9._-]+$")
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Count = 1
    threads: Count | None = None
    model: Model = Model()
    data: Data = Data()
    sft: Sft | None = Sft()
    collect: Collect = Collect()
    judge: Judge | None = Simulated()
    reward: Reward = Reward()
    online: Online = Online()
    evaluate: Evaluate = Evaluate()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _consistent(self) -> Run:
        if self.judge is None and self.data.comparisons is None:
            raise ValueError("there are no labels: give data.comparisons or a judge")
        if self.judge is None and self.rounds > 1:
            raise ValueError(f"rounds is {self.rounds}, but no judge would label round 1: give a judge")
        return self


def nearest(key: str, known: Sequence[str]) -> str | None:
    """The known key that a typo most likely meant."""
    found = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return found[0] if found else None


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys allowed at ``location`` below ``model``, following nested configurations."""
    for part in location:
        if not isinstance(part, str) or part not in model.model_fields:
            continue
        annotation: Any = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        tag = location[-1] if isinstance(location[-1], str) else ""
        configs = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        configs.sort(key=lambda c: c.__name__.lower().startswith(tag.lower()), reverse=True)
        if configs:
            model = configs[0]
    return list(model.model_fields)


def _sentence(error: Any, model: type[BaseModel]) -> str:
    judges = ("simulated", "file", "human", "llm", "function")
    location = [p for p in error["loc"] if p not in judges]
    where = ".".join(str(p) for p in location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, error["loc"][:-1])
        close = nearest(str(location[-1]), known)
        hint = f"did you mean {close!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {where!r}: {hint}"
    message: str = error["msg"].removeprefix("Value error, ")
    if not where:
        return message
    value = error.get("input")
    shown = f" (got {value!r})" if isinstance(value, (int, float, str, type(None))) else ""
    return f"{where}: {message[0].lower() + message[1:]}{shown}"


def validate(kind: type[T], values: Any, origin: str = "configuration") -> T:
    """``values`` as a ``kind``; raises BadInput with one line per fault."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_sentence(e, kind) for e in error.errors())
        raise BadInput(f"{origin}: {faults}") from None


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``a.b=c`` sets one value; c is read as YAML. Returns a new dict."""
    out: dict[str, Any] = yaml.safe_load(yaml.safe_dump(values)) or {}
    for item in overrides:
        path, separator, text = item.partition("=")
        if not separator or not path:
            raise BadInput(f"--set takes a.b=c, got {item!r}")
        node = out
        *parents, last = path.split(".")
        for part in parents:
            child = node.get(part)
            if child is None:
                child = node[part] = {}
            if not isinstance(child, dict):
                raise BadInput(f"--set {item!r}: {part!r} is a value, not a section")
            node = child
        node[last] = _yaml_scalar(text)
    return out


def _yaml_scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _resolve(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in a recipe are relative to the recipe."""
    data = dict(values.get("data") or {})
    for key in ("demonstrations", "prompts", "test_prompts", "comparisons", "test_comparisons"):
        path = data.get(key)
        if isinstance(path, str) and (path.startswith(".") or (folder / path).exists()):
            data[key] = str((folder / path).resolve())
    model = dict(values.get("model") or {})
    for key in ("path", "chat_template"):
        path = model.get(key)
        if isinstance(path, str) and (path.startswith(".") or (folder / path).is_file()):
            model[key] = str((folder / path).resolve())
    judge = dict(values.get("judge") or {}) if isinstance(values.get("judge"), dict) else {}
    if isinstance(judge.get("path"), str) and judge["path"].startswith("."):
        judge["path"] = str((folder / judge["path"]).resolve())
    found = {"data": data, "model": model, "judge": judge}
    return values | {name: section for name, section in found.items() if section}


def load(path: str | Path, overrides: Sequence[str] = (), **fixed: Any) -> Run:
    """A recipe file, with overrides on top, as a validated Run.

    Paths in the recipe are relative to its folder; paths in overrides to the current one.

    Raises:
        BadInput: no such file, not YAML, unknown key, value outside its limits.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"no recipe at {path}: give the path of a YAML file, for example recipes/demo.yaml")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path} must hold keys and values, got a {type(values).__name__}")
    if isinstance(values.get("model"), str):  # `model: hub/id` is short for `model: {path: hub/id}`
        values["model"] = {"path": values["model"]}
    values = apply_overrides(_resolve(values, path.parent), overrides)
    if isinstance(values.get("model"), str):
        values["model"] = {"path": values["model"]}
    values |= {key: value for key, value in fixed.items() if value is not None}
    values.setdefault("name", path.stem)
    return validate(Run, values, str(path))


def dump(config: Config) -> str:
    """The complete configuration as YAML, defaults written out."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text
