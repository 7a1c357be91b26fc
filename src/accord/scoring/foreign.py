"""Other people's reward models: sequence classifiers (TRL's among them) and OpenRLHF's value heads.

They are given text, with their own tokenizer, template and end, the way that they were trained; so their
tokenizer may be another than the policy's. Where a model comes from decides three things, and each is read
from its files or has to be said:

- *the text*: a chat template over prompt and answer where the tokenizer has one (as TRL and OpenRLHF do),
  else a pair of texts where it has a separator (BERT, DeBERTa), else prompt, answer and end token in one.
- *the place of the score*: a classifier's own; of a value head the last token, which is the end token.
- *the score*: the only label; of several, the one that is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from accord import models
from accord.records import BadInput
from accord.scoring.foreign_scorer import Classifier, ForeignScorer, Inputs, Reading, ValueHead

VALUE_HEAD = "value_head"  # OpenRLHF's older name of the head; `score` since, as transformers call it
UNLIMITED = 1_000_000  # tokenizers without a limit name a number far above this


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights in a checkpoint folder, none of them read into memory.

    Raises:
        BadInput: there are none.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    if not shapes:
        for file in sorted(folder.glob("pytorch_model*.bin")):
            state = torch.load(file, map_location="meta", weights_only=True)
            shapes |= {name: tuple(tensor.shape) for name, tensor in state.items()}
    if not shapes:
        raise BadInput(
            f"{folder} holds no weights (*.safetensors or pytorch_model*.bin): copy the whole folder"
        )
    return shapes


def read_weight(folder: Path, name: str) -> Tensor:
    """One weight of a checkpoint folder."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            if name in weights.keys():  # noqa: SIM118
                tensor: Tensor = weights.get_tensor(name)
                return tensor
    for file in sorted(folder.glob("pytorch_model*.bin")):
        state = torch.load(file, map_location="cpu", weights_only=True)
        if name in state:
            found: Tensor = state[name]
            return found
    raise BadInput(f"{folder} holds no weight {name}")


def head_name(shapes: Mapping[str, tuple[int, ...]], config: Any) -> str | None:
    """The value head's weight in a checkpoint of OpenRLHF's layout; None for a plain sequence classifier.

    ``score`` with one row counts as a value head where the configuration speaks of several labels (OpenRLHF
    leaves transformers' default of 2 there) or of ``normalize_reward``; a classifier would read it wrongly.
    """
    prefix = getattr(config, "value_head_prefix", None) or VALUE_HEAD
    if f"{prefix}.weight" in shapes:
        return f"{prefix}.weight"
    one_row = shapes.get("score.weight", (0,))[0] == 1
    openrlhf = config.num_labels != 1 or hasattr(config, "normalize_reward")
    return "score.weight" if one_row and openrlhf else None


def label_index(config: Any, label: str | int | None) -> int:
    """Which logit is the score.

    Raises:
        BadInput: there are several and none is named, or the name is not among them.
    """
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    if config.num_labels == 1 and label is None:
        return 0
    shown = ", ".join(f"{index} {name!r}" for index, name in sorted(names.items()))
    if label is None:
        raise BadInput(
            f"the model has {config.num_labels} labels ({shown}): say which one is the score (label)"
        )
    if isinstance(label, int) or label.isdigit():
        if 0 <= int(label) < config.num_labels:
            return int(label)
    elif label in names.values():
        return next(index for index, name in names.items() if name == label)
    raise BadInput(f"label {label!r} is none of the model's labels: {shown}")


def _inputs(tokenizer: Any, wanted: Inputs | None) -> Inputs:
    if wanted is not None and wanted not in get_args(Inputs):
        raise BadInput(f"inputs is {wanted!r}: use chat, pair or plain, or leave it out")
    if wanted == "chat" and not tokenizer.chat_template:
        raise BadInput(
            "inputs is 'chat', but the reward model's tokenizer has no chat template: use pair or plain"
        )
    if wanted == "plain" and tokenizer.eos_token_id is None:
        raise BadInput("inputs is 'plain', but the reward model's tokenizer has no end token: use pair")
    if wanted:
        return wanted
    if tokenizer.chat_template:
        return "chat"
    return "plain" if tokenizer.sep_token_id is None and tokenizer.eos_token_id is not None else "pair"


