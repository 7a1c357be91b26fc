"""Does the reward model still know? Fresh labels of the policy's samples against its own test set.

The policy's answers are closer to each other than SFT's, and close pairs are harder for any reward model. So
raw accuracy falls even where nothing is wrong; what counts is the accuracy on pairs of the same margin.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy import special

from accord.diagnostics.calibration import (
    brier,
    correct,
    expected_calibration_error,
    fitted_temperature,
    fold,
)
from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    Interval,
    cluster_sum_draws,
    cluster_totals,
    clustered_share,
    finite,
    percentile_interval,
    shared_clusters,
    stream,
)
from accord.records import BadInput, Finding

QUESTION = "Does the reward model still know?"
UNIT = "share of pairs right, fresh labels minus test set, at the same margins"
MOST_BINS = 5
LEAST_PAIRS_A_BIN = 10  # of each set, on average


def margin_bins(test_margin_N: FloatArray, fresh_margin_M: FloatArray) -> tuple[Any, Any, int]:
    """Bins of |margin| with equal mass in the fresh pairs -> (bin_N, bin_M, bins); fewer where there are
    few.
    """
    bins = max(1, min(MOST_BINS, min(len(test_margin_N), len(fresh_margin_M)) // LEAST_PAIRS_A_BIN))
    edges = np.unique(np.quantile(np.abs(fresh_margin_M), np.linspace(0, 1, bins + 1)[1:-1]))
    bin_N, bin_M = (np.searchsorted(edges, np.abs(margin)) for margin in (test_margin_N, fresh_margin_M))
    return bin_N, bin_M, len(edges) + 1


def _table(right_N: FloatArray, bin_N: Any, index_N: Any, bins: int, prompts: int) -> FloatArray:
    """Rights and pairs of each prompt in each bin -> [G, 2K]."""
    rows_N2K = np.zeros((len(right_N), 2 * bins))
    rows_N2K[np.arange(len(right_N)), bin_N] = right_N
    rows_N2K[np.arange(len(right_N)), bins + bin_N] = 1
    return cluster_totals(rows_N2K, index_N, prompts)


def _matched(test_S2K: FloatArray, fresh_S2K: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(difference_S, coverage_S): accuracy fresh minus test within bins that both visit, weighed as fresh."""
    bins = test_S2K.shape[1] // 2
    test_right, test_pairs = test_S2K[:, :bins], test_S2K[:, bins:]
    fresh_right, fresh_pairs = fresh_S2K[:, :bins], fresh_S2K[:, bins:]
    shared = (test_pairs > 0) & (fresh_pairs > 0)
    gap = fresh_right / np.maximum(fresh_pairs, 1) - test_right / np.maximum(test_pairs, 1)
    weight = np.where(shared, fresh_pairs, 0)
    with np.errstate(invalid="ignore"):
        difference: FloatArray = (weight * gap).sum(1) / weight.sum(1)
        coverage: FloatArray = weight.sum(1) / fresh_pairs.sum(1)
    return difference, coverage


def _figures(margin_N: FloatArray, prompt_N: Clusters, samples: int, seed: int) -> dict[str, Any]:
    confidence_N, right_N = fold(margin_N)
    share = clustered_share(right_N, prompt_N, samples, seed)
    return {
        "accuracy": share.figure,
        "accuracy_interval": share.bounds,
        "pairs": len(right_N),
        "brier": brier(confidence_N, right_N),
        "ece": expected_calibration_error(confidence_N, right_N) if len(right_N) > 1 else None,
        "temperature": fitted_temperature(margin_N),
        "mean_margin": float(np.abs(margin_N).mean()),
    }


