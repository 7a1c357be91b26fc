"""What turns scores into what a response is paid: shaping, and penalties on its length. Pure functions.

Axes: B responses.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from accord.axes import check_axes


@torch.no_grad()
def shape(
    score_B: Tensor, kind: Literal["none", "sigmoid", "clip", "whiten"], *, centre: float, limit: float
) -> Tensor:
    """A monotone change of the scores, (B,).

    - ``sigmoid``: σ(score − centre), as in PAR (Fu et al. 2025, arXiv 2502.18770): bounded, and steepest
      where the reference's answers are, so that the last bit of a high score is worth little.
    - ``clip``: to [centre − limit, centre + limit].
    - ``whiten``: over the batch's deviation (biased), the mean is kept. A batch of equal scores stays as it
      is.

    Args:
        centre: in units of the score; normalised scores have 0, the mean over reference samples.
        limit: half width of the clip.
    """
    check_axes(score_B=score_B)
    match kind:
        case "none":
            return score_B
        case "sigmoid":
            return torch.sigmoid(score_B - centre)
        case "clip":
            return score_B.clamp(centre - limit, centre + limit)
        case "whiten":
            deviation = score_B.std(correction=0)
            return score_B / deviation if float(deviation) > 1e-8 else score_B
        case _:
            raise ValueError(f"shaping {kind!r} is unknown: use none, sigmoid, clip or whiten")


@torch.no_grad()
def length_penalty(length_B: Tensor, per_token: float) -> Tensor:
    """What a response pays for its tokens, (B,), 0 or less."""
    check_axes(length_B=length_B)
    return -per_token * length_B.float()


@torch.no_grad()
def soft_overlong(length_B: Tensor, *, limit: int, buffer_tokens: int, penalty: float) -> Tensor:
    """DAPO's soft overlong punishment (Yu et al. 2025, arXiv 2503.14476, eq. 13), (B,), in [−penalty, 0].

    0 up to limit − buffer tokens, then a straight line down to −penalty at the limit.

    Args:
        limit: L_max, the most tokens that a response can have.
        buffer_tokens: L_cache.
    """
    check_axes(length_B=length_B)
    over_B = (length_B.float() - (limit - buffer_tokens)) / buffer_tokens
    return -penalty * over_B.clamp(0, 1)
