"""How many of the policy's answers lie where the reward model has seen nothing? Mahalanobis distance in
latents.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.covariance import LedoitWolf

from accord.diagnostics.drift_features import Index, checked_sides, prompt_folds
from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    cluster_counts,
    percentile_interval,
    stream,
)
from accord.records import Finding

FOLDS = 5
SHARE = 0.05  # of SFT's own answers that count as outliers: the 95% band of the run's own baseline


def held_out_distances(
    base_ND: FloatArray, policy_MD: FloatArray, fold_N: Index, fold_M: Index, folds: int
) -> tuple[FloatArray, FloatArray]:
    """Squared Mahalanobis distance to SFT's answers to other prompts, for SFT's and the policy's answers.

    Mean and covariance come from the other folds' prompts, for both sides, so that neither is nearer only
    because it was fitted. The covariance is shrunk (Ledoit and Wolf 2004): there are often more latents than
    answers (the distance as a detector of unknown inputs: Lee et al. 2018, arXiv 1807.03888).
    """
    distance_N, distance_M = np.zeros(len(base_ND)), np.zeros(len(policy_MD))
    for fold in range(folds):
        model = LedoitWolf().fit(base_ND[fold_N != fold])
        for distance, rows, held in (
            (distance_N, base_ND, fold_N == fold),
            (distance_M, policy_MD, fold_M == fold),
        ):
            if held.any():
                distance[held] = model.mahalanobis(rows[held])
    return distance_N, distance_M


def _share_beyond(
    distance_N: FloatArray, distance_M: FloatArray, weight_SN: FloatArray, weight_SM: FloatArray
) -> FloatArray:
    """Share of the policy's answers beyond SFT's 95% quantile, for S ways to weigh the rows -> [S].

    The quantile is the smallest SFT distance with at least 95% of SFT's weight at or below it.
    """
    order = np.argsort(distance_N, kind="stable")
    below_SN = np.cumsum(weight_SN[:, order], axis=1)
    whole_S1 = below_SN[:, -1:]
    place_S = (below_SN >= (1 - SHARE) * whole_S1 - 1e-9).argmax(axis=1)
    limit_S = distance_N[order][place_S]
    with np.errstate(invalid="ignore"):
        share: FloatArray = (weight_SM * (distance_M > limit_S[:, None])).sum(1) / weight_SM.sum(1)
    return share


def latent_outliers(
    base_ND: Any,
    policy_MD: Any,
    base_prompt_N: Clusters,
    policy_prompt_M: Clusters,
    *,
    features: str = "latents of the reward model",
    folds: int = FOLDS,
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: what share of the policy's answers lies beyond 95% of SFT's own?

    The limit is SFT's own 95% quantile, so 5% is no drift at all; it is drawn again in every bootstrap draw.

    Verdict: warn where the interval over prompts lies above 5%.
    """
    base, policy, index_N, index_M, prompts = checked_sides(
        base_ND, policy_MD, base_prompt_N, policy_prompt_M
    )
    question, unit = (
        "Does it go where the reward model has not been?",
        f"share of the policy's answers, {features}",
    )
    if prompts < 2 * folds:
        sentence = f"Outliers cannot be told on {prompts} prompts: {2 * folds} are needed for {folds} folds."
        return Finding("latent_outliers", question, None, None, unit, "unknown", sentence)
    rng = stream(seed, "latent_outliers")
    fold_G = prompt_folds(prompts, folds, rng)
    distance_N, distance_M = held_out_distances(base, policy, fold_G[index_N], fold_G[index_M], folds)
    counts_SG = cluster_counts(prompts, samples, rng)
    draws_S = _share_beyond(distance_N, distance_M, counts_SG[:, index_N], counts_SG[:, index_M])
    figure = _share_beyond(distance_N, distance_M, np.ones((1, len(base))), np.ones((1, len(policy))))
    share = percentile_interval(float(figure[0]), draws_S, prompts)
    verdict: Literal["good", "warn"] = "warn" if share.low > SHARE else "good"
    reading = (
        "the reward model is asked about answers unlike those it learned from"
        if verdict == "warn"
        else "no more than SFT's own 5% are shown"
    )
    sentence = f"{share.show_percent()} of the policy's answers lie farther out than 95% of SFT's: {reading}."
    evidence = {
        "features": features,
        "columns": base.shape[1],
        "prompts": prompts,
        "base_median": float(np.median(distance_N)),
        "policy_median": float(np.median(distance_M)),
    }
    return Finding("latent_outliers", question, share.figure, share.bounds, unit, verdict, sentence, evidence)
