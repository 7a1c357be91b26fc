"""One score from several reward models: mean, worst case, mean minus variance, lower confidence bound.

Members have units of their own: one whose scores spread twice as far would count twice in the mean and decide
the worst case alone. So members are standardised first, each with its own statistics over one and the same
set of reference responses, and λ and z below are in units of that.

Which rule is best is not known beforehand: measure it. Errors that all members share survive every rule
(Eisenstein et al. 2023, arXiv 2312.09244).

Axes: E members, B responses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.axes import check_axes

LEAST_DEVIATION = 1e-6


def reference_statistics(score_EB: Tensor) -> tuple[Tensor, Tensor]:
    """(mean_E, deviation_E) of each member over the reference responses; the deviation divides by B − 1.

    Raises:
        ValueError: fewer than 2 responses, a score that is not finite, or a member that gives every response
            the same score (named by its number from 0).
    """
    check_axes(score_EB=score_EB)
    members, responses = score_EB.shape
    if responses < 2:
        raise ValueError(f"a deviation needs 2 reference responses or more, got {responses}")
    if not bool(torch.isfinite(score_EB).all()):
        bad = (~torch.isfinite(score_EB)).any(1).nonzero()[:, 0].tolist()
        raise ValueError(f"members {bad} of {members} gave scores that are NaN or infinite: leave them out")
    deviation_E = score_EB.std(1)
    flat = (deviation_E <= LEAST_DEVIATION).nonzero()[:, 0].tolist()
    if flat:
        raise ValueError(f"members {flat} of {members} give every response the same score: leave them out")
    return score_EB.mean(1), deviation_E


def standardise(score_EB: Tensor, mean_E: Tensor, deviation_E: Tensor) -> Tensor:
    """(score − mean) / deviation, each member by its own, (E, B)."""
    check_axes(score_EB=score_EB, mean_E=mean_E, deviation_E=deviation_E)
    return (score_EB - mean_E[:, None]) / deviation_E[:, None]


def _members(score_EB: Tensor) -> None:
    check_axes(score_EB=score_EB)
    if score_EB.shape[0] < 1:
        raise ValueError("an ensemble needs 1 member or more, got 0")


def mean_score(score_EB: Tensor) -> Tensor:
    """Mean over the members, (B,)."""
    _members(score_EB)
    return score_EB.mean(0)


def member_variance(score_EB: Tensor) -> Tensor:
    """Variance between the members, (B,), divided by E: they are all of the ensemble, no sample of it.

    torch.var divides by E − 1 unless told otherwise, which makes λ 1.5 times larger with 3 members.
    """
    _members(score_EB)
    return score_EB.var(0, correction=0)


def worst_case(score_EB: Tensor) -> Tensor:
    """The lowest member's score (WCO; Coste et al. 2023, arXiv 2310.02743), (B,)."""
    _members(score_EB)
    return score_EB.amin(0)


def mean_minus_variance(score_EB: Tensor, coefficient: float) -> Tensor:
    """mean − λ · variance (UWO; Coste et al. 2023), (B,): the *variance*, not the standard deviation.

    The authors used λ = 0.5 for best-of-n and 0.1 for PPO.
    """
    _coefficient("λ", coefficient)
    return mean_score(score_EB) - coefficient * member_variance(score_EB)


def lower_confidence_bound(score_EB: Tensor, z: float) -> Tensor:
    """mean − z · standard deviation between the members, (B,).

    A bound for what a further member would say, not for the ensemble's mean (which would divide by √E).
    """
    _coefficient("z", z)
    return mean_score(score_EB) - z * member_variance(score_EB).sqrt()


def _coefficient(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} is {value}: it must be 0 or more, below 0 it would reward disagreement")
