"""What a ranking of several answers teaches a reward model: Plackett–Luce, with ties.

Axes: N rankings, K answers in the longest of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.axes import check_axes
from accord.means import Count, weighted_mean


def plackett_luce(
    score_NK: Tensor,
    rank_NK: Tensor,
    mask_NK: Tensor | None = None,
    *,
    weight_N: Tensor | None = None,
    count: Count | None = None,
) -> Tensor:
    """Negative log-likelihood of rankings, nats per ranking (Luce 1959, Plackett 1975).

    The best is chosen among all answers with probability e^score over the sum, the next among those left, and
    so on; each answer's term is therefore log Σ e^score over the answers *not placed above it*, minus its own
    score. Two answers without a tie give `preference_losses.bradley_terry`.

    Ties follow Breslow's rule (1974, for tied times in Cox regression): tied answers are chosen from one and
    the same set, themselves and all below. Two tied answers alone cost −log σ(d) − log σ(−d), which is twice
    Bradley–Terry's loss with the soft label 1/2, and pulls their scores together. The exact alternative, the
    probability that *some* order of the tied answers came out, says nothing at all about answers that are all
    tied, and needs 2^(tied) terms.

    Args:
        score_NK: scores.
        rank_NK: integers, 1 the best; equal numbers are ties, gaps do not matter.
        mask_NK: true where there is an answer; what the rest holds never matters, NaN included.
        weight_N: weight of each ranking.
        count: global count to divide by; the sum of the weights where not given.

    Raises:
        ValueError: shapes differ, or ranks that are no integers.
    """
    check_axes(score_NK=score_NK, rank_NK=rank_NK, mask_NK=mask_NK, weight_N=weight_N)
    if rank_NK.is_floating_point():
        raise ValueError("rank_NK holds integers, 1 the best and equal numbers for ties")
    used_NK = torch.ones_like(score_NK, dtype=torch.bool) if mask_NK is None else mask_NK.bool()
    score_NK = torch.where(used_NK, score_NK, 0.0)
    # rival_NKK[n, i, j]: j was still there when i was chosen. Padding rivals only itself: its term is 0.
    rival_NKK = used_NK[:, :, None] & used_NK[:, None, :] & (rank_NK[:, None, :] >= rank_NK[:, :, None])
    rival_NKK = rival_NKK | torch.eye(score_NK.shape[1], dtype=torch.bool, device=score_NK.device)
    logit_NKK = torch.where(rival_NKK, score_NK[:, None, :], -torch.inf)
    term_NK = torch.logsumexp(logit_NKK, dim=2) - score_NK
    return weighted_mean(term_NK.sum(1), weight_N, count)
