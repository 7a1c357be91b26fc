"""What a comparison teaches a reward model: Bradley–Terry, annotators who differ, and ties.

Pure functions, tensors in, one scalar out; each is a weighted sum divided by an explicit, *global* count, so
that gradient accumulation and more processes give the same step. Axes: N comparisons, O the three outcomes
(a wins, b wins, tie).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from accord.axes import check_axes
from accord.means import Count, weighted_mean

A_WINS, B_WINS, TIE = 0, 1, 2


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
    return weighted_mean(cross_entropy_N, weight_N, count)


def annotator_bradley_terry(
    difference_N: Tensor,
    a_better_N: Tensor,
    inverse_temperature_N: Tensor,
    side_N: Tensor,
    *,
    weight_N: Tensor | None = None,
    count: Count | None = None,
) -> Tensor:
    """Bradley–Terry for annotators who differ: P(a is preferred) = σ(β_j · (score_a − score_b) + side_j).

    Mean cross-entropy in nats per comparison. β_j is how much annotator j's verdicts follow the scores: 0 for
    one who clicks at random, below 0 for one who has the question the wrong way round. β and the scores share
    a free factor: hold one of them (mean β of 1, or a prior), or both drift.

    Args:
        difference_N: score_a − score_b.
        a_better_N: probability that a was preferred, in [0, 1]; 0 or 1 for a verdict, 1/2 for a tie.
        inverse_temperature_N: β of the annotator of each comparison, any sign.
        side_N: side bias of that annotator, in nats, **towards a**: the annotator's bias towards the left
            answer where a was shown left, minus it where b was.
        weight_N: weight of each comparison.
        count: global count to divide by; the sum of the weights where not given.

    Raises:
        ValueError: shapes differ, or a label is no probability.
    """
    check_axes(
        difference_N=difference_N,
        a_better_N=a_better_N,
        inverse_temperature_N=inverse_temperature_N,
        side_N=side_N,
        weight_N=weight_N,
    )
    if not bool(((a_better_N >= 0) & (a_better_N <= 1)).all()):
        raise ValueError("a_better_N is a probability: every entry must lie between 0 and 1")
    logit_N = inverse_temperature_N * difference_N + side_N
    term_N = a_better_N * functional.softplus(-logit_N) + (1 - a_better_N) * functional.softplus(logit_N)
    return weighted_mean(term_N, weight_N, count)


def annotator_prior(
    inverse_temperature_J: Tensor,
    side_J: Tensor,
    *,
    mean: float = 1.0,
    deviation: float = 2.0,
    side_deviation: float = 1.0,
    count: Count,
) -> Tensor:
    """Minus the log prior of annotators' parameters, without constants, over the labels' global count.

    β_j ~ N(mean, deviation²), side_j ~ N(0, side_deviation²): beside `annotator_bradley_terry`, whose sum
    over all labels is divided by the same count, the posterior's maximum over scores and annotators together.
    The mean above 0 says that most annotators answer the question as it was put; without it the scores of all
    answers could change sign together with every β.
    """
    check_axes(inverse_temperature_J=inverse_temperature_J, side_J=side_J)
    if not (deviation > 0 and side_deviation > 0):
        raise ValueError(f"deviations are {deviation} and {side_deviation}: both must be above 0")
    away = ((inverse_temperature_J - mean) / deviation).square() + (side_J / side_deviation).square()
    return 0.5 * away.sum() / count


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
    return weighted_mean(-log_probability_N3.gather(1, outcome_N.long()[:, None])[:, 0], weight_N, count)


def outcome_cross_entropy(
    log_probability_NO: Tensor,
    target_NO: Tensor,
    *,
    weight_N: Tensor | None = None,
    count: Count | None = None,
) -> Tensor:
    """−Σ_o target · log P(o), nats per comparison: wins and ties where several annotators judged one pair.

    Args:
        log_probability_NO: from `rao_kupper_log_probabilities` or `davidson_log_probabilities`, (N, 3).
        target_NO: share of the annotators who said a, b, tie; rows sum to 1.
        weight_N: weight of each comparison (how many annotators judged it, for example).
        count: global count to divide by; the sum of the weights where not given.

    Raises:
        ValueError: shapes differ, a negative share, a row that does not sum to 1.
    """
    check_axes(log_probability_NO=log_probability_NO, target_NO=target_NO, weight_N=weight_N)
    # The tolerance is float32's for a sum of three shares.
    if not bool((target_NO >= 0).all() & ((target_NO.sum(1) - 1).abs() <= 1e-5).all()):
        raise ValueError("target_NO holds shares of a, b and tie: none below 0, each row must sum to 1")
    # An impossible outcome (log-probability −inf) that nobody chose costs nothing, and not 0 · inf.
    term_NO = torch.where(target_NO > 0, log_probability_NO, 0.0) * target_NO
    return weighted_mean(-term_NO.sum(1), weight_N, count)


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
    return coefficient * weighted_mean(((chosen_N + rejected_N) / 2).square(), weight_N, count)
