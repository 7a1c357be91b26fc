"""Hidden states at the last token of answers: what a reward head reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accord import batches, models, reward_model
from accord.batches import Group, stream_length
from accord.config import Reward
from accord.records import Comparison, Prompt
from accord.towers import TOKENS_PER_BATCH, Tower

Array = NDArray[np.float64]


@torch.no_grad()
def answer_states(tower: Tower, groups: Sequence[Group]) -> Array:
    """Hidden states [B, H] at the last token of every answer, in the order of the groups' responses."""
    parts = []
    for run in batches.by_budget([stream_length(group) for group in groups], TOKENS_PER_BATCH):
        packed = batches.pack([groups[i] for i in run], models.device())
        parts.append(tower.hidden(packed)[packed.last_B].double().cpu())
    out: Array = torch.cat(parts).numpy()
    return out


def groups_of(tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[Group]:
    """Rows of one prompt that follow each other share its tokens; the ids are those that were sampled."""
    out: list[Group] = []
    last = None
    for row in rows:
        ids = tuple(row["ids"])
        if row["key"] == last:
            out[-1] = Group(out[-1].prompt, (*out[-1].responses, ids))
        else:
            out.append(Group(models.encode_prompt(tokenizer, Prompt.from_json(row["prompt"])), (ids,)))
        last = row["key"]
    return out


def decided_pairs(
    tokenizer: Any, rows: Sequence[Comparison], limits: dict[str, int], context: int | None
) -> tuple[list[Group], NDArray[np.bool_], list[str]]:
    """(groups of two answers, whether a won, prompt keys) of the decided pairs that fit."""
    decided = Reward(ties="drop")
    examples, kept = reward_model.encode(tokenizer, rows, decided, context=context, **limits)
    won = np.array([one.outcome == 0 for one in examples], dtype=bool)
    return [one.group for one in examples], won, [row.prompt.key for row in kept]
