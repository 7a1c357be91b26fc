"""A reward head fitted to what the model already knows: ridge Bradley–Terry on frozen hidden states.

With hundreds of pairs, gradient steps on a random head move the layers below before the head points anywhere.
A head that is fitted first gives them a direction (linear probing, then fine-tuning: Kumar et al. 2022, arXiv
2202.10054), and is often most of what the pairs can teach; see docs/decisions/012-head-start.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from accord.records import BadInput, content_hash

STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-10, 1))  # inverse ridge penalty, on standardised features
FOLDS = 5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """A fitted head.

    Attributes:
        weight_H: score = weight · hidden; differences of scores are log odds.
        strength: the inverse ridge penalty that cross-validation chose.
        accuracy: share of held-out pairs that are right in that cross-validation (folds by prompt).
        margin_N: chosen minus rejected of each pair, by a head that its prompt was held out of.
    """

    weight_H: Array
    strength: float
    accuracy: float
    margin_N: Array


def fit(a_NH: Array, b_NH: Array, a_wins_N: NDArray[np.bool_], prompt_N: Sequence[str]) -> Probe:
    """Fit the head to decided pairs.

    −log σ(w · (chosen − rejected)) + ridge on the standardised features; the penalty by the mean
    log-likelihood of pairs whose prompt was held out.

    Args:
        a_NH, b_NH: hidden states at the last token of both sides.
        prompt_N: prompt keys; a prompt's pairs stay in one fold.

    Raises:
        BadInput: fewer than 10 pairs, or of fewer prompts than folds.
    """
    if len(a_NH) < 2 * FOLDS or len(set(prompt_N)) < FOLDS:
        raise BadInput(
            f"a head cannot be fitted to {len(a_NH)} decided pairs of {len(set(prompt_N))} prompts: label"
            f" {2 * FOLDS} pairs of {FOLDS} prompts or more, or set reward.head_start: normal"
        )
    spread_H = _spread(a_NH, b_NH)
    difference_NH = np.where(a_wins_N[:, None], a_NH - b_NH, b_NH - a_NH) / spread_H  # chosen − rejected
    fold_N = np.array([int(content_hash("probe fold", key), 16) % FOLDS for key in prompt_N])
    scores, margins = [], []
    for strength in STRENGTHS:
        margin_N = np.zeros(len(difference_NH))
        for fold in range(FOLDS):
            held = fold_N == fold
            if held.any() and not held.all():
                margin_N[held] = difference_NH[held] @ _coefficients(difference_NH[~held], strength)
        margins.append(margin_N)
        scores.append((float(-np.logaddexp(0, -margin_N).mean()), float((margin_N > 0).mean())))
    best = int(np.argmax([likelihood for likelihood, _ in scores]))
    weight_H = _coefficients(difference_NH, STRENGTHS[best]) / spread_H
    return Probe(weight_H, STRENGTHS[best], scores[best][1], margins[best])


def fit_one(a_NH: Array, b_NH: Array, a_wins_N: NDArray[np.bool_], strength: float) -> Array:
    """The head [H] of one given ridge, without cross-validation."""
    spread_H = _spread(a_NH, b_NH)
    difference_NH = np.where(a_wins_N[:, None], a_NH - b_NH, b_NH - a_NH) / spread_H
    weight_H: Array = _coefficients(difference_NH, strength) / spread_H
    return weight_H


def _spread(a_NH: Array, b_NH: Array) -> Array:
    spread_H = np.concatenate([a_NH, b_NH]).std(0)
    return np.where(spread_H > 0, spread_H, 1.0)


def _coefficients(difference_NH: Array, strength: float) -> Array:
    """Logistic regression without intercept on chosen − rejected, each pair the two ways round."""
    both = np.concatenate([difference_NH, -difference_NH])
    outcome = np.repeat([1, 0], len(difference_NH))
    # Each pair stands twice, so that half of the strength gives the penalty its stated size.
    model = LogisticRegression(C=strength / 2, fit_intercept=False, tol=1e-6, max_iter=1000)
    coefficients: Array = model.fit(both, outcome).coef_[0]
    return coefficients
