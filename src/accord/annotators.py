"""Annotators differ: how sharply each of them sees a difference, and how much they lean to one side.

The model of one label, with d the difference of the two answers' true scores:

    P(a wins) = σ(β_j · d + side_j · left),     left = +1 where a was shown on the left, -1 where b was

β_j is annotator j's inverse temperature: 0 is a random clicker, below 0 somebody who answers the opposite.
side_j is in log-odds. A tie is half a win for either.

**What pins it down.** Only products of β and d show in the data, so d is given the unit: over pairs, d is
normal with mean 0 and standard deviation 1, and β is in logits for a pair of typical difference. The sign is
that of the majority: β has the prior N(1, 2²), and side N(0, 1). With one label a pair nothing tells a sharp
annotator from a dull one; then only scores from elsewhere help (`fit_annotators_given_scores`).

**Why d is integrated out.** With few labels a pair the joint maximum over scores and annotators is wrong, and
sure of itself: every pair's d moves to where its few labels want it, and every β grows (Neyman and Scott
1948; figures in docs/decisions/030). So β and side maximise the *marginal* posterior, by L-BFGS with analytic
gradients; standard errors are from its Hessian (Louis 1982). Scores of the answers come after that, with the
annotators held fixed (`annotators_scores`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import optimize, special

from accord.annotators_labels import FloatArray, IntArray, Labels, labels_of
from accord.annotators_posterior import PRIOR_MEAN, Marginal, logistic
from accord.records import BadInput, Comparison

NODES = 49  # of the rule that integrates d out: a step of a quarter of a standard deviation
Z95 = float(special.ndtri(0.975))
Reading = Literal["agrees", "against the others", "cannot be told from chance"]


class LabelTerms(NamedTuple):
    """What a reward model needs of each label: P(the chosen one wins) = σ(scale · (r_c - r_r) + offset).

    ``scale_N`` has mean 1 over the labels of the fit; ``weight_N`` is max(scale, 0), for losses that take a
    weight only (the gradient of log σ(β d) at d = 0 is proportional to β).
    """

    scale_N: FloatArray
    offset_N: FloatArray

    @property
    def weight_N(self) -> FloatArray:
        return np.maximum(self.scale_N, 0.0)


@dataclass(frozen=True)
class Annotators:
    """The fitted annotators.

    Attributes:
        names: in the order of the axis J.
        labels_J: labels of each.
        inverse_temperature_J, error_J: β and its standard error, logits per standard deviation of d.
        side_J, side_error_J: log-odds towards the left answer. 0 with an infinite error where the sides are
            not known.
        log_likelihood: of all labels, marginal over d (given d, where scores were given), nats.
    """

    names: tuple[str, ...]
    labels_J: IntArray
    inverse_temperature_J: FloatArray
    error_J: FloatArray
    side_J: FloatArray
    side_error_J: FloatArray
    log_likelihood: float

    def interval(self, annotator: str) -> tuple[float, float]:
        """95% interval of an annotator's inverse temperature."""
        j = self.names.index(annotator)
        beta, error = float(self.inverse_temperature_J[j]), float(self.error_J[j])
        return beta - Z95 * error, beta + Z95 * error

    def side_interval(self, annotator: str) -> tuple[float, float]:
        """95% interval of an annotator's side bias; one that excludes 0 is a bias."""
        j = self.names.index(annotator)
        side, error = float(self.side_J[j]), float(self.side_error_J[j])
        return side - Z95 * error, side + Z95 * error

    def reading(self, annotator: str) -> Reading:
        """By the interval of the inverse temperature: above 0, below 0, or 0 is in it."""
        low, high = self.interval(annotator)
        return "agrees" if low > 0 else "against the others" if high < 0 else "cannot be told from chance"

    @property
    def relative_J(self) -> FloatArray:
        """Inverse temperatures over their mean, each weighted by its labels.

        Raises:
            BadInput: the mean is not above 0: there is no majority that could give the scores a direction.
        """
        mean = float(self.labels_J @ self.inverse_temperature_J / self.labels_J.sum())
        if not mean > 0:
            raise BadInput(
                f"the annotators' mean inverse temperature is {mean:.3g}: together they agree with nothing, "
                "so their labels cannot be weighted; look at each of them first"
            )
        return self.inverse_temperature_J / mean

    def terms(self, comparisons: Sequence[Comparison]) -> LabelTerms:
        """Scale and offset of each comparison that names a winner, seen from the winner.

        Somebody who was not in the fit (or has no name) is taken as average and fair.

        Raises:
            BadInput: a comparison without a winner.
        """
        place = {name: j for j, name in enumerate(self.names)}
        relative_J = self.relative_J
        scale_N, offset_N = np.ones(len(comparisons)), np.zeros(len(comparisons))
        for n, one in enumerate(comparisons):
            if one.verdict not in ("a", "b"):
                raise BadInput(f"comparison {n + 1} is {one.verdict}: terms are of comparisons with a winner")
            j = place.get(one.annotator)
            if j is not None:
                scale_N[n] = relative_J[j]
                offset_N[n] = self.side_J[j] * (1.0 if one.verdict == one.pair.shown_left else -1.0)
        return LabelTerms(scale_N, offset_N)


