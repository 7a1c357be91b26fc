"""Gold at the same KL by hand, and the interval of a paired difference by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from accord.diagnostics.matched_kl import at_kl, matched_kl
from accord.records import BadInput


def test_between_two_evaluations_gold_is_linear_in_the_root_of_kl():
    # √KL is 0, 1, 3: the distance 2 (KL 4) lies half-way between the last two.
    gold_PG = [[0.0, 0.0], [1.0, 2.0], [3.0, 0.0]]
    assert at_kl([0, 1, 9], gold_PG, 4.0).tolist() == [2.0, 1.0]
    assert at_kl([0, 1, 9], gold_PG, 9.0).tolist() == [3.0, 0.0]
    assert at_kl([0, 1, 9], gold_PG, 0.0).tolist() == [0.0, 0.0]
    assert at_kl([0, 4, 1, 9], [[0.0], [2.0], [5.0], [5.0]], 1.0).tolist() == [
        1.0
    ]  # where it first got there
    with pytest.raises(BadInput, match=r"reached 9\.00 nats, not 10\.00"):
        at_kl([0, 1, 9], gold_PG, 10.0)


def test_the_difference_is_at_the_largest_kl_of_both_and_paired():
    rng = np.random.default_rng(0)
    hard_G, gap_G = rng.normal(0, 5, 200), rng.normal(0.3, 0.5, 200)
    first = np.stack([hard_G, hard_G + 1, hard_G + 9])
    second = np.stack([hard_G, hard_G + 1 + gap_G])
    found = matched_kl([0, 4, 16], first, [0, 4], second, list(range(200)), names=("a", "b"))
    assert found.evidence["kl"] == 4.0
    assert found.figure == pytest.approx(gap_G.mean())
    expected = stats.t.interval(0.95, 199, gap_G.mean(), gap_G.std(ddof=1) / np.sqrt(200))
    assert found.interval == pytest.approx(expected, abs=0.01)  # prompts' own difficulty is paired out
    assert found.verdict == "good"
    assert "b is better" in found.sentence
    same = matched_kl([0, 4], first[:2], [0, 4], first[:2] + 0 * gap_G, list(range(200)))
    assert same.figure == 0
