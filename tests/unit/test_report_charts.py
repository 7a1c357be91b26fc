"""The report's parts: charts carry their figures, numbers read well; figures by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from accord.report.artefacts import clean, interval, number
from accord.report.charts import Frame, Series, bounds, line_chart, show, ticks
from accord.report.distributions import Bar, histogram, interval_chart, reliability, share_bar
from accord.report.health import health, thinned
from accord.report.lineage import date, duration
from accord.report.panels import length_edges


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.7312, "0.731"), (-0.5, "−0.5"), (12.345, "12.3"), (99.96, "100"), (1234.5, "1,234"),
        (2.0, "2"), (100.0, "100"), (0.00001234, "1.23e−05"), (5e8, "5.00e+08"), (None, "–"), (math.nan, "–"),
        (30.0, "30"), (0.001, "0.001"),
    ],
)  # fmt: skip
def test_numbers_for_people(value: float | None, text: str) -> None:
    assert show(value) == text


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1, 4) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert ticks(-0.13, 3.3, 5) == pytest.approx([0, 1, 2, 3])
    assert ticks(2, 2) == [2]
    assert ticks(0.45, 0.72, 1) == pytest.approx([0.5, 0.6, 0.7])  # 0.5 alone would tell no scale


def test_bounds_ignore_what_is_not_finite() -> None:
    assert bounds([None, math.nan, 1.0, 3.0], pad=0.5) == (0.0, 4.0)
    assert bounds([]) == bounds([0.0, 0.0]) == (0.0, 1.0)
    assert bounds([2.0], pad=0.1) == pytest.approx((1.8, 2.2))


def test_pixels_by_hand() -> None:
    # 100 x 100 with margins 10, 10, 20, 20: x 0..1 is pixels 10..90, y 0..1 is pixels 80..20
    frame = Frame((100, 100), (0, 1), (0, 1), left=10, right=10, top=20, bottom=20)
    assert (frame.x(0.25), frame.y(0.25)) == (30, 65)


def test_a_missing_value_is_a_gap() -> None:
    chart = line_chart("t", "step", "y", [Series("s", [0, 1, 2, 3, 4], [1, 2, None, 3, 4], marker="none")])
    assert chart.svg.count('class="policy stroke"') == 2
    assert chart.rows[2] == ("s", "2", "–", "–")


def test_intervals_become_whiskers_or_a_band() -> None:
    points = Series("s", [0, 1], [1, 2], [0, 1], [2, 3])
    assert line_chart("t", "x", "y", [points]).svg.count("whisker") == 2
    band = Series("s", [0, 1], [1, 2], [0, 1], [2, 3], band=True)
    chart = line_chart("t", "x", "y", [band])
    assert chart.svg.count('class="policy band"') == 1
    assert chart.rows[1] == ("s", "1", "2", "1 to 3")


def test_histogram_shares_sum_to_one_hundred() -> None:
    chart = histogram("t", "x", [0, 1, 2], {"a": [1, 3], "b": [0, 0]})
    assert chart.rows == (("0 to 1", "25%", "0%"), ("1 to 2", "75%", "0%"))


def test_other_charts_carry_their_figures() -> None:
    assert reliability("t", [0.6, 0.9], [0.5, 1.0], [10, 20]).rows == (
        ("0.6", "0.5", "10"),
        ("0.9", "1", "20"),
    )
    bars = [Bar("a & b", 0.7, 0.6, 0.8), Bar("c", 0.5)]
    chart = interval_chart("t", "%", bars, x_range=(0, 1), scale=100)
    assert chart.rows == (("a & b", "70", "60 to 80"), ("c", "50", "–"))
    assert "a &amp; b" in chart.svg
    shares = share_bar("t", {"won": (3, "policy"), "lost": (1, "reference")})
    assert shares.rows == (("won", "75%", "3"), ("lost", "25%", "1"))


def test_thinning_keeps_means_and_extremes() -> None:
    # four values in two buckets: means 1.5 and 3.5, extremes 1..2 and 3..4
    assert thinned([0, 1, 2, 3], [1, 2, 3, 4], points=2) == ([0.5, 2.5], [1.5, 3.5], [1, 3], [2, 4])
    assert thinned([0, 1], [5, None]) == ([0, 1], [5, None], [], [])


def test_a_step_written_twice_counts_once() -> None:
    rows: list[Mapping[str, Any]] = [
        {"stage": "sft", "step": s, "loss": v} for s, v in [(0, 3.0), (1, 9.0), (1, 2.0)]
    ]
    (only,) = health(rows)
    assert [row[2] for row in only.charts[0].rows] == ["3", "2"]


def test_reading_values() -> None:
    assert [number(v) for v in (1, True, "1", None, math.inf, 10**400)] == [1.0, None, None, None, None, None]
    assert interval([1, 2]) == (1.0, 2.0)
    assert interval([1, None]) is None
    assert clean("a\x00b\ud800c\n") == "a\ufffdb?c\n"
    assert length_edges([0, 15, 31]) == [float(2 * i) for i in range(17)]


def test_times() -> None:
    assert [duration(s) for s in (0.42, 59.0, 61.0, 9000.0, None)] == [
        "0.42 s",
        "59 s",
        "1 min 1 s",
        "2 h 30 min",
        "–",
    ]
    assert date(0) == "1970-01-01 00:00 UTC"
    assert date("2026-03-04T05:06:07+00:00") == "2026-03-04 05:06 UTC"
    assert date("someday") == "someday"