def fit_annotators(comparisons: Sequence[Comparison]) -> Annotators:
    """Inverse temperatures and side biases of the people who made these judgements, each pair's d unknown.

    Raises:
        BadInput: no usable label, see `labels_of`.
    """
    return fit_labels(labels_of(comparisons))


def fit_labels(labels: Labels, nodes: int = NODES) -> Annotators:
    """As `fit_annotators`, from arrays."""
    marginal = Marginal(labels, nodes)
    start = np.concatenate([np.full(marginal.J, PRIOR_MEAN), np.zeros(marginal.J)])
    found = optimize.minimize(
        marginal.loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-7},
    )
    return _annotators(labels, found.x, marginal.information(found.x), marginal.log_likelihood(found.x))


def _annotators(labels: Labels, x: FloatArray, information: FloatArray, log_likelihood: float) -> Annotators:
    J = len(labels.names)
    error = np.sqrt(np.diag(np.linalg.inv(information)))
    seen_J = np.bincount(labels.annotator_N, weights=np.abs(labels.left_N), minlength=J) > 0
    return Annotators(
        labels.names,
        np.bincount(labels.annotator_N, minlength=J),
        x[:J],
        error[:J],
        np.where(seen_J, x[J:], 0.0),
        np.where(seen_J, error[J:], np.inf),
        log_likelihood,
    )


def fit_annotators_given_scores(
    difference_N: Any, verdict_N: Any, annotator_N: Sequence[str], left_N: Any
) -> Annotators:
    """Annotators where scores are given, for example a reward model's: one small logistic regression each.

    Args:
        difference_N: score of a minus score of b, in any unit; it is divided by its root mean square, so
            that β is in the same unit as from `fit_annotators`.
        verdict_N: 1 where a won, 0 where b won, ½ for a tie.
        annotator_N: who judged.
        left_N: +1 where a was shown on the left, -1 where b was, 0 where it is not known.

    Raises:
        BadInput: arrays of different lengths, values outside their range, differences that are all 0.
    """
    difference = np.asarray(difference_N, dtype=np.float64)
    verdict, left = np.asarray(verdict_N, dtype=np.float64), np.asarray(left_N, dtype=np.float64)
    if not len(difference) == len(verdict) == len(annotator_N) == len(left) or not len(difference):
        raise BadInput(
            f"there are {len(difference)} differences, {len(verdict)} verdicts, {len(annotator_N)} "
            f"annotators and {len(left)} sides: give one of each for every label, and at least one label"
        )
    if not np.isfinite(difference).all():
        raise BadInput("a difference of scores is NaN or infinite: leave such labels out")
    if not np.isin(verdict, (0, 0.5, 1)).all() or not np.isin(left, (-1, 0, 1)).all():
        raise BadInput("verdicts must be 0, 1 or one half, and sides -1, 0 or 1")
    unit = float(np.sqrt((difference**2).mean()))
    if unit == 0:
        raise BadInput("all differences of scores are 0: scores that never differ say nothing of annotators")
    place = {name: j for j, name in enumerate(dict.fromkeys(annotator_N))}
    who_N = np.array([place[name] for name in annotator_N], dtype=np.intp)
    labels = Labels(np.arange(len(who_N)), who_N, verdict, left, tuple(place))
    J = len(place)
    parameters, information, likelihood = np.zeros(2 * J), np.zeros((2 * J, 2 * J)), 0.0
    for j in range(J):
        mine = who_N == j
        design_N2 = np.stack([difference[mine] / unit, left[mine]], axis=1)
        own = [j, J + j]
        found, curvature, log_likelihood = logistic(design_N2, verdict[mine])
        parameters[own], information[np.ix_(own, own)] = found, curvature
        likelihood += log_likelihood
    return _annotators(labels, parameters, information, likelihood)
