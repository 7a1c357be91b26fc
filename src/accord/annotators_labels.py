"""Comparisons as the arrays that a model of annotators reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from accord.records import BadInput, Comparison, content_hash

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.intp]


class Labels(NamedTuple):
    """Labels as arrays, one row a label: which pair, who, a's win (1, 0, ½ for a tie), which side (±1, 0).

    a is the answer whose text comes first in the alphabet, because files that name a winner put it first.
    """

    pair_N: IntArray
    annotator_N: IntArray
    verdict_N: FloatArray
    left_N: FloatArray
    names: tuple[str, ...]


def labels_of(comparisons: Sequence[Comparison]) -> Labels:
    """The labels of named annotators; skips and ``both_bad`` say nothing about a difference.

    Where an annotator saw the same side left every time, the sides are taken as unknown: drawn at random they
    would differ, and files that name a winner say nothing about sides.

    Raises:
        BadInput: no usable label.
    """
    pairs: dict[str, int] = {}
    names: dict[str, int] = {}
    sides: dict[int, set[str]] = {}
    rows: list[tuple[int, int, float, float]] = []
    for one in comparisons:
        if not one.annotator or one.verdict not in ("a", "b", "tie"):
            continue
        j = names.setdefault(one.annotator, len(names))
        sides.setdefault(j, set()).add(one.pair.shown_left)
        turned = one.pair.a.text > one.pair.b.text
        texts = sorted((one.pair.a.text, one.pair.b.text))
        pair = pairs.setdefault(content_hash(one.prompt.key, *texts, one.criterion), len(pairs))
        won = {"a": 1.0, "b": 0.0, "tie": 0.5}[one.verdict]
        left = 1.0 if one.pair.shown_left == "a" else -1.0
        rows.append((pair, j, 1 - won if turned else won, -left if turned else left))
    if not rows:
        raise BadInput("no label names its annotator and a winner or a tie: there is nobody to compare")
    pair_N, annotator_N, verdict_N, left_N = (np.array(column) for column in zip(*rows, strict=True))
    unknown = np.array([len(sides[j]) < 2 for j in range(len(names))])
    return Labels(
        pair_N.astype(np.intp),
        annotator_N.astype(np.intp),
        verdict_N,
        np.where(unknown[annotator_N], 0.0, left_N),
        tuple(names),
    )
