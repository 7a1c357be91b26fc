"""Annotators who differ, as a reward model's training sees them: soft labels, or terms of each label's loss.

The model of one label is that of `annotators`: P(a wins) = σ(β_j · (r_a − r_b) + side_j · left). With the
annotators known, each label trains the reward model through it (`label_terms`), or the labels of a pair
become one soft label (`soft_labels`). Annotators are fitted to the labels alone, before training
(`fit_before`), or to the reward model's own scores in turns with it (`fit_to_scores`): then one label a pair
is enough, since the texts tell what a pair's other labels would have told. No torch here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from accord.annotators import NODES, Annotators, fit_annotators, fit_annotators_given_scores
from accord.annotators_labels import FloatArray
from accord.annotators_posterior import REACH
from accord.records import BadInput, Comparison

WON = {"a": 1.0, "b": 0.0, "tie": 0.5}


class Terms(NamedTuple):
    """P(a wins) = σ(scale · (r_a − r_b) + offset) for each label; the scale's mean over the fit is 1."""

    scale_N: FloatArray
    offset_N: FloatArray


class SoftLabel(NamedTuple):
    """One pair: its labels' rows, and the probability that an average, fair annotator prefers the first
    row's a.
    """

    rows: tuple[int, ...]
    a_better: float


def fit_before(comparisons: Sequence[Comparison]) -> Annotators:
    """From the labels alone.

    Raises:
        BadInput: fewer than two annotators, or no pair that two of them judged.
    """
    names = {row.annotator for row in comparisons if row.annotator and row.verdict in WON}
    if len(names) < 2:
        who = f"one annotator ({next(iter(names))!r})" if names else "no annotator by name"
        raise BadInput(
            f"the labels have {who}, but annotators can be compared from two up: set reward.annotators to"
            " none"
        )
    judges: dict[tuple[str, frozenset[str], str], set[str]] = defaultdict(set)
    for row in comparisons:
        if row.annotator and row.verdict in WON:
            sides = frozenset((row.pair.a.text, row.pair.b.text))
            judges[row.prompt.key, sides, row.criterion].add(row.annotator)
    if all(len(found) < 2 for found in judges.values()):
        raise BadInput(
            f"none of {len(judges)} pairs was judged by two of the {len(names)} annotators, so their labels"
            " alone cannot tell them apart: set reward.annotators to joint or none"
        )
    return fit_annotators(comparisons)


def fit_to_scores(comparisons: Sequence[Comparison], difference_N: Any) -> Annotators:
    """From a reward model's score differences, r_a − r_b of each label; labels without a name are left out.

    Where an annotator saw the same side left every time, the sides are taken as unknown, as in
    `annotators_labels.labels_of`.

    Raises:
        BadInput: no usable label, differences that are not finite or all 0.
    """
    difference = np.asarray(difference_N, dtype=np.float64)
    used = [n for n, row in enumerate(comparisons) if row.annotator and row.verdict in WON]
    if not used:
        raise BadInput("no label names its annotator and a winner or a tie: there is nobody to compare")
    sides: dict[str, set[str]] = defaultdict(set)
    for n in used:
        sides[comparisons[n].annotator].add(comparisons[n].pair.shown_left)
    rows = [comparisons[n] for n in used]
    left = [0.0 if len(sides[row.annotator]) < 2 else _left(row) for row in rows]
    won = [WON[row.verdict] for row in rows]
    return fit_annotators_given_scores(difference[used], won, [row.annotator for row in rows], left)


def _left(row: Comparison) -> float:
    return 1.0 if row.pair.shown_left == "a" else -1.0


def label_terms(comparisons: Sequence[Comparison], annotators: Annotators) -> Terms:
    """Scale and offset of each label; somebody who is not in the fit is taken as average and fair.

    Raises:
        BadInput: the annotators' mean inverse temperature is not above 0.
    """
    place = {name: j for j, name in enumerate(annotators.names)}
    relative_J = annotators.relative_J
    scale_N, offset_N = np.ones(len(comparisons)), np.zeros(len(comparisons))
    for n, row in enumerate(comparisons):
        j = place.get(row.annotator)
        if j is not None:
            scale_N[n] = relative_J[j]
            offset_N[n] = annotators.side_J[j] * _left(row)
    return Terms(scale_N, offset_N)


def soft_labels(comparisons: Sequence[Comparison], annotators: Annotators) -> list[SoftLabel]:
    """One soft label for each pair, in the order of the pairs' first labels; skips are left out.

    The difference d of the pair has the prior N(0, 1) of `annotators` and the likelihood of its labels; the
    soft label is the mean of σ(β̄ · d) over that posterior, β̄ the mean inverse temperature over the labels. A
    random clicker moves it nowhere, an inverted one the other way.

    Raises:
        BadInput: the annotators' mean inverse temperature is not above 0.
    """
    mean = float(annotators.labels_J @ annotators.inverse_temperature_J / annotators.labels_J.sum())
    terms = label_terms(comparisons, annotators)  # refuses a mean that is not above 0
    node_Q: FloatArray = np.linspace(-REACH, REACH, NODES)
    pairs: dict[tuple[str, frozenset[str], str], list[int]] = defaultdict(list)
    for n, row in enumerate(comparisons):
        if row.verdict in WON:
            sides = frozenset((row.pair.a.text, row.pair.b.text))
            pairs[row.prompt.key, sides, row.criterion].append(n)
    found = []
    for rows in pairs.values():
        first = comparisons[rows[0]].pair.a.text
        log_Q = -0.5 * node_Q**2
        for n in rows:
            row = comparisons[n]
            turn = 1.0 if row.pair.a.text == first else -1.0
            logit_Q = mean * terms.scale_N[n] * turn * node_Q + terms.offset_N[n]
            log_Q = log_Q + WON[row.verdict] * logit_Q - np.logaddexp(0, logit_Q)
        weight_Q = np.exp(log_Q - special.logsumexp(log_Q))
        found.append(SoftLabel(tuple(rows), float(weight_Q @ special.expit(mean * node_Q))))
    return found


def described(annotators: Annotators) -> dict[str, Any]:
    """For the card and the report: each annotator with intervals and a reading, and sentences on the ones to
    look at.
    """
    rows, warnings = [], []
    for j, name in enumerate(annotators.names):
        reading = annotators.reading(name)
        known = bool(np.isfinite(annotators.side_error_J[j]))
        side = annotators.side_interval(name) if known else None
        rows.append(
            {
                "name": name,
                "labels": int(annotators.labels_J[j]),
                "inverse_temperature": float(annotators.inverse_temperature_J[j]),
                "interval": annotators.interval(name),
                "side": float(annotators.side_J[j]) if known else None,
                "side_interval": side,
                "reading": reading,
            }
        )
        low, high = annotators.interval(name)
        shown = f"(inverse temperature {low:.2f} to {high:.2f}, {annotators.labels_J[j]} labels)"
        if reading == "against the others":
            warnings.append(f"{name} answers against the others {shown}: ask what was understood.")
        elif reading == "cannot be told from chance":
            warnings.append(f"{name} cannot be told from a random clicker {shown}.")
        if side is not None and not side[0] <= 0 <= side[1]:
            towards = "left" if side[0] > 0 else "right"
            ends = f"95% interval {side[0]:+.2f} to {side[1]:+.2f} log-odds"
            warnings.append(f"{name} leans to the {towards} answer ({ends}).")
    return {"annotators": rows, "warnings": warnings}
