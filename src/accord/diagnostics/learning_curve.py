"""What would more labels buy? Accuracy against the number of training pairs, as a power law that levels out.

accuracy(n) = asymptote − drop · n^(−exponent), the usual form for errors that fall with data. It is fitted by
least squares, each measurement weighted by its binomial variance; where measurements scatter more than that
(training seeds do), every variance is scaled up by the same factor before the bootstrap draws from it.

A law is no promise: it is fitted inside the sizes that were tried, and what it says beyond them is
extrapolation. Where the interval of the answer has no upper end, the answer is "cannot say".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from accord.diagnostics.statistics import FloatArray, finite, stream
from accord.records import BadInput, Finding

EXPONENTS = np.geomspace(0.05, 2.0, 201)  # steps of 2%
LEAST_SIZES = 4  # the law has three parameters
AHEAD = 0.01
NEVER = 1e12  # pairs that nobody will label
CURVE_POINTS = 40


@dataclass(frozen=True)
class Measurement:
    """One reward model: trained on ``pairs``, right on the share ``accuracy`` of ``tested`` pairs."""

    pairs: int
    accuracy: float
    tested: int


@dataclass(frozen=True)
class Laws:
    """One law for each of S draws."""

    asymptote_S: FloatArray
    drop_S: FloatArray
    exponent_S: FloatArray

    def at(self, pairs: float | FloatArray) -> FloatArray:
        """Accuracy of each law at ``pairs`` (a number, or one for each draw), (S,)."""
        return np.asarray(self.asymptote_S - self.drop_S * pairs**-self.exponent_S, dtype=np.float64)

    def more(self, pairs: float, ahead: float) -> FloatArray:
        """Pairs beyond ``pairs`` until each law is ``ahead`` higher, (S,); infinite where never."""
        room_S = self.asymptote_S - self.at(pairs) - ahead
        reachable = (room_S > 0) & (self.drop_S > 0)
        ratio_S = np.where(reachable, self.drop_S / np.where(reachable, room_S, 1.0), 1.0)
        log_pairs_S = np.log(ratio_S) / self.exponent_S
        reachable &= log_pairs_S < math.log(NEVER)
        return np.where(reachable, np.exp(np.where(reachable, log_pairs_S, 0.0)) - pairs, np.inf)


def fit(pairs_P: FloatArray, accuracy_SP: FloatArray, weight_P: FloatArray) -> Laws:
    """The best law for each row of accuracies: asymptote in [0, 1], drop at least 0, exponent in [.05, 2].

    For a given exponent the law is linear, so the least squares have a closed form; exponents are tried on a
    grid. That finds the best one whatever the start, and fits a whole bootstrap at once.
    """
    x_GP = pairs_P[None, :] ** -EXPONENTS[:, None]
    total = weight_P.sum()
    mean_x_G = x_GP @ weight_P / total
    mean_y_S = accuracy_SP @ weight_P / total
    spread_G = (x_GP**2) @ weight_P / total - mean_x_G**2
    product_SG = (accuracy_SP * weight_P) @ x_GP.T / total - mean_y_S[:, None] * mean_x_G
    drop_SG = np.maximum(-product_SG / spread_G, 0.0)
    asymptote_SG = mean_y_S[:, None] + drop_SG * mean_x_G
    # Above 1: held there, with the best drop for that.
    held_SG = ((1 - accuracy_SP) * weight_P) @ x_GP.T / ((x_GP**2) @ weight_P)
    over = asymptote_SG > 1
    drop_SG = np.where(over, np.maximum(held_SG, 0.0), drop_SG)
    asymptote_SG = np.where(over, 1.0, asymptote_SG)
    error_SG = np.zeros_like(drop_SG)
    for p in range(len(pairs_P)):  # a cube of draws, exponents and points would not fit in memory
        gap_SG = accuracy_SP[:, p : p + 1] - asymptote_SG + drop_SG * x_GP[:, p]
        error_SG += weight_P[p] * gap_SG**2
    best_S = error_SG.argmin(axis=1)
    row_S = np.arange(len(best_S))
    return Laws(asymptote_SG[row_S, best_S], drop_SG[row_S, best_S], EXPONENTS[best_S])


def _checked(points: Sequence[Measurement]) -> tuple[FloatArray, FloatArray, FloatArray]:
    if not points:
        raise BadInput(f"a learning curve needs {LEAST_SIZES} sizes or more, got no measurement")
    pairs = finite([p.pairs for p in points], "pairs")
    accuracy = finite([p.accuracy for p in points], "accuracies")
    tested = finite([p.tested for p in points], "tested pairs")
    sizes = len(np.unique(pairs))
    if sizes < LEAST_SIZES:
        raise BadInput(
            f"a learning curve needs {LEAST_SIZES} sizes or more, got {sizes}: train on more sizes"
        )
    if pairs.min() < 1 or tested.min() < 1 or accuracy.min() < 0 or accuracy.max() > 1:
        raise BadInput("each measurement needs 1 pair or more, 1 tested pair or more, and a share in [0, 1]")
    return pairs, accuracy, tested


def _sizes(pairs_P: FloatArray, accuracy_P: FloatArray) -> list[dict[str, Any]]:
    rows = []
    for size in np.unique(pairs_P):
        found = accuracy_P[pairs_P == size]
        rows.append(
            {
                "pairs": int(size),
                "accuracy": float(found.mean()),
                "lowest": float(found.min()),
                "highest": float(found.max()),
                "runs": len(found),
            }
        )
    return rows


def learning_curve(
    points: Sequence[Measurement], *, ahead: float = AHEAD, samples: int = 2000, seed: int = 0
) -> Finding:
    """How many more labels for ``ahead`` more accuracy, at the largest size tried; figure in pairs.

    Args:
        points: one for each trained model; several seeds a size tell how much training scatters.
        ahead: accuracy to be gained, 0.01 is one point.

    Returns:
        A finding whose figure and interval are None where the answer is "cannot say". ``evidence``: the law
        with intervals, ``sizes`` (mean, lowest and highest run), ``curve`` with a 95% band, ``more`` (figure,
        low, high; None where unbounded), ``dispersion`` (variance over binomial variance).

    Raises:
        BadInput: fewer than 4 sizes, or numbers that are no counts and shares.
    """
    pairs_P, accuracy_P, tested_P = _checked(points)
    # Laplace's estimate: a run that was always right has not proved a variance of 0.
    smooth_P = (accuracy_P * tested_P + 1) / (tested_P + 2)
    variance_P = smooth_P * (1 - smooth_P) / tested_P
    # Runs of one size share their place on the curve: their weighted mean says all that the fit needs.
    size_Z, place_P = np.unique(pairs_P, return_inverse=True)
    weight_Z: FloatArray = np.bincount(place_P, weights=1 / variance_P).astype(np.float64)
    mean_Z = np.bincount(place_P, weights=accuracy_P / variance_P) / weight_Z
    law = fit(size_Z, mean_Z[None], weight_Z)
    fitted_Z = np.array([float(law.at(n)[0]) for n in size_Z])
    freedom = max(1, len(points) - 3)
    dispersion = max(1.0, float(((accuracy_P - fitted_Z[place_P]) ** 2 / variance_P).sum()) / freedom)
    noise_SZ = stream(seed, "learning_curve").normal(size=(samples, len(size_Z)))
    drawn_SZ = np.clip(fitted_Z + np.sqrt(dispersion / weight_Z) * noise_SZ, 0.0, 1.0)
    laws = fit(size_Z, drawn_SZ, weight_Z)
    largest = float(pairs_P.max())
    more, low, high = _more(law, laws, largest, ahead)
    known = more is not None and high is not None
    grid = np.geomspace(pairs_P.min(), largest, CURVE_POINTS)
    bands = [np.quantile(laws.at(float(n)), [0.025, 0.975]) for n in grid]
    evidence = {
        "law": {
            "asymptote": float(law.asymptote_S[0]),
            "asymptote_interval": _quantiles(laws.asymptote_S),
            "drop": float(law.drop_S[0]),
            "exponent": float(law.exponent_S[0]) if law.drop_S[0] > 0 else None,
            "exponent_interval": _quantiles(laws.exponent_S) if law.drop_S[0] > 0 else None,
        },
        "dispersion": dispersion,
        "sizes": _sizes(pairs_P, accuracy_P),
        "curve": [
            {
                "pairs": float(n),
                "accuracy": float(law.at(float(n))[0]),
                "low": float(b[0]),
                "high": float(b[1]),
            }
            for n, b in zip(grid, bands, strict=True)
        ],
        "more": {"figure": more, "low": low, "high": high, "ahead": ahead, "from": int(largest)},
    }
    verdict: Literal["good", "unknown"] = "good" if known else "unknown"
    return Finding(
        "learning_curve",
        "What would more labels buy?",
        more if known else None,
        (low, high) if known and high is not None else None,
        f"labelled pairs for {100 * ahead:g} more point(s) of accuracy",
        verdict,
        _sentence(law, largest, ahead, more, low, high),
        evidence,
    )


def _quantiles(values_S: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(values_S, [0.025, 0.975])
    return float(low), float(high)


def _more(law: Laws, laws: Laws, largest: float, ahead: float) -> tuple[float | None, float, float | None]:
    """(figure, low, high) in pairs; None for infinity."""
    figure = float(law.more(largest, ahead)[0])
    drawn_S = np.sort(laws.more(largest, ahead))
    # By rank and not interpolated: between a number and infinity there is nothing.
    low = float(drawn_S[int(0.025 * (len(drawn_S) - 1))])
    high = float(drawn_S[math.ceil(0.975 * (len(drawn_S) - 1))])
    return (
        figure if math.isfinite(figure) else None,
        low if math.isfinite(low) else math.inf,
        high if math.isfinite(high) else None,
    )


def _round(pairs: float) -> str:
    """Two significant digits: more would be a pretence."""
    if pairs < 100:
        return f"{max(1, round(pairs))}"
    if pairs >= 1e9:
        return f"{pairs:.0e}"
    power = 10 ** (math.floor(math.log10(pairs)) - 1)
    return f"{round(pairs / power) * power:,}"


def _sentence(
    law: Laws, largest: float, ahead: float, more: float | None, low: float, high: float | None
) -> str:
    now, gain = f"{100 * float(law.at(largest)[0]):.1f}%", f"{100 * ahead:g} more point(s) of accuracy"
    state = f"At {largest:,.0f} pairs the curve stands at {now}"
    if more is not None and high is not None:
        beyond = (largest + more) / largest
        far = f" (extrapolated to {beyond:.1f} times the data)" if beyond > 2 else ""
        return (
            f"{state}; {gain} takes about {_round(more)} more pairs"
            f" (95% interval {_round(low)} to {_round(high)}){far}."
        )
    least = (
        f"it takes at least {_round(low)} more pairs, if it can be had at all"
        if math.isfinite(low)
        else "no number of pairs like these is likely to bring it"
    )
    return f"{state}; how many more pairs {gain} takes cannot be said: {least}."
