"""Does the reward model know, and does it know how well it knows? Accuracy, Brier, calibration, temperature.

A comparison has no natural side: with p = sigmoid(r_chosen - r_rejected) the outcome is always 1. Calibration
is therefore read on folded predictions: confidence max(p, 1-p), right where the model's favourite won.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    Interval,
    cluster_bootstrap,
    clustered_share,
    finite,
)
from accord.records import BadInput, Finding

TEMPERATURE_LIMITS = (0.02, 50.0)


def _probability(p_N: Any, y_N: Any) -> tuple[FloatArray, FloatArray]:
    p, y = finite(p_N, "probabilities"), finite(y_N, "outcomes")
    if p.shape != y.shape or p.ndim != 1:
        raise BadInput(f"probabilities have shape {p.shape} and outcomes {y.shape}: give one of each a row")
    for name, array in (("probabilities", p), ("outcomes", y)):
        if array.min() < 0 or array.max() > 1:
            raise BadInput(f"{name} must lie in [0, 1], got {array.min():g} to {array.max():g}")
    return p, y


def correct(margin_N: Any) -> FloatArray:
    """1 where the chosen answer scores higher, 0 where it scores lower, 0.5 where both score the same.

    Args:
        margin_N: score of the chosen minus score of the rejected answer.
    """
    margin = finite(margin_N, "margins")
    return np.where(margin > 0, 1.0, np.where(margin < 0, 0.0, 0.5))


def accuracy(margin_N: Any, prompt_N: Clusters, samples: int = 2000, seed: int = 0) -> Interval:
    """Share of pairs whose chosen answer scores higher (equal scores one half), interval over prompts."""
    return clustered_share(correct(margin_N), prompt_N, samples, seed)


def fold(margin_N: Any) -> tuple[FloatArray, FloatArray]:
    """(confidence_N, right_N) from chosen-minus-rejected margins; see the module's first lines."""
    margin = finite(margin_N, "margins")
    return special.expit(np.abs(margin)), correct(margin)


def brier(p_N: Any, y_N: Any) -> float:
    """Mean squared gap between predicted probability and outcome (Brier 1950). 0.25: always one half."""
    p, y = _probability(p_N, y_N)
    return float(((p - y) ** 2).mean())


def brier_terms(margin_N: Any) -> FloatArray:
    """(1 − σ(margin))² of each pair: the chosen answer won. Their mean is Brier's score.

    Not from folded predictions: equal scores are "half right" there, costing 0 in place of 1/4.
    """
    return np.asarray(special.expit(-finite(margin_N, "margins")) ** 2, dtype=np.float64)


def _bins(p_N: FloatArray, bins: int) -> npt.NDArray[np.intp]:
    """Bin of each row, in nearly equal numbers; equal predictions share a bin and every bin has 2 or more.

    Were ties split by their place in the file, a file sorted by outcome would look miscalibrated.
    """
    if bins < 1:
        raise BadInput(f"bins is {bins}: give 1 or more")
    edges = np.unique(np.quantile(p_N, np.linspace(0, 1, bins + 1)[1:-1]))
    index_N = np.searchsorted(edges, p_N, side="left")
    while len(sizes := np.unique(index_N, return_counts=True)) and len(sizes[0]) > 1 and sizes[1].min() < 2:
        lonely = int(np.argmin(sizes[1]))
        neighbour = lonely - 1 if lonely > 0 else lonely + 1
        index_N[index_N == sizes[0][lonely]] = sizes[0][neighbour]
    return index_N


def reliability_bins(p_N: Any, y_N: Any, bins: int = 10) -> list[dict[str, float]]:
    """Reliability diagram with equal-mass bins: mean confidence, share right, count, lowest first."""
    p, y = _probability(p_N, y_N)
    index_N = _bins(p, bins)
    rows = [(p[index_N == b], y[index_N == b]) for b in np.unique(index_N)]
    return [
        {"confidence": float(p_b.mean()), "accuracy": float(y_b.mean()), "count": len(p_b)}
        for p_b, y_b in rows
    ]


def squared_calibration_error(p_N: Any, y_N: Any, bins: int = 10) -> float:
    """Debiased squared calibration error: sum_b (n_b/N) [ mean_b(d)^2 - var_b(d)/n_b ], d = p - y.

    The plug-in mean_b(d)^2 is too large by the variance of the mean; the correction makes it unbiased given
    the bins, so that it is 0 on average (and then often negative) for a calibrated model. Kumar, Liang and Ma
    2019 (arXiv 1909.10155, definition 4.1), whose var_b is y(1-y) because their p is constant in a bin; with
    the sample variance (n_b - 1) of d the two agree there. Rows are taken as independent.
    """
    p, y = _probability(p_N, y_N)
    if len(p) < 2:
        raise BadInput(f"calibration needs 2 or more pairs, got {len(p)}")
    index_N = _bins(p, bins)
    total = 0.0
    for b in np.unique(index_N):
        d = (p - y)[index_N == b]
        total += len(d) * (d.mean() ** 2 - d.var(ddof=1) / len(d))
    return float(total / len(p))