def on_policy_accuracy(
    test_margin_N: Any,
    fresh_margin_M: Any,
    test_prompt_N: Clusters,
    fresh_prompt_M: Clusters,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: is the reward model right on the current policy's samples as often as its test set promises?

    Args:
        test_margin_N: chosen minus rejected score on its own test set.
        fresh_margin_M: the same on fresh labels of the current policy's samples, which it was not fitted on.
            Pairs on prompts that it was fitted on are not held out either: leave them out.

    ``figure`` is the accuracy difference at matched margins: within bins of |margin| of equal mass in the
    fresh pairs, weighed as the fresh pairs are. Evidence: both sets' accuracy, Brier score, debiased ECE and
    temperature; ``expected``, the accuracy that the test set's calibration promises for the fresh margins
    (mean of σ(|margin| / T)); ``coverage``, the share of fresh pairs whose bin the test set visits.

    Verdict, by the 95% interval over prompts: bad where it lies below 0, good where it does not and the fresh
    accuracy lies above one half, warn where the fresh accuracy cannot be told from chance.
    """
    test, fresh = finite(test_margin_N, "test margins"), finite(fresh_margin_M, "fresh margins")
    if len(test_prompt_N) != len(test) or len(fresh_prompt_M) != len(fresh):
        raise BadInput(
            f"{len(test)} and {len(fresh)} pairs but {len(test_prompt_N)} and {len(fresh_prompt_M)} prompts:"
            " give one prompt for each pair"
        )
    index_N, index_M, prompts = shared_clusters(test_prompt_N, fresh_prompt_M)
    bin_N, bin_M, bins = margin_bins(test, fresh)
    test_G = _table(correct(test), bin_N, index_N, bins, prompts)
    fresh_G = _table(correct(fresh), bin_M, index_M, bins, prompts)
    draws = cluster_sum_draws(np.concatenate([test_G, fresh_G], axis=1), samples, stream(seed, "on_policy"))
    figure, coverage = _matched(test_G.sum(0)[None], fresh_G.sum(0)[None])
    both = min(len(np.unique(index_N)), len(np.unique(index_M)))
    difference = Interval(float(figure[0]), np.nan, np.nan)
    if both > 1:  # the side with fewer prompts decides how far the draws are too narrow
        draws_S, _ = _matched(draws[:, : 2 * bins], draws[:, 2 * bins :])
        difference = percentile_interval(difference.figure, draws_S, both)
    before, after = (
        _figures(test, test_prompt_N, samples, seed),
        _figures(fresh, fresh_prompt_M, samples, seed),
    )
    expected = float(special.expit(np.abs(fresh) / before["temperature"]).mean())
    verdict, reading = _verdict(difference, after["accuracy_interval"])
    evidence = {
        "test": before,
        "fresh": after,
        "raw_difference": after["accuracy"] - before["accuracy"],
        "expected": expected,
        "coverage": float(coverage[0]),
        "bins": _rows(test_G.sum(0), fresh_G.sum(0), np.abs(fresh), bin_M),
    }
    sentence = (
        f"On {len(fresh)} fresh pairs of the current policy the reward model is right in"
        f" {after['accuracy']:.1%}, on its test set in {before['accuracy']:.1%}; at the same margins the"
        f" difference is {difference.show_percent()}: {reading}."
    )
    shown = difference.figure if np.isfinite(difference.figure) else None
    return Finding(
        "on_policy_accuracy", QUESTION, shown, difference.bounds, UNIT, verdict, sentence, evidence
    )


def _verdict(
    difference: Interval, fresh: tuple[float, float] | None
) -> tuple[Literal["good", "warn", "bad", "unknown"], str]:
    if difference.bounds is None or fresh is None:
        return "unknown", "there is no interval"
    if difference.high < 0:
        return "bad", "it knows less about what the policy says now than its test set promises"
    if not fresh[0] > 0.5:
        return "warn", "on fresh pairs it cannot be told from chance"
    return "good", "it is not shown to know less"


def _rows(test_2K: FloatArray, fresh_2K: FloatArray, size_M: FloatArray, bin_M: Any) -> list[dict[str, Any]]:
    bins = len(test_2K) // 2
    rows = []
    for k in range(bins):
        pairs = (test_2K[bins + k], fresh_2K[bins + k])
        row: dict[str, Any] = {"margin": float(size_M[bin_M == k].mean()) if pairs[1] else None}
        row |= {"test_pairs": int(pairs[0]), "fresh_pairs": int(pairs[1])}
        row["test_accuracy"] = float(test_2K[k] / pairs[0]) if pairs[0] else None
        row["fresh_accuracy"] = float(fresh_2K[k] / pairs[1]) if pairs[1] else None
        rows.append(row)
    return rows
