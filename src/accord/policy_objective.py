"""What a microbatch of the policy's update minimises: the one place where an algorithm chooses its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord import direct_losses, kl, losses, preference_losses
from accord.config import Online
from accord.online_batch import Part, Scored, rows_of


@dataclass(frozen=True)
class Minibatch:
    """What one optimiser step is the sum over.

    Attributes:
        groups: which prompts.
        rows_B: their responses, as rows of the whole batch.
        weight_BT: weight of each token's term, corrected for the sampler.
        term_B: the same for terms of a whole response (KL as a loss): the weight of one of its tokens.
        count: what the sum is divided by.
        token_count: response tokens (the critic's count).
    """

    groups: list[int]
    rows_B: Tensor
    weight_BT: Tensor
    term_B: Tensor
    count: float
    token_count: float


def minibatch(scored: Scored, config: Online, groups: list[int]) -> Minibatch:
    """The sum over the responses to these prompts."""
    mask_BT = scored.packed.mask_BT
    rows_B = rows_of(groups, scored.rollouts.groups)
    plain_BT = losses.aggregation_weight(mask_BT[rows_B], config.aggregation, config.sampling.max_new_tokens)
    weight_BT = plain_BT * scored.importance_BT[rows_B, : plain_BT.shape[1]]
    if config.algorithm == "online_dpo":
        assert scored.pair_P2 is not None
        count = float((scored.pair_P2[groups, 0] != scored.pair_P2[groups, 1]).sum().clamp(min=1))
    else:
        count = float(losses.aggregation_count(mask_BT[rows_B], config.aggregation))
    tokens = float(scored.packed.length_B[rows_B].sum())
    return Minibatch(groups, rows_B, weight_BT, plain_BT.amax(1), count, tokens)


def objective(
    scored: Scored, config: Online, batch: Minibatch, part: Part, logp_BT: Tensor, kl_coefficient: float
) -> Tensor:
    """The part's share of the minibatch's loss; carries the gradient of ``logp_BT`` (the part's rows)."""
    rows_B = part.rows_B
    local_B = torch.isin(batch.rows_B, rows_B)
    match config.algorithm:
        case "online_dpo":
            return _online_dpo(scored, config, batch, part, logp_BT, kl_coefficient)
        case "gspo":
            low, high = config.sequence_clip
            advantage_BT, mask_BT = scored.advantage_BT[rows_B], scored.packed.mask_BT[rows_B]
            loss = losses.clipped_sequence_loss(
                logp_BT,
                scored.old_logp_BT[rows_B],
                advantage_BT[:, 0],
                mask_BT,
                _response_weight(batch.weight_BT[local_B], mask_BT),
                clip=low,
                clip_high=high,
                count=batch.count,
            )
        case _:
            loss = losses.clipped_policy_loss(
                logp_BT,
                scored.old_logp_BT[rows_B],
                scored.advantage_BT[rows_B],
                batch.weight_BT[local_B],
                clip=config.clip,
                clip_high=config.clip_high,
                token_count=batch.count,
            )
    if config.kl.placement == "loss":
        mask_BT = scored.packed.mask_BT[rows_B]
        term_B = kl.response_k2(logp_BT, scored.reference_logp_BT[rows_B], mask_BT)
        loss = loss + kl_coefficient * (batch.term_B[local_B] * term_B).sum() / batch.count
    return loss


def _response_weight(weight_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum of a response's token weights: 1, times the mean correction for the sampler."""
    return torch.where(mask_BT, weight_BT, 0.0).sum(1)


def _online_dpo(
    scored: Scored, config: Online, batch: Minibatch, part: Part, logp_BT: Tensor, beta: float
) -> Tensor:
    """DPO (Rafailov et al. 2023, eq. 7) on fresh pairs (Guo et al. 2024): Σ over pairs / pairs.

    With soft labels the better one wins with probability σ(score difference): its minimum is exactly
    π ∝ π_ref exp(score/β). Hard labels push past that, the further the more certain the scores are.
    """
    assert scored.pair_P2 is not None
    mask_BT = scored.packed.mask_BT[part.rows_B]
    ratio_BT = logp_BT - scored.reference_logp_BT[part.rows_B]
    implicit_B = beta * direct_losses.response_logps(ratio_BT, mask_BT)
    place = {int(row): index for index, row in enumerate(part.rows_B.tolist())}
    pairs = [pair for pair in scored.pair_P2.tolist() if pair[0] != pair[1] and pair[0] in place]
    better_N = [place[better] for better, _ in pairs]
    worse_N = [place[worse] for _, worse in pairs]
    win_N = None  # the better one surely wins
    if config.pair_labels == "soft":
        score_B = scored.score_B[part.rows_B]
        win_N = torch.sigmoid(score_B[better_N] - score_B[worse_N])
    return preference_losses.bradley_terry(
        implicit_B[better_N], implicit_B[worse_N], soft_label_N=win_N, count=batch.count
    )
