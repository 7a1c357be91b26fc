"""The default alarm: outside the 95% band of the run's own baseline. No threshold is invented anywhere.

Most findings carry their baseline in themselves (the policy against SFT on the same prompts, an interval by
bootstrap). Where there are clean runs of other seeds, their spread is the better baseline: it holds what a
bootstrap over prompts cannot see.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy import stats

from accord.diagnostics.statistics import finite
from accord.records import BadInput, Finding

LEVEL = 0.95


class Band(NamedTuple):
    """Where the next run of the same kind is expected with 95% probability."""

    low: float
    high: float


def _baseline(figures: Sequence[float]) -> tuple[float, float, int]:
    """(mean, standard error of a new run's gap to it, runs)."""
    values = finite(figures, "the baseline's figures")
    if len(values) < 3:
        raise BadInput(f"the baseline has {len(values)} runs: 3 or more are needed for a band")
    scale = float(values.std(ddof=1)) * math.sqrt(1 + 1 / len(values))
    return float(values.mean()), scale, len(values)


def seed_band(figures: Sequence[float], level: float = LEVEL) -> Band:
    """Prediction interval for one more run: mean ± t(n-1) s sqrt(1 + 1/n) (normal figures; Hahn and Meeker
    1991, section 4.3). With few seeds it is wide: 3 seeds give ± 5.0 s, 10 give ± 2.4 s."""
    mean, scale, runs = _baseline(figures)
    half = float(stats.t.ppf((1 + level) / 2, runs - 1)) * scale
    return Band(mean - half, mean + half)


def excess(figure: float, baseline: Sequence[float]) -> float:
    """How far a figure lies from its baseline runs, in standard errors of a new run; 0 at their mean.

    Runs that are all the same have no spread: any other figure is infinitely far away.
    """
    mean, scale, _ = _baseline(baseline)
    if scale == 0:
        return 0.0 if figure == mean else math.copysign(math.inf, figure - mean)
    return (figure - mean) / scale


def against_seeds(finding: Finding, baseline: Sequence[float]) -> Finding:
    """The finding judged anew: warn where its figure lies outside the band of the baseline runs' figures.

    A finding that says bad stays bad; one without a figure is returned as it is.
    """
    if finding.figure is None:
        return finding
    band = seed_band(baseline)
    inside = band.low <= finding.figure <= band.high
    reading = "inside" if inside else "outside"
    evidence: dict[str, Any] = dict(finding.evidence)
    evidence |= {
        "baseline": [float(v) for v in baseline],
        "band": [band.low, band.high],
        "excess": excess(finding.figure, baseline),
        "verdict_before": finding.verdict,
    }
    sentence = (
        f"{finding.sentence} It lies {reading} the 95% band of {len(baseline)} baseline runs"
        f" ({band.low:.2f} to {band.high:.2f})."
    )
    verdict = finding.verdict if finding.verdict == "bad" else ("good" if inside else "warn")
    return dataclasses.replace(finding, verdict=verdict, sentence=sentence, evidence=evidence)