def _limit(config: Any, tokenizer: Any) -> int | None:
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [int(limit) for limit in limits if isinstance(limit, int) and 0 < limit < UNLIMITED]
    return min(known, default=None)


def _local(location: str | Path) -> Path:
    path = Path(location)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BadInput(f"{path} has no config.json: give a Hugging Face model folder")
        return path
    if str(location).startswith((".", "/", "~")) or str(location).count("/") != 1:
        raise BadInput(f"no reward model at {location}: give a folder or a hub id (owner/name)")
    patterns = ["*.json", "*.safetensors", "pytorch_model*.bin", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(str(location), allow_patterns=patterns))
    except Exception as error:  # the hub's errors share no class
        raise BadInput(
            f"cannot fetch {location} from the hub: {' '.join(str(error).split())[:300]}"
        ) from None


def _read(kind: Any, folder: Path) -> Any:
    """A configuration or a tokenizer of transformers."""
    try:
        return kind.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"cannot read {folder}: {' '.join(str(error).split())[:300]}") from None


def _loaded(kind: Any, folder: Path, dtype: torch.dtype, **more: Any) -> Any:
    """A model of transformers, with every one of its weights in the folder.

    transformers fills missing weights with random numbers and goes on: a language model would come out as a
    classifier with a random head.
    """
    try:
        model, info = kind.from_pretrained(str(folder), dtype=dtype, output_loading_info=True, **more)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"cannot load {folder}: {' '.join(str(error).split())[:300]}") from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise BadInput(
            f"{folder} lacks weights ({', '.join(missing[:3])}): it holds no trained reward model of this"
            " layout"
        )
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def load_foreign(
    location: str | Path,
    *,
    label: str | int | None = None,
    inputs: Inputs | None = None,
    dtype: torch.dtype = torch.float32,
) -> ForeignScorer:
    """A foreign reward model as a scorer.

    Args:
        location: a folder, or a hub id (which is fetched).
        label: of a classifier with several labels, the one that is the score: its name or its number.
        inputs: how prompt and answer become one text; None decides by the tokenizer.

    Raises:
        BadInput: no such model, no trained head, a label that is not there or not said.
    """
    folder = _local(location)
    config = _read(AutoConfig, folder)
    head = head_name(weight_shapes(folder), config)
    chosen = label_index(config, label) if head is None else 0
    tokenizer = _read(AutoTokenizer, folder)
    how, limit = _inputs(tokenizer, inputs), _limit(config, tokenizer)
    if head is not None:
        base = _loaded(AutoModel, folder, dtype).to(models.device())
        weight = read_weight(folder, head).to(dtype)
        model = ValueHead(base, weight).to(models.device())
        normalised = bool(getattr(config, "normalize_reward", False))
        mean, std = float(getattr(config, "mean", 0.0)), float(getattr(config, "std", 1.0))
        if normalised and not std > 0:
            raise BadInput(f"{folder}: normalize_reward with a deviation of {std} gives no score")
        reading = Reading(mean=mean, std=std) if normalised else Reading()
        return ForeignScorer(
            model,
            tokenizer,
            reading,
            how,
            ends_with_eos=True,
            limit=limit,
            kind="value head (OpenRLHF layout)",
        )
    exclusive = config.num_labels > 1 and config.problem_type not in (
        "regression",
        "multi_label_classification",
    )
    classifier = _loaded(AutoModelForSequenceClassification, folder, dtype).to(models.device())
    return ForeignScorer(
        Classifier(classifier),
        tokenizer,
        Reading(chosen, exclusive),
        how,
        pad=classifier.config.pad_token_id,  # None: transformers could not find the end of a padded row
        limit=limit,
    )
