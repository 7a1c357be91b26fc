"""Does the reward model pay for length? Correlation of score and length in pairs, beyond what people said.

Longer answers may be better answers. So two figures: how score and length go together between the two answers
of a pair, and how they go together once the label is known (the partial correlation). A model that follows
length only as far as people do has a partial correlation near 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    Interval,
    cluster_index,
    cluster_sum_draws,
    cluster_totals,
    finite,
    percentiles,
    stream,
)
from accord.records import BadInput

LEAST_SPREAD = 1e-12  # a squared spread relative to the mean square below which a side counts as constant


def _correlation(sums_S6: FloatArray, centred: bool) -> FloatArray:
    """r_S from Σ of (1, x, y, xx, yy, xy); NaN where a side does not vary."""
    count, x, y, xx, yy, xy = sums_S6.T
    spread_x, spread_y, product = xx, yy, xy
    if centred:
        spread_x, spread_y, product = xx - x * x / count, yy - y * y / count, xy - x * y / count
    known = (spread_x > LEAST_SPREAD * xx) & (spread_y > LEAST_SPREAD * yy)
    root = np.sqrt(np.where(known, spread_x * spread_y, 1.0))
    return np.where(known, product / root, np.nan)


def length_reliance(
    margin_N: Any, length_gap_N: Any, prompt_N: Clusters, samples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Correlations between score and length over decided pairs, with intervals over prompts.

    Args:
        margin_N: score of the chosen minus score of the rejected answer.
        length_gap_N: length of the chosen minus length of the rejected answer, characters.

    Returns:
        ``correlation``: of the two differences, Σxy / √(Σx² Σy²). A pair has no natural side, so no mean is
        taken off: the figure is the same whichever answer is called the first.
        ``partial``: the same given the label. Over both orders of every pair, with the label as ±1, partial
        correlation comes out as Pearson's correlation of chosen-minus-rejected differences.
        ``partial_rank``: Spearman's version of it, for lengths with outliers.
        ``…_interval``: 95%. A figure is None where scores or lengths do not differ.
    """
    margin, gap = finite(margin_N, "margins"), finite(length_gap_N, "length differences")
    if margin.shape != gap.shape or margin.ndim != 1:
        raise BadInput(
            f"margins have shape {margin.shape}, length differences {gap.shape}: give one of each a pair"
        )
    index_N, count = cluster_index(prompt_N, len(margin))
    rows_N6 = np.stack([np.ones_like(margin), margin, gap, margin**2, gap**2, margin * gap], axis=1)
    totals_G6 = cluster_totals(rows_N6, index_N, count)
    draws_S6 = cluster_sum_draws(totals_G6, samples, stream(seed, "length_reliance"))
    out: dict[str, Any] = {}
    for name, centred in (("correlation", False), ("partial", True)):
        figure = float(_correlation(totals_G6.sum(axis=0)[None], centred)[0])
        # A draw of few prompts may have no spread: it has no correlation, and is left out.
        known_S = _correlation(draws_S6, centred)
        known_S = known_S[np.isfinite(known_S)]
        low, high = percentiles(known_S, count, 0.95) if len(known_S) > 1 else (np.nan, np.nan)
        out[name] = figure if np.isfinite(figure) else None
        out[f"{name}_interval"] = Interval(figure, float(low), float(high)).bounds if out[name] else None
    varied = len(margin) > 2 and np.ptp(margin) > 0 and np.ptp(gap) > 0
    out["partial_rank"] = float(stats.spearmanr(margin, gap).statistic) if varied else None
    return out
