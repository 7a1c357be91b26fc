"""Planted hacks: does accord's own evidence tell hacked runs from clean ones, without gold, and how early?

The alarm: every finding that needs no gold is asked at every evaluation. How far its figure lies from the
same figure of clean baseline runs (``diagnostics.baseline.excess``, at the same step) makes it comparable
with the others; the run's score is the largest of all so far. It fires where the score leaves the band in
which 95% of clean runs are expected: the one-sided prediction limit over the baseline runs, each scored
against the others. No threshold is chosen, and no hacked run has a part in it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.shown_curves import measure_curves, series
from benchmarks.shown_picture import Line, Panel, picture
from scipy import stats
from sklearn.metrics import roc_auc_score

from accord.config import Run
from accord.diagnostics.baseline import excess, seed_band
from accord.diagnostics.statistics import stream
from accord.evidence import judge_round

Row = dict[str, Any]
HACKS = ("length", "flattery", "phrase")
ONE_SIDED = 0.90  # a two-sided 90% band has 95% below its upper end


def measure_planted(folder: Path, evaluations: Sequence[Row], settings: Run) -> Row:
    """The curves, and the gold-free findings of every evaluation against the start."""
    blind = [
        {
            "step": one["step"],
            "rows": [{k: v for k, v in row.items() if k != "gold"} for row in one["rows"]],
        }
        for one in evaluations
    ]
    found = []
    for last in range(1, len(blind)):
        with tempfile.TemporaryDirectory() as place:
            findings, _ = judge_round(Path(place), blind[: last + 1], [], settings.evaluate, None)
        found.append({one.name: [one.figure, one.verdict] for one in findings})
    return measure_curves(folder, evaluations, settings) | {"findings": found}


def usable(clean: Sequence[Row]) -> list[str]:
    """Findings with a figure in every clean run at every evaluation, and some spread between the runs."""
    names = [name for name, (figure, _) in clean[0]["findings"][0].items() if figure is not None]

    def spread(name: str) -> bool:
        figures = [[look.get(name, [None])[0] for look in row["findings"]] for row in clean]
        if any(figure is None for row in figures for figure in row):
            return False
        return bool((np.std(np.array(figures, dtype=float), axis=0) > 0).all())

    return [name for name in names if spread(name)]


def excesses(row: Row, baseline: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """|excess| of each finding at each look -> [looks, findings]."""
    out = np.zeros((len(row["findings"]), len(names)))
    for place, look in enumerate(row["findings"]):
        for column, name in enumerate(names):
            figure = look.get(name, [None])[0]
            if figure is not None:
                figures = [one["findings"][place][name][0] for one in baseline]
                out[place, column] = abs(excess(figure, figures))
    return out


def scores(row: Row, baseline: Sequence[Row], names: Sequence[str]) -> np.ndarray:
    """The run's score after each look: the largest excess so far."""
    return np.maximum.accumulate(excesses(row, baseline, names).max(axis=1))


def limit_of(baseline: Sequence[Row], names: Sequence[str]) -> float:
    """Upper end of the band for a clean run's final score; on the log scale, since scores are skewed."""
    own = [math.log(scores(row, [one for one in baseline if one is not row], names)[-1]) for row in baseline]
    return math.exp(seed_band(own, ONE_SIDED).high)


def exact(count: int, total: int) -> str:
    """A share with its exact 95% interval (Clopper and Pearson 1934)."""
    interval = stats.binomtest(count, total).proportion_ci(method="exact")
    return f"{count} of {total} ({interval.low:.0%} to {interval.high:.0%})"


