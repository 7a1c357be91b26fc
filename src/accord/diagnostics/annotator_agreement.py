"""How far people agree with each other: the ceiling of what a reward model can reach on their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from accord.diagnostics.statistics import clustered_share
from accord.records import Comparison, content_hash

Labels = dict[str, dict[str, str]]  # pair -> annotator -> verdict about the pair in a fixed order


def pair_key(row: Comparison) -> tuple[str, bool]:
    """(identity of a pair whichever answer is called a, whether this row has it the other way round)."""
    a, b = row.pair.a.text, row.pair.b.text
    return content_hash(row.prompt.key, *sorted((a, b))), a > b


def oriented(row: Comparison) -> str | None:
    """``first``, ``second`` or ``tie`` about the pair in its fixed order; None where nothing was judged."""
    if row.verdict == "tie":
        return "tie"
    if row.verdict not in ("a", "b"):
        return None
    flipped = pair_key(row)[1]
    return "first" if (row.verdict == "a") != flipped else "second"


def labels_by_pair(rows: Sequence[Comparison]) -> Labels:
    """Verdicts by pair and annotator; an annotator's last verdict about a pair counts.

    Labels without an annotator's name are left out: a repeated row would look like a second opinion.
    """
    found: Labels = {}
    for row in rows:
        verdict = oriented(row)
        if verdict is not None and row.annotator and row.pair.a.text != row.pair.b.text:
            found.setdefault(pair_key(row)[0], {})[row.annotator] = verdict
    return found


def majority_share(every: Sequence[Comparison], rows: Sequence[Comparison]) -> list[float | None]:
    """For each of ``rows``, the share of its pair's annotators who gave the most frequent verdict.

    None where fewer than two named annotators judged the pair.
    """
    labels = labels_by_pair(every)
    shares: list[float | None] = []
    for row in rows:
        verdicts = list(labels.get(pair_key(row)[0], {}).values())
        top = Counter(verdicts).most_common(1)
        shares.append(top[0][1] / len(verdicts) if len(verdicts) > 1 else None)
    return shares


def contradicted(rows: Sequence[Comparison]) -> int:
    """Pairs for which both answers were called the better one, by whomever."""
    winners: dict[str, set[str]] = {}
    for row in rows:
        verdict = oriented(row)
        if verdict in ("first", "second"):
            winners.setdefault(pair_key(row)[0], set()).add(verdict)
    return sum(len(found) == 2 for found in winners.values())


def best_reachable(rows: Sequence[Comparison]) -> float | None:
    """Accuracy on these very labels of someone who always sides with the majority of a pair's winners.

    Below 1 only where labels contradict each other; no scorer can do better. None without a decided label.
    """
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        verdict = oriented(row)
        if verdict in ("first", "second"):
            counts.setdefault(pair_key(row)[0], Counter())[verdict] += 1
    total = sum(sum(found.values()) for found in counts.values())
    return sum(max(found.values()) for found in counts.values()) / total if total else None


def ceiling(rows: Sequence[Comparison], samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """People's agreement with each other; ``pairs`` is 0 and the figures None where it cannot be measured.

    Returns:
        ``pairs``, ``annotators``, ``labels``: what two or more named annotators judged.
        ``agreement``: share of the pairs of labels about one pair that are the same, ties included, with an
        interval over prompts. Each pair of answers counts once, however many annotators it had.
        ``decided_agreement``: the same among labels that name a winner; comparable with an accuracy.
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
    prompts = {pair_key(row)[0]: row.prompt.key for row in rows}
    shares = {key: _same(list(found.values())) for key, found in labels.items()}
    share = clustered_share(list(shares.values()), [prompts[key] for key in shares], samples, seed)
    out |= {"agreement": share.figure, "agreement_interval": share.bounds}
    winners = [[v for v in found.values() if v != "tie"] for found in labels.values()]
    both = [_same(found) for found in winners if len(found) > 1]
    out["decided_agreement"] = sum(both) / len(both) if both else None
    return out


def _same(verdicts: Sequence[str]) -> float:
    pairs = list(combinations(verdicts, 2))
    return sum(one == other for one, other in pairs) / len(pairs)
