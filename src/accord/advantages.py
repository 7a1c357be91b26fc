"""Credit assignment: scores and KL in, one advantage per token (PPO, REINFORCE++) or per sample out.

Advantages are constants to the policy gradient, so nothing here carries a gradient. What a padded column
holds never matters, NaN included: values are selected by the mask, not multiplied with it. Whitening is in
tensors.py, because its mean is global over processes.

Axes: B responses, T tokens, P prompts, K samples of one prompt.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from accord.axes import check_axes


@torch.no_grad()
def missing_end(
    score_B: Tensor, finished_B: Tensor, mode: Literal["none", "subtract", "replace"], value: float
) -> Tensor:
    """Scores after the penalty for responses that never reached an end token, (B,).

    Args:
        score_B: normalised scores.
        finished_B: bool; the response ended with one of the model's own end tokens.
        mode: ``subtract`` pays score − value; ``replace`` pays −value whatever the score; ``none`` the score.
        value: size of the penalty in units of the normalised score, 0 or more in every mode.

    Raises:
        ValueError: a negative value (it would reward rambling), or an unknown mode.
    """
    check_axes(score_B=score_B, finished_B=finished_B)
    if not value >= 0:
        raise ValueError(f"the missing-end value is {value}: it is the size of a penalty, give 0 or more")
    match mode:
        case "none":
            return score_B.clone()
        case "subtract":
            return torch.where(finished_B.bool(), score_B, score_B - value)
        case "replace":
            return torch.where(finished_B.bool(), score_B, torch.full_like(score_B, -value))
        case _:
            raise ValueError(f"missing-end mode {mode!r} is unknown: use none, subtract or replace")


@torch.no_grad()
def rewards_with_kl(score_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, coefficient: float) -> Tensor:
    """Reward per token, (B, T): −coefficient · k1, plus the score once, at the last response token.

    Reference KL enters the reward, not the loss, so that GAE spreads it over tokens. RLOO and GRPO take the
    sum over T of the result as the score of the response. Zero outside the mask; a row without any response
    token (a dummy row that fills a batch) is all zero.

    Args:
        score_B: normalised score of the whole response.
        kl_BT: k1 per token, nats.
        mask_BT: true (or non-zero) at response tokens.
        coefficient: score per nat.
    """
    check_axes(score_B=score_B, kl_BT=kl_BT, mask_BT=mask_BT)
    response_BT = mask_BT.bool()
    reward_BT = torch.where(response_BT, -coefficient * kl_BT, 0.0)
    # Tokens of the response after and including this one: exactly 1 at the last.
    left_BT = response_BT.long().flip(1).cumsum(1).flip(1)
    return torch.where(response_BT & (left_BT == 1), reward_BT + score_B[:, None], reward_BT)


@torch.no_grad()
def gae(
    reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over response tokens only (Schulman et al. 2016, eq. 16).

    δ_t = r_t + γ V_{t+1} − V_t and A_t = δ_t + γλ A_{t+1}, where t + 1 is the *next response token*:
    prompt, padding and anything else outside the mask is stepped over. The value after the last token is 0
    (the episode ended).

    Args:
        reward_BT: from rewards_with_kl; read inside the mask only.
        value_BT: column t is the value of the state before token t, that is, without having seen token t.
        mask_BT: true (or non-zero) at response tokens.
        gamma: discount, in [0, 1].
        lam: λ, in [0, 1]; 1 gives returns minus values, 0 the one-step error.

    Returns:
        advantage_BT, and return_BT = advantage + value (the critic's target). Both are zero outside the mask.
    """
    check_axes(reward_BT=reward_BT, value_BT=value_BT, mask_BT=mask_BT)
    response_BT = mask_BT.bool()
    advantage_BT = torch.zeros_like(value_BT)
    next_value_B = value_BT.new_zeros(len(value_BT))
    next_advantage_B = torch.zeros_like(next_value_B)
    for t in reversed(range(value_BT.shape[1])):
        here_B = response_BT[:, t]
        delta_B = reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
        next_advantage_B = torch.where(here_B, delta_B + gamma * lam * next_advantage_B, next_advantage_B)
        next_value_B = torch.where(here_B, value_BT[:, t], next_value_B)
        advantage_BT[:, t] = torch.where(here_B, next_advantage_B, 0.0)
    return advantage_BT, torch.where(response_BT, advantage_BT + value_BT, 0.0)


