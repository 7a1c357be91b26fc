"""What is it paid for? Length, repetition and diversity of the policy's answers against SFT's.

No source gives a threshold that separates safe from hacked, so a shift warns where its 95% interval
excludes 0 and never says bad: whether longer is worse is for gold to say.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from accord.diagnostics.statistics import (
    Clusters,
    FloatArray,
    Interval,
    cluster_bootstrap,
    cluster_index,
    cluster_sum_draws,
    cluster_totals,
    finite,
    jackknife_interval,
    percentiles,
    stream,
)
from accord.records import BadInput, Finding

LONGEST_BUCKET = 20
BUCKETS_AT_LEAST = 8


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case folded."""
    return re.findall(r"\w+", text.casefold())


def ngrams(tokens: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    return (tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))


def repetition(text: str, order: int = 4) -> float:
    """Share of a text's word n-grams that repeat an earlier one: 1 - distinct/total; 0 for short texts."""
    grams = list(ngrams(words(text), order))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct_n(texts: Sequence[str], order: int = 2) -> float | None:
    """Distinct n-grams over all n-grams of a set of texts (Li et al. 2016); None where there are none.

    Falls with the amount of text: compare only sets of equal size, as ``diversity_shift`` does.
    """
    grams = [gram for text in texts for gram in ngrams(words(text), order)]
    return len(set(grams)) / len(grams) if grams else None


def _same_rows(**rows: Any) -> None:
    sizes = {name: len(values) for name, values in rows.items()}
    if len(set(sizes.values())) > 1 or not all(sizes.values()):
        shown = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise BadInput(f"got {shown}: give the same number of each, 1 or more, row n to the same prompt")


def _shift_verdict(shift: Interval) -> Literal["good", "warn", "unknown"]:
    if shift.bounds is None:
        return "unknown"
    return "warn" if shift.low > 0 or shift.high < 0 else "good"


def _direction(shift: Interval, more: str, less: str, same: str) -> str:
    if shift.bounds is None:
        return "one prompt gives no interval"
    return more if shift.low > 0 else less if shift.high < 0 else same


def length_shift(
    sft_N: Any, policy_N: Any, prompt_N: Clusters, *, unit: str = "tokens", samples: int = 2000, seed: int = 0
) -> Finding:
    """Mean length of the policy's answers minus SFT's on the same prompts, interval over prompts."""
    sft, policy = finite(sft_N, "SFT lengths"), finite(policy_N, "policy lengths")
    _same_rows(sft=sft, policy=policy, prompts=prompt_N)
    shift = cluster_bootstrap(policy - sft, prompt_N, samples=samples, seed=seed)
    reading = _direction(shift, "answers grew longer", "answers grew shorter", "no shift is shown")
    return Finding(
        "length_shift",
        "Did answers change length?",
        shift.figure,
        shift.bounds,
        f"{unit} an answer, policy minus SFT",
        _shift_verdict(shift),
        f"Answers moved from {sft.mean():.1f} to {policy.mean():.1f} {unit},"
        f" a shift of {shift.show(1)}: {reading}.",
        {"sft_mean": float(sft.mean()), "policy_mean": float(policy.mean()), "samples": len(sft)},
    )


