"""The learning curve as a picture for the docs: points, law and its 95% band, pairs on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 24, 24, 56
COLOURS = ("#1f5fa8", "#8a6d1f")


def curve_svg(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """``curves``: the evidence of ``diagnostics.learning_curve``, by the name of the model."""
    sizes = [row["pairs"] for curve in curves.values() for row in curve["sizes"]]
    shown = [row[k] for curve in curves.values() for row in curve["sizes"] for k in ("lowest", "highest")]
    low = math.floor(20 * min(shown)) / 20
    high = math.ceil(20 * max(shown)) / 20
    first, last = math.log(min(sizes) / 1.15), math.log(max(sizes) * 1.15)

    def x(pairs: float) -> float:
        return LEFT + (math.log(pairs) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        inside = min(high, max(low, accuracy))
        return HEIGHT - BOTTOM - (inside - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="13" role="img">',
        "<title>Accuracy on held-out pairs against training pairs</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for k in range(round((high - low) * 20) + 1):
        value = low + k / 20
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0%}</text>')
    for size in sorted(set(sizes)):
        parts.append(
            f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{size:,}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">training pairs (logarithmic)</text>'
    )
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = curve["curve"]
        upper = " ".join(f"{x(p['pairs']):.1f},{y(p['high']):.1f}" for p in points)
        lower = " ".join(f"{x(p['pairs']):.1f},{y(p['low']):.1f}" for p in reversed(points))
        line = " ".join(f"{x(p['pairs']):.1f},{y(p['accuracy']):.1f}" for p in points)
        parts.append(f'<polygon points="{upper} {lower}" fill="{colour}" opacity="0.12"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for row in curve["sizes"]:
            at, shift = x(row["pairs"]), 3 * i
            span = f"M{at + shift:.1f} {y(row['lowest']):.1f}V{y(row['highest']):.1f}"
            parts.append(f'<path d="{span}" stroke="{colour}"/>')
            middle_y = y(row["accuracy"])
            parts.append(f'<circle cx="{at + shift:.1f}" cy="{middle_y:.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<rect x="{LEFT + 12}" y="{TOP + 4 + 20 * i}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 30}" y="{TOP + 14 + 20 * i}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
