"""What the panels of a reward-model card are made of, and how they write numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.report.charts import Chart, show


@dataclass(frozen=True)
class Table:
    """Cells as text. ``title`` may be empty."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CardPanel:
    """A heading, one sentence, charts, figures as (name, value, meaning), tables, and a note."""

    anchor: str
    title: str
    sentence: str
    charts: list[Chart] = field(default_factory=list)
    figures: list[tuple[str, str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    note: str = ""


def percent(value: float | None) -> str:
    return "–" if value is None else f"{show(100 * value)}%"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    if value is None:
        return "–"
    return f"{'+' if value > 0 else ''}{show(100 * value)}"


def signed(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) < 1e-9:  # round-off around a mean that is 0 by symmetry
        return "0"
    return f"{'+' if value > 0 else ''}{show(value)}"


def between(interval: Sequence[float] | None, text: Any = show) -> str:
    return f"{text(interval[0])} to {text(interval[1])}" if interval else "–"


def with_interval(
    figure: float | None, interval: Sequence[float] | None, text: Callable[[float | None], str]
) -> str:
    """A figure with its interval behind it, short enough for a cell: "60.8% (55.2 to 66.6)"."""
    return f"{text(figure)} ({between(interval, text).replace('%', '')})" if interval else text(figure)


def ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (interval[0], interval[1]) if interval else (None, None)
