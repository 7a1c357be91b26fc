"""Small server-side charts as inline SVG: lines, points with intervals, histograms, reliability, bars.

Every chart carries a title and a description for screen readers, and its figures as a table (``columns``
and ``rows``), so that nothing can be read by colour alone. Series differ in colour, marker and dash. Colours
come from classes in style.css, so that one drawing serves light, dark and print. No inline styles: the
page's content policy forbids them.

Pixels are those of the viewBox; the page scales it. Deliberately not a plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

Size = tuple[int, int]
WIDE: Size = (340, 252)
SMALL: Size = (232, 132)
CHARACTER = 6.0  # mean width of a character at 12 px; legends and row labels are laid out by it


class Datum(NamedTuple):
    """One figure of a chart, unrounded, for the files beside the page.

    ``x`` to ``x_to`` is where it stands (a bin has both), ``low`` to ``high`` its 95% interval, ``n`` how
    many it comes from.
    """

    series: str
    value: float | None
    x: float | None = None
    x_to: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None


@dataclass(frozen=True)
class Chart:
    """A drawing and the very figures that it shows: ``rows`` for people, ``data`` for files.

    ``x_label`` and ``y_label`` name what ``Datum.x`` and ``Datum.value`` are, with the unit.
    """

    title: str
    svg: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    table_open: bool = False
    data: tuple[Datum, ...] = ()
    x_label: str = ""
    y_label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one quantity; ``low`` and ``high`` are the ends of 95% intervals (None: not known).

    ``style`` is a class in style.css (policy, gold, proxy, reference, ...); ``marker`` is circle, square,
    diamond or none; ``band`` draws the intervals as one area, otherwise each point has its own bar.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    style: str = "policy"
    marker: str = "circle"
    hollow: bool = False
    dashed: bool = False
    band: bool = False


def show(value: float | None, digits: int = 3) -> str:
    """A number for people: three significant digits, a true minus sign, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        text = f"{value:.{digits - 1}e}"
    elif abs(value) >= 10 ** (digits - 1):
        text = f"{value:,.0f}"
    else:
        places = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
        text = f"{value:.{places}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def tag(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """One SVG element; text and attribute values are escaped, ``class_`` and ``stroke_width`` renamed."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    inside = "".join(escape(child) for child in children)
    return Markup("".join(parts) + (f">{inside}</{name}>" if inside else "/>"))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) inside [low, high], about ``count`` of them."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    found = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    # One mark tells no scale: take finer steps until there are two.
    return found if len(found) > 1 or count > 12 else ticks(low, high, count + 1)


def tick_labels(values: Sequence[float]) -> list[str]:
    """The ticks with as many decimals as tell them apart: 14.75, 15, 15.25 and not 14.8, 15, 15.2."""
    largest = max((abs(value) for value in values), default=0.0)
    for places in range(7):
        if all(abs(value - round(value, places)) <= 1e-9 * max(largest, 1e-9) for value in values):
            texts = [f"{value + 0.0:,.{places}f}" for value in values]
            if len(values) > 1 and largest < 1e6:
                texts = [text.rstrip("0").rstrip(".") if "." in text else text for text in texts]
                return [text.replace("-", "−") if text != "-0" else "0" for text in texts]
    return [show(value) for value in values]


