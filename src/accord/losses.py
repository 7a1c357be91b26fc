"""Losses of policy and critic: pure functions, tensors in, one scalar out. No configuration, no state.

Each loss is a weighted sum divided by an explicit count. The count is the caller's, and it is *global* (all
microbatches of the step, all processes), so that gradient accumulation and more processes give the same step.

What a padded column holds never matters, NaN included: values are selected by the mask before any arithmetic,
because 0 · inf is NaN, also in the gradient.

Axes: B responses, T tokens. The reward model's losses are in `preference_losses` and its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from accord.axes import check_axes
from accord.means import Count, weighted_mean

Aggregation: TypeAlias = Literal["token", "sequence", "constant"]


def negative_log_likelihood(logp: Tensor, weight: Tensor, token_count: Count) -> Tensor:
    """−Σ weight · logp / token_count, nats per token. Any shape, packed or padded.

    Args:
        logp: log-probability of each token.
        weight: mask or weights of the same shape; 0 where a token is not to be learned.
        token_count: tokens with weight in the whole step, over all microbatches and processes.
    """
    if logp.shape != weight.shape:
        raise ValueError(f"logp has shape {tuple(logp.shape)}, but weight has {tuple(weight.shape)}")
    return weighted_mean(-logp, weight, token_count)


def aggregation_weight(mask_BT: Tensor, kind: Aggregation, constant_length: int | None = None) -> Tensor:
    """Weight of each token's term, (B, T) float32, for ``mask_BT`` of a loss; zero outside the mask.

    The choice decides the length bias, so it has a name:
    - ``token``: every token counts the same, so long responses count more (DAPO, Yu et al. 2025).
    - ``sequence``: every response counts the same, so a token of a long response counts less (GRPO, Shao et
      al. 2024).
    - ``constant``: every token counts 1 / constant_length, whatever the response's length (Dr. GRPO, Liu et
      al. 2025).

    The loss is then Σ weight · term / the global sum of aggregation_count.
    """
    check_axes(mask_BT=mask_BT)
    response_BT = mask_BT.bool().float()
    match kind:
        case "token":
            return response_BT
        case "sequence":
            return response_BT / response_BT.sum(1, keepdim=True).clamp(min=1)
        case "constant":
            if constant_length is None or constant_length < 1:
                raise ValueError(
                    f"constant_length is {constant_length}: it must be 1 or more, max_new_tokens for example"
                )
            return response_BT / constant_length
        case _:
            raise ValueError(f"aggregation {kind!r} is unknown: use token, sequence or constant")


def aggregation_count(mask_BT: Tensor, kind: Aggregation) -> Tensor:
    """What to divide by, once summed over microbatches and processes: tokens, or responses with tokens."""
    check_axes(mask_BT=mask_BT)
    response_BT = mask_BT.bool()
    return (response_BT if kind == "token" else response_BT.any(1)).sum()


def _log_ratio(logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """logp − old_logp inside the mask, 0 outside; masked before the difference, so padding may hold −inf."""
    used_BT = mask_BT != 0
    return torch.where(used_BT, logp_BT, 0.0) - torch.where(used_BT, old_logp_BT, 0.0)


def clipped_policy_loss(
    logp_BT: Tensor,
    old_logp_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    token_count: Count,
    clip_high: float | None = None,
) -> Tensor:
    """PPO's clipped surrogate (Schulman et al. 2017, eq. 7), to be minimised: −Σ mask · min(…) / token_count.

    The clip binds only where it limits the gain: a token that got likelier and should have, or less likely
    and should have. In the two other cases the full ratio pulls it back.

    Args:
        logp_BT: log-probabilities under the policy being trained; carries the gradient.
        old_logp_BT: the same tokens before the first update of this batch.
        advantage_BT: constants.
        mask_BT: response mask, or weights from aggregation_weight.
        clip: ε; the ratio's gain is limited to [1 − ε, 1 + ε].
        token_count: global count (tokens; responses with sequence or constant aggregation).
        clip_high: another ε above 1 (DAPO's clip-higher, Yu et al. 2025, eq. 10); None: the same.
    """
    check_axes(logp_BT=logp_BT, old_logp_BT=old_logp_BT, advantage_BT=advantage_BT, mask_BT=mask_BT)
    high = clip if clip_high is None else clip_high
    ratio_BT = torch.exp(_log_ratio(logp_BT, old_logp_BT, mask_BT))
    gain_BT = torch.minimum(ratio_BT * advantage_BT, ratio_BT.clamp(1 - clip, 1 + high) * advantage_BT)
    return weighted_mean(-gain_BT, mask_BT, token_count)


def clipped_sequence_loss(
    logp_BT: Tensor,
    old_logp_BT: Tensor,
    advantage_B: Tensor,
    mask_BT: Tensor,
    weight_B: Tensor,
    *,
    clip: float,
    clip_high: float,
    count: Count,
) -> Tensor:
    """GSPO (Zheng et al. 2025, arXiv 2507.18071, eq. 5): one ratio a response, −Σ weight · min(…) / count.

    The ratio is that of the whole response to the power 1 / length (eq. 7), so it moves far less than a
    token's: the paper clips it to [1 − 3e-4, 1 + 4e-4].

    Args:
        advantage_B: one constant a response.
        mask_BT: response mask; a row without any response token contributes nothing.
        weight_B: weight of each response.
        count: global count of responses.
    """
    check_axes(logp_BT=logp_BT, old_logp_BT=old_logp_BT, mask_BT=mask_BT)
    check_axes(logp_BT=logp_BT, advantage_B=advantage_B, weight_B=weight_B)
    length_B = (mask_BT != 0).sum(1)
    ratio_B = torch.exp(_log_ratio(logp_BT, old_logp_BT, mask_BT).sum(1) / length_B.clamp(min=1))
    gain_B = torch.minimum(ratio_B * advantage_B, ratio_B.clamp(1 - clip, 1 + clip_high) * advantage_B)
    return weighted_mean(-gain_B, weight_B * (length_B > 0), count)


def value_loss(
    value_BT: Tensor,
    old_value_BT: Tensor,
    return_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    token_count: Count,
) -> Tensor:
    """Half the squared error of the critic, the larger of clipped and unclipped, per token.

    As in OpenAI's baselines and lm-human-preferences: a value that moved more than ``clip`` from the old
    one gains nothing by moving on, and is still pulled back where it overshoots. The coefficient (0.1) is
    the caller's.
    """
    check_axes(value_BT=value_BT, old_value_BT=old_value_BT, return_BT=return_BT, mask_BT=mask_BT)
    used_BT = mask_BT != 0
    value_BT, old_value_BT, return_BT = (
        torch.where(used_BT, x_BT, 0.0) for x_BT in (value_BT, old_value_BT, return_BT)
    )
    near_BT = old_value_BT + (value_BT - old_value_BT).clamp(-clip, clip)
    error_BT = torch.maximum((value_BT - return_BT).square(), (near_BT - return_BT).square())
    return 0.5 * weighted_mean(error_BT, mask_BT, token_count)


@torch.no_grad()
def truncated_importance_weight(
    logp_BT: Tensor, sampled_logp_BT: Tensor, mask_BT: Tensor, *, cap: float
) -> Tensor:
    """min(trainer / sampler, cap) per token, (B, T), zero outside the mask (Ionides 2008).

    Corrects for a sampler whose log-probabilities come from other code than the trainer's. Multiply it into
    the weights of the policy loss; it is a constant there.
    """
    check_axes(logp_BT=logp_BT, sampled_logp_BT=sampled_logp_BT, mask_BT=mask_BT)
    ratio_BT = torch.exp(_log_ratio(logp_BT, sampled_logp_BT, mask_BT)).clamp(max=cap)
    return torch.where(mask_BT != 0, ratio_BT, 0.0)


@dataclass(frozen=True, slots=True)
class PolicyStatistics:
    """How far the policy has moved from the one that sampled, over all response tokens given.

    Attributes:
        clip_fraction: share of tokens whose ratio is outside [1 − clip, 1 + clip (or clip_high)].
        kl_k3: k3 estimate of KL(old ‖ new), nats per token.
        log_ratio_max: largest |log ratio|; 0 up to round-off before the first update.
        ratio_p99: smallest ratio that at least 99% of the tokens do not exceed.
        effective_share: effective sample size over the number of tokens, (Σr)² / (n Σr²), in (0, 1].
        tokens: n.
    """

    clip_fraction: float
    kl_k3: float
    log_ratio_max: float
    ratio_p99: float
    effective_share: float
    tokens: int


@torch.no_grad()
def policy_statistics(
    logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor, clip: float, clip_high: float | None = None
) -> PolicyStatistics:
    """Figures for the log, over the tokens inside the mask; ``clip_high`` as in `clipped_policy_loss`.

    A maximum and a percentile do not add up over microbatches: pass the tokens of the whole step, all
    processes gathered.

    Raises:
        ValueError: there is no token inside the mask.
    """
    check_axes(logp_BT=logp_BT, old_logp_BT=old_logp_BT, mask_BT=mask_BT)
    used_BT = mask_BT != 0
    # Double: these are means over very many tokens, some of them far below float32's last place of 1.
    log_ratio_N = logp_BT[used_BT].double() - old_logp_BT[used_BT].double()
    n = log_ratio_N.numel()
    if n == 0:
        raise ValueError("policy statistics need a response token, and the mask is empty")
    ratio_N = log_ratio_N.exp()
    high = clip if clip_high is None else clip_high
    rank = (99 * n + 99) // 100  # ceil(0.99 n) in integers; kthvalue counts from 1
    return PolicyStatistics(
        clip_fraction=float(((ratio_N - 1 > high) | (1 - ratio_N > clip)).double().mean()),
        kl_k3=float((torch.expm1(log_ratio_N) - log_ratio_N).mean()),
        log_ratio_max=float(log_ratio_N.abs().max()),
        ratio_p99=float(ratio_N.kthvalue(rank).values),
        effective_share=float(ratio_N.sum().square() / (n * ratio_N.square().sum())),
        tokens=n,
    )


@torch.no_grad()
def explained_variance(value_BT: Tensor, return_BT: Tensor, mask_BT: Tensor) -> float:
    """1 − Var(return − value) / Var(return) over response tokens, biased variances.

    1 is a perfect critic, 0 one that is worth no more than the mean, below 0 one that is worse than none. NaN
    where returns do not vary.
    """
    check_axes(value_BT=value_BT, return_BT=return_BT, mask_BT=mask_BT)
    used_BT = mask_BT != 0
    return_N = return_BT[used_BT].double()
    error_N = return_N - value_BT[used_BT].double()
    if return_N.numel() == 0 or float(return_N.max() - return_N.min()) == 0:
        return float("nan")
    return float(1 - error_N.var(correction=0) / return_N.var(correction=0))
