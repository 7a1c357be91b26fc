"""Do the members agree? Spread between reward models on the policy's samples over that on SFT's."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from accord.diagnostics.drift_features import Index, prompt_folds
from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    cluster_sum_draws,
    cluster_totals,
    finite,
    percentile_interval,
    shared_clusters,
    stream,
)
from accord.records import BadInput, Finding

QUESTION = "Do the members agree?"
FOLDS = 5
ROUND_OFF = 1e-12  # what standardising equal scores leaves of a variance
UNIT = "spread between members on the policy's samples over that on SFT's, a ratio"


def _checked(base_EN: Any, policy_EM: Any) -> tuple[FloatArray, FloatArray]:
    base, policy = finite(base_EN, "SFT scores"), finite(policy_EM, "policy scores")
    if base.ndim != 2 or policy.ndim != 2 or len(base) != len(policy) or len(base) < 2:
        raise BadInput(
            f"member scores have shapes {base.shape} and {policy.shape}: give one row for each of 2 members"
            " or more, the same members on both"
        )
    if base.shape[1] < 2 or (base.std(axis=1) == 0).any():
        raise BadInput(
            "a member gives every SFT sample the same score, so its scores have no unit: leave it out"
        )
    return base, policy


def _standardised(
    base_EN: FloatArray, policy_EM: FloatArray, fold_N: Index, fold_M: Index
) -> tuple[FloatArray, FloatArray]:
    """Each member in its own deviations from its own mean, both over SFT's samples of the other folds."""
    whole = base_EN.mean(axis=1), base_EN.std(axis=1)
    base, policy = np.empty_like(base_EN), np.empty_like(policy_EM)
    for fold in range(FOLDS):
        others_ER = base_EN[:, fold_N != fold]
        mean_E, deviation_E = (
            whole if others_ER.shape[1] < 2 else (others_ER.mean(axis=1), others_ER.std(axis=1))
        )
        deviation_E = np.where(deviation_E > 0, deviation_E, whole[1])
        for out, scores, held in ((base, base_EN, fold_N == fold), (policy, policy_EM, fold_M == fold)):
            out[:, held] = (scores[:, held] - mean_E[:, None]) / deviation_E[:, None]
    return base, policy


def ensemble_spread(
    base_EN: Any,
    policy_EM: Any,
    base_prompt_N: Clusters,
    policy_prompt_M: Clusters,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: are the members less sure of the policy's samples than of SFT's?

    Each member is standardised by its own mean and deviation over SFT's samples first: members differ in
    scale and origin, and that is no disagreement. Mean and deviation come from other prompts' samples (five
    folds), for both sides: fitted to the very samples, they would hide some of SFT's spread. The spread of a
    sample is the variance over members (E - 1); the figure is the root of the ratio of its means, policy over
    SFT, with an interval over prompts.

    Args:
        base_EN, policy_EM: scores of E members for SFT's and the policy's samples.

    Verdict: warn where the interval lies above 1, good where it does not. Members that were fitted to the
    same labels share errors that this cannot see (Eisenstein et al. 2023, arXiv 2312.09244).
    """
    base, policy = _checked(base_EN, policy_EM)
    index_N, index_M, prompts = shared_clusters(base_prompt_N, policy_prompt_M)
    if len(index_N) != base.shape[1] or len(index_M) != policy.shape[1]:
        raise BadInput(
            f"{base.shape[1]} and {policy.shape[1]} samples but {len(index_N)} and {len(index_M)} prompts:"
            " give one prompt for each sample"
        )
    rng = stream(seed, "ensemble_spread")
    fold_G = prompt_folds(prompts, FOLDS, rng)
    base, policy = _standardised(base, policy, fold_G[index_N], fold_G[index_M])
    spread_N, spread_M = base.var(axis=0, ddof=1), policy.var(axis=0, ddof=1)
    parts = [
        cluster_totals(np.stack([spread, np.ones_like(spread)], axis=1), index, prompts)
        for spread, index in ((spread_N, index_N), (spread_M, index_M))
    ]
    totals_G4 = np.concatenate(parts, axis=1)
    if not spread_N.mean() > ROUND_OFF:
        raise BadInput(
            "all members give SFT's samples the same scores: an ensemble of copies cannot disagree"
        )
    draws_S4 = cluster_sum_draws(totals_G4, samples, rng)
    figure = float(_ratio(totals_G4.sum(axis=0)[None])[0])
    ratio = percentile_interval(figure, _ratio(draws_S4), prompts)
    verdict: Literal["good", "warn", "unknown"]
    if ratio.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif ratio.low > 1:
        verdict, reading = (
            "warn",
            "they are less sure of what the policy says now than of what they learned from",
        )
    else:
        verdict, reading = "good", "no growth of disagreement is shown"
    evidence = {
        "members": len(base),
        "base_spread": float(np.sqrt(spread_N.mean())),
        "policy_spread": float(np.sqrt(spread_M.mean())),
        "member_gain": (policy.mean(axis=1) - base.mean(axis=1)).tolist(),
        "prompts": prompts,
    }
    sentence = (
        f"The {len(base)} reward models differ {ratio.show()} times as much on the policy's samples as on"
        f" SFT's: {reading}."
    )
    return Finding("ensemble_spread", QUESTION, ratio.figure, ratio.bounds, UNIT, verdict, sentence, evidence)


def _ratio(sums_S4: FloatArray) -> FloatArray:
    base, base_count, policy, policy_count = sums_S4.T
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw without one side is left out later
        ratio: FloatArray = np.sqrt((policy / policy_count) / (base / base_count))
    return ratio
