"""Intervals that respect clusters: samples of one prompt are not independent, so prompts are resampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from accord.records import BadInput, content_hash

FloatArray = npt.NDArray[np.float64]
Clusters = Sequence[Any] | npt.NDArray[Any]

# Draws x clusters held at once: 4 million counts are 32 MB.
COUNTS_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A figure with its interval. ``low`` and ``high`` are NaN where one cluster gives no interval.

    Comparisons with NaN are false, so ``interval.low > 0.5`` is safe without a special case.
    """

    figure: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float] | None:
        """(low, high) for JSON, or None where there is no interval."""
        return None if math.isnan(self.low) or math.isnan(self.high) else (self.low, self.high)

    def show(self, digits: int = 2) -> str:
        """For sentences: ``0.12 (95% interval 0.05 to 0.19)``."""
        if self.bounds is None:
            return f"{self.figure:.{digits}f} (no interval)"
        return f"{self.figure:.{digits}f} (95% interval {self.low:.{digits}f} to {self.high:.{digits}f})"

    def show_percent(self) -> str:
        if self.bounds is None:
            return f"{self.figure:.1%} (no interval)"
        return f"{self.figure:.1%} (95% interval {self.low:.1%} to {self.high:.1%})"


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream of one diagnostic: its draws do not depend on what ran before it."""
    return np.random.default_rng([seed, int(content_hash(name), 16)])


def finite(values: Any, name: str) -> FloatArray:
    """``values`` as float64; refuses nothing at all, NaN and infinity."""
    array: FloatArray = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise BadInput(f"{name} is empty, but at least 1 value is needed")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise BadInput(f"{name} holds {bad} values that are NaN or infinite of {array.size}: leave them out")
    return array


def cluster_index(clusters_N: Clusters, rows: int) -> tuple[npt.NDArray[np.intp], int]:
    """Clusters numbered 0..G-1 in sorted order -> (index_N, G)."""
    if len(clusters_N) != rows:
        raise BadInput(
            f"there are {rows} values but {len(clusters_N)} prompts: give one prompt for each value"
        )
    names, index_N = np.unique(np.asarray(clusters_N), return_inverse=True)
    return index_N.reshape(-1), len(names)


def cluster_totals(values_N: FloatArray, index_N: npt.NDArray[np.intp], count: int) -> FloatArray:
    """Sum over the rows of each cluster: values [N] or [N, D] -> [G] or [G, D]."""
    totals: FloatArray = np.zeros((count, *values_N.shape[1:]))
    np.add.at(totals, index_N, values_N)
    return totals


def shared_clusters(
    one_N: Clusters, other_M: Clusters
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]:
    """Two sets of rows numbered by the union of their clusters -> (index_N, index_M, G).

    A prompt that both sets have gets one number, so that its rows of both sets are drawn together.
    """
    together = [*one_N, *other_M]
    index, count = cluster_index(together, len(together))
    return index[: len(one_N)], index[len(one_N) :], count


def by_prompt(values_N: Any, prompt_N: Clusters) -> tuple[FloatArray, list[Any]]:
    """Mean over each prompt's samples -> (mean_G, the G prompts in sorted order)."""
    array = finite(values_N, "values")
    index_N, count = cluster_index(prompt_N, len(array))
    mean_G: FloatArray = cluster_totals(array, index_N, count) / np.bincount(index_N, minlength=count)
    return mean_G, np.unique(np.asarray(prompt_N)).tolist()


