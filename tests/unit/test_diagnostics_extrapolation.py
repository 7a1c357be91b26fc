"""Forecasts of over-optimisation curves: exact ones are foretold, the simple guesses by hand."""

from __future__ import annotations

import numpy as np
import pytest

from accord.diagnostics.extrapolation import forecast
from accord.diagnostics.overoptimisation import curve, fit_form
from accord.records import BadInput

DISTANCE = np.linspace(0.0, 2.0, 11)


def test_a_noiseless_parabola_is_foretold() -> None:
    gold = DISTANCE * (1.0 - 0.4 * DISTANCE)
    found = forecast(DISTANCE, gold)
    assert (found.form, found.seen) == ("best_of_n", 7)  # 0, .2, …, 1.2
    assert found.form_error == pytest.approx(0, abs=1e-9)
    assert found.predicted_P == pytest.approx(gold, abs=1e-9)
    # The last seen value is 1.2·.52 = .624; the rest are 1.4·.44, 1.6·.36, 1.8·.28, 2·.2.
    rest = np.array([0.616, 0.576, 0.504, 0.4])
    assert found.constant_error == pytest.approx(np.sqrt(np.mean((rest - 0.624) ** 2)))
    line = np.polynomial.Polynomial.fit(DISTANCE[:7], gold[:7], 1)(DISTANCE[7:])
    assert found.line_error == pytest.approx(np.sqrt(np.mean((rest - line) ** 2)))
    assert not found.monotone_is_enough


def test_the_other_form_is_told_apart() -> None:
    gold = np.array([0.0, *(DISTANCE[1:] * (0.5 - 0.6 * np.log(DISTANCE[1:])))])
    found = forecast(DISTANCE, gold)
    assert found.form == "rl"
    assert found.form_error == pytest.approx(0, abs=1e-9)


def test_a_straight_line_needs_no_peak() -> None:
    assert forecast(DISTANCE, 0.3 * DISTANCE + 0.001 * (-1) ** np.arange(11)).monotone_is_enough


@pytest.mark.parametrize(("points", "message"), [(9, "5 of 9"), (3, "2 of 3")])
def test_too_few_points_are_refused(points: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        forecast(np.linspace(0, 2, points), np.zeros(points))
    with pytest.raises(BadInput, match="11 of 11"):
        forecast(DISTANCE, DISTANCE, seen_share=1.0)


@pytest.mark.parametrize("form", ["best_of_n", "rl", "line", "saturating"])
def test_a_curve_is_what_its_fit_went_through(form) -> None:  # type: ignore[no-untyped-def]
    d = DISTANCE
    with np.errstate(divide="ignore", invalid="ignore"):
        gold = {
            "best_of_n": 0.1 + d * (1 - 0.4 * d),
            "rl": 0.1 + np.where(d > 0, d * (1 - 0.4 * np.log(np.maximum(d, 1e-300))), 0),
            "line": 0.1 + 0.4 * d,
            "saturating": 0.1 + 0.7 * (1 - np.exp(-d / 0.8)),
        }[form]
    found = curve(fit_form(d, gold, form), d)
    assert found == pytest.approx(gold, abs=0.01 if form == "saturating" else 1e-9)