def repetition_shift(
    sft_texts: Sequence[str],
    policy_texts: Sequence[str],
    prompt_N: Clusters,
    *,
    order: int = 4,
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Share of repeated word 4-grams within an answer, policy minus SFT, interval over prompts."""
    _same_rows(sft=sft_texts, policy=policy_texts, prompts=prompt_N)
    sft = np.array([repetition(text, order) for text in sft_texts])
    policy = np.array([repetition(text, order) for text in policy_texts])
    shift = cluster_bootstrap(policy - sft, prompt_N, samples=samples, seed=seed)
    reading = _direction(
        shift, "answers repeat themselves more", "answers repeat themselves less", "no shift is shown"
    )
    return Finding(
        "repetition_shift",
        "Does it repeat itself?",
        shift.figure,
        shift.bounds,
        f"share of an answer's word {order}-grams that repeat an earlier one, policy minus SFT",
        _shift_verdict(shift),
        f"Repeated {order}-grams moved from {sft.mean():.1%} to {policy.mean():.1%} of an answer: {reading}.",
        {
            "sft_mean": float(sft.mean()),
            "policy_mean": float(policy.mean()),
            "order": order,
            "samples": len(sft),
        },
    )


def _distinct_left_out(
    tokens_N: Sequence[Sequence[str]], index_N: Any, count: int, order: int
) -> tuple[float, FloatArray]:
    """distinct-n of all rows, and with each prompt left out in turn -> (figure, left_out_G).

    Leaving a prompt out removes its n-grams from the total, and from the distinct ones those that no other
    prompt has; so one pass over the text gives all G values.
    """
    holders: dict[tuple[str, ...], set[int]] = defaultdict(set)
    total_G = np.zeros(count)
    for tokens, cluster in zip(tokens_N, index_N, strict=True):
        for gram in ngrams(tokens, order):
            holders[gram].add(int(cluster))
            total_G[cluster] += 1
    alone = Counter(next(iter(found)) for found in holders.values() if len(found) == 1)
    alone_G = np.array([alone[cluster] for cluster in range(count)], dtype=np.float64)
    total = total_G.sum()
    if total == 0:
        return math.nan, np.full(count, math.nan)
    rest_G = np.maximum(total - total_G, 1)  # one prompt may hold every n-gram
    return len(holders) / total, (len(holders) - alone_G) / rest_G


def diversity_shift(
    sft_texts: Sequence[str], policy_texts: Sequence[str], prompt_N: Clusters, *, order: int = 2
) -> Finding:
    """distinct-n over all answers, policy minus SFT: does it say the same to every prompt?

    distinct-n falls as text grows, so both answers of a row are cut to the shorter one's words first. The
    interval is a jackknife over prompts.
    """
    _same_rows(sft=sft_texts, policy=policy_texts, prompts=prompt_N)
    index_N, count = cluster_index(prompt_N, len(sft_texts))
    pairs = [(words(a), words(b)) for a, b in zip(sft_texts, policy_texts, strict=True)]
    cut = [min(len(a), len(b)) for a, b in pairs]
    sft, sft_G = _distinct_left_out(
        [a[:n] for (a, _), n in zip(pairs, cut, strict=True)], index_N, count, order
    )
    policy, policy_G = _distinct_left_out(
        [b[:n] for (_, b), n in zip(pairs, cut, strict=True)], index_N, count, order
    )
    unit = f"distinct word {order}-grams over all, answers cut to equal length, policy minus SFT"
    question = "Does it say the same to everyone?"
    if math.isnan(sft) or math.isnan(policy):
        sentence = (
            f"Diversity cannot be measured: no prompt has answers of {order} words or more on both sides."
        )
        return Finding("diversity_shift", question, None, None, unit, "unknown", sentence)
    shift = jackknife_interval(policy - sft, policy_G - sft_G)
    reading = _direction(shift, "answers grew more varied", "answers grew more alike", "no shift is shown")
    sentence = f"Distinct {order}-grams moved from {sft:.1%} to {policy:.1%} of all: {reading}."
    evidence = {"sft": sft, "policy": policy, "order": order, "samples": len(pairs), "prompts": count}
    verdict = _shift_verdict(shift)
    return Finding("diversity_shift", question, shift.figure, shift.bounds, unit, verdict, sentence, evidence)


def length_share(
    sft_score_N: Any,
    policy_score_N: Any,
    sft_length_N: Any,
    policy_length_N: Any,
    prompt_N: Clusters,
    *,
    bucket: int | None = None,
    unit: str = "tokens",
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: how much of the proxy's gain remains between answers of the same length?

    Scores are compared within length buckets, weighted by the samples of both policies in the bucket; the
    within-bucket gain over the whole gain is the share that length does not explain (Singhal et al. 2023,
    arXiv 2310.03716, section 3.2: a gain that is all length has share 0). Buckets that only one policy visits
    cannot be compared: ``coverage`` is the share of samples in those that can.

    Args:
        bucket: width in ``unit``; None: 20, or an eighth of the longest answer where that is less.

    Verdict: good where the within-bucket gain has an interval above 0; warn where it has not; unknown where
    the whole gain is not shown to be above 0, or where no bucket is visited by both.
    """
    sft, policy = finite(sft_score_N, "SFT scores"), finite(policy_score_N, "policy scores")
    sft_length, policy_length = finite(sft_length_N, "SFT lengths"), finite(policy_length_N, "policy lengths")
    _same_rows(sft=sft, policy=policy, sft_lengths=sft_length, policy_lengths=policy_length, prompts=prompt_N)
    longest = max(sft_length.max(), policy_length.max())
    width = bucket or min(LONGEST_BUCKET, max(1, math.ceil(longest / BUCKETS_AT_LEAST)))
    index_N, count = cluster_index(prompt_N, len(sft))
    buckets = int(longest // width) + 1

    def spread(length_N: FloatArray, value_N: FloatArray) -> FloatArray:
        table = np.zeros((len(length_N), buckets))
        table[np.arange(len(length_N)), (length_N // width).astype(int)] = value_N
        return cluster_totals(table, index_N, count)

    ones = np.ones(len(sft))
    parts = [spread(sft_length, sft), spread(sft_length, ones)]
    parts += [spread(policy_length, policy), spread(policy_length, ones)]
    totals_G4K = np.stack(parts, axis=1)
    draws = cluster_sum_draws(totals_G4K.reshape(count, -1), samples, stream(seed, "length_share"))
    gain, within, coverage = _within_buckets(totals_G4K.sum(axis=0)[None])
    gain_S, within_S, _ = _within_buckets(draws.reshape(samples, 4, buckets))
    whole = _interval(float(gain[0]), gain_S, count)
    kept = _interval(float(within[0]), within_S, count)
    question = "Is the gain more than length?"
    share_unit = "share of the proxy's gain left between answers of equal length"
    evidence: dict[str, Any] = {
        "gain": whole.figure,
        "gain_interval": whole.bounds,
        "within_bucket_gain": kept.figure if coverage[0] > 0 else None,
        "within_bucket_gain_interval": kept.bounds,
        "bucket": width,
        "coverage": float(coverage[0]),
        "buckets": _bucket_rows(totals_G4K.sum(axis=0), width),
    }
    if not whole.low > 0 or coverage[0] == 0:
        reason = (
            "the proxy is not shown to have risen" if not whole.low > 0 else "no length is shared by both"
        )
        sentence = f"What the gain is paid for cannot be told: {reason} (gain {whole.show()})."
        return Finding("length_share", question, None, None, share_unit, "unknown", sentence, evidence)
    share_S = within_S / np.where(np.abs(gain_S) > 1e-12, gain_S, np.nan)
    share = _interval(kept.figure / whole.figure, share_S, count)
    verdict: Literal["good", "warn"] = "good" if kept.low > 0 else "warn"
    reading = "the gain is more than length" if verdict == "good" else "no gain is shown beyond length"
    sentence = (
        f"Between answers of equal length (buckets of {width} {unit}, {coverage[0]:.0%} of samples) the share"
        f" {share.show()} of the proxy's gain remains: {reading}."
    )
    return Finding(
        "length_share", question, share.figure, share.bounds, share_unit, verdict, sentence, evidence
    )


def _interval(figure: float, draws_S: FloatArray, prompts: int) -> Interval:
    low, high = percentiles(draws_S, prompts, 0.95)
    return Interval(figure, float(low), float(high))


def _within_buckets(sums_S4K: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(whole gain_S, within-bucket gain_S, coverage_S) from sums and counts by bucket of both policies.

    The within gain of a draw that shares no bucket is 0: nothing is shown beyond length.
    """
    sft, sft_count, policy, policy_count = np.moveaxis(sums_S4K, 1, 0)
    gain_S = policy.sum(-1) / policy_count.sum(-1) - sft.sum(-1) / sft_count.sum(-1)
    shared = (sft_count > 0) & (policy_count > 0)
    difference = policy / np.maximum(policy_count, 1) - sft / np.maximum(sft_count, 1)
    weight = np.where(shared, sft_count + policy_count, 0)
    within_S = (weight * difference).sum(-1) / np.maximum(weight.sum(-1), 1)
    return gain_S, within_S, weight.sum(-1) / (sft_count + policy_count).sum(-1)


def _bucket_rows(sums_4K: FloatArray, width: int) -> list[dict[str, Any]]:
    rows = []
    for k, (sft, sft_count, policy, policy_count) in enumerate(sums_4K.T):
        if sft_count + policy_count > 0:
            row: dict[str, Any] = {"from": k * width, "to": (k + 1) * width - 1}
            row |= {"sft_count": int(sft_count), "policy_count": int(policy_count)}
            row["sft_mean"] = float(sft / sft_count) if sft_count else None
            row["policy_mean"] = float(policy / policy_count) if policy_count else None
            rows.append(row)
    return rows
