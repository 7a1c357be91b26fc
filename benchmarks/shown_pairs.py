"""Few pairs against many, gold hidden: the curves, both fits, the peak; and what stop rules would lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from benchmarks.shown_curves import distance, fitted, over_seeds, regrets, series
from benchmarks.shown_picture import Line, Panel, picture

Row = dict[str, Any]


def summary_pairs(rows: Sequence[Row]) -> tuple[str, str]:
    if not rows:
        return "no run yet", ""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    out = [
        "| arm | seed | accuracy, start → end | proxy's gain | gold's gain: best (√KL), end | end √KL |"
        " best n: α, β | RL: α, β | peak, √KL | finding |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (arms.index(row["arm"]), row["seed"])):
        gold, proxy, d, found = series(row, "gold"), series(row, "proxy"), distance(row), fitted(row)
        best = int(gold.argmax())
        forms = found.get("fits", {})
        cells = [
            f"{forms[form]['alpha']:.2f}, {forms[form]['beta']:.2f}" if form in forms else "–"
            for form in ("best_of_n", "rl")
        ]
        peak = "none"
        if found.get("peak") is not None:
            low, high = found["peak_interval"]
            peak = f"{found['peak']:.2f} ({low:.2f} to {high:.2f})"
        first, last = row["evaluations"][0], row["evaluations"][-1]
        accuracy = " → ".join(f"{one['right'] / max(1, one['pairs']):.2f}" for one in (first, last))
        out.append(
            f"| {row['arm']} | {row['seed']} | {accuracy} | {proxy[-1] - proxy[0]:.2f} |"
            f" {gold[best] - gold[0]:.2f} ({d[best]:.2f}), {gold[-1] - gold[0]:.2f} | {d[-1]:.2f} |"
            f" {' | '.join(cells)} | {peak} | {found['verdict']} |"
        )
    out.append("")
    for arm in arms:
        ours = [row for row in rows if row["arm"] == arm]
        ends = [float(series(row, "gold")[-1] - series(row, "gold")[0]) for row in ours]
        falls = [float(series(row, "gold").max() - series(row, "gold")[-1]) for row in ours]
        out.append(
            f"{arm}: gold's gain at the end {over_seeds(ends)}, best checkpoint − end {over_seeds(falls)}."
        )
    out += ["", "| rule | gold lost against the best checkpoint | last checkpoint − rule |", "|---|---|---|"]
    found_regrets = regrets(rows)
    last = np.array(found_regrets["last checkpoint"])
    for name, values in found_regrets.items():
        saved = "–" if name == "last checkpoint" else over_seeds((last - np.array(values)).tolist())
        out.append(f"| {name} | {over_seeds(values)} | {saved} |")
    return "\n".join(out).replace(" -", " −"), curves_picture(rows, arms)


def curves_picture(rows: Sequence[Row], arms: Sequence[str]) -> str:
    """A panel an arm: proxy and gold of every seed against the distance from the start."""
    panels = []
    for arm in arms:
        lines = []
        for row in rows:
            if row["arm"] != arm:
                continue
            d = distance(row)
            order = np.argsort(d, kind="stable")
            for name in ("proxy", "gold"):
                values = (series(row, name) - series(row, name)[0])[order]
                marked = ()
                if name == "gold":
                    best = int(values.argmax())
                    marked = ((float(d[order][best]), float(values[best])),)
                lines.append(Line(name, d[order].tolist(), values.tolist(), marked))
        panels.append(Panel(arm, lines))
    words = [("proxy", "proxy, gain over the start"), ("gold", "gold; a ring marks the best checkpoint")]
    return picture(panels, "Proxy and gold against the distance from the start", words)
