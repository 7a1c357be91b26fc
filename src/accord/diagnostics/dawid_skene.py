"""What is true, if annotators err each in their own way: Dawid and Skene's model, by maximum likelihood.

Dawid and Skene 1979, *Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm*. A unit
has a true class c with probability prior_C[c]; annotator j then says k with probability
confusion_JCC[j, c, k], independently of the others. There is no prior on the confusions, as in the paper:
with few labels an annotator's confusion is what those few say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.diagnostics.kappa_alpha import Label
from accord.diagnostics.statistics import FloatArray
from accord.records import BadInput

FLOOR = 1e-10  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class DawidSkene:
    """The fitted model.

    Attributes:
        units, annotators, classes: names, in the order of the arrays' axes U, J and C.
        posterior_UC: probability of each class for each unit.
        prior_C: share of each class.
        confusion_JCC: [annotator, true class, said class], rows of a true class add to 1.
        accuracy_J: probability that an annotator says the true class, over the prior.
        log_likelihood: of all labels, nats.
        iterations: of EM; ``converged`` says whether the tolerance was reached.
    """

    units: tuple[Hashable, ...]
    annotators: tuple[Hashable, ...]
    classes: tuple[Any, ...]
    posterior_UC: FloatArray
    prior_C: FloatArray
    confusion_JCC: FloatArray
    accuracy_J: FloatArray
    log_likelihood: float
    iterations: int
    converged: bool

    def truth(self) -> dict[Hashable, Any]:
        """The most probable class of each unit."""
        return {
            unit: self.classes[int(best)]
            for unit, best in zip(self.units, self.posterior_UC.argmax(axis=1), strict=True)
        }


def dawid_skene(
    labels: Iterable[Label], *, tolerance: float = 1e-9, max_iterations: int = 2000
) -> DawidSkene:
    """Fit by EM from the majority vote, which also decides which of the mirror-image solutions is found.

    Args:
        labels: (unit, annotator, value); of two labels of one annotator on one unit the last counts.
        tolerance: EM stops when no posterior moves by more than this.
        max_iterations: at most so many steps; `DawidSkene.converged` then says no.

    Raises:
        BadInput: no label at all.
    """
    last = {(unit, annotator): value for unit, annotator, value in labels}
    if not last:
        raise BadInput("there is no label: Dawid and Skene's model needs at least 1")
    units = {unit: i for i, unit in enumerate(dict.fromkeys(unit for unit, _ in last))}
    annotators = {who: i for i, who in enumerate(dict.fromkeys(who for _, who in last))}
    classes = {value: i for i, value in enumerate(dict.fromkeys(last.values()))}
    unit_L = np.array([units[unit] for unit, _ in last])
    annotator_L = np.array([annotators[who] for _, who in last])
    value_L = np.array([classes[value] for value in last.values()])

    posterior_UC = np.zeros((len(units), len(classes)))
    np.add.at(posterior_UC, (unit_L, value_L), 1.0)
    posterior_UC /= posterior_UC.sum(axis=1, keepdims=True)
    converged, iteration = False, 0
    while True:
        prior_C = posterior_UC.mean(axis=0)
        said_JKC = np.zeros((len(annotators), len(classes), len(classes)))  # said, true
        np.add.at(said_JKC, (annotator_L, value_L), posterior_UC[unit_L])
        seen_JC = said_JKC.sum(axis=1)
        # A class that an annotator never met: nothing is known, and nothing will be asked of the row.
        confusion_JKC = np.divide(
            said_JKC,
            seen_JC[:, None, :],
            out=np.full_like(said_JKC, 1 / len(classes)),
            where=seen_JC[:, None, :] > 0,
        )
        log_UC = np.tile(np.log(np.maximum(prior_C, FLOOR)), (len(units), 1))
        np.add.at(log_UC, unit_L, np.log(np.maximum(confusion_JKC, FLOOR))[annotator_L, value_L])
        peak_U1 = log_UC.max(axis=1, keepdims=True)
        weight_UC = np.exp(log_UC - peak_U1)
        total_U1 = weight_UC.sum(axis=1, keepdims=True)
        log_likelihood = float((peak_U1 + np.log(total_U1)).sum())
        if converged or iteration >= max_iterations:
            break
        iteration += 1
        new_UC = weight_UC / total_U1
        converged = bool(np.abs(new_UC - posterior_UC).max() < tolerance)
        posterior_UC = new_UC
    confusion_JCC = np.ascontiguousarray(confusion_JKC.transpose(0, 2, 1))
    return DawidSkene(
        tuple(units),
        tuple(annotators),
        tuple(classes),
        posterior_UC,
        prior_C,
        confusion_JCC,
        np.einsum("c,jcc->j", prior_C, confusion_JCC),
        log_likelihood,
        iteration,
        converged,
    )
