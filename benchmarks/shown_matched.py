"""One arm against the others at matched KL, seed by seed: ensembles against one reward model, fresh labels
against as many of the old policy's samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shown_curves import distance, matched, measure_curves, over_seeds, series
from benchmarks.shown_pairs import curves_picture

from accord.config import Run

Row = dict[str, Any]


def accuracy(row: Row) -> float:
    """The reward model's accuracy on the final policy's own samples, pairs of answers to one prompt."""
    last = row["evaluations"][-1]
    return float(last["right"] / max(1, last["pairs"]))


def summary_against(base: str) -> Callable[[Sequence[Row]], tuple[str, str]]:
    """The table and the picture, every arm compared with ``base``."""

    def summary(rows: Sequence[Row]) -> tuple[str, str]:
        if not any(row["arm"] == base for row in rows):
            return f"no run of {base} yet", ""
        arms = list(dict.fromkeys(row["arm"] for row in rows))
        plain = {row["seed"]: row for row in rows if row["arm"] == base}
        out = [
            f"| arm | seed | end √KL | proxy's gain | gold's gain: best, end | accuracy on its own samples |"
            f" gold at the same √KL, minus {base} |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda row: (arms.index(row["arm"]), row["seed"])):
            gold, proxy = series(row, "gold"), series(row, "proxy")
            other = plain.get(row["seed"])
            gap = "–" if other is None or other is row else f"{matched(row, other):+.2f}"
            out.append(
                f"| {row['arm']} | {row['seed']} | {distance(row)[-1]:.2f} | {proxy[-1] - proxy[0]:.2f} |"
                f" {gold.max() - gold[0]:.2f}, {gold[-1] - gold[0]:.2f} | {accuracy(row):.2f} | {gap} |"
            )
        out.append("")
        for arm in arms:
            both = [(row, plain[row["seed"]]) for row in rows if row["arm"] == arm and row["seed"] in plain]
            if arm != base and both:
                gaps = over_seeds([matched(row, other) for row, other in both])
                right = over_seeds([accuracy(row) - accuracy(other) for row, other in both])
                out.append(f"{arm} − {base}: gold at the same √KL {gaps}, accuracy {right}.")
        return "\n".join(out).replace(" -", " −"), curves_picture(rows, arms)

    return summary


def measure_ensemble(folder: Path, evaluations: Sequence[Row], settings: Run) -> Row:
    """The curves, and gold of best-of-n picked by the members' mean and pessimistically, where both are."""
    curve = json.loads((folder / "round-0" / "curve.json").read_text(encoding="utf-8"))
    careful = {point["n"]: point["gold"] for point in curve["best_of_n_pessimistic"]}
    both = [[point["n"], point["gold"], careful[point["n"]]] for point in curve["best_of_n"] if careful]
    return measure_curves(folder, evaluations, settings) | {"best_of": both}


def summary_ensemble(base: str) -> Callable[[Sequence[Row]], tuple[str, str]]:
    """`summary_against`, and what pessimism bought best-of-n at the same n (KL) and the same labels."""

    def summary(rows: Sequence[Row]) -> tuple[str, str]:
        text, picture = summary_against(base)(rows)
        picked = [row for row in rows if row.get("best_of")]
        out = [text, "", *best_of_lines(picked)] if picked else [text]
        return "\n".join(out), picture

    return summary


def best_of_lines(rows: Sequence[Row]) -> list[str]:
    """A table of gold's gain over the start at each n, and the difference over seeds at the largest."""
    out = [
        "| seed | n | gold's gain, picked by the members' mean | picked pessimistically |",
        "|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["seed"]):
        start = row["best_of"][0][1]
        for n, plain, careful in row["best_of"][1:]:
            out.append(f"| {row['seed']} | {n} | {plain - start:.2f} | {careful - start:.2f} |")
    most = rows[0]["best_of"][-1][0]
    gaps = [careful - plain for row in rows for n, plain, careful in row["best_of"] if n == most]
    out += ["", f"Pessimistic best of {most} − best of {most} by the mean: gold {over_seeds(gaps)}."]
    return [line.replace(" -", " −") for line in out]