def cluster_sum_draws(totals_GD: FloatArray, samples: int, rng: np.random.Generator) -> FloatArray:
    """Bootstrap sums: G clusters drawn with replacement ``samples`` times -> [S, D].

    A draw only needs to know how often each cluster came up (a multinomial count), so a whole
    bootstrap of sums is one matrix product.
    """
    count = len(totals_GD)
    shares = np.full(count, 1.0 / count)
    step = max(1, COUNTS_AT_ONCE // count)
    parts = [
        rng.multinomial(count, shares, size=min(step, samples - start)) @ totals_GD
        for start in range(0, samples, step)
    ]
    return np.concatenate(parts)


def percentiles(draws_SD: FloatArray, clusters: int, level: float) -> tuple[FloatArray, FloatArray]:
    """Expanded percentile interval along axis 0 (Hesterberg 2015, section 4.3, arXiv 1411.5279).

    The plain percentile interval is too narrow with few clusters, by sqrt((G-1)/G) and by z in place of t;
    the tail is widened to Phi(-sqrt(G/(G-1)) t). With 30 clusters the change is about 6% of the width.
    """
    if clusters < 2:
        nothing = np.full(draws_SD.shape[1:], np.nan)
        return nothing, nothing
    t = stats.t.ppf((1 + level) / 2, clusters - 1)
    tail = float(special.ndtr(-math.sqrt(clusters / (clusters - 1)) * t))
    low, high = np.quantile(draws_SD, [tail, 1 - tail], axis=0)
    return low, high


def percentile_interval(figure: float, draws_S: FloatArray, clusters: int, level: float = 0.95) -> Interval:
    """``percentiles`` of one figure's draws; draws that are not finite (nothing to divide by) are left
    out.
    """
    known_S = draws_S[np.isfinite(draws_S)]
    if len(known_S) < 2 or not math.isfinite(figure):
        return Interval(figure, math.nan, math.nan)
    low, high = percentiles(known_S, clusters, level)
    return Interval(figure, float(low), float(high))


def cluster_counts(count: int, samples: int, rng: np.random.Generator) -> FloatArray:
    """How often each of ``count`` clusters is drawn, for figures that are no ratio of sums -> [S, G]."""
    counts_SG: FloatArray = rng.multinomial(count, np.full(count, 1.0 / count), size=samples).astype(float)
    return counts_SG


def cluster_bootstrap(
    values_N: Any,
    clusters_N: Clusters,
    statistic: Callable[[FloatArray], float] | None = None,
    samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A statistic with a percentile interval over resampled prompts.

    Args:
        values_N: one value a row ([N], or [N, D] for a statistic of several columns).
        clusters_N: the prompt of each row; rows of one prompt are drawn together.
        statistic: of the resampled rows; None is the mean over rows, which is vectorised (a ratio of two
            sums, so prompts with more rows weigh more).
        samples: bootstrap draws.

    Raises:
        BadInput: no values, NaN or infinity, or lengths that differ.
    """
    array = finite(values_N, "values")
    index_N, count = cluster_index(clusters_N, len(array))
    rng = stream(seed, "cluster_bootstrap")
    if statistic is None:
        if array.ndim != 1:
            raise BadInput(f"values have shape {array.shape}, but the mean takes one value a row")
        totals_G2 = cluster_totals(np.stack([array, np.ones_like(array)], axis=1), index_N, count)
        sums_S2 = cluster_sum_draws(totals_G2, samples, rng)
        draws_S = sums_S2[:, 0] / sums_S2[:, 1]
        figure = float(array.mean())
    else:
        rows = [np.flatnonzero(index_N == cluster) for cluster in range(count)]
        picks_SG = rng.integers(count, size=(samples, count))
        draws_S = np.array([statistic(array[np.concatenate([rows[g] for g in pick])]) for pick in picks_SG])
        figure = float(statistic(array))
    low, high = percentiles(draws_S, count, level)
    return Interval(figure, float(low), float(high))


def clustered_share(
    share_N: Any, clusters_N: Clusters, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean of values in [0, 1] (right or wrong, win or loss, ties one half) with a clustered interval.

    Where every prompt has the same mean the bootstrap would give an interval of no width (64 wins of 64 is
    not certainty); Wilson's interval over the number of prompts is given instead.
    """
    array = finite(share_N, "shares")
    if array.min() < 0 or array.max() > 1:
        raise BadInput(f"shares must lie in [0, 1], got {array.min():g} to {array.max():g}")
    interval = cluster_bootstrap(array, clusters_N, samples=samples, seed=seed, level=level)
    mean_G, _ = by_prompt(array, clusters_N)
    if len(mean_G) > 1 and np.ptp(mean_G) < 1e-12:
        wide = wilson(interval.figure * len(mean_G), len(mean_G), level)
        return Interval(interval.figure, wide.low, wide.high)
    return interval


def wilson(successes: float, count: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion of independent trials (Wilson 1927); a tie may count half."""
    if count < 1 or not 0 <= successes <= count:
        raise BadInput(
            f"{successes:g} successes of {count} trials: give 1 trial or more and at most as many wins"
        )
    z = float(special.ndtri((1 + level) / 2))
    share = successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def jackknife_interval(figure: float, left_out_G: FloatArray, level: float = 0.95) -> Interval:
    """Interval from a delete-one-prompt jackknife with t on G-1 degrees of freedom (Efron and Stein 1981).

    For counts of distinct things, which a bootstrap biases: resampled prompts repeat their own words.
    """
    count = len(left_out_G)
    if count < 2:
        return Interval(figure, math.nan, math.nan)
    error = math.sqrt((count - 1) / count * float(((left_out_G - left_out_G.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return Interval(figure, figure - half, figure + half)
