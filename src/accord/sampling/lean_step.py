"""One decode step of Llama-like models with as few operations as it takes.

At small batches a step through the model's own modules spends a third of its time between the operations.
Here a layer is about twenty of them: one product for queries, keys and values, one for gate and up, the
residual added by the product. On CPUs the weights also lie in oneDNN's blocked order, so that a
product that has few rows does not rearrange them first. The copy of the weights lives as long as one rollout:
the next one may have others.

Classes that are not listed, and models with LoRA in them, go through their own modules (``LocalSampler``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from accord.products import Product, product

# Their layers: RMS norm, grouped attention with rotary positions, RMS norm, gated MLP with SiLU; nothing
# else.
LLAMA_LIKE = ("LlamaModel", "MistralModel", "Qwen2Model")


class DecodeCache(Protocol):
    def attend_one(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """query (B, heads, D), key and value (B, key heads, D) of one new token a row → (B, heads · D)."""


def fits(base: Any) -> bool:
    """Whether the decoder ``base`` can be run by ``LeanStep``."""
    if type(base).__name__ not in LLAMA_LIKE or base.config.hidden_act != "silu":
        return False
    projections = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    return all(
        type(getattr(part, name)) is nn.Linear
        for layer in base.layers
        for part, names in zip((layer.self_attn, layer.mlp), projections, strict=True)
        for name in names
    )


@dataclass(frozen=True)
class _Layer:
    input_norm: Tensor
    output_norm: Tensor
    query_key_value: Product
    attention_output: Product
    gate_up: Product
    down: Product


class LeanStep:
    """The decoder ``base``, one token a row.

    Args:
        rows: sequences that are decoded together at first (they become fewer).
    """

    def __init__(self, base: Any, rows: int) -> None:
        attention = base.layers[0].self_attn
        self.base, self.width, self.scaling = base, attention.head_dim, attention.scaling
        self.heads = base.config.num_attention_heads
        self.key_heads = base.config.num_key_value_heads
        self.epsilon = base.norm.variance_epsilon
        self.layers = [self._layer(layer, rows) for layer in base.layers]

    @staticmethod
    def _layer(layer: Any, rows: int) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return _Layer(
            layer.input_layernorm.weight,
            layer.post_attention_layernorm.weight,
            _joined([attention.q_proj, attention.k_proj, attention.v_proj], rows),
            _joined([attention.o_proj], rows),
            _joined([mlp.gate_proj, mlp.up_proj], rows),
            _joined([mlp.down_proj], rows),
        )

    def _norm(self, hidden_BH: Tensor, weight_H: Tensor) -> Tensor:
        return functional.rms_norm(hidden_BH, weight_H.shape, weight_H, self.epsilon)

    def __call__(self, token_B: Tensor, position_B: Tensor, cache: DecodeCache) -> Tensor:
        """Last hidden states (B, H), after the final norm; keys and values go into the cache."""
        hidden_BH = self.base.embed_tokens(token_B)
        cos, sin = (part[0][:, None] for part in self.base.rotary_emb(hidden_BH, position_B[None]))
        half = self.width // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)  # x · cos + swap(x) · signed sin
        rotated, rows = self.heads + self.key_heads, len(token_B)
        for index, layer in enumerate(self.layers):
            mixed = layer.query_key_value(self._norm(hidden_BH, layer.input_norm))
            mixed = mixed.view(rows, rotated + self.key_heads, self.width)
            turning = mixed[:, :rotated]
            swapped = torch.cat((turning[..., half:], turning[..., :half]), -1)
            turned = (turning * cos).addcmul_(swapped, sin)
            seen = cache.attend_one(
                index, turned[:, : self.heads], turned[:, self.heads :], mixed[:, rotated:], self.scaling
            )
            hidden_BH = hidden_BH + layer.attention_output(seen)
            gate, up = layer.gate_up(self._norm(hidden_BH, layer.output_norm)).chunk(2, dim=-1)
            hidden_BH = hidden_BH + layer.down(functional.silu(gate) * up)
        return self._norm(hidden_BH, self.base.norm.weight)


def _joined(modules: list[Any], rows: int) -> Product:
    """Several linear layers with one input as one product."""
    weight = torch.cat([module.weight.detach() for module in modules])
    biases = [module.bias for module in modules]
    if all(bias is None for bias in biases):
        return product(weight, None, rows)
    filled = [
        m.weight.new_zeros(len(m.weight)) if b is None else b for m, b in zip(modules, biases, strict=True)
    ]
    return product(weight, torch.cat(filled).detach(), rows)
