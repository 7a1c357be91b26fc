"""Attention over packed streams and over a static cache, for any transformers model class.

transformers lets an attention function be registered under a name. Ours does nothing but hand queries, keys
and values to a *plan* that travels with the call as the keyword ``attention_plan``; so packing and decoding
need no copy of any model's code. A plan is made once per batch and used by every layer.

Short sequences are gathered into padded buckets for the attention alone (everything else stays packed):
two batched matrix products and a softmax beat scaled_dot_product_attention on CPU at these lengths, see
docs/decisions. Several responses may share one prompt: its keys are gathered into each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "accord"


class AttentionPlan(Protocol):
    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """query (1, heads, T, D), key and value (1, key heads, T, D) → (1, T, heads, D)."""


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    plan: AttentionPlan | None = kwargs.get("attention_plan")
    if plan is None:
        raise RuntimeError(
            "a model prepared by accord was called without an attention plan: use accord.models.hidden"
        )
    return plan.attend(module.layer_idx, query, key, value, kwargs["scaling"]), None


AttentionInterface.register(NAME, _attention)


@dataclass(frozen=True)
class Segment:
    """Tokens [start, stop) of the stream, which also see the tokens [prefix_start, prefix_stop)."""

    start: int
    stop: int
    prefix_start: int = 0
    prefix_stop: int = 0


@dataclass(frozen=True)
class _Bucket:
    query_index: Tensor  # (N * Q,)
    key_index: Tensor  # (N * S,)
    mask_NQS: Tensor  # additive, 0 or -inf
    shape: tuple[int, int, int]  # N, Q, S
    query_source: Tensor  # (T',) stream positions of the real queries, for scattering back
    query_slot: Tensor  # (T',) where they lie in the padded bucket


class PackedPlan:
    """Causal attention inside each segment of a packed stream, plus its shared prefix.

    Every token of the stream belongs to exactly one segment. Segments of similar size share a bucket, so that
    padding inside attention stays under about a quarter.
    """

    def __init__(self, segments: Sequence[Segment], device: torch.device | str = "cpu") -> None:
        order = sorted(segments, key=lambda s: (s.stop - s.start, s.prefix_stop - s.prefix_start))
        self.buckets = [_bucket(group, device) for group in _similar(order)]
        source = torch.cat([b.query_source for b in self.buckets])
        offset, slots = 0, []
        for bucket in self.buckets:
            slots.append(bucket.query_slot + offset)
            offset += bucket.shape[0] * bucket.shape[1]
        inverse = torch.empty_like(source)
        inverse[source] = torch.cat(slots)
        self.output_index = inverse  # stream position → row of the concatenated padded outputs

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        _, heads, length, width = query.shape
        key_heads = key.shape[1]
        repeat = heads // key_heads
        # Token-major rows: one gather moves a whole token.
        query_TX = query[0].transpose(0, 1).reshape(length, heads * width)
        key_TX = key[0].transpose(0, 1).reshape(length, key_heads * width)
        value_TX = value[0].transpose(0, 1).reshape(length, key_heads * width)
        outputs = []
        for bucket in self.buckets:
            n, q, s = bucket.shape
            queries = _take(query_TX, bucket.query_index).view(n, q, key_heads, repeat, width)
            queries = queries.permute(0, 2, 3, 1, 4).reshape(n * key_heads, repeat * q, width)
            keys = _take(key_TX, bucket.key_index).view(n, s, key_heads, width)
            keys = keys.permute(0, 2, 3, 1).reshape(n * key_heads, width, s)
            values = _take(value_TX, bucket.key_index).view(n, s, key_heads, width)
            values = values.permute(0, 2, 1, 3).reshape(n * key_heads, s, width)
            scores = torch.bmm(queries * scaling, keys).view(n, key_heads * repeat, q, s)
            weights = torch.softmax(scores + bucket.mask_NQS[:, None].to(scores.dtype), dim=-1)
            out = torch.bmm(weights.view(n * key_heads, repeat * q, s), values)
            out = out.view(n, key_heads, repeat, q, width).permute(0, 3, 1, 2, 4)
            outputs.append(out.reshape(n * q, heads * width))
        packed = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return _take(packed, self.output_index).view(1, length, heads, width)


def _take(rows_TX: Tensor, index: Tensor) -> Tensor:
    """Rows by index. On CPU ``embedding`` has a faster backward than ``index_select`` (no per-row calls)."""
    return torch.nn.functional.embedding(index, rows_TX)


def _similar(order: list[Segment]) -> list[list[Segment]]:
    """Runs of segments, sorted by length, that waste little when padded to the longest of the run."""
    groups: list[list[Segment]] = []
    shortest = low = high = 0  # of the last run: own tokens; tokens attended to, least and most
    for segment in order:
        own, context = segment.stop - segment.start, _context(segment)
        low, high = min(low, context), max(high, context)
        if not groups or own > shortest * 1.3 + 8 or high > low * 1.3 + 8:
            groups.append([])
            shortest, low, high = own, context, context
        groups[-1].append(segment)
    return groups


def _context(segment: Segment) -> int:
    return segment.stop - segment.start + segment.prefix_stop - segment.prefix_start


def _bucket(group: list[Segment], device: torch.device | str) -> _Bucket:
    own_N = torch.tensor([s.stop - s.start for s in group])
    prefix_N = torch.tensor([s.prefix_stop - s.prefix_start for s in group])
    start_N = torch.tensor([s.start for s in group])
    prefix_start_N = torch.tensor([s.prefix_start for s in group])
    n, q, s = len(group), int(own_N.max()), int((own_N + prefix_N).max())
    row_Q, column_S = torch.arange(q), torch.arange(s)
    real_NQ = row_Q < own_N[:, None]
    query_NQ = torch.where(real_NQ, start_N[:, None] + row_Q, start_N[:, None])
    in_prefix_NS = column_S < prefix_N[:, None]
    in_own_NS = ~in_prefix_NS & (column_S < (prefix_N + own_N)[:, None])
    key_NS = torch.where(in_prefix_NS, prefix_start_N[:, None] + column_S, start_N[:, None])
    key_NS = torch.where(in_own_NS, start_N[:, None] + column_S - prefix_N[:, None], key_NS)
    own_column_NS = column_S - prefix_N[:, None]
    causal_NQS = in_own_NS[:, None] & (own_column_NS[:, None] <= row_Q[None, :, None])
    seen_NQS = in_prefix_NS[:, None] | causal_NQS
    mask_NQS = torch.zeros(n, q, s).masked_fill_(~seen_NQS, float("-inf"))
    return _Bucket(
        query_NQ.reshape(-1).to(device),
        key_NS.reshape(-1).to(device),
        mask_NQS.to(device),
        (n, q, s),
        query_NQ[real_NQ].to(device),
        real_NQ.reshape(-1).nonzero().squeeze(1).to(device),
    )
