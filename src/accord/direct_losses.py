"""Losses that learn from preferences without a reward model: DPO and its relatives. Pure functions.

Tensors in, one scalar out; each is a sum divided by an explicit, *global* count, so that gradient
accumulation and more processes give the same step. A *log ratio* is log π(y|x) − log π_ref(y|x), both summed
over the response's tokens (end token included, prompt not); ORPO and SimPO know no reference and take the
*mean* log-probability of a token. DPO's implicit reward is β · log ratio, in nats of Bradley–Terry log odds.

cDPO is `dpo` with label smoothing. Ties need no functions of their own: `preference_losses.rao_kupper` and
`davidson` of β · (log ratio a − log ratio b) are DPO-RK and DPO-D (Chen et al. 2024, arXiv 2409.17431).

Axes: N pairs or answers, B responses, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from accord.axes import check_axes
from accord.means import Count, weighted_mean
from accord.preference_losses import bradley_terry

SURE = -1e-6  # a mean log-probability above it is taken as this: the odds of a certain answer are infinite


def response_logps(logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Log-probability of each response, (B,): the sum over its tokens, nats."""
    check_axes(logp_BT=logp_BT, mask_BT=mask_BT)
    return torch.where(mask_BT != 0, logp_BT, 0.0).sum(1)


def dpo(
    chosen_log_ratio_N: Tensor,
    rejected_log_ratio_N: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    count: Count | None = None,
) -> Tensor:
    """−log σ(β (chosen − rejected)), nats per pair (Rafailov et al. 2023, arXiv 2305.18290, eq. 7).

    With label smoothing ε it is cDPO (Mitchell 2023): (1 − ε) times that plus ε times the loss of the turned
    pair. Its optimum is a margin of log((1 − ε)/ε) and not an infinite one.

    Args:
        chosen_log_ratio_N: log ratio of the preferred responses, summed over tokens.
        rejected_log_ratio_N: of the others.
        beta: nats of reward per nat of log ratio, above 0.
        label_smoothing: probability in [0, 1/2) that a label is the wrong way round.
        count: global number of pairs to divide by; N where not given.
    """
    _require_positive("beta", beta)
    return bradley_terry(
        beta * chosen_log_ratio_N, beta * rejected_log_ratio_N, label_smoothing=label_smoothing, count=count
    )


def robust_dpo(
    chosen_log_ratio_N: Tensor,
    rejected_log_ratio_N: Tensor,
    *,
    beta: float,
    label_smoothing: float,
    count: Count | None = None,
) -> Tensor:
    """((1 − ε) L(pair) − ε L(turned pair)) / (1 − 2ε), nats per pair (Chowdhury et al. 2024, 2403.00409).

    Its expectation over labels that are turned with probability ε is DPO's loss on the true labels. It has no
    lower bound: a pair that is learned very surely counts below 0. Arguments as `dpo`.
    """
    _require_positive("beta", beta)
    if not 0 < label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}: robust DPO needs it above 0 and below 0.5")
    check_axes(chosen_log_ratio_N=chosen_log_ratio_N, rejected_log_ratio_N=rejected_log_ratio_N)
    margin_N = beta * (chosen_log_ratio_N - rejected_log_ratio_N)
    right_N, turned_N = functional.softplus(-margin_N), functional.softplus(margin_N)
    term_N = ((1 - label_smoothing) * right_N - label_smoothing * turned_N) / (1 - 2 * label_smoothing)
    return weighted_mean(term_N, None, count)


def ipo(
    chosen_log_ratio_N: Tensor, rejected_log_ratio_N: Tensor, *, beta: float, count: Count | None = None
) -> Tensor:
    """(chosen − rejected − 1/(2β))², squared nats per pair (Azar et al. 2023, arXiv 2310.12036, eq. 17).

    β is the paper's τ. The log ratios are sums over tokens, as there; TRL divides them by the lengths.
    """
    _require_positive("beta", beta)
    check_axes(chosen_log_ratio_N=chosen_log_ratio_N, rejected_log_ratio_N=rejected_log_ratio_N)
    return weighted_mean((chosen_log_ratio_N - rejected_log_ratio_N - 1 / (2 * beta)).square(), None, count)


