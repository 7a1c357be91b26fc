"""Drawing a batch: responses to the step's prompts, and DAPO's dynamic sampling of those without spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from accord.batches import Rollouts

Draw = Callable[[Sequence[int], int], Rollouts]
Score = Callable[[Sequence[int], Rollouts], Tensor]


class StaleRollouts(RuntimeError):
    """Rollouts of a policy that is too old for the trainer."""


@dataclass(frozen=True)
class Drawn:
    """A batch as it is trained on.

    Attributes:
        kept: which of the step's prompts it holds, in order.
    """

    rollouts: Rollouts
    kept: tuple[int, ...]
    figures: dict[str, float] = field(default_factory=dict)


def draw_with_spread(draw: Draw, score: Score, prompts: int, tries: int) -> Drawn:
    """Prompts whose samples all score the same are sampled again, and left out after ``tries`` samplings.

    DAPO (Yu et al. 2025, arXiv 2503.14476, section 3.2) fills the batch with other prompts instead; here a
    step keeps its prompts, so that it stays one of a fixed number. Where no prompt has spread, all are kept:
    there is nothing to learn, and the figures say so.

    Args:
        draw: (which prompts, which try from 0) → rollouts of these prompts.
        score: (which prompts, rollouts) → (B,) scores, NaN allowed.
        prompts: how many there are.
        tries: samplings of a prompt, the first one included.
    """
    parts: dict[int, Rollouts] = {}
    missing = list(range(prompts))
    drawn = tries_used = 0
    for attempt in range(tries):
        if not missing:
            break
        rollouts = draw(missing, attempt)
        spread_P = _has_spread(score(missing, rollouts).view(len(missing), -1))
        drawn, tries_used = drawn + len(missing), attempt + 1
        for place, (index, one) in enumerate(zip(missing, _apart(rollouts), strict=True)):
            if bool(spread_P[place]) or attempt == 0:
                parts[index] = one
        missing = [index for place, index in enumerate(missing) if not bool(spread_P[place])]
    kept = [index for index in range(prompts) if index not in missing] or list(range(prompts))
    figures = {
        "left_out_share": (len(missing) / prompts) if len(missing) < prompts else 0.0,
        "drawn_again": float(drawn - prompts),
        "tries": float(tries_used),
    }
    return Drawn(joined([parts[index] for index in kept]), tuple(kept), figures)


def _has_spread(score_PK: Tensor) -> Tensor:
    """Whether a group's scores differ, those that are not finite left out, (P,) bool."""
    infinity = float("inf")
    valid = torch.isfinite(score_PK)
    highest_P = score_PK.masked_fill(~valid, -infinity).amax(1)
    spread_P: Tensor = highest_P > score_PK.masked_fill(~valid, infinity).amin(1)
    return spread_P


def _apart(rollouts: Rollouts) -> list[Rollouts]:
    """Each prompt's rollouts alone."""
    out, row = [], 0
    for group in rollouts.groups:
        rows = slice(row, row + len(group.responses))
        row = rows.stop
        out.append(
            Rollouts(
                (group,),
                rollouts.sampled_logp_BT[rows],
                rollouts.finished_B[rows],
                rollouts.policy_version,
            )
        )
    return out


def joined(parts: Sequence[Rollouts]) -> Rollouts:
    """Rollouts of several prompts as one batch; its version is the oldest."""
    groups = tuple(group for part in parts for group in part.groups)
    width = max(len(response) for group in groups for response in group.responses)
    narrow = [part.sampled_logp_BT[:, :width] for part in parts]
    logps = [torch.nn.functional.pad(one_BT, (0, width - one_BT.shape[1])) for one_BT in narrow]
    return Rollouts(
        groups,
        torch.cat(logps),
        torch.cat([part.finished_B for part in parts]),
        min(part.policy_version for part in parts),
    )
