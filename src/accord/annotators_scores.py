"""Scores where annotators differ: of the answers themselves, and of features of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize, sparse, special

from accord.annotators import Annotators, fit_annotators_given_scores
from accord.annotators_labels import FloatArray
from accord.records import BadInput, Comparison

SCORE_VARIANCE = 0.5  # of one answer: the difference of two then has the variance 1 of the annotators' model
ROUNDS = 200  # of the alternation, at most
SETTLED = 1e-6  # no annotator's β moves by more in a round


def response_scores(
    comparisons: Sequence[Comparison], annotators: Annotators
) -> dict[tuple[str, str], float]:
    """Most probable score of each answer, by (prompt key, text), with the annotators held fixed.

    Prior N(0, ½) on each score, so that the difference of two answers has the unit of `Annotators`. Scores of
    different prompts cannot be compared: only answers to one prompt ever met.

    Raises:
        BadInput: no comparison by an annotator of the fit that names a winner or a tie.
    """
    place = {name: j for j, name in enumerate(annotators.names)}
    used = [one for one in comparisons if one.annotator in place and one.verdict in ("a", "b", "tie")]
    if not used:
        raise BadInput("no comparison is by an annotator of the fit: there is nothing to score")
    items: dict[tuple[str, str], int] = {}
    a_N, b_N = (
        np.array([items.setdefault((one.prompt.key, side.text), len(items)) for one, side in column])
        for column in (
            [(one, one.pair.a) for one in used],
            [(one, one.pair.b) for one in used],
        )
    )
    who_N = np.array([place[one.annotator] for one in used])
    verdict_N = np.array([{"a": 1.0, "b": 0.0, "tie": 0.5}[one.verdict] for one in used])
    left_N = np.array([1.0 if one.pair.shown_left == "a" else -1.0 for one in used])
    rows_N = np.arange(len(used))
    beta_N = annotators.inverse_temperature_J[who_N]
    slope_NI = sparse.csr_array(
        (np.concatenate([beta_N, -beta_N]), (np.tile(rows_N, 2), np.concatenate([a_N, b_N]))),
        shape=(len(used), len(items)),
    )
    score_I = _regression(slope_NI, annotators.side_J[who_N] * left_N, verdict_N, 1 / SCORE_VARIANCE)
    return {item: float(score) for item, score in zip(items, score_I, strict=True)}


def _regression(slope_NF: Any, offset_N: FloatArray, verdict_N: FloatArray, ridge: float) -> FloatArray:
    """Logistic regression with an offset and the penalty ridge/2 · |w|², from 0; convex."""

    def loss(w_F: FloatArray) -> tuple[float, FloatArray]:
        logit_N = slope_NF @ w_F + offset_N
        value = np.logaddexp(0, logit_N).sum() - verdict_N @ logit_N + 0.5 * ridge * w_F @ w_F
        return float(value), slope_NF.T @ (special.expit(logit_N) - verdict_N) + ridge * w_F

    found = optimize.minimize(
        loss,
        np.zeros(slope_NF.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-8},
    )
    return np.asarray(found.x, dtype=np.float64)


def fit_annotators_with_features(
    difference_NF: Any, verdict_N: Any, annotator_N: Sequence[str], left_N: Any, *, ridge: float = 1.0
) -> tuple[Annotators, FloatArray]:
    """Annotators and a linear score of features, in turns, until neither moves.

    With scores that are a function of few features, labels of different pairs tell of one another, so that
    one label a pair is enough. The same turns can be taken with a reward model in place of the features:
    train it with `Annotators.terms`, then `fit_annotators_given_scores` with its differences.

    Args:
        difference_NF: features of a minus features of b.
        verdict_N, annotator_N, left_N: as in `fit_annotators_given_scores`.
        ridge: penalty ½ · ridge · |w|² on the weights of the features, each divided by its deviation.

    Returns:
        The annotators, and the weights of the features: their scores differ by 1 in the root mean square.

    Raises:
        BadInput: as `fit_annotators_given_scores`; a ridge below 0.
    """
    features_NF = np.asarray(difference_NF, dtype=np.float64)
    verdict, left = np.asarray(verdict_N, dtype=np.float64), np.asarray(left_N, dtype=np.float64)
    if features_NF.ndim != 2 or not np.isfinite(features_NF).all():
        raise BadInput(f"features must be finite and of shape [labels, features], got {features_NF.shape}")
    if not ridge >= 0:
        raise BadInput(f"ridge is {ridge:g}: it must be 0 or more")
    deviation_F = np.sqrt((features_NF**2).mean(axis=0))
    design_NF = features_NF / np.where(deviation_F > 0, deviation_F, 1.0)
    names = list(dict.fromkeys(annotator_N))
    who_N = np.array([names.index(name) for name in annotator_N])
    beta_J, side_J = np.ones(len(names)), np.zeros(len(names))
    for _ in range(ROUNDS):
        w_F = _regression(design_NF * beta_J[who_N, None], side_J[who_N] * left, verdict, ridge)
        difference_N = design_NF @ w_F
        found = fit_annotators_given_scores(difference_N, verdict, annotator_N, left)
        moved = float(np.abs(found.inverse_temperature_J - beta_J).max())
        beta_J, side_J = found.inverse_temperature_J, found.side_J
        if moved < SETTLED:
            break
    unit = float(np.sqrt((difference_N**2).mean()))
    return found, w_F / np.where(deviation_F > 0, deviation_F, 1.0) / unit
