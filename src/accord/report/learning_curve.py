"""The learning curve as a drawing: accuracy against the number of training pairs, with the fitted law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.report.charts import Chart, Series, line_chart


def learning_curve_chart(evidence: Mapping[str, Any], floor: float | None = None) -> Chart:
    """``evidence`` of `diagnostics.learning_curve`; ``floor`` draws a floor's accuracy as a level.

    Points are means over runs, their bars the lowest and the highest run; the band is the law's 95% interval.
    """
    sizes, curve = evidence["sizes"], evidence["curve"]
    runs = Series(
        "mean of the runs (bars: lowest, highest)",
        [row["pairs"] for row in sizes],
        [100 * row["accuracy"] for row in sizes],
        [100 * row["lowest"] for row in sizes],
        [100 * row["highest"] for row in sizes],
        style="proxy",
    )
    law = Series(
        "fitted law",
        [row["pairs"] for row in curve],
        [100 * row["accuracy"] for row in curve],
        [100 * row["low"] for row in curve],
        [100 * row["high"] for row in curve],
        style="gold",
        marker="none",
        dashed=True,
        band=True,
    )
    return line_chart(
        "Accuracy against training pairs",
        "training pairs",
        "accuracy (%)",
        [law, runs],
        level=None if floor is None else 100 * floor,
        description="Accuracy on held-out pairs against the number of training pairs, with the fitted law.",
    )
