"""Best-of-n without sampling it: what n draws would have given, from all subsets of the N draws at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from accord.diagnostics.statistics import FloatArray, cluster_sum_draws, finite, percentiles, stream
from accord.records import BadInput


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n ‖ start) in nats: ln n - (n-1)/n (Stiennon et al. 2020, appendix G.3; an upper bound
    where answers repeat, Beirami et al. 2024)."""
    return math.log(n) - (n - 1) / n


def best_of_n_weights(n: int, count: int) -> FloatArray:
    """weight_N: chance that the i-th smallest of ``count`` scores is the largest in a random subset of n.

    C(i-1, n-1) / C(count, n), in exact integers: the factorials of floats overflow beyond 170.
    """
    total = math.comb(count, n)
    return np.array([math.comb(i, n - 1) / total for i in range(count)])


def best_of_n_values(score_PN: FloatArray, value_PN: FloatArray, sizes: Sequence[int]) -> FloatArray:
    """Unbiased expectation of the value of the best of n, for each prompt -> [P, sizes].

    The mean over all C(N, n) subsets of the value of the subset's top score (Nakano et al. 2021, appendix I).
    Equal scores are broken at random: the mean over subsets then is the mean over the tied group.
    """
    order_PN = np.argsort(score_PN, axis=1, kind="stable")
    value_PN = np.take_along_axis(value_PN, order_PN, axis=1).copy()
    sorted_PN = np.take_along_axis(score_PN, order_PN, axis=1)
    for row in np.flatnonzero((np.diff(sorted_PN, axis=1) == 0).any(axis=1)):
        _, group_N, size_G = np.unique(sorted_PN[row], return_inverse=True, return_counts=True)
        value_PN[row] = (np.bincount(group_N, value_PN[row]) / size_G)[group_N]
    weight_NS = np.stack([best_of_n_weights(n, score_PN.shape[1]) for n in sizes], axis=1)
    return value_PN @ weight_NS


def best_of_n_curve(
    score_PN: Any,
    gold_PN: Any | None = None,
    *,
    picked_by_PN: Any | None = None,
    sizes: Sequence[int] | None = None,
    samples: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Proxy and gold of best-of-n against KL, averaged over prompts.

    Args:
        score_PN: proxy score of N samples for each of P prompts.
        gold_PN: gold of the same samples, or None.
        picked_by_PN: another score of the same samples that picks (a pessimistic one); None: the proxy.
        sizes: the n to report, each 1..N; None: all of them.

    Returns:
        One dict for each n: ``n``, ``kl`` (nats), ``proxy``, ``gold`` and their 95% intervals over prompts
        (None for a single prompt; gold None where there is none).
    """
    score = finite(score_PN, "scores")
    if score.ndim != 2:
        raise BadInput(f"scores have shape {score.shape}: give one row a prompt and one column a sample")
    prompts, count = score.shape
    sizes = list(range(1, count + 1)) if sizes is None else list(sizes)
    for n in sizes:
        if not 1 <= n <= count:
            raise BadInput(f"best of {n} needs {max(n, 1)} samples a prompt, but there are {count}")
    picker = score if picked_by_PN is None else finite(picked_by_PN, "the picking scores")
    if picker.shape != score.shape:
        raise BadInput(
            f"the picking scores have shape {picker.shape}, scores have {score.shape}: they must be of the"
            " same samples"
        )
    columns = [best_of_n_values(picker, score, sizes)]
    if gold_PN is not None:
        gold = finite(gold_PN, "gold")
        if gold.shape != score.shape:
            raise BadInput(
                f"gold has shape {gold.shape}, scores have {score.shape}: they must be the same samples"
            )
        columns.append(best_of_n_values(picker, gold, sizes))
    value_PD = np.concatenate(columns, axis=1)
    draws_SD = cluster_sum_draws(value_PD, samples, stream(seed, "best_of_n")) / prompts
    low_D, high_D = percentiles(draws_SD, prompts, 0.95)
    mean_D = value_PD.mean(axis=0)

    def bounds(column: int) -> tuple[float, float] | None:
        return None if prompts < 2 else (float(low_D[column]), float(high_D[column]))

    curve = []
    for place, n in enumerate(sizes):
        point: dict[str, Any] = {"n": n, "kl": best_of_n_kl(n)}
        point |= {"proxy": float(mean_D[place]), "proxy_interval": bounds(place)}
        known = gold_PN is not None
        other = place + len(sizes)
        point["gold"] = float(mean_D[other]) if known else None
        point["gold_interval"] = bounds(other) if known else None
        curve.append(point)
    return curve
