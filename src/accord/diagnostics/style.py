"""What is it paid for? Partial correlations of the score with features of style, on SFT's and the policy's
answers.

A feature that is paid for on SFT's answers too is a taste of the reward model (perhaps people's as well). One
that is paid for more on the policy's answers is what optimisation has found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    cluster_sum_draws,
    cluster_totals,
    finite,
    percentile_interval,
    percentiles,
    shared_clusters,
    stream,
)
from accord.records import BadInput, Finding

# A feature that varies within fewer prompts cannot be bootstrapped over prompts: draws repeat the same few.
LEAST_PROMPTS = 10


def centred(rows_ND: FloatArray, index_N: Any, prompts: int) -> FloatArray:
    """Rows minus the mean of their prompt, where a prompt has several; else minus the mean of all.

    What a prompt asks for (a list, a long answer) then is no style of the policy.
    """
    count_G = np.bincount(index_N, minlength=prompts)
    if count_G.max() < 2:
        centred_ND: FloatArray = rows_ND - rows_ND.mean(axis=0)
        return centred_ND
    mean_GD = cluster_totals(rows_ND, index_N, prompts) / np.maximum(count_G, 1)[:, None]
    out: FloatArray = rows_ND - mean_GD[index_N]
    return out


def partial_correlations(moments_SDD: FloatArray) -> FloatArray:
    """Correlation of the first variable with each other one, the rest held fixed -> [S, D-1].

    From the inverse of the matrix of second moments, -P_0j / sqrt(P_00 P_jj) (Whittaker 1990, section 5.8);
    NaN where the matrix cannot be inverted.
    """
    scale_SD = np.sqrt(np.einsum("sdd->sd", moments_SDD))
    scale_SD = np.where(scale_SD > 0, scale_SD, 1.0)
    correlation = moments_SDD / scale_SD[:, :, None] / scale_SD[:, None, :]
    known_S = np.linalg.cond(correlation) < 1e10
    inverse = np.linalg.inv(np.where(known_S[:, None, None], correlation, np.eye(correlation.shape[1])))
    root = np.sqrt(inverse[:, :1, 0] * np.einsum("sdd->sd", inverse)[:, 1:])
    return np.where(known_S[:, None], -inverse[:, 0, 1:] / root, np.nan)


def _moment_totals(score_N: FloatArray, features_NF: FloatArray, index_N: Any, prompts: int) -> FloatArray:
    """Sums of products of the centred score and features by prompt -> [G, (F+1)²]."""
    rows_ND = centred(np.column_stack([score_N, features_NF]), index_N, prompts)
    return cluster_totals(
        (rows_ND[:, :, None] * rows_ND[:, None, :]).reshape(len(rows_ND), -1), index_N, prompts
    )


def simultaneous(figure_F: FloatArray, draws_SF: FloatArray, prompts: int) -> tuple[FloatArray, FloatArray]:
    """95% intervals that hold for all figures at once, by the largest standardised gap of a draw (max-t;
    Romano and Wolf 2005), widened for few prompts as ``percentiles`` is."""
    error_F = draws_SF.std(axis=0, ddof=1)
    gap_SF = np.abs(draws_SF - draws_SF.mean(axis=0)) / np.where(error_F > 0, error_F, 1.0)
    critical = float(np.quantile(gap_SF.max(axis=1), 0.95))
    wider = np.sqrt(prompts / (prompts - 1)) * stats.t.ppf(0.975, prompts - 1) / stats.norm.ppf(0.975)
    half_F = critical * float(wider) * error_F
    return figure_F - half_F, figure_F + half_F


def style_reliance(
    sft_score_N: Any,
    policy_score_M: Any,
    sft_features_NF: Any,
    policy_features_MF: Any,
    sft_prompt_N: Clusters,
    policy_prompt_M: Clusters,
    names: Sequence[str],
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: which feature of style goes with the score, all others held fixed, and did that change?

    Args:
        sft_features_NF, policy_features_MF: ``style_features`` of the answers, columns named by ``names``.

    Correlations are within prompts where a prompt has several answers. ``figure`` is the partial correlation
    on the policy's answers that is largest in size; evidence ``features`` has each feature's, on both sides,
    with the change and its interval (simultaneous over the features, over prompts), and its means.
    A feature that varies within fewer than 10 prompts of one side has no interval there and is left out by
    name.

    Verdict: warn where some feature's correlation has changed (the simultaneous interval excludes 0) and has
    grown in size, else good; unknown where nothing varies or there is one prompt.
    """
    score_N, score_M = finite(sft_score_N, "SFT scores"), finite(policy_score_M, "policy scores")
    features_NF = finite(sft_features_NF, "SFT features")
    features_MF = finite(policy_features_MF, "policy features")
    if features_NF.shape != (len(score_N), len(names)) or features_MF.shape != (len(score_M), len(names)):
        raise BadInput(
            f"features have shapes {features_NF.shape} and {features_MF.shape} for {len(score_N)} and"
            f" {len(score_M)} scores and {len(names)} names: give one row a score and one column a name"
        )
    index_N, index_M, prompts = shared_clusters(sft_prompt_N, policy_prompt_M)
    question, unit = "What is it paid for?", "partial correlation with the score on the policy's answers"
    parts = (_varying(features_NF, index_N, prompts), _varying(features_MF, index_M, prompts))
    kept = [i for i in range(len(names)) if parts[0][i] and parts[1][i]]
    flat = [name for i, name in enumerate(names) if i not in kept]
    scored = all(
        _varying(score[:, None], index, prompts)[0]
        for score, index in ((score_N, index_N), (score_M, index_M))
    )
    if not kept or not scored:
        sentence = (
            "What the score is paid for cannot be told: no feature of style varies within"
            f" {LEAST_PROMPTS} prompts of both sides."
        )
        return Finding("style_reliance", question, None, None, unit, "unknown", sentence, {"constant": flat})
    width = (len(kept) + 1) ** 2
    totals = np.concatenate(
        [
            _moment_totals(score_N, features_NF[:, kept], index_N, prompts),
            _moment_totals(score_M, features_MF[:, kept], index_M, prompts),
        ],
        axis=1,
    )
    draws = cluster_sum_draws(totals, samples, stream(seed, "style_reliance"))
    shape = (-1, len(kept) + 1, len(kept) + 1)
    whole = totals.sum(axis=0)[None]
    before, after = (partial_correlations(whole[:, part].reshape(shape))[0] for part in _halves(width))
    before_S, after_S = (partial_correlations(draws[:, part].reshape(shape)) for part in _halves(width))
    known_S = np.isfinite(before_S).all(axis=1) & np.isfinite(after_S).all(axis=1)
    if known_S.sum() < 2 or not np.isfinite([*before, *after]).all():
        sentence = "What the score is paid for cannot be told: the features of style are tied to each other."
        return Finding("style_reliance", question, None, None, unit, "unknown", sentence, {"constant": flat})
    change_low, change_high = simultaneous(after - before, (after_S - before_S)[known_S], prompts)
    rows: list[dict[str, Any]] = []
    for place, column in enumerate(kept):
        ends = [percentiles(draw_S[known_S, place], prompts, 0.95) for draw_S in (before_S, after_S)]
        rows.append(
            {
                "name": names[column],
                "sft": float(before[place]),
                "sft_interval": [float(v) for v in ends[0]],
                "policy": float(after[place]),
                "policy_interval": [float(v) for v in ends[1]],
                "change": float(after[place] - before[place]),
                "change_interval": [float(change_low[place]), float(change_high[place])],
                "sft_mean": float(features_NF[:, column].mean()),
                "policy_mean": float(features_MF[:, column].mean()),
            }
        )
    grown = [
        row["name"]
        for row, low, high in zip(rows, change_low, change_high, strict=True)
        if (low > 0 or high < 0) and abs(row["policy"]) > abs(row["sft"])
    ]
    top = int(np.argmax(np.abs(after)))
    figure = percentile_interval(float(after[top]), after_S[known_S, top], prompts)
    verdict: Literal["good", "warn"] = "warn" if grown else "good"
    reading = (
        f"{' and '.join(grown)} is paid for more than on SFT's answers"
        if grown
        else "no feature is paid for more"
    )
    sentence = (
        f"With the other features held fixed, the score on the policy's answers goes most with"
        f" {names[kept[top]]}, {figure.show()}: {reading}."
    )
    evidence = {"features": rows, "grown": grown, "constant": flat, "prompts": prompts}
    return Finding(
        "style_reliance", question, figure.figure, figure.bounds, unit, verdict, sentence, evidence
    )


def _halves(width: int) -> tuple[slice, slice]:
    return slice(0, width), slice(width, 2 * width)


def _varying(rows_ND: FloatArray, index_N: Any, prompts: int) -> list[bool]:
    """Which columns vary within ``LEAST_PROMPTS`` prompts or more (across them, where each has one row)."""
    if np.bincount(index_N, minlength=prompts).max() < 2:
        differs_ND = rows_ND != np.median(rows_ND, axis=0)
    else:
        size_D = np.abs(rows_ND).max(axis=0)
        differs_ND = np.abs(centred(rows_ND, index_N, prompts)) > 1e-9 * size_D
    counts_GD = cluster_totals(differs_ND.astype(np.float64), index_N, prompts)
    return [bool(v) for v in (counts_GD > 0).sum(axis=0) >= LEAST_PROMPTS]