def _scored(score_PK: Tensor, valid_PK: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(scores with 0 where invalid, bool validity, valid samples per prompt as (P, 1))."""
    check_axes(score_PK=score_PK, valid_PK=valid_PK)
    if score_PK.shape[1] < 2:
        raise ValueError(
            f"a group needs 2 samples of one prompt or more, got score_PK {tuple(score_PK.shape)}"
        )
    valid = torch.ones_like(score_PK, dtype=torch.bool) if valid_PK is None else valid_PK.bool()
    bad = int((~torch.isfinite(score_PK) & valid).sum())
    if bad:
        raise ValueError(
            f"{bad} scores are not finite: mark them false in valid_PK, so that siblings go on without"
        )
    return torch.where(valid, score_PK, 0.0), valid, valid.sum(1, keepdim=True)


@torch.no_grad()
def rloo(score_PK: Tensor, valid_PK: Tensor | None = None) -> Tensor:
    """Score minus the mean score of the *other* samples of the prompt, (P, K).

    Kool et al. 2019; Ahmadian et al. 2024 (arXiv 2402.14740).

    Args:
        score_PK: score of each sample, KL included where it is used.
        valid_PK: false where a sample could not be scored: it is in nobody's baseline, and its own
            advantage is 0. So is that of a sample whose siblings are all invalid.

    Raises:
        ValueError: K below 2, or a valid score that is not finite.
    """
    score_PK, valid, count_P1 = _scored(score_PK, valid_PK)
    baseline_PK = (score_PK.sum(1, keepdim=True) - score_PK) / (count_P1 - 1).clamp(min=1)
    return torch.where(valid & (count_P1 > 1), score_PK - baseline_PK, 0.0)


@torch.no_grad()
def grpo(
    score_PK: Tensor, valid_PK: Tensor | None = None, *, divide_by_std: bool, epsilon: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Score minus the group's mean, over its standard deviation, (P, K).

    Shao et al. 2024 (arXiv 2402.03300, section 4.1.2).

    Args:
        score_PK: score of each sample.
        valid_PK: false where a sample could not be scored: left out of mean and deviation, own advantage 0.
        divide_by_std: false is Dr. GRPO (Liu et al. 2025), which does not favour prompts with little spread.
        epsilon: in units of the score; added to the deviation (unbiased: K − 1), and the largest range of
            scores that still counts as no spread.

    Returns:
        advantage_PK, and no_spread_P: true for a group whose valid scores lie within epsilon of each other
        (or that has fewer than 2). Its advantages are exactly 0; round-off never becomes a gradient.

    Raises:
        ValueError: K below 2, or a valid score that is not finite.
    """
    score_PK, valid, count_P1 = _scored(score_PK, valid_PK)
    mean_P1 = score_PK.sum(1, keepdim=True) / count_P1.clamp(min=1)
    advantage_PK = torch.where(valid, score_PK - mean_P1, 0.0)
    infinity = float("inf")
    highest_P = score_PK.masked_fill(~valid, -infinity).amax(1)
    lowest_P = score_PK.masked_fill(~valid, infinity).amin(1)
    no_spread_P = (count_P1[:, 0] < 2) | (highest_P - lowest_P <= epsilon)
    if divide_by_std:
        variance_P1 = advantage_PK.square().sum(1, keepdim=True) / (count_P1 - 1).clamp(min=1)
        advantage_PK = advantage_PK / (variance_P1.sqrt() + epsilon)
    return torch.where(no_spread_P[:, None], 0.0, advantage_PK), no_spread_P


@torch.no_grad()
def reinforce(score_B: Tensor, baseline: float | None = None) -> Tensor:
    """Score minus a baseline that does not know the sample itself, (B,) (Williams 1992).

    Args:
        score_B: score of each response, KL included where it is used.
        baseline: for example the running mean of earlier batches. None: the mean of the *other* responses of
            the batch, whatever their prompts. The mean of all B would know the sample, and shrink the
            expected gradient by 1/B.

    Raises:
        ValueError: no baseline is given, and the batch has fewer than 2 responses.
    """
    check_axes(score_B=score_B)
    if baseline is not None:
        return score_B - baseline
    count = len(score_B)
    if count < 2:
        raise ValueError(f"the mean of the other responses needs 2 or more, the batch has {count}")
    return score_B - (score_B.sum() - score_B) / (count - 1)


@torch.no_grad()
def rewards_to_go(reward_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum of the rewards of this and all later response tokens, (B, T); zero outside the mask.

    With γ = 1 this is what REINFORCE++ (Hu 2025, arXiv 2501.03262) calls the advantage before it is
    whitened over the whole batch: score − β Σ_{i ≥ t} k1_i. Earlier tokens' KL cannot be changed by this one.
    """
    check_axes(reward_BT=reward_BT, mask_BT=mask_BT)
    response_BT = mask_BT.bool()
    inside_BT = torch.where(response_BT, reward_BT, 0.0)
    return torch.where(response_BT, inside_BT.flip(1).cumsum(1).flip(1), 0.0)


@torch.no_grad()
def best_and_worst(score_PK: Tensor, valid_PK: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices (P,) of the sample with the highest and with the lowest score of each group; first where tied.

    Online DPO's fresh pair (Guo et al. 2024, arXiv 2402.04792, has K = 2). In a group whose scores are all
    the same the two indices are equal: there is no pair, and the caller leaves the group out.

    Args:
        score_PK: score of each sample.
        valid_PK: false where a sample could not be scored: it is neither best nor worst, unless all are.

    Raises:
        ValueError: K below 2, or a valid score that is not finite.
    """
    score_PK, valid, _ = _scored(score_PK, valid_PK)
    infinity = float("inf")
    best_P = score_PK.masked_fill(~valid, -infinity).argmax(1)
    return best_P, score_PK.masked_fill(~valid, infinity).argmin(1)
