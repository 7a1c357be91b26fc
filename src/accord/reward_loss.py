"""The loss of one batch of a reward model: pairs by the chosen model of ties, rankings by Plackett–Luce.

Scores and labels in, nats out; everything is divided by the same global count, so that microbatches add up.
Axes: N pairs, K answers of the longest ranking.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from accord import preference_losses as losses
from accord.means import Count
from accord.ranking_losses import plackett_luce

TieModel = Literal["none", "rao_kupper", "davidson"]


def rao_kupper_threshold(free: Tensor) -> Tensor:
    """η above 0 from a free parameter."""
    return nn.functional.softplus(free) + 1e-4


def pair_loss(
    a_N: Tensor,
    b_N: Tensor,
    share_N3: Tensor,
    *,
    tie_model: TieModel = "none",
    tie: Tensor | None = None,
    margin_N: Tensor | None = None,
    scale_N: Tensor | None = None,
    weight_N: Tensor | None = None,
    label_smoothing: float = 0.0,
    centering: float = 0.0,
    count: Count,
) -> Tensor:
    """Σ weight · (cross-entropy of the shares + centering) / count, nats per comparison.

    Args:
        share_N3: probability of a, b and tie; rows sum to 1. Without a tie model a tie is half a win for
            either.
        tie: the free parameter of the tie model: softplus gives Rao–Kupper's η, as it is it is Davidson's
            log ν.
        margin_N: a's score has to lead by so much; below 0 where b's has to.
        scale_N: of the difference, before the margin: the annotator's inverse temperature over that of all.
        label_smoothing: probability that a winner was named the wrong way round; ties stay ties.
    """
    scaled_a_N, scaled_b_N = (a_N, b_N) if scale_N is None else (scale_N * a_N, scale_N * b_N)
    if tie_model == "none":
        soft_N = share_N3[:, 0] + share_N3[:, 2] / 2
        main = losses.bradley_terry(
            scaled_a_N,
            scaled_b_N,
            margin_N=margin_N,
            weight_N=weight_N,
            soft_label_N=soft_N,
            label_smoothing=label_smoothing,
            count=count,
        )
    else:
        assert tie is not None
        difference_N = scaled_a_N - scaled_b_N
        if margin_N is not None:
            difference_N = difference_N - margin_N
        if tie_model == "rao_kupper":
            log_N3 = losses.rao_kupper_log_probabilities(difference_N, rao_kupper_threshold(tie))
        else:
            log_N3 = losses.davidson_log_probabilities(difference_N, tie)
        if label_smoothing:
            swapped_N3 = share_N3[:, [1, 0, 2]]
            share_N3 = (1 - label_smoothing) * share_N3 + label_smoothing * swapped_N3
        main = losses.outcome_cross_entropy(log_N3, share_N3, weight_N=weight_N, count=count)
    return main + losses.centering_penalty(a_N, b_N, centering, weight_N=weight_N, count=count)


def ranking_loss(
    score_NK: Tensor,
    rank_NK: Tensor,
    mask_NK: Tensor,
    *,
    weight_N: Tensor | None = None,
    centering: float = 0.0,
    count: Count,
) -> Tensor:
    """Plackett–Luce with centering on each ranking's mean score, over the same count as the pairs.

    A ranking's term is that of its K − 1 choices; a pair's is that of one.
    """
    main = plackett_luce(score_NK, rank_NK, mask_NK, weight_N=weight_N, count=count)
    mean_N = torch.where(mask_NK, score_NK, 0.0).sum(1) / mask_NK.sum(1)
    return main + losses.centering_penalty(mean_N, mean_N, centering, weight_N=weight_N, count=count)
