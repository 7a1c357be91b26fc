"""Intervals hold the truth: the worlds of benchmarks/coverage.py at a tenth of their size or less.

The full size (1,000 simulations) and its result are in docs/diagnostics.md. Here a coverage may miss 95% by
three standard errors of the number of simulations: an interval that is plainly too narrow fails.
"""

from __future__ import annotations

import math

import pytest
from benchmarks.coverage import WORLDS, measure

SIMULATIONS = 60
INTERVALS = (
    "win_rate", "overoptimisation: gold's gain", "split_half: transfer", "split_half_selection",
    "ensemble_spread", "latent_outliers", "on_policy_accuracy", "length_share", "length_shift",
    "mode_collapse", "diversity_shift", "style_reliance", "seeds, 10 runs", "seed_band, 5 runs",
)  # fmt: skip
LEVELS = (
    "overoptimisation: false peak", "overoptimisation: false fall", "ensemble_spread: false alarm",
    "latent_outliers: false alarm", "on_policy_accuracy: false alarm", "mode_collapse: false alarm",
    "policy_probes: false alarm", "mmd_drift: false alarm",
)  # fmt: skip


@pytest.mark.parametrize("name", INTERVALS)
def test_95_of_100_intervals_hold_the_truth(name: str) -> None:
    found = measure(name, SIMULATIONS)
    error = math.sqrt(0.95 * 0.05 / found["intervals"])
    assert found["intervals"] == SIMULATIONS
    assert found["coverage"] >= 0.95 - 3 * error


@pytest.mark.parametrize("name", LEVELS)
def test_alarms_where_there_is_nothing_are_few(name: str) -> None:
    found = measure(name, SIMULATIONS)
    assert found["alarms"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)


def test_every_world_of_the_list_exists() -> None:
    assert {*INTERVALS, *LEVELS} <= set(WORLDS)


def test_an_interval_that_is_too_narrow_would_be_seen() -> None:
    """The measure itself: figures of deviation 1 with intervals of half the width are held in 67% of
    cases.
    """
    from benchmarks import coverage

    def narrow(rng):  # type: ignore[no-untyped-def]
        figure = rng.normal()
        return coverage.Outcome(figure, figure - 0.98, figure + 0.98, 0.0)

    coverage.WORLDS["narrow"] = narrow
    try:
        assert coverage.measure("narrow", 300)["coverage"] == pytest.approx(0.673, abs=0.09)
    finally:
        del coverage.WORLDS["narrow"]
