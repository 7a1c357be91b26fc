"""A row of small line charts as one SVG file, for the documentation; readable in light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 300, 240, 46, 10, 30, 44
COLOURS = {"gold": "#b8860b", "proxy": "#3b6ea8", "clean": "#3a8a57", "hacked": "#b8443a", "plain": "#555"}


@dataclass(frozen=True)
class Line:
    """One series. ``kind`` gives the colour; ``marked`` are places (x, y) with a ring."""

    kind: str
    x: Sequence[float]
    y: Sequence[float]
    marked: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Panel:
    title: str
    lines: Sequence[Line]
    x_label: str = "√KL, KL in nats"


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 4 or 1.0
    size = (
        10.0 ** len(str(int(raw))) / 10
        if raw >= 1
        else 10.0 ** -next(k for k in range(1, 9) if raw * 10**k >= 1)
    )
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = int(low // step)
    return [step * k for k in range(first, int(high // step) + 2) if low <= step * k <= high]


def _panel(panel: Panel, offset: float, y_range: tuple[float, float]) -> list[str]:
    x_high = max([max(line.x) for line in panel.lines if line.x] or [1.0]) or 1.0
    low, high = y_range

    def across(x: float) -> float:
        return offset + LEFT + (WIDTH - LEFT - RIGHT) * x / x_high

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    out = [f'<text x="{offset + LEFT}" y="18" font-weight="600">{escape(panel.title)}</text>']
    for tick in _ticks(low, high):
        out.append(
            f'<path d="M{across(0):.1f} {up(tick):.1f}H{across(x_high):.1f}" stroke="#ddd"/>'
            f'<text x="{offset + LEFT - 5}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in _ticks(0, x_high):
        out.append(
            f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        )
    middle = offset + LEFT + (WIDTH - LEFT - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.x_label)}</text>')
    for line in panel.lines:
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        colour = COLOURS.get(line.kind, COLOURS["plain"])
        dash = ' stroke-dasharray="5 3"' if line.kind == "proxy" else ""
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"{dash}/>')
        out += [
            f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="none" stroke="{colour}"/>'
            for x, y in line.marked
        ]
    return out


def picture(panels: Sequence[Panel], title: str, legend: Sequence[tuple[str, str]]) -> str:
    """The panels beside each other, all with the same y axis. ``legend`` pairs a kind with its words."""
    values = [y for panel in panels for line in panel.lines for y in line.y]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    body: list[str] = []
    for number, panel in enumerate(panels):
        body += _panel(panel, number * WIDTH, (low - margin, high + margin))
    across = float(LEFT)
    for kind, words in legend:
        dash = ' stroke-dasharray="5 3"' if kind == "proxy" else ""
        body.append(
            f'<path d="M{across} {HEIGHT + 10}h22" stroke="{COLOURS[kind]}" stroke-width="2"{dash}/>'
            f'<text x="{across + 28}" y="{HEIGHT + 14}">{escape(words)}</text>'
        )
        across += 44 + 6.3 * len(words)
    width, height = max(WIDTH * len(panels), across), HEIGHT + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}"'
        f' height="{height}" role="img" font-family="sans-serif" font-size="12">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>{"".join(body)}</svg>\n'
    )
