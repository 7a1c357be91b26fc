"""How far people agree with each other: the ceiling of what a reward model can reach on their labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from accord.diagnostics.agreement import agreement, comparison_labels
from accord.records import Comparison, content_hash

WINNERS = ("first", "second")


def pair_key(row: Comparison) -> str:
    """Identity of a pair of answers under one question, whichever of them is called a."""
    return content_hash(row.prompt.key, *sorted((row.pair.a.text, row.pair.b.text)), row.criterion)


def winner(row: Comparison) -> str | None:
    """``first`` or ``second`` of the two texts in alphabetic order; None where neither was preferred."""
    if row.chosen is None:
        return None
    return "first" if row.chosen.text == min(row.pair.a.text, row.pair.b.text) else "second"


def labels_by_pair(rows: Sequence[Comparison]) -> dict[str, dict[Any, str]]:
    """Verdicts by pair and annotator; an annotator's last verdict about a pair counts.

    Labels without an annotator's name are left out: a repeated row would look like a second opinion.
    """
    found: dict[str, dict[Any, str]] = {}
    for unit, annotator, value in comparison_labels(rows):
        found.setdefault(str(unit), {})[annotator] = value
    return found


def majority_share(every: Sequence[Comparison], rows: Sequence[Comparison]) -> list[float | None]:
    """For each of ``rows``, the share of its pair's annotators who gave the most frequent verdict.

    None where fewer than two named annotators judged the pair.
    """
    labels = labels_by_pair(every)
    shares: list[float | None] = []
    for row in rows:
        verdicts = list(labels.get(pair_key(row), {}).values())
        top = Counter(verdicts).most_common(1)
        shares.append(top[0][1] / len(verdicts) if len(verdicts) > 1 else None)
    return shares


def _winners(rows: Sequence[Comparison]) -> dict[str, Counter[str]]:
    """How often each answer of a pair was called the better one, by whomever."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        found = winner(row)
        if found is not None:
            counts.setdefault(pair_key(row), Counter())[found] += 1
    return counts


def contradicted(rows: Sequence[Comparison]) -> int:
    """Pairs for which both answers were called the better one, by whomever."""
    return sum(len(found) == 2 for found in _winners(rows).values())


def best_reachable(rows: Sequence[Comparison]) -> float | None:
    """Accuracy on these very labels of someone who always sides with the majority of a pair's winners.

    Below 1 only where labels contradict each other; no scorer can do better. None without a decided label.
    """
    counts = _winners(rows)
    total = sum(sum(found.values()) for found in counts.values())
    return sum(max(found.values()) for found in counts.values()) / total if total else None


def ceiling(rows: Sequence[Comparison], samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """People's agreement with each other; the figures are None where it cannot be measured.

    Returns:
        ``pairs``, ``annotators``, ``labels``: what two or more named annotators judged.
        ``agreement``: share of the pairs of labels on one pair of answers that are the same, ties included.
        ``decided_agreement``: the same among labels that name a winner; comparable with an accuracy.
        ``cohens_kappa`` (mean over pairs of annotators), ``krippendorff_alpha`` with its interval.
        ``by_annotator``: each against the others, the least agreeing first.
        ``reason``: why there is nothing, where there is nothing.
    """
    labels = {key: found for key, found in labels_by_pair(rows).items() if len(found) > 1}
    out: dict[str, Any] = {
        "pairs": len(labels),
        "labels": sum(map(len, labels.values())),
        "annotators": len({name for found in labels.values() for name in found}),
        "agreement": None,
        "agreement_interval": None,
        "decided_agreement": None,
        "cohens_kappa": None,
        "krippendorff_alpha": None,
        "krippendorff_alpha_interval": None,
        "by_annotator": [],
        "reason": "",
    }
    if not labels:
        named = {row.annotator for row in rows if row.annotator}
        out["reason"] = (
            "no annotator is named"
            if not named
            else f"{len(named)} named annotator(s), and no pair was judged by two of them"
        )
        return out
    found = agreement(rows, samples=samples, seed=seed)
    meetings = [
        one == other
        for verdicts in labels.values()
        for one, other in combinations([v for v in verdicts.values() if v in WINNERS], 2)
    ]
    return out | {
        "agreement": found.same.figure,
        "agreement_interval": found.same.bounds,
        "decided_agreement": sum(meetings) / len(meetings) if meetings else None,
        "cohens_kappa": _known(found.kappa),
        "krippendorff_alpha": _known(found.alpha.figure),
        "krippendorff_alpha_interval": found.alpha.bounds,
        "by_annotator": [
            {
                "annotator": one.annotator,
                "labels": one.labels,
                "kappa": _known(one.kappa.figure),
                "kappa_interval": one.kappa.bounds,
                "reading": one.reading,
            }
            for one in found.annotators
        ],
    }


def _known(value: float) -> float | None:
    """None for NaN: where everybody always said the same, nothing lies beyond chance."""
    return value if math.isfinite(value) else None
