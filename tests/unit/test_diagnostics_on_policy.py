"""Accuracy at matched margins: by hand, and where raw accuracy would blame the model for closer pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from accord.diagnostics.on_policy import margin_bins, on_policy_accuracy
from accord.records import BadInput


def pairs(rng: np.random.Generator, count: int, scale: float, lost: float = 0.0) -> np.ndarray:
    size = np.abs(rng.normal(0, scale, count))
    return np.where(rng.random(count) < special.expit(size) - lost, size, -size)


def test_difference_by_hand() -> None:
    # 20 pairs each, two bins: margins 1 and 3. Test: right 5 of 10 and 10 of 10; fresh: 4 of 10 and 7 of 10.
    test = np.array([1.0] * 5 + [-1.0] * 5 + [3.0] * 10)
    fresh = np.array([1.0] * 4 + [-1.0] * 6 + [3.0] * 7 + [-3.0] * 3)
    found = on_policy_accuracy(test, fresh, np.arange(20), np.arange(20) + 50)
    # (10 (.4 - .5) + 10 (.7 - 1)) / 20
    assert found.figure == pytest.approx(-0.2)
    assert found.evidence["raw_difference"] == pytest.approx(11 / 20 - 15 / 20)
    assert found.evidence["coverage"] == 1
    assert [row["fresh_accuracy"] for row in found.evidence["bins"]] == pytest.approx([0.4, 0.7])
    assert [row["test_pairs"] for row in found.evidence["bins"]] == [10, 10]
    assert found.evidence["fresh"]["brier"] == pytest.approx(
        # confidence σ(1) = .731059 and σ(3) = .952574; squared error by hand
        (4 * (1 - 0.731059) ** 2 + 6 * 0.731059**2 + 7 * (1 - 0.952574) ** 2 + 3 * 0.952574**2) / 20,
        abs=1e-5,
    )


def test_weights_are_the_fresh_pairs() -> None:
    # the fresh pairs lie in the first bin mostly: 30 to 10
    test = np.array([1.0] * 10 + [-1.0] * 10 + [3.0] * 20)
    fresh = np.array([1.0] * 9 + [-1.0] * 21 + [3.0] * 10)
    found = on_policy_accuracy(test, fresh, np.arange(40), np.arange(40) + 50)
    rows = found.evidence["bins"]
    expected = (
        sum(r["fresh_pairs"] * (r["fresh_accuracy"] - r["test_accuracy"]) for r in rows if r["test_pairs"])
        / 40
    )
    assert found.figure == pytest.approx(expected)
    assert found.figure == pytest.approx((30 * (9 / 30 - 0.5) + 10 * 0) / 40)


def test_closer_pairs_alone_are_no_loss() -> None:
    rng = np.random.default_rng(0)
    test, fresh = pairs(rng, 600, 3.0), pairs(rng, 600, 0.6)
    found = on_policy_accuracy(test, fresh, np.arange(600), np.arange(600) + 1000)
    assert found.evidence["raw_difference"] < -0.1  # what a plain comparison would have blamed the model for
    assert found.verdict == "good"
    assert found.evidence["expected"] == pytest.approx(found.evidence["fresh"]["accuracy"], abs=0.06)


def test_a_true_loss_is_bad_and_chance_warns() -> None:
    rng = np.random.default_rng(1)
    test = pairs(rng, 600, 2.0)
    lost = on_policy_accuracy(test, pairs(rng, 600, 2.0, lost=0.2), np.arange(600), np.arange(600))
    assert (lost.verdict, lost.figure) == ("bad", pytest.approx(-0.2, abs=0.06))
    toss = on_policy_accuracy(pairs(rng, 60, 0.1), pairs(rng, 40, 0.1), np.arange(60), np.arange(40))
    assert toss.verdict == "warn"


def test_few_pairs_one_prompt_and_odd_margins() -> None:
    assert margin_bins(np.ones(9), np.ones(500))[2] == 1  # nine test pairs: one bin
    found = on_policy_accuracy([1.0, -2.0], [1.0, 2.0, -1.0], ["p", "p"], ["q", "q", "q"])
    assert (found.verdict, found.interval) == ("unknown", None)
    with pytest.raises(BadInput, match="2 and 1 pairs but 2 and 2 prompts"):
        on_policy_accuracy([1.0, 2.0], [1.0], ["p", "q"], ["p", "q"])
