"""Robust locally weighted regression of one variable on another (LOWESS; Cleveland 1979).

Own code, because statsmodels brings pandas along for these forty lines; its numbers are in the tests.
"""

from __future__ import annotations

import numpy as np

from accord.diagnostics.statistics import FloatArray, finite
from accord.records import BadInput

MOST_KNOTS = 400  # places where a line is fitted; between them the curve is interpolated


def _knots(x_N: FloatArray) -> FloatArray:
    """Distinct places, at most 400 of them, spread as the data are; both ends are among them."""
    places = np.unique(x_N)
    if len(places) <= MOST_KNOTS:
        return places
    spread = np.quantile(x_N, np.linspace(0, 1, MOST_KNOTS), method="nearest")
    return np.unique(spread)


def _windows(x_N: FloatArray, knot_K: FloatArray, count: int) -> list[int]:
    """Where the window of ``count`` neighbours of each knot starts, in sorted ``x_N``.

    It moves right while that brings a nearer neighbour in for a farther one.
    """
    starts, left = [], 0
    for knot in knot_K:
        while left + count < len(x_N) and knot > (x_N[left] + x_N[left + count]) / 2:
            left += 1
        starts.append(left)
    return starts


def lowess(
    x_N: FloatArray, y_N: FloatArray, *, fraction: float = 2 / 3, iterations: int = 3
) -> tuple[FloatArray, FloatArray]:
    """A smooth curve through (x, y): (knot_K, value_K), knots ascending.

    At each knot a line is fitted to the nearest ``fraction`` of the points, weighted by the tricube of their
    distance; then points far from the curve get less weight (bisquare of the residual over six medians) and
    all is done again, ``iterations`` times.

    Raises:
        BadInput: fewer than 3 points, lengths that differ, NaN, a fraction outside (0, 1], or one that leaves
            fewer than 2 neighbours.
    """
    x_N, y_N = finite(x_N, "x"), finite(y_N, "y")
    if x_N.shape != y_N.shape or x_N.ndim != 1 or len(x_N) < 3:
        raise BadInput(f"a curve needs 3 points or more, one y for each x; got {x_N.shape} and {y_N.shape}")
    if not 0 < fraction <= 1:
        raise BadInput(f"the fraction is {fraction}: it must be above 0 and at most 1")
    if iterations < 0:
        raise BadInput(f"iterations is {iterations}: give 0 or more")
    order = np.argsort(x_N, kind="stable")
    x_N, y_N = x_N[order], y_N[order]
    count = int(fraction * len(x_N) + 1e-10)
    if count < 2:
        raise BadInput(f"a fraction of {fraction} leaves {count} neighbours of {len(x_N)}: raise it")
    knot_K = _knots(x_N)
    starts = _windows(x_N, knot_K, count)
    robust_N = np.ones(len(x_N))
    for step in range(iterations + 1):
        value_K = np.array(
            [
                _line(x_N[s : s + count], y_N[s : s + count], robust_N[s : s + count], knot)
                for s, knot in zip(starts, knot_K, strict=True)
            ]
        )
        if step < iterations:
            robust_N = _bisquare(y_N - np.interp(x_N, knot_K, value_K))
    return knot_K, value_K


def _line(x_W: FloatArray, y_W: FloatArray, robust_W: FloatArray, knot: float) -> float:
    """The value at ``knot`` of a weighted line; the plain weighted mean where all weight sits at one x."""
    radius = max(knot - x_W[0], x_W[-1] - knot)
    distance_W = np.abs(x_W - knot) / (radius if radius > 0 else 1.0)
    weight_W = np.where(distance_W < 1, (1 - np.minimum(distance_W, 1) ** 3) ** 3, 0.0) * robust_W
    total = weight_W.sum()
    if not total > 0:  # every neighbour is an outlier: the curve still needs a value
        return float(np.median(y_W))
    weight_W = weight_W / total
    mean = float(weight_W @ x_W)
    spread = float(weight_W @ (x_W - mean) ** 2)
    if spread < 1e-12:
        return float(weight_W @ y_W)
    return float((weight_W * (1 + (knot - mean) * (x_W - mean) / spread)) @ y_W)


def _bisquare(residual_N: FloatArray) -> FloatArray:
    """(1 − u²)² with u the residual over six medians of |residual|; 1 where half the points fit exactly."""
    scale = 6 * float(np.median(np.abs(residual_N)))
    if scale == 0:
        return np.ones_like(residual_N)
    return np.asarray((1 - np.minimum(np.abs(residual_N) / scale, 1) ** 2) ** 2, dtype=np.float64)
