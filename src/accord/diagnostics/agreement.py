"""Do people agree? Cohen's kappa, Krippendorff's alpha, and each annotator against the others.

A label is a triple (unit, annotator, value). A unit is what was asked once: of comparisons a prompt with two
answers, in either order, by one criterion. Values name the answer by its text, not by the side on which it
stood, so that somebody who always clicks left does not agree with anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from accord.diagnostics.kappa_alpha import Label, cohens_kappa, krippendorff_alpha, value_counts
from accord.diagnostics.statistics import (
    FloatArray,
    Interval,
    cluster_sum_draws,
    percentiles,
    stream,
    wilson,
)
from accord.records import BadInput, Comparison, content_hash

__all__ = [
    "Agreement",
    "AnnotatorAgreement",
    "Label",
    "agreement",
    "cohens_kappa",
    "comparison_labels",
    "krippendorff_alpha",
]


def comparison_labels(comparisons: Iterable[Comparison]) -> list[Label]:
    """Labels of judgements with a named annotator; a skip is no label.

    The value is ``first`` or ``second`` (of the two texts in alphabetic order), ``tie`` or ``both_bad``.
    """
    out: list[Label] = []
    for one in comparisons:
        if one.verdict == "skip" or not one.annotator:
            continue
        first, second = sorted((one.pair.a.text, one.pair.b.text))
        unit = content_hash(one.prompt.key, first, second, one.criterion)
        winner = one.chosen
        value = one.verdict if winner is None else "first" if winner.text == first else "second"
        out.append((unit, one.annotator, value))
    return out


@dataclass(frozen=True)
class AnnotatorAgreement:
    """One annotator against the others.

    Attributes:
        labels: judgements that count; ``shared`` of them are of units that somebody else judged too.
        kappa: chance-corrected agreement with the others' labels of the same units, interval over units.
        left: share of decided judgements for the answer shown on the left (Wilson's interval).
        reading: ``agrees`` where the interval of kappa lies above 0, ``against the others`` where it lies
            below, else ``cannot be told from chance``.
    """

    annotator: str
    labels: int
    shared: int
    kappa: Interval
    left: Interval | None
    reading: Literal["agrees", "against the others", "cannot be told from chance"]


@dataclass(frozen=True)
class Agreement:
    """How far people agree on the same comparisons.

    Attributes:
        units: comparisons judged; ``shared`` of them by two people or more.
        same: share of pairs of labels on one unit that are equal.
        kappa: mean of Cohen's kappa over pairs of annotators, weighted by the units that both judged; NaN
            where no two annotators share a unit.
        alpha: Krippendorff's, nominal.
        annotators: each against the others, the least agreeing first.
    """

    units: int
    shared: int
    same: Interval
    kappa: float
    alpha: Interval
    annotators: tuple[AnnotatorAgreement, ...]


def agreement(comparisons: Sequence[Comparison], *, samples: int = 1000, seed: int = 0) -> Agreement:
    """Agreement of the people who made these judgements; intervals (95%) over units.

    Raises:
        BadInput: no judgement with a named annotator.
    """
    labels = comparison_labels(comparisons)
    if not labels:
        raise BadInput("no judgement names its annotator: agreement is between people, so name them")
    count_UC, values = value_counts(labels, "nominal")
    shared_UC = count_UC[count_UC.sum(axis=1) >= 2]
    size_U1 = shared_UC.sum(axis=1, keepdims=True)
    equal_U1 = (shared_UC * (shared_UC - 1)).sum(axis=1, keepdims=True)
    pairs_U1 = size_U1 * (size_U1 - 1)
    return Agreement(
        units=len(count_UC),
        shared=len(shared_UC),
        same=_over_units(np.hstack([equal_U1, pairs_U1]), _ratio, samples, seed),
        kappa=_mean_kappa(labels),
        alpha=_over_units(
            np.hstack([(pairs_U1 - equal_U1) / (size_U1 - 1), shared_UC]), _alpha_of_sums, samples, seed
        ),
        annotators=_each_annotator(labels, comparisons, values, samples, seed),
    )


def _over_units(
    row_UD: FloatArray, statistic: Callable[[FloatArray], FloatArray], samples: int, seed: int
) -> Interval:
    """A statistic of column sums, with an interval over units (resampled as counts: see `statistics`)."""
    if not len(row_UD):
        return Interval(*[float("nan")] * 3)
    figure = float(statistic(row_UD.sum(axis=0, keepdims=True))[0])
    draws_S = statistic(cluster_sum_draws(row_UD, samples, stream(seed, "agreement")))
    known_S = draws_S[np.isfinite(draws_S)]  # a draw with one value only has no agreement beyond chance
    if not np.isfinite(figure) or not len(known_S):
        return Interval(figure, float("nan"), float("nan"))
    low, high = percentiles(known_S, len(row_UD), 0.95)
    return Interval(figure, float(low), float(high))


def _ratio(sum_SD: FloatArray) -> FloatArray:
    return np.asarray(sum_SD[:, 0] / sum_SD[:, 1])


def _alpha_of_sums(sum_SD: FloatArray) -> FloatArray:
    """Nominal alpha from [disagreement, how often each value]; the latter only of units with two labels."""
    total_S = sum_SD[:, 1:].sum(axis=1)
    expected_S = (total_S**2 - (sum_SD[:, 1:] ** 2).sum(axis=1)) / (total_S - 1)
    return 1 - _divide(sum_SD[:, 0], expected_S)


def _divide(above_S: FloatArray, below_S: FloatArray) -> FloatArray:
    nothing: FloatArray = np.full_like(below_S, np.nan)
    return np.asarray(np.divide(above_S, below_S, out=nothing, where=below_S > 1e-12))


def _by_annotator(labels: Iterable[Label]) -> dict[Any, dict[Any, Any]]:
    said: dict[Any, dict[Any, Any]] = {}
    for unit, annotator, value in labels:
        said.setdefault(annotator, {})[unit] = value
    return said


def _mean_kappa(labels: Iterable[Label]) -> float:
    said = _by_annotator(labels)
    total = weight = 0.0
    for one, two in combinations(said.values(), 2):
        both = [unit for unit in one if unit in two]
        if both:
            kappa = cohens_kappa([one[unit] for unit in both], [two[unit] for unit in both])
            if np.isfinite(kappa):
                total, weight = total + kappa * len(both), weight + len(both)
    return total / weight if weight else float("nan")


def _each_annotator(
    labels: list[Label], comparisons: Sequence[Comparison], values: list[Any], samples: int, seed: int
) -> tuple[AnnotatorAgreement, ...]:
    said = _by_annotator(labels)
    index = {value: i for i, value in enumerate(values)}
    total: dict[Any, npt.NDArray[np.float64]] = {}
    for votes in said.values():
        for unit, value in votes.items():
            total.setdefault(unit, np.zeros(len(values)))[index[value]] += 1
    left: dict[str, list[bool]] = {}
    for one in comparisons:
        if one.annotator and one.verdict in ("a", "b"):
            left.setdefault(one.annotator, []).append(one.verdict == one.pair.shown_left)
    out = []
    for annotator, votes in said.items():
        own_UC = np.eye(len(values))[[index[value] for value in votes.values()]]
        others_UC = np.stack([total[unit] for unit in votes]) - own_UC
        shared = others_UC.sum(axis=1) > 0
        kappa = _over_units(_meetings(own_UC[shared], others_UC[shared]), _kappa_of_sums, samples, seed)
        clicks = left.get(str(annotator), [])
        out.append(
            AnnotatorAgreement(
                annotator=str(annotator),
                labels=len(votes),
                shared=int(shared.sum()),
                kappa=kappa,
                left=wilson(sum(clicks), len(clicks)) if clicks else None,
                reading="agrees"
                if kappa.low > 0
                else "against the others"
                if kappa.high < 0
                else "cannot be told from chance",
            )
        )
    return tuple(sorted(out, key=lambda one: (np.nan_to_num(one.kappa.figure, nan=2.0), one.annotator)))


def _meetings(own_UC: FloatArray, others_UC: FloatArray) -> FloatArray:
    """[equal, own value as often as somebody met it, others' values] of one annotator's shared units."""
    met_U1 = others_UC.sum(axis=1, keepdims=True)
    return np.hstack([(own_UC * others_UC).sum(axis=1, keepdims=True), own_UC * met_U1, others_UC])


def _kappa_of_sums(sum_SD: FloatArray) -> FloatArray:
    """Kappa over every (own label, other's label of the same unit)."""
    own_SC, others_SC = np.split(sum_SD[:, 1:], 2, axis=1)
    met_S = others_SC.sum(axis=1)
    observed_S, expected_S = sum_SD[:, 0] / met_S, (own_SC * others_SC).sum(axis=1) / met_S**2
    return _divide(observed_S - expected_S, 1 - expected_S)
