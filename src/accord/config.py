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
from pydantic import BaseModel, Field, ValidationError, model_validator

from accord.config_base import Aggregation, Config, Count, Optimizer, Sampling, Weights
from accord.config_direct import Direct, Rejection
from accord.config_judges import FileJudge, FunctionJudge, HumanJudge, Judge, LlmJudge, Simulated
from accord.config_online import Kl, MissingEnd, Online
from accord.config_reward import Ensemble, Gate, Reward
from accord.config_rounds import BetweenRounds, Collect
from accord.config_stop import LOOKS_FOR_A_PEAK, PredictedPeak, Stop, TurnedDown
from accord.records import BadInput

__all__ = [
    "PACKAGED_MODEL",
    "Aggregation",
    "BetweenRounds",
    "Collect",
    "Config",
    "Data",
    "Direct",
    "Ensemble",
    "Evaluate",
    "FileJudge",
    "FunctionJudge",
    "Gate",
    "HumanJudge",
    "Judge",
    "Kl",
    "LlmJudge",
    "Logging",
    "MissingEnd",
    "Model",
    "Online",
    "Optimizer",
    "Rejection",
    "Reward",
    "Run",
    "Sampling",
    "Sft",
    "Simulated",
    "Weights",
    "apply_overrides",
    "dump",
    "load",
    "nearest",
    "validate",
]

PACKAGED_MODEL = "smollm2-135m-instruct"

MOST_CHECKPOINTS = 20  # that stop rules keep on disk until one is chosen

T = TypeVar("T", bound=Config)


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


class Sft(Config):
    epochs: Count = 2
    tokens_per_step: Count = Field(1024, description="packed tokens in one optimiser step")
    weights: Weights = Weights()
    optimizer: Optimizer = Optimizer(learning_rate=2e-5, warmup_steps=3, schedule="linear")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0


