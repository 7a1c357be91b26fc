"""Losses: pure functions, tensors in, one scalar out. No configuration, no state, no model.

Each loss is a weighted sum divided by an explicit count. The count is the caller's, and it is *global* (all
microbatches of the step, all processes), so that gradient accumulation and more processes give the same step.

What a padded column holds never matters, NaN included: values are selected by the mask before any arithmetic,
because 0 · inf is NaN, also in the gradient.

Axes: N comparisons, B responses, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from accord.axes import check_axes

Count: TypeAlias = float | Tensor
Aggregation: TypeAlias = Literal["token", "sequence", "constant"]

A_WINS, B_WINS, TIE = 0, 1, 2


def _mean(term: Tensor, weight: Tensor | None, count: Count | None) -> Tensor:
    """Σ weight · term / count; without a count, over the sum of the weights. Weight 0 silences any term."""
    if weight is None:
        weight = torch.ones_like(term)
    if count is None:
        count = float(weight.sum())
    if not isinstance(count, Tensor) and not count > 0:  # a tensor is not looked at: that would stall a GPU
        raise ValueError(f"the loss is divided by a count of {count}: it must be above 0")
    return (torch.where(weight != 0, term, 0.0) * weight).sum() / count


# Reward model


def bradley_terry(
    chosen_N: Tensor,
    rejected_N: Tensor,
    *,
    margin_N: Tensor | None = None,
    weight_N: Tensor | None = None,
    soft_label_N: Tensor | None = None,
    label_smoothing: float = 0.0,
    count: Count | None = None,
) -> Tensor:
    """Mean of −log σ(chosen − rejected − margin), in nats per comparison (Bradley and Terry 1952).

    Args:
        chosen_N: scores of the preferred responses.
        rejected_N: scores of the others.
        margin_N: how much better the chosen one has to be (Touvron et al. 2023, eq. 2).
        weight_N: weight of each comparison.
        soft_label_N: probability that "chosen" is better, in [0, 1]; 1 where not given, 1/2 is a tie. The
            loss is then the cross-entropy of the same logit.
        label_smoothing: probability in [0, 1/2) that a label is the wrong way round.
        count: global count to divide by; the sum of the weights where not given.

    Raises:
        ValueError: shapes differ, a soft label or the smoothing outside its limits, nothing to average over.
    """
    check_axes(
        chosen_N=chosen_N,
        rejected_N=rejected_N,
        margin_N=margin_N,
        weight_N=weight_N,
        soft_label_N=soft_label_N,
    )
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, it must be 0 or more and below 0.5")
    logit_N = chosen_N - rejected_N
    if margin_N is not None:
        logit_N = logit_N - margin_N
    label_N = torch.ones_like(logit_N) if soft_label_N is None else soft_label_N
    if soft_label_N is not None and not bool(((soft_label_N >= 0) & (soft_label_N <= 1)).all()):
        raise ValueError("soft_label_N is a probability: every entry must lie between 0 and 1")
    label_N = label_N * (1 - label_smoothing) + (1 - label_N) * label_smoothing
    # softplus(−x) = −log σ(x), without overflow
    cross_entropy_N = label_N * functional.softplus(-logit_N) + (1 - label_N) * functional.softplus(logit_N)
    return _mean(cross_entropy_N, weight_N, count)


def rao_kupper_log_probabilities(difference_N: Tensor, log_threshold: Tensor) -> Tensor:
    """Log-probabilities of (a wins, b wins, tie), (N, 3) (Rao and Kupper 1967).

    With d = score_a − score_b and η = log θ > 0:
    P(a) = σ(d − η),  P(b) = σ(−d − η),  P(tie) = (e^{2η} − 1) P(a) P(b).

    Args:
        difference_N: d.
        log_threshold: η, a scalar above 0. To learn it, train a free parameter and pass its softplus.

    Raises:
        ValueError: η is not above 0 (ties would be impossible).
    """
    check_axes(difference_N=difference_N)
    if log_threshold.numel() != 1 or not log_threshold.detach().item() > 0:
        raise ValueError(
            f"log_threshold is {log_threshold.tolist()}: it must be one number above 0 (use softplus)"
        )
    log_threshold = log_threshold.reshape(())
    a_N = functional.logsigmoid(difference_N - log_threshold)
    b_N = functional.logsigmoid(-difference_N - log_threshold)
    # log(e^{2η} − 1) without overflow for large η
    log_excess = 2 * log_threshold + torch.log(-torch.expm1(-2 * log_threshold))
    return torch.stack([a_N, b_N, a_N + b_N + log_excess], dim=1)


def davidson_log_probabilities(difference_N: Tensor, log_tie: Tensor) -> Tensor:
    """Log-probabilities of (a wins, b wins, tie), (N, 3) (Davidson 1970).

    With strengths π = e^score: P(a), P(b), P(tie) are proportional to π_a, π_b, ν √(π_a π_b).

    Args:
        difference_N: score_a − score_b.
        log_tie: log ν, a scalar without limits; a free parameter where it is learned.
    """
    check_axes(difference_N=difference_N)
    if log_tie.numel() != 1:
        raise ValueError(f"log_tie must be one number, got shape {tuple(log_tie.shape)}")
    tie_N = log_tie.reshape(()).expand_as(difference_N).to(difference_N.dtype)
    return torch.log_softmax(torch.stack([difference_N / 2, -difference_N / 2, tie_N], dim=1), dim=1)


def _outcome_loss(
    log_probability_N3: Tensor, outcome_N: Tensor, weight_N: Tensor | None, count: Count | None
) -> Tensor:
    check_axes(outcome_N=outcome_N, weight_N=weight_N, log_probability_NO=log_probability_N3)
    if outcome_N.is_floating_point() or not bool(((outcome_N >= A_WINS) & (outcome_N <= TIE)).all()):
        raise ValueError("outcome_N holds integers: 0 where a wins, 1 where b wins, 2 for a tie")
    return _mean(-log_probability_N3.gather(1, outcome_N.long()[:, None])[:, 0], weight_N, count)


def rao_kupper(
    difference_N: Tensor,
    outcome_N: Tensor,
    log_threshold: Tensor,
    *,
    weight_N: Tensor | None = None,
    count: Count | None = None,
) -> Tensor:
    """Negative log-likelihood of wins and ties by Rao–Kupper, nats per comparison.

    Args:
        difference_N: score_a − score_b.
        outcome_N: integers, 0 a wins, 1 b wins, 2 tie.
        log_threshold: η above 0, see rao_kupper_log_probabilities; carries a gradient.
        weight_N: weight of each comparison.
        count: global count to divide by; the sum of the weights where not given.
    """
    return _outcome_loss(
        rao_kupper_log_probabilities(difference_N, log_threshold), outcome_N, weight_N, count
    )


def davidson(
    difference_N: Tensor,
    outcome_N: Tensor,
    log_tie: Tensor,
    *,
    weight_N: Tensor | None = None,
    count: Count | None = None,
) -> Tensor:
    """Negative log-likelihood of wins and ties by Davidson, nats per comparison; else as rao_kupper."""
    return _outcome_loss(davidson_log_probabilities(difference_N, log_tie), outcome_N, weight_N, count)


def centering_penalty(
    chosen_N: Tensor,
    rejected_N: Tensor,
    coefficient: float,
    *,
    weight_N: Tensor | None = None,
    count: Count | None = None,
) -> Tensor:
    """coefficient · mean of ((chosen + rejected) / 2)²: pins the scores' free constant near 0.

    Eisenstein et al. 2023 (arXiv 2312.09244) and TRL square the *sum* of the two, which is four
    times this: their 0.01 is 0.04 here.
    """
    check_axes(chosen_N=chosen_N, rejected_N=rejected_N, weight_N=weight_N)
    return coefficient * _mean(((chosen_N + rejected_N) / 2).square(), weight_N, count)


# Policy and value


def negative_log_likelihood(logp: Tensor, weight: Tensor, token_count: Count) -> Tensor:
    """−Σ weight · logp / token_count, nats per token. Any shape, packed or padded.

    Args:
        logp: log-probability of each token.
        weight: mask or weights of the same shape; 0 where a token is not to be learned.
        token_count: tokens with weight in the whole step, over all microbatches and processes.
    """
    if logp.shape != weight.shape:
        raise ValueError(f"logp has shape {tuple(logp.shape)}, but weight has {tuple(weight.shape)}")
    return _mean(-logp, weight, token_count)


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
    """
    check_axes(logp_BT=logp_BT, old_logp_BT=old_logp_BT, advantage_BT=advantage_BT, mask_BT=mask_BT)
    ratio_BT = torch.exp(_log_ratio(logp_BT, old_logp_BT, mask_BT))
    gain_BT = torch.minimum(ratio_BT * advantage_BT, ratio_BT.clamp(1 - clip, 1 + clip) * advantage_BT)
    return _mean(-gain_BT, mask_BT, token_count)


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
    return 0.5 * _mean(error_BT, mask_BT, token_count)


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
        clip_fraction: share of tokens whose ratio is outside [1 − clip, 1 + clip].
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
def policy_statistics(logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor, clip: float) -> PolicyStatistics:
    """Figures for the log, over the tokens inside the mask.

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
    rank = (99 * n + 99) // 100  # ceil(0.99 n) in integers; kthvalue counts from 1
    return PolicyStatistics(
        clip_fraction=float(((ratio_N - 1).abs() > clip).double().mean()),
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
