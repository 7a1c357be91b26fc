"""Towers: the part of a model above a frozen trunk.

Policy, reference, reward model and critic that were trained from one checkpoint share the trunk's one forward
pass and differ in their top layers only. Where the same sequences come again, in the next epoch or for
scoring, the trunk's states are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accord import batches
from accord.batches import Group, Packed, stream_length

KEEP_BYTES = 2 << 30  # trunk states of a stage that may stay in memory
TOKENS_PER_BATCH = 8192  # without gradient


class Tower:
    """A decoder from layer ``start`` up; the layers below are a frozen trunk that others may share."""

    def __init__(self, base: Any, start: int = 0) -> None:
        self.base, self.start = base, start
        self._lower = _slice(base, 0, start) if start else None
        self._upper = _slice(base, start, len(base.layers)) if start else base

    def trunk(self, packed: Packed) -> Tensor | None:
        """Hidden states (T, H) below the tower, without gradient; None where there is no trunk."""
        if self._lower is None:
            return None
        with torch.no_grad():
            return _run(self._lower, packed, None)

    def hidden(self, packed: Packed, trunk_TH: Tensor | None = None) -> Tensor:
        """Last hidden states (T, H), after the final norm."""
        if self.start and trunk_TH is None:
            trunk_TH = self.trunk(packed)
        return _run(self._upper, packed, trunk_TH)


def _run(base: Any, packed: Packed, inputs_TH: Tensor | None) -> Tensor:
    given = {"input_ids": packed.tokens_T[None]} if inputs_TH is None else {"inputs_embeds": inputs_TH[None]}
    out = base(**given, position_ids=packed.position_T[None], attention_plan=packed.plan, use_cache=False)
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


def _slice(base: Any, start: int, stop: int) -> Any:
    """A view of some layers of a decoder; parameters are shared, the module itself is untouched."""
    view = copy.copy(base)
    view._modules = dict(base._modules)
    view._modules["layers"] = nn.ModuleList(base.layers[start:stop])
    if stop < len(base.layers):
        view._modules["norm"] = nn.Identity()
    return view


def base_of(model: Any) -> Any:
    """The decoder below a model's head."""
    return getattr(model, model.base_model_prefix)


def head_of(model: Any) -> Tensor:
    """The language-model head's weight (V, H)."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


class TrunkStates:
    """The trunk's hidden states of given groups, computed once and kept.

    All of them are computed here, in the order given: what a step later reads does not depend on which batch
    a group was first seen in, so that a resumed stage reads the same bits. Above ``KEEP_BYTES``, and without
    a trunk, nothing is kept and towers compute their own.
    """

    def __init__(
        self,
        tower: Tower,
        groups: Sequence[Group],
        device: torch.device,
        progress: Callable[[int], Callable[[int], None]] | None = None,
    ) -> None:
        """``progress`` is told how many tokens there are, and returns what is told of each batch's tokens."""
        self._kept: dict[Group, Tensor] = {}
        if not tower.start:
            return
        unique = list(dict.fromkeys(groups))
        lengths = [stream_length(group) for group in unique]
        weight = tower.base.embed_tokens.weight
        if sum(lengths) * weight.shape[1] * weight.element_size() > KEEP_BYTES:
            return
        advance = progress(sum(lengths)) if progress is not None else None
        for run in batches.by_budget(lengths, TOKENS_PER_BATCH):
            trunk_TH = tower.trunk(batches.pack([unique[i] for i in run], device))
            assert trunk_TH is not None
            split: Any = trunk_TH.split
            for index, part in zip(run, split([lengths[i] for i in run]), strict=True):
                self._kept[unique[index]] = part
            if advance is not None:
                advance(sum(lengths[i] for i in run))

    def of(self, groups: Sequence[Group]) -> Tensor | None:
        """(T, H) for ``batches.pack(groups)``; None where it is not kept."""
        if not self._kept or any(group not in self._kept for group in groups):
            return None
        return torch.cat([self._kept[group] for group in groups])


def common_layers(one: Any, other: Any) -> int:
    """How many of their first layers two decoders share bit for bit (0 where embeddings differ)."""

    def same(a: Any, b: Any) -> bool:
        mine, theirs = list(a.parameters()), list(b.parameters())
        if len(mine) != len(theirs):  # LoRA matrices on one side only
            return False
        pairs = list(zip(mine, theirs, strict=True))
        return all(x.shape == y.shape and x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)

    if type(one) is not type(other) or not same(one.embed_tokens, other.embed_tokens):
        return 0
    count = 0
    for mine, theirs in zip(one.layers, other.layers, strict=False):
        if not same(mine, theirs):
            break
        count += 1
    return count