def kto(
    log_ratio_N: Tensor,
    good_N: Tensor,
    baseline: Tensor,
    *,
    beta: float,
    good_weight: float = 1.0,
    bad_weight: float = 1.0,
    count: Count | None = None,
) -> Tensor:
    """λ (1 − σ(± β (log ratio − z0))), mean over answers (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8).

    + for a good answer, − for a bad one; no pairs are needed.

    Args:
        log_ratio_N: of each answer, summed over tokens.
        good_N: true where the answer is a good one.
        baseline: z0, one number from `kto_baseline`; a constant here.
        good_weight: λ_D of good answers; bad_weight: λ_U of bad ones.
    """
    _require_positive("beta", beta)
    check_axes(log_ratio_N=log_ratio_N, good_N=good_N)
    good_N = good_N.bool()
    gain_N = beta * (log_ratio_N - baseline.detach())
    term_N = torch.sigmoid(torch.where(good_N, -gain_N, gain_N))  # 1 − σ(x) = σ(−x)
    weight_N = torch.where(good_N, good_weight, bad_weight).to(term_N.dtype)
    return weighted_mean(term_N * weight_N, None, count)


@torch.no_grad()
def kto_baseline(mismatched_log_ratio_M: Tensor, *, count: Count | None = None) -> Tensor:
    """z0 = max(0, mean log ratio) of answers under prompts that they do not belong to, a scalar.

    An estimate of KL(π ‖ π_ref) without sampling (Ethayarajh et al. 2024, section 4.1); never below 0, and
    without gradient.
    """
    check_axes(mismatched_log_ratio_M=mismatched_log_ratio_M)
    return weighted_mean(mismatched_log_ratio_M, None, count).clamp(min=0)


def orpo(
    chosen_mean_logp_N: Tensor,
    rejected_mean_logp_N: Tensor,
    *,
    odds_weight: float,
    count: Count | None = None,
) -> Tensor:
    """−chosen − λ log σ(log odds(chosen) − log odds(rejected)), nats per pair (Hong et al. 2024, 2403.07691).

    Equations 6 and 7. odds = p / (1 − p), log p the *mean* log-probability of a token. The first term is SFT
    on the preferred answers, each of the same weight whatever its length.

    Args:
        chosen_mean_logp_N: mean log-probability of a token of the preferred responses.
        rejected_mean_logp_N: of the others.
        odds_weight: λ, above 0.
    """
    _require_positive("odds_weight", odds_weight)
    check_axes(chosen_mean_logp_N=chosen_mean_logp_N, rejected_mean_logp_N=rejected_mean_logp_N)
    log_odds_ratio_N = log_odds(chosen_mean_logp_N) - log_odds(rejected_mean_logp_N)
    term_N = -chosen_mean_logp_N + odds_weight * functional.softplus(-log_odds_ratio_N)
    return weighted_mean(term_N, None, count)


def log_odds(logp_N: Tensor) -> Tensor:
    """log p/(1 − p) of log p, nats; log p is taken as at most `SURE`."""
    logp_N = logp_N.clamp(max=SURE)
    return logp_N - torch.log(-torch.expm1(logp_N))


def simpo(
    chosen_mean_logp_N: Tensor,
    rejected_mean_logp_N: Tensor,
    *,
    beta: float,
    gamma: float,
    count: Count | None = None,
) -> Tensor:
    """−log σ(β (chosen − rejected) − γ), nats per pair (Meng et al. 2024, arXiv 2405.14734, eq. 6).

    Args:
        chosen_mean_logp_N: mean log-probability of a token of the preferred responses.
        rejected_mean_logp_N: of the others.
        beta: 2 to 10 in the paper: means are far smaller than DPO's sums.
        gamma: the margin to reach, in nats, 0 or more.
    """
    _require_positive("beta", beta)
    if not gamma >= 0:
        raise ValueError(f"gamma is {gamma}: it must be 0 or more")
    check_axes(chosen_mean_logp_N=chosen_mean_logp_N)
    margin_N = torch.full_like(chosen_mean_logp_N, gamma)
    return bradley_terry(
        beta * chosen_mean_logp_N, beta * rejected_mean_logp_N, margin_N=margin_N, count=count
    )


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}: it must be above 0")
