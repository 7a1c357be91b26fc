"""Charts of distributions and of single figures: histograms, reliability, bars and points with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from accord.report.charts import (
    CHARACTER,
    WIDE,
    Chart,
    Datum,
    Frame,
    Series,
    Size,
    drawing,
    legend,
    show,
    symbol,
    tag,
    ticks,
)


@dataclass(frozen=True)
class Bar:
    """One figure with its 95% interval (None: not known) and the class that colours it."""

    name: str
    figure: float
    low: float | None = None
    high: float | None = None
    style: str = "policy"
    note: str = ""


def histogram(
    title: str,
    x_label: str,
    edges: Sequence[float],
    counts: Mapping[str, Sequence[float]],
    styles: Sequence[str] = ("policy", "reference"),
    *,
    y_label: str = "share of responses (%)",
    size: Size = WIDE,
) -> Chart:
    """Overlaid shares (each series sums to 100%): the first filled, the others a dashed outline.

    ``edges`` has one value more than each series of counts.
    """
    shares = {name: [100 * c / (sum(count) or 1) for c in count] for name, count in counts.items()}
    top = max((max(share, default=0) for share in shares.values()), default=0) or 1
    frame = Frame(size, (edges[0], edges[-1]), (0, top * 1.08), top=46)
    parts = frame.axes(x_label, y_label, ticks(edges[0], edges[-1], 5), ticks(0, top * 1.08, 4))
    entries = []
    for order, (name, share) in enumerate(shares.items()):
        style = styles[order % len(styles)]
        floor = frame.y(0)
        outline = f"M{frame.x(edges[0]):.2f},{floor:.2f}"
        for left, right, value in zip(edges, edges[1:], share, strict=False):
            outline += f"V{frame.y(value):.2f}M{frame.x(left):.2f},{frame.y(value):.2f}"
            outline += f"L{frame.x(right):.2f},{frame.y(value):.2f}"
        outline += f"L{frame.x(edges[-1]):.2f},{floor:.2f}"
        if not order:
            for left, right, value in zip(edges, edges[1:], share, strict=False):
                note = tag("title", f"{name}: {show(value)}% between {show(left)} and {show(right)}")
                x = frame.x(left)
                width = max(frame.x(right) - x, 0.5)
                height = max(floor - frame.y(value), 0)
                parts.append(
                    tag(
                        "rect",
                        note,
                        x=x,
                        y=frame.y(value),
                        width=width,
                        height=height,
                        class_=f"{style} area",
                    )
                )
        parts.append(tag("path", d=outline, class_=f"{style} stroke{' dashed' if order else ''}"))
        entries.append(Series(name, (), (), style=style, marker="none", dashed=bool(order)))
    parts += legend(entries, frame.left, 30)
    rows = tuple(
        (f"{show(left)} to {show(right)}", *(f"{show(share[i])}%" for share in shares.values()))
        for i, (left, right) in enumerate(pairwise(edges))
    )
    description = f"Histogram of {x_label} for {' and '.join(shares)}."
    data = tuple(
        Datum(name, share[i], left, right, n=float(counts[name][i]))
        for name, share in shares.items()
        for i, (left, right) in enumerate(pairwise(edges))
    )
    svg = drawing(size, title, description, *parts)
    return Chart(title, svg, (x_label, *shares), rows, data=data, x_label=x_label, y_label=y_label)


def reliability(
    title: str, confidence_N: Sequence[float], accuracy_N: Sequence[float], count_N: Sequence[float]
) -> Chart:
    """Observed share of right answers against predicted probability; larger markers hold more pairs.

    A calibrated model lies on the diagonal.
    """
    low = 0.5 if min((*confidence_N, 1.0)) >= 0.5 and min((*accuracy_N, 1.0)) >= 0.5 else 0.0
    size = (WIDE[0], 280)
    frame = Frame(size, (low, 1), (low, 1.02))
    marks = ticks(low, 1, 5)
    parts = frame.axes(
        "confidence in the favoured side (probability)",
        "share of pairs where the favourite won",
        marks,
        marks,
    )
    parts.append(tag("line", x1=frame.x(low), y1=frame.y(low), x2=frame.x(1), y2=frame.y(1), class_="level"))
    parts.append(
        tag(
            "text",
            "perfectly calibrated",
            x=frame.x(1) - 4,
            y=frame.y(1) - 6,
            class_="tick",
            text_anchor="end",
        )
    )
    points = [(frame.x(c), frame.y(a)) for c, a in zip(confidence_N, accuracy_N, strict=True)]
    line = "".join(f"{'L' if i else 'M'}{x:.2f},{y:.2f}" for i, (x, y) in enumerate(points))
    if line:
        parts.append(tag("path", d=line, class_="proxy stroke"))
    largest = max((*count_N, 1.0))
    rows = []
    for (x, y), confidence, accuracy, count in zip(points, confidence_N, accuracy_N, count_N, strict=True):
        radius = 3 + 6 * math.sqrt(max(count, 0) / largest)
        note = f"{show(confidence)} predicted, {show(accuracy)} observed, {show(count)} pairs"
        parts.append(tag("circle", tag("title", note), cx=x, cy=y, r=radius, class_="proxy mark soft"))
        rows.append((show(confidence), show(accuracy), show(count)))
    description = "Points on the diagonal are calibrated; below it the model is too sure of itself."
    columns = ("predicted", "observed", "pairs")
    data = tuple(
        Datum("reward model", a, c, n=n) for c, a, n in zip(confidence_N, accuracy_N, count_N, strict=True)
    )
    svg = drawing(size, title, description, *parts)
    return Chart(
        title, svg, columns, tuple(rows), data=data, x_label="predicted probability", y_label="share right"
    )


def interval_chart(
    title: str,
    x_label: str,
    bars: Sequence[Bar],
    *,
    x_range: tuple[float, float],
    level: float | None = None,
    level_name: str = "",
    scale: float = 1.0,
    filled: bool = False,
    width: int = WIDE[0],
    table_open: bool = False,
) -> Chart:
    """One row a bar: a point with its interval, or a bar from zero when ``filled``.

    ``scale`` multiplies what is shown (100 for per cent); ``level`` is a dashed reference line.
    """
    step = 34
    left = min(max((len(bar.name) for bar in bars), default=0) * CHARACTER + 14, 168)
    right = max((len(bar.note) for bar in bars), default=0) * CHARACTER + 14
    right = min(max(right, 58), 110)
    size = (width, 62 + step * len(bars))
    shown = (x_range[0] * scale, x_range[1] * scale)
    frame = Frame(size, shown, (0, 1), left=left, right=right, top=18)
    parts = frame.axes(x_label, "", ticks(*shown, 4), ())
    floor = size[1] - frame.bottom
    for value in ticks(*shown, 4):
        parts.append(tag("line", x1=frame.x(value), x2=frame.x(value), y1=18, y2=floor, class_="grid"))
    if level is not None:
        x = frame.x(level * scale)
        parts.append(tag("line", x1=x, x2=x, y1=16, y2=floor, class_="level"))
        if level_name:
            parts.append(tag("text", level_name, x=x, y=11, class_="tick", text_anchor="middle"))
    rows = []
    for order, bar in enumerate(bars):
        y = 18 + step * (order + 0.5)
        figure = bar.figure * scale
        parts.append(tag("text", bar.name, x=left - 8, y=y + 4, class_="legend", text_anchor="end"))
        known = bar.low is not None and bar.high is not None
        text = f"{show((bar.low or 0) * scale)} to {show((bar.high or 0) * scale)}" if known else "–"
        if filled:
            start, end = sorted((frame.x(max(0.0, shown[0])), frame.x(figure)))
            parts.append(
                tag(
                    "rect",
                    x=start,
                    y=y - 8,
                    width=max(end - start, 1.0),
                    height=16,
                    rx=2,
                    class_=f"{bar.style} area",
                )
            )
        if known:
            ends = [min(max(frame.x((v or 0) * scale), left), size[0] - right) for v in (bar.low, bar.high)]
            parts.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=f"{bar.style} whisker"))
            for end in ends:
                parts.append(tag("line", x1=end, x2=end, y1=y - 4, y2=y + 4, class_=f"{bar.style} whisker"))
        if not filled:
            note = f"{bar.name}: {show(figure)}, 95% interval {text}"
            parts.append(symbol("circle", frame.x(figure), y, bar.style, note=note))
        parts.append(tag("text", bar.note or show(figure), x=size[0] - right + 8, y=y + 4, class_="value"))
        rows.append((bar.name, bar.note or show(figure), text))
    description = "; ".join(f"{name}: {figure} ({text})" for name, figure, text in rows)
    columns = ("", x_label, "95% interval")
    data = tuple(
        Datum(
            bar.name,
            bar.figure * scale,
            low=None if bar.low is None else bar.low * scale,
            high=None if bar.high is None else bar.high * scale,
        )
        for bar in bars
    )
    svg = drawing(size, title, description, *parts)
    return Chart(title, svg, columns, tuple(rows), table_open, data, y_label=x_label)


def share_bar(title: str, parts_by_name: Mapping[str, tuple[float, str]]) -> Chart:
    """One bar cut into named shares: {name: (count, style class)}."""
    size = (WIDE[0], 64)
    total = sum(count for count, _ in parts_by_name.values()) or 1
    x, pieces, rows = 2.0, [], []
    entry = 2.0
    for name, (count, style) in parts_by_name.items():
        width = count / total * (size[0] - 4)
        share = f"{100 * count / total:.0f}%"
        note = tag("title", f"{name}: {share}, {show(count)} comparisons")
        if width > 0:
            piece: Markup = tag(
                "rect", note, x=x, y=4, width=max(width - 1.5, 0.5), height=26, class_=f"{style} mark"
            )
            pieces.append(piece)
        if width > 34:
            pieces.append(
                tag("text", share, x=x + width / 2, y=21.5, class_=f"inside on-{style}", text_anchor="middle")
            )
        label = f"{name} {share}"
        pieces.append(tag("rect", x=entry, y=43, width=9, height=9, class_=f"{style} mark"))
        pieces.append(tag("text", label, x=entry + 14, y=51, class_="legend"))
        entry += 14 + CHARACTER * len(label) + 14
        x += width
        rows.append((name, share, show(count)))
    description = ", ".join(f"{name} {share}" for name, share, _ in rows)
    data = tuple(Datum(name, 100 * n / total, n=n) for name, (n, _) in parts_by_name.items())
    svg = drawing(size, title, description, *pieces)
    return Chart(title, svg, ("", "share", "comparisons"), tuple(rows), data=data, y_label="share (%)")