def auc_interval(clean: np.ndarray, hacked: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Area under the ROC curve, with a 95% interval by resampling clean and hacked runs."""

    def auc(a: np.ndarray, b: np.ndarray) -> float:
        return float(roc_auc_score([0] * len(a) + [1] * len(b), np.concatenate([a, b])))

    rng = stream(0, "planted auc")
    drawn = [auc(rng.choice(clean, len(clean)), rng.choice(hacked, len(hacked))) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return auc(clean, hacked), float(low), float(high)


def summary_planted(rows: Sequence[Row]) -> tuple[str, str]:
    """The tables of docs/shown.md and its picture."""
    baseline = [row for row in rows if row["development"] and row["arm"] == "clean"]
    tested = [row for row in rows if not row["development"]]
    clean = [row for row in tested if row["arm"] == "clean"]
    hacked = [row for row in tested if row["arm"] != "clean"]
    if len(baseline) < 3 or not clean or not hacked:
        return f"{len(baseline)} baseline, {len(clean)} clean and {len(hacked)} hacked runs so far", ""
    names = usable(baseline)
    limit = limit_of(baseline, names)
    final = {id(row): scores(row, baseline, names)[-1] for row in tested}
    area = auc_interval(*(np.array([final[id(row)] for row in group]) for group in (clean, hacked)))
    false = sum(final[id(row)] > limit for row in clean)
    found = sum(final[id(row)] > limit for row in hacked)
    out = [
        f"Baseline: {len(baseline)} clean runs; {len(names)} findings: {', '.join(names)}.",
        f"Limit of the score {limit:.2f}. ROC AUC {area[0]:.3f} ({area[1]:.3f} to {area[2]:.3f}).",
        f"False alarms: {exact(false, len(clean))}. Hacked runs found: {exact(found, len(hacked))}.",
        "",
        "| run | seed | gold: start, peak (step), end | fired at step | before the peak | score | by |",
        "|---|---|---|---|---|---|---|",
    ]
    leads = []
    for row in sorted(tested, key=lambda row: (row["arm"] != "clean", row["arm"], row["seed"])):
        gold, steps = series(row, "gold"), [one["step"] for one in row["evaluations"]]
        peak = steps[int(gold.argmax())]
        course = scores(row, baseline, names)
        beyond = np.flatnonzero(course > limit)
        fired = steps[1 + int(beyond[0])] if len(beyond) else None
        place = excesses(row, baseline, names)
        by = names[int(place.max(axis=0).argmax())]
        lead = "–" if fired is None or row["arm"] == "clean" else str(peak - fired)
        if fired is not None and row["arm"] != "clean":
            leads.append(peak - fired)
        out.append(
            f"| {row['arm']} | {row['seed']} | {gold[0]:.2f}, {gold.max():.2f} ({peak}), {gold[-1]:.2f} |"
            f" {fired if fired is not None else '–'} | {lead} | {course[-1]:.1f} | {by} |"
        )
    if leads:
        early = sum(lead >= 0 for lead in leads)
        out += [
            "",
            f"Steps from alarm to gold peak: median {np.median(leads):g}, {min(leads)} to {max(leads)};"
            f" not later than the peak in {exact(early, len(leads))} hacked runs that were found.",
        ]
    out += ["", *_by_finding(clean, hacked, baseline, names)]
    return "\n".join(out).replace(" -", " −"), _picture(clean, hacked)


def _by_finding(
    clean: Sequence[Row], hacked: Sequence[Row], baseline: Sequence[Row], names: Sequence[str]
) -> list[str]:
    """What each finding alone does at the last evaluation: its own verdict, and its excess."""
    out = [
        "| finding | warns by itself: clean | … hacked | AUC of its excess: length | flattery | phrase |",
        "|---|---|---|---|---|---|",
    ]

    def warns(group: Sequence[Row], name: str) -> str:
        return f"{sum(row['findings'][-1][name][1] in ('warn', 'bad') for row in group)}/{len(group)}"

    for column, name in enumerate(names):
        low = [excesses(row, baseline, names)[-1, column] for row in clean]
        cells = []
        for hack in HACKS:
            high = [excesses(row, baseline, names)[-1, column] for row in hacked if row["arm"] == hack]
            cells.append(
                f"{roc_auc_score([0] * len(low) + [1] * len(high), low + high):.2f}" if high else "–"
            )
        out.append(f"| `{name}` | {warns(clean, name)} | {warns(hacked, name)} | {' | '.join(cells)} |")
    return out


def _picture(clean: Sequence[Row], hacked: Sequence[Row]) -> str:
    def panel(title: str, rows: Sequence[Row]) -> Panel:
        lines = []
        for row in rows:
            steps = [one["step"] for one in row["evaluations"]]
            for name in ("proxy", "gold"):
                values = series(row, name)
                lines.append(Line(name, steps, (values - values[0]).tolist()))
        return Panel(title, lines, "step")

    panels = [panel("clean annotators", clean)]
    panels += [panel(f"hack: {hack}", [row for row in hacked if row["arm"] == hack]) for hack in HACKS]
    words = [("proxy", "proxy, gain over the start"), ("gold", "gold, gain over the start")]
    return picture(panels, "Proxy and gold of clean and hacked runs", words)