def expected_calibration_error(p_N: Any, y_N: Any, bins: int = 10) -> float:
    """Root of the debiased squared calibration error, 0 where that is negative; in units of probability.

    A root mean square over equal-mass bins, not the mean absolute gap that is usual: the absolute gap has no
    unbiased estimator and is well above 0 for a calibrated model on a few hundred pairs.
    """
    return float(np.sqrt(max(0.0, squared_calibration_error(p_N, y_N, bins))))


def fitted_temperature(margin_N: Any, y_N: Any | None = None) -> float:
    """T that minimises the cross-entropy of sigmoid(margin / T) (Guo et al. 2017, section 4.2).

    Above 1 the model is too sure of itself. Held between 0.02 and 50: a model that is always right (or no
    better than chance) has no finite optimum, and the limit is returned.

    Args:
        margin_N: chosen minus rejected score (or a minus b with ``y_N``).
        y_N: outcome in [0, 1]; None: the first answer was chosen each time.
    """
    margin = finite(margin_N, "margins")
    y = np.ones_like(margin) if y_N is None else _probability(np.zeros_like(margin), y_N)[1]

    def loss(inverse: float) -> float:
        # -log sigmoid(x) = log(1 + exp(-x)); convex in the inverse temperature
        return float(
            (y * np.logaddexp(0, -margin * inverse) + (1 - y) * np.logaddexp(0, margin * inverse)).mean()
        )

    low, high = 1 / TEMPERATURE_LIMITS[1], 1 / TEMPERATURE_LIMITS[0]
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    # The bounded search never touches its ends
    inverse = min((float(found.x), low, high), key=loss)
    return 1 / inverse


def reward_metrics(margin_N: Any, prompt_N: Clusters, samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The measured half of ``accord_reward.json`` from held-out chosen-minus-rejected margins."""
    confidence_N, right_N = fold(margin_N)
    share = accuracy(margin_N, prompt_N, samples, seed)
    squared = brier_terms(margin_N)
    enough = len(right_N) >= 2
    return {
        "accuracy": share.figure,
        "accuracy_interval": share.bounds,
        "pairs_test": len(right_N),
        "prompts_test": len(np.unique(np.asarray(prompt_N))),
        "brier": float(squared.mean()),
        "ece": expected_calibration_error(confidence_N, right_N) if enough else None,
        "temperature": fitted_temperature(margin_N),
        "reliability": reliability_bins(confidence_N, right_N),
    }


def reward_model_accuracy(
    margin_N: Any,
    prompt_N: Clusters,
    floor_correct: dict[str, FloatArray] | None = None,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: is the reward model right on held-out pairs, and more often than the floors on the same pairs?

    Args:
        margin_N: chosen minus rejected score.
        floor_correct: name -> correct_N of each floor (``floors.always_longer_correct``, ...), same rows.

    Verdict: good where the accuracy and its paired gain over every floor have intervals above one half and
    above 0; warn where it beats chance but not each floor; bad where it cannot be told from chance.
    """
    right_N = correct(margin_N)
    share = clustered_share(right_N, prompt_N, samples, seed)
    gains = {
        name: cluster_bootstrap(right_N - floor_N, prompt_N, samples=samples, seed=seed)
        for name, floor_N in (floor_correct or {}).items()
    }
    unbeaten = [name.replace("_", " ") for name, gain in gains.items() if not gain.low > 0]
    verdict: Literal["good", "warn", "bad", "unknown"]
    if share.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif not share.low > 0.5:
        verdict, reading = "bad", "it cannot be told from chance"
    elif unbeaten:
        verdict, reading = "warn", f"it beats chance, but is not shown to beat {' and '.join(unbeaten)}"
    else:
        verdict, reading = "good", "it beats chance" + (" and every floor" if gains else "")
    evidence = reward_metrics(margin_N, prompt_N, samples, seed)
    evidence["gain_over"] = {name: {"gain": g.figure, "interval": g.bounds} for name, g in gains.items()}
    sentence = (
        f"The reward model is right on {share.show_percent()} of {len(right_N)} held-out pairs: {reading}."
    )
    question = "Does the reward model know what people prefer?"
    unit = "share of held-out pairs, equal scores one half"
    name = "reward_model_accuracy"
    return Finding(name, question, share.figure, share.bounds, unit, verdict, sentence, evidence)
