"""Several reward models as one: mean, worst case, and mean minus variance (Coste et al. 2023, 2310.02743)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from accord.diagnostics.statistics import FloatArray

Aggregation = Literal["mean", "worst_case", "uncertainty_weighted"]
AGGREGATIONS: tuple[Aggregation, ...] = ("mean", "worst_case", "uncertainty_weighted")
VARIANCE_WEIGHT = 0.5  # λ of Coste et al. for best-of-n, the optimiser that has no noise of its own either


def mean(score_KR: FloatArray) -> FloatArray:
    """score_R: the mean over K members."""
    out: FloatArray = score_KR.mean(axis=0)
    return out


def worst_case(score_KR: FloatArray) -> FloatArray:
    """score_R: what the member that likes an answer least says of it (WCO)."""
    out: FloatArray = score_KR.min(axis=0)
    return out


def uncertainty_weighted(score_KR: FloatArray, variance_weight: float = VARIANCE_WEIGHT) -> FloatArray:
    """score_R: mean - λ·variance over members, the variance and not the deviation (UWO)."""
    out: FloatArray = score_KR.mean(axis=0) - variance_weight * score_KR.var(axis=0)
    return out


def aggregate(score_KR: FloatArray, how: Aggregation) -> FloatArray:
    """score_R of an ensemble. Members have mean 0 over all answers: a minimum compares like with like."""
    match how:
        case "mean":
            return mean(score_KR)
        case "worst_case":
            return worst_case(score_KR)
        case "uncertainty_weighted":
            return uncertainty_weighted(score_KR)


def disagreement(score_KR: FloatArray, policy_R: FloatArray) -> float:
    """How far the members' scores of a policy's answers lie apart: √ of their mean variance."""
    return float(np.sqrt(policy_R @ score_KR.var(axis=0)))