def bounds(
    values: Iterable[float | None], pad: float = 0.06, include: Iterable[float] = ()
) -> tuple[float, float]:
    """Range of the finite values with a margin; never empty."""
    finite = [v for v in (*values, *include) if v is not None and math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if low == high == 0:
        return 0.0, 1.0
    margin = (high - low) * pad or abs(high) * 0.1 or 0.5
    return low - margin, high + margin


@dataclass(frozen=True)
class Frame:
    """The plotting area: data to pixels, axes, and labels with units."""

    size: Size
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: float = 46
    right: float = 12
    top: float = 30
    bottom: float = 42

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / ((high - low) or 1) * (self.size[0] - self.left - self.right)

    def y(self, value: float) -> float:
        low, high = self.y_range
        height = self.size[1] - self.top - self.bottom
        return self.size[1] - self.bottom - (value - low) / ((high - low) or 1) * height

    def axes(
        self, x_label: str, y_label: str, x_ticks: Sequence[float], y_ticks: Sequence[float]
    ) -> list[Markup]:
        width, height = self.size
        floor = height - self.bottom
        out = []
        for value, text in zip(y_ticks, tick_labels(y_ticks), strict=True):
            y = self.y(value)
            out.append(tag("line", x1=self.left, x2=width - self.right, y1=y, y2=y, class_="grid"))
            out.append(tag("text", text, x=self.left - 6, y=y + 3.5, class_="tick", text_anchor="end"))
        for value, text in zip(x_ticks, tick_labels(x_ticks), strict=True):
            out.append(tag("text", text, x=self.x(value), y=floor + 15, class_="tick", text_anchor="middle"))
        out.append(tag("line", x1=self.left, x2=width - self.right, y1=floor, y2=floor, class_="axis"))
        middle = (self.left + width - self.right) / 2
        if x_label:
            out.append(tag("text", x_label, x=middle, y=height - 8, class_="label", text_anchor="middle"))
        if y_label:  # horizontal, above the axis: read without turning the head
            out.append(tag("text", y_label, x=2, y=12, class_="label"))
        return out


def drawing(size: Size, title: str, description: str, *parts: Markup) -> Markup:
    """The <svg> element with its title and description."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *parts,
        viewBox=f"0 0 {size[0]} {size[1]}",
        role="img",
        aria_label=f"{title}. {description}",
        class_="chart" if size[0] > 300 else "chart small-chart",
    )


def symbol(kind: str, x: float, y: float, style: str, hollow: bool = False, note: str = "") -> Markup:
    """A marker; ``note`` shows when the pointer rests on it."""
    classes = f"{style} {'hollow' if hollow else 'mark'}"
    inside = (tag("title", note),) if note else ()
    if kind == "square":
        return tag("rect", *inside, x=x - 3.2, y=y - 3.2, width=6.4, height=6.4, class_=classes)
    if kind == "diamond":
        points = f"M{x:.2f},{y - 4.5:.2f}l4.5,4.5l-4.5,4.5l-4.5,-4.5z"
        return tag("path", *inside, d=points, class_=classes)
    return tag("circle", *inside, cx=x, cy=y, r=3.6, class_=classes)


def legend(series: Sequence[Series], left: float, y: float) -> list[Markup]:
    """Line sample, marker and name of each series, in one row."""
    out, x = [], left
    for one in series:
        dash = " dashed" if one.dashed else ""
        out.append(tag("line", x1=x, x2=x + 20, y1=y - 4, y2=y - 4, class_=f"{one.style} stroke{dash}"))
        if one.marker != "none":
            out.append(symbol(one.marker, x + 10, y - 4, one.style, one.hollow))
        out.append(tag("text", one.name, x=x + 25, y=y, class_="legend"))
        x += 25 + CHARACTER * len(one.name) + 16
    return out


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{x:.2f},{y:.2f}" for i, (x, y) in enumerate(points))


def _at(values: Sequence[float | None], index: int) -> float | None:
    value = values[index] if index < len(values) else None
    return value if value is not None and math.isfinite(value) else None


def _runs(frame: Frame, one: Series) -> list[list[tuple[float, float]]]:
    """The line in pieces: a missing value is a gap, never a straight line across it."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for index, x in enumerate(one.x):
        y = _at(one.y, index)
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((frame.x(x), frame.y(y)))
    return [piece for piece in pieces if piece]


def _series(frame: Frame, one: Series) -> list[Markup]:
    out = []
    spans = [
        (index, x, low, high)
        for index, x in enumerate(one.x)
        if (low := _at(one.low, index)) is not None and (high := _at(one.high, index)) is not None
    ]
    if one.band and len(spans) > 1:
        upper = [(frame.x(x), frame.y(high)) for _, x, _, high in spans]
        lower = [(frame.x(x), frame.y(low)) for _, x, low, _ in reversed(spans)]
        out.append(tag("path", d=_path(upper + lower) + "Z", class_=f"{one.style} band"))
    elif spans:
        for _, x, low, high in spans:
            pixel = frame.x(x)
            out.append(
                tag(
                    "line",
                    x1=pixel,
                    x2=pixel,
                    y1=frame.y(low),
                    y2=frame.y(high),
                    class_=f"{one.style} whisker",
                )
            )
    dash = " dashed" if one.dashed else ""
    for piece in _runs(frame, one):
        if len(piece) > 1:
            out.append(tag("path", d=_path(piece), class_=f"{one.style} stroke{dash}"))
        elif one.marker == "none":  # a lone value has no line: show it all the same
            out.append(symbol("circle", *piece[0], one.style))
    if one.marker != "none":
        for index, x in enumerate(one.x):
            y = _at(one.y, index)
            if y is not None:
                note = f"{one.name}: {show(y)} at {show(x)}"
                out.append(symbol(one.marker, frame.x(x), frame.y(y), one.style, one.hollow, note))
    return out


def _data(series: Sequence[Series]) -> tuple[Datum, ...]:
    return tuple(
        Datum(one.name, _at(one.y, i), x, None, _at(one.low, i), _at(one.high, i))
        for one in series
        for i, x in enumerate(one.x)
    )


def _table(
    series: Sequence[Series], x_label: str, y_label: str
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = []
    for one in series:
        for index, x in enumerate(one.x):
            low, high = _at(one.low, index), _at(one.high, index)
            interval = f"{show(low)} to {show(high)}" if low is not None else "–"
            rows.append((one.name, show(x), show(_at(one.y, index)), interval))
    return ("series", x_label, y_label, "95% interval"), tuple(rows)


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    size: Size = WIDE,
    level: float | None = None,
    description: str = "",
    key: bool = True,
) -> Chart:
    """Lines with bands, or points with intervals, against a common x; ``level`` draws a reference line.

    ``key``: names the series above the drawing; False where the page has one key for several drawings.
    """
    small = size[0] < 300
    every = [v for s in series for v in (*s.y, *s.low, *s.high)]
    x_range = bounds([x for s in series for x in s.x], pad=0.03)
    y_range = bounds(every, include=[] if level is None else [level])
    named = [s for s in series if s.name] if len(series) > 1 and key else []
    top, bottom = (24.0, 34.0) if small else (46.0 if named else 30.0, 42.0)
    y_ticks = ticks(*y_range, 2 if small else 4)
    longest = max((len(text) for text in tick_labels(y_ticks)), default=0)
    left = max(46.0, 12 + CHARACTER * longest)
    frame = Frame(size, x_range, y_range, left=left, top=top, bottom=bottom)
    parts = frame.axes(x_label, y_label, ticks(*x_range, 3 if small else 5), y_ticks)
    if level is not None:
        pixel = frame.y(level)
        parts.append(tag("line", x1=frame.left, x2=size[0] - frame.right, y1=pixel, y2=pixel, class_="level"))
    for one in series:
        parts += _series(frame, one)
    parts += legend(named, frame.left, 30)
    columns, rows = _table(series, x_label, y_label)
    description = description or f"{y_label} against {x_label}, {len(rows)} points."
    svg = drawing(size, title, description, *parts)
    return Chart(title, svg, columns, rows, data=_data(series), x_label=x_label, y_label=y_label)