class Evaluate(Config):
    """The evidence: samples on held-out prompts at every evaluation step."""

    prompts: Count = 64
    samples_per_prompt: Count = 2
    curve_samples_per_prompt: Count = Field(1, description="at evaluations during RL")
    best_of: Annotated[int, Field(ge=2)] = 8
    best_of_prompts: Count = 32
    best_of_ensemble: Aggregation | None = Field(
        None, description="best-of-n also picks by this rule (pessimistic best-of-n); needs reward.ensemble"
    )
    bootstrap: Count = 2000
    split_half: bool = Field(True, description="second reward models of other labels: heads on SFT's states")
    probed_answers: Annotated[int, Field(ge=0)] = Field(
        40, description="answers of each side on which edits are tried; 0: none"
    )
    fresh_pairs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="pairs of the final policy's held-out samples that the judge labels, never learned from",
    )

    @model_validator(mode="after")
    def _pessimistic(self) -> Evaluate:
        if self.best_of_ensemble is not None and self.best_of_ensemble.rule == "mean":
            raise ValueError(
                "best_of_ensemble.rule is mean, which is what it would be compared with: use uwo, worst or"
                " lcb, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _enough_samples(self) -> Evaluate:
        most = self.prompts * (self.samples_per_prompt // 2)
        if self.fresh_pairs > most:
            raise ValueError(
                f"fresh_pairs is {self.fresh_pairs}, but {self.prompts} prompts with"
                f" {self.samples_per_prompt} samples give {most} pairs at most: raise prompts or"
                " samples_per_prompt, or lower it"
            )
        return self


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
    between_rounds: BetweenRounds = BetweenRounds()
    collect: Collect = Collect()
    judge: Judge | None = Simulated()
    reward: Reward = Reward()
    gate: Gate = Gate()
    online: Online = Online()
    direct: Direct | None = Field(None, description="in place of online: DPO and its relatives")
    rejection: Rejection | None = Field(None, description="in place of online: imitate the best of n samples")
    equal_label_control: bool = Field(
        False, description="later rounds also spend as many labels on the older policy's samples, and compare"
    )
    stop: Stop = Stop()
    evaluate: Evaluate = Evaluate()
    logging: Logging = Logging()

    @property
    def policy_stage(self) -> tuple[str, Online | Direct | Rejection]:
        """What trains the policy of a round: its section's name, and the section."""
        if self.rejection is not None:
            return "rejection", self.rejection
        return ("direct", self.direct) if self.direct is not None else ("online", self.online)

    @model_validator(mode="after")
    def _consistent(self) -> Run:
        if self.judge is None and self.data.comparisons is None:
            raise ValueError("there are no labels: give data.comparisons or a judge")
        if self.judge is None and self.evaluate.fresh_pairs:
            raise ValueError(
                f"evaluate.fresh_pairs is {self.evaluate.fresh_pairs}, but no judge would label them: give a"
                " judge, or set it to 0"
            )
        looks = self.online.looks
        if self.stop.rules and looks > MOST_CHECKPOINTS:
            raise ValueError(
                f"stop.rules keep a checkpoint at each of {looks} evaluations, {MOST_CHECKPOINTS} at most:"
                " raise online.evaluate_every"
            )
        peaks = any(isinstance(one, PredictedPeak) for one in self.stop.rules)
        if peaks and looks < LOOKS_FOR_A_PEAK:
            steps, most = self.online.steps, self.online.steps // (LOOKS_FOR_A_PEAK - 1)
            way = f"lower online.evaluate_every to {most}" if most else "raise online.steps"
            raise ValueError(
                f"the stop rule predicted_peak needs {LOOKS_FOR_A_PEAK} evaluations to fit a curve to, but"
                f" online.steps {steps} with evaluate_every {self.online.evaluate_every} give {looks}: {way},"
                " or leave the rule out"
            )
        if peaks and (self.judge is None or isinstance(self.judge, FileJudge | HumanJudge)):
            raise ValueError(
                "the stop rule predicted_peak labels checkpoints during RL: it needs a judge that answers at"
                " once (simulated, llm or function)"
            )
        if self.reward.ensemble is None and any(
            isinstance(one, TurnedDown) and one.score == "pessimistic" for one in self.stop.rules
        ):
            raise ValueError("the stop rule turned_down pessimistic needs reward.ensemble: give one")
        members = self.reward.ensemble
        if self.between_rounds.reward_from == "previous" and members is not None and members.kind == "full":
            raise ValueError(
                "between_rounds.reward_from is previous, but an ensemble of whole models starts fresh in each"
                " round: set it to sft, or reward.ensemble.kind to heads"
            )
        if self.equal_label_control and (self.rounds == 1 or not self.evaluate.fresh_pairs):
            raise ValueError(
                f"equal_label_control compares later rounds on fresh labels, but rounds is {self.rounds} and"
                f" evaluate.fresh_pairs {self.evaluate.fresh_pairs}: set rounds to 2 or more and fresh_pairs"
                " above 0"
            )
        onward = self.between_rounds.policy_from == "previous"
        if self.policy_stage[0] != "online" and (self.stop.rules or self.equal_label_control or onward):
            raise ValueError(
                "stop.rules, equal_label_control and between_rounds.policy_from: previous are for online, not"
                f" {self.policy_stage[0]}: leave them out"
            )
        if self.collect.strategy != "random" and self.rounds == 1:
            raise ValueError(
                f"collect.strategy is {self.collect.strategy}, but rounds is 1 and the first round has no"
                " labels to choose by: set rounds to 2 or more, or collect.strategy: random"
            )
        if self.judge is None and self.rounds > 1:
            raise ValueError(f"rounds is {self.rounds}, but no judge would label round 1: give a judge")
        if self.online.ensemble.rule != "mean" and (members is None or members.average):
            raise ValueError(
                f"online.ensemble.rule is {self.online.ensemble.rule}, but the reward model is a single one:"
                " give reward.ensemble without average, or leave online.ensemble out"
            )
        if self.evaluate.best_of_ensemble is not None and (members is None or members.average):
            raise ValueError(
                f"evaluate.best_of_ensemble.rule is {self.evaluate.best_of_ensemble.rule}, but the reward"
                " model is a single one: give reward.ensemble without average, or leave it out"
            )
        several = self.reward.ensemble is not None or bool(self.reward.criteria) or bool(self.reward.base)
        if self.online.algorithm == "ppo" and self.online.critic_start == "reward" and several:
            raise ValueError(
                "critic_start: reward needs one reward model with one head on the policy's own base:"
                " set critic_start: zero"
            )
        if self.direct is not None and self.rejection is not None:
            raise ValueError("direct and rejection are both given, a round trains one policy: leave one out")
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
    out = dict(values)
    for item in overrides:
        path, separator, text = item.partition("=")
        if not separator or not path:
            raise BadInput(f"--set takes a.b=c, got {item!r}")
        node = out
        *parents, last = path.split(".")
        for part in parents:
            child = node.get(part)
            if child is not None and not isinstance(child, dict):
                raise BadInput(f"--set {item!r}: {part!r} is a value, not a section")
            # A copy: a YAML anchor makes one section of several, and only the named one is meant.
            node[part] = dict(child or {})
            node = node[part]
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
    online = _resolve_rewards(values.get("online"), folder)
    found = {"data": data, "model": model, "judge": judge, "online": online}
    return values | {name: section for name, section in found.items() if section}


def _resolve_rewards(section: Any, folder: Path) -> dict[str, Any]:
    """Files and folders that ``online.rewards`` and ``online.constraint`` name with a leading dot."""
    if not isinstance(section, dict):
        return {}

    def placed(source: Any) -> Any:
        path = source.get("path") if isinstance(source, dict) else None
        if not isinstance(path, str) or not path.startswith("."):
            return source
        place, separator, called = path.rpartition(":")
        return source | {
            "path": f"{(folder / (place or called)).resolve()}{separator}{called if place else ''}"
        }

    found = dict(section)
    if isinstance(section.get("rewards"), list):
        found["rewards"] = [placed(source) for source in section["rewards"]]
    if "constraint" in section:
        found["constraint"] = placed(section["constraint"])
    return found


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
