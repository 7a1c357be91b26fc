"""How far has it moved? A classifier that tells the policy's answers from SFT's, on prompts it has not
seen.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from accord.diagnostics.drift_features import Index, checked_sides, prompt_folds
from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    cluster_counts,
    percentile_interval,
    stream,
)
from accord.records import BadInput, Finding

FOLDS = 5
# Fixed, never tuned on the answers at hand: it decides how much is found, not whether the test is honest.
INVERSE_REGULARISATION = 0.05


def _held_out_scores(
    base_ND: FloatArray, policy_MD: FloatArray, fold_N: Index, fold_M: Index, folds: int
) -> tuple[FloatArray, FloatArray]:
    """Scores of every answer by the classifier that was fitted on the other folds' prompts."""
    score_N, score_M = np.zeros(len(base_ND)), np.zeros(len(policy_MD))
    for fold in range(folds):
        left_N, left_M = fold_N != fold, fold_M != fold
        if not (left_N.any() and left_M.any()):
            continue  # nothing to learn one side from: its answers keep equal scores
        rows = np.concatenate([base_ND[left_N], policy_MD[left_M]])
        sides = np.concatenate([np.zeros(left_N.sum()), np.ones(left_M.sum())])
        scaler = StandardScaler().fit(rows)
        model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=500)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished fit is still a fixed score
            model.fit(scaler.transform(rows), sides)
        for score, features, held in ((score_N, base_ND, ~left_N), (score_M, policy_MD, ~left_M)):
            if held.any():
                score[held] = model.decision_function(scaler.transform(features[held]))
    return score_N, score_M


def _wins(
    score_N: FloatArray, score_M: FloatArray, index_N: Any, index_M: Any, fold_G: Index
) -> tuple[FloatArray, FloatArray]:
    """win_GG and pair_GG: how often an answer of the policy to prompt g scores above one of SFT's to prompt
    h, of how many pairs. Only within a fold: scores of two classifiers have no common scale.
    """
    above_MN = (score_M[:, None] > score_N) + 0.5 * (score_M[:, None] == score_N)
    same_MN = fold_G[index_M][:, None] == fold_G[index_N]
    prompts = len(fold_G)
    tables = []
    for value_MN in (above_MN * same_MN, same_MN.astype(np.float64)):
        by_policy_GN = np.zeros((prompts, len(score_N)))
        np.add.at(by_policy_GN, index_M, value_MN)
        table_GG = np.zeros((prompts, prompts))
        np.add.at(table_GG.T, index_N, by_policy_GN.T)
        tables.append(table_GG)
    return tables[0], tables[1]


def classifier_drift(
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
    """Finding: can the policy's answers be told from SFT's? (classifier two-sample test, Lopez-Paz and Oquab
    2017, arXiv 1610.06545, with the area under the ROC curve in place of the accuracy)

    A logistic regression is fitted on the answers to four fifths of the prompts and asked about the rest, so
    that it cannot know a prompt again. 0.5: not told apart; 1: always. The interval resamples prompts with
    the classifiers held fixed: it is about what these classifiers tell, a better one may tell more.

    Verdict: warn where the interval lies above 0.5. A policy that was trained has moved: the figure says how
    far labels and reward model, made on SFT's answers, lie behind it.
    """
    base, policy, index_N, index_M, prompts = checked_sides(
        base_ND, policy_MD, base_prompt_N, policy_prompt_M
    )
    question, unit = "How far has it moved?", f"area under the ROC curve, prompts held out, on {features}"
    if prompts < 2 * folds:
        sentence = f"Drift cannot be measured on {prompts} prompts: {2 * folds} are needed for {folds} folds."
        return Finding("classifier_drift", question, None, None, unit, "unknown", sentence)
    rng = stream(seed, "classifier_drift")
    fold_G = prompt_folds(prompts, folds, rng)
    sides = [set(fold_G[index].tolist()) for index in (index_N, index_M)]
    if not sides[0] & sides[1] or len(sides[0] | sides[1]) < 2:
        raise BadInput("SFT and the policy answered prompts that never meet in a fold: give the same prompts")
    score_N, score_M = _held_out_scores(base, policy, fold_G[index_N], fold_G[index_M], folds)
    win_GG, pair_GG = _wins(score_N, score_M, index_N, index_M, fold_G)
    counts_SG = cluster_counts(prompts, samples, rng)
    with np.errstate(invalid="ignore"):
        draws_S = ((counts_SG @ win_GG) * counts_SG).sum(1) / ((counts_SG @ pair_GG) * counts_SG).sum(1)
    area = percentile_interval(float(win_GG.sum() / pair_GG.sum()), draws_S, prompts)
    verdict: Literal["good", "warn"] = "warn" if area.low > 0.5 else "good"
    reading = (
        "they are told apart, so labels of the old answers say less about the new ones"
        if verdict == "warn"
        else "they are not shown to differ"
    )
    sentence = (
        f"A classifier that has not seen the prompt tells the policy's answer from SFT's with an area under"
        f" the curve of {area.show()}: {reading}."
    )
    evidence = {
        "features": features,
        "columns": base.shape[1],
        "folds": folds,
        "prompts": prompts,
        "base_samples": len(base),
        "policy_samples": len(policy),
    }
    return Finding("classifier_drift", question, area.figure, area.bounds, unit, verdict, sentence, evidence)
