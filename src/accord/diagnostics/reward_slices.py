"""Where is the reward model right? Accuracy by margin, length, source and agreement, beside the floors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accord.diagnostics.annotator_agreement import majority_share
from accord.diagnostics.statistics import FloatArray, clustered_share
from accord.records import Comparison

QUARTERS = ("smallest quarter", "second quarter", "third quarter", "largest quarter")
NEAR_LENGTH = 0.1  # lengths within 10% of the longer one count as the same
MOST_SOURCES = 20
LENGTH_ORDER = HALF, SHORTER, SAME, LONGER, TWICE = (
    "chosen at most half as long",
    "chosen shorter",
    "about the same length",
    "chosen longer",
    "chosen at least twice as long",
)
AGREEMENT_ORDER = ALL, MOST, FEWER = ("all annotators agree", "two thirds or more agree", "fewer agree")


def by_quarter(value_N: FloatArray) -> list[str]:
    """The quarter of each value by size; equal values share a quarter, so that quarters may be empty."""
    edges = np.quantile(value_N, [0.25, 0.5, 0.75])
    return [QUARTERS[int(place)] for place in np.searchsorted(edges, value_N, side="left")]


def by_length(rows: Sequence[Comparison]) -> list[str]:
    """How the chosen answer's length compares with the rejected one's, by ratio of characters."""
    names = []
    for row in rows:
        assert row.chosen is not None  # decided pairs only
        assert row.rejected is not None
        chosen, rejected = len(row.chosen.text), len(row.rejected.text)
        longest = max(chosen, rejected)
        if abs(chosen - rejected) <= NEAR_LENGTH * longest:
            names.append(SAME)
        elif min(chosen, rejected) * 2 <= longest:
            names.append(TWICE if chosen > rejected else HALF)
        else:
            names.append(LONGER if chosen > rejected else SHORTER)
    return names


def by_agreement(rows: Sequence[Comparison], every: Sequence[Comparison]) -> list[str | None]:
    """How many of a pair's annotators chose its most frequent verdict; None for a pair with one annotator."""
    shares = majority_share(every, rows)
    names: list[str | None] = []
    for share in shares:
        if share is None:
            names.append(None)
        else:
            names.append(ALL if share == 1 else MOST if share >= 2 / 3 - 1e-9 else FEWER)
    return names


def by_source(rows: Sequence[Comparison]) -> list[str]:
    """The source of each label; beyond the 20 largest sources: "other sources"."""
    names = [row.source or "not named" for row in rows]
    kept = {name for name, _ in Counter(names).most_common(MOST_SOURCES)}
    return [name if name in kept else "other sources" for name in names]


def _rows(
    name_N: Sequence[str | None],
    order: Sequence[str],
    right_N: FloatArray,
    floor_correct: Mapping[str, FloatArray],
    prompt_N: Sequence[str],
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    found = []
    for name in order:
        inside = [i for i, one in enumerate(name_N) if one == name]
        if not inside:
            continue
        prompts = [prompt_N[i] for i in inside]
        share = clustered_share(right_N[inside], prompts, samples, seed)
        found.append(
            {
                "slice": name,
                "pairs": len(inside),
                "prompts": len(set(prompts)),
                "accuracy": share.figure,
                "interval": share.bounds,
                "floors": {name: float(floor_N[inside].mean()) for name, floor_N in floor_correct.items()},
            }
        )
    return found


def slices(
    rows: Sequence[Comparison],
    every: Sequence[Comparison],
    margin_N: FloatArray,
    right_N: FloatArray,
    floor_correct: Mapping[str, FloatArray],
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Accuracy by slice; each row with its pairs, prompts, interval over prompts, and every floor's accuracy.

    A way of slicing that puts all pairs in one slice is left out: it says nothing. Intervals are wide in
    small slices, and with many slices some differ by chance alone.

    Args:
        rows: the decided pairs, in the order of the arrays.
        every: all labels, for the agreement between annotators.
    """
    prompts = [row.prompt.key for row in rows]
    sources = by_source(rows)
    criteria = [row.criterion or "not named" for row in rows]
    strengths = [row.strength for row in rows]
    ways: dict[str, tuple[Sequence[str | None], Sequence[str]]] = {
        "margin": (by_quarter(np.abs(margin_N)), QUARTERS),
        "length": (by_length(rows), LENGTH_ORDER),
        "source": (sources, sorted(set(sources))),
        "criterion": (criteria, sorted(set(criteria))),
        "agreement": (by_agreement(rows, every), AGREEMENT_ORDER),
        "strength": (
            [None if s is None else f"{s:g}" for s in strengths],
            [f"{s:g}" for s in sorted({s for s in strengths if s is not None})[:MOST_SOURCES]],
        ),
    }
    out = {}
    for way, (names, order) in ways.items():
        found = _rows(names, order, right_N, floor_correct, prompts, samples, seed)
        if len(found) > 1:
            out[way] = found
    return out
