"""Two coefficients of agreement beyond chance: Cohen's kappa for two, Krippendorff's alpha for any number."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from accord.diagnostics.statistics import FloatArray
from accord.records import BadInput

Label: TypeAlias = tuple[Hashable, Hashable, Any]
Level: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]
LEVELS = ("nominal", "ordinal", "interval", "ratio")


def cohens_kappa(first_N: Sequence[Any], second_N: Sequence[Any]) -> float:
    """Agreement of two annotators on the same N units beyond chance (Cohen 1960): (p_o - p_e) / (1 - p_e).

    NaN where both say one and the same value throughout: chance alone would then agree always.

    Raises:
        BadInput: no unit, or lists of two lengths.
    """
    if len(first_N) != len(second_N) or not len(first_N):
        raise BadInput(f"kappa needs two lists of one length, got {len(first_N)} and {len(second_N)} values")
    names = {value: i for i, value in enumerate(dict.fromkeys([*first_N, *second_N]))}
    table = np.zeros((len(names), len(names)))
    for one, two in zip(first_N, second_N, strict=True):
        table[names[one], names[two]] += 1
    share = table / table.sum()
    observed, expected = float(np.trace(share)), float(share.sum(axis=1) @ share.sum(axis=0))
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def krippendorff_alpha(labels: Iterable[Label], level: Level = "nominal") -> float:
    """Agreement of any number of annotators, with gaps: 1 - observed / expected disagreement.

    Krippendorff 2011, *Computing Krippendorff's Alpha-Reliability*. Units with one label count for nothing.
    NaN where there is nothing to disagree about: no unit with two labels, or one value throughout.

    Args:
        labels: (unit, annotator, value); of two labels of one annotator on one unit the last counts. Values
            are numbers unless the level is nominal.
        level: how far two values are from each other.

    Raises:
        BadInput: an unknown level, or a value that is no number where the level needs one.
    """
    count_UC, values = value_counts(labels, level)
    return _alpha(count_UC, values, level)


def value_counts(labels: Iterable[Label], level: Level) -> tuple[FloatArray, list[Any]]:
    """How often each unit got each value, and the values (sorted, where they are numbers)."""
    if level not in LEVELS:
        raise BadInput(f"the level {level!r} is unknown: it must be one of {', '.join(LEVELS)}")
    last = {(unit, annotator): value for unit, annotator, value in labels}
    found = dict.fromkeys(last.values())
    if level == "nominal":
        values: list[Any] = list(found)
    else:
        bad = [value for value in found if isinstance(value, bool) or not isinstance(value, int | float)]
        if bad:
            raise BadInput(f"the value {bad[0]!r} is no number: alpha of level {level} needs numbers")
        values = sorted(found)
    unit_index = {unit: i for i, unit in enumerate(dict.fromkeys(unit for unit, _ in last))}
    value_index = {value: i for i, value in enumerate(values)}
    count_UC = np.zeros((len(unit_index), len(values)))
    for (unit, _), value in last.items():
        count_UC[unit_index[unit], value_index[value]] += 1
    return count_UC, values


def _alpha(count_UC: FloatArray, values: Sequence[Any], level: Level) -> float:
    pairable_UC = count_UC[count_UC.sum(axis=1) >= 2]
    total_C = pairable_UC.sum(axis=0)
    if (total_C > 0).sum() < 2:
        return float("nan")
    distance_CC = _distance(total_C, values, level)
    size_U = pairable_UC.sum(axis=1)
    # Within a unit every value meets every other one; distance is 0 between equals, so pairs of a value with
    # itself need no correction.
    disagreement_U = np.einsum("uc,ck,uk->u", pairable_UC, distance_CC, pairable_UC) / (size_U - 1)
    expected = float(total_C @ distance_CC @ total_C) / float(total_C.sum() - 1)
    return 1 - float(disagreement_U.sum()) / expected


def _distance(total_C: FloatArray, values: Sequence[Any], level: Level) -> FloatArray:
    """Squared distance of every two values."""
    if level == "nominal":
        return np.asarray(1.0 - np.eye(len(values)))
    # Ordinal: how many values lie between the two, half of each of them counted: a difference of mid-ranks
    place_C: FloatArray = (
        np.cumsum(total_C) - total_C / 2 if level == "ordinal" else np.asarray(values, dtype=np.float64)
    )
    gap_CC: FloatArray = place_C[:, None] - place_C[None, :]
    if level == "ratio":
        sum_CC = place_C[:, None] + place_C[None, :]
        gap_CC = np.divide(gap_CC, sum_CC, out=np.zeros_like(gap_CC), where=sum_CC != 0)
    return gap_CC**2
