"""Does a fitted over-optimisation curve say anything about pressure that has not been applied yet?

A fit is judged by what it has not seen: it is made from the first part of the distances and compared on the
rest with the two answers that need no theory, "it stays where it is" and "it goes on in a straight line".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.diagnostics.overoptimisation import MINIMUM_POINTS, MONOTONE, PEAKED, Form, curve, fit_form
from accord.diagnostics.statistics import FloatArray, finite
from accord.records import BadInput


@dataclass(frozen=True, slots=True)
class Forecast:
    """Root mean squared errors on the unseen points, in units of gold.

    ``form`` is the one of Gao et al.'s two with the lower AICc on the seen points; ``constant`` repeats the
    last seen value; ``line`` is the least-squares line through the seen points.
    """

    form: Form
    seen: int
    predicted_P: FloatArray
    form_error: float
    constant_error: float
    line_error: float
    monotone_is_enough: bool


def forecast(distance_P: Any, gold_P: Any, seen_share: float = 0.6) -> Forecast:
    """Fits on distances up to ``seen_share`` of the largest, and the errors on the rest.

    Args:
        distance_P: √KL in √nats, rising.
        gold_P: mean gold at each.

    Raises:
        BadInput: fewer than 6 seen points or no unseen one.
    """
    distance, gold = finite(distance_P, "distances"), finite(gold_P, "gold")
    seen = int((distance <= seen_share * distance.max() + 1e-12).sum())
    if seen < MINIMUM_POINTS or seen == len(distance):
        raise BadInput(
            f"{seen} of {len(distance)} points lie in the first {seen_share:.0%} of the distances: a forecast"
            f" needs {MINIMUM_POINTS} to fit and 1 to predict"
        )
    fits = {form: fit_form(distance[:seen], gold[:seen], form) for form in PEAKED + MONOTONE}
    score = {form: math.inf if fit.aicc is None else fit.aicc for form, fit in fits.items()}
    form = min(PEAKED, key=lambda one: score[one])
    predicted_P = curve(fits[form], distance)

    def error(guess: Any) -> float:
        return float(np.sqrt(np.mean((gold[seen:] - guess) ** 2)))

    return Forecast(
        form=form,
        seen=seen,
        predicted_P=predicted_P,
        form_error=error(predicted_P[seen:]),
        constant_error=error(gold[seen - 1]),
        line_error=error(curve(fits["line"], distance[seen:])),
        monotone_is_enough=min(score[one] for one in MONOTONE) <= score[form],
    )
