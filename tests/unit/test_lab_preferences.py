"""Noisy comparisons: their probabilities, nested draws, and accuracy against counting every pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from accord.lab.preferences import Pairs, accuracy, compare, draw, preferred, shuffled


def test_labels_follow_bradley_terry() -> None:
    rng = np.random.default_rng(0)
    # a gap of 1 at noise ½: σ(2) = .8808
    assert np.mean(preferred(np.ones(40_000), 0.5, rng.random(40_000))) == pytest.approx(0.8808, abs=0.006)


def test_comparisons_are_of_the_policy_that_was_asked() -> None:
    policy = np.array([0.0, 0.7, 0.0, 0.3])
    drawn = draw(policy, np.random.default_rng(1).random(20_000), 4)
    assert set(drawn.tolist()) == {1, 3}
    assert np.mean(drawn == 1) == pytest.approx(0.7, abs=0.015)
    assert np.bincount(draw(None, np.random.default_rng(2).random(20_000), 4)) / 20_000 == pytest.approx(
        0.25, abs=0.015
    )


def test_better_answers_win_more_often() -> None:
    gold = np.random.default_rng(3).normal(size=500)
    pairs = compare(gold, 20_000, 1.0, np.random.default_rng(4))
    gap = gold[pairs.a_N] - gold[pairs.b_N]
    assert np.mean(pairs.a_wins_N) == pytest.approx(np.mean(special.expit(gap)), abs=0.015)
    flipped = shuffled(pairs, np.random.default_rng(5))
    assert np.corrcoef(flipped.a_wins_N, gap)[0, 1] == pytest.approx(0, abs=0.02)


def test_pairs_are_joined_and_cut() -> None:
    pairs = Pairs(np.array([0, 1]), np.array([2, 3]), np.array([True, False]))
    both = pairs + pairs[1:]
    assert len(both) == 3
    assert (both.a_N.tolist(), both.b_N.tolist(), both.a_wins_N.tolist()) == (
        [0, 1, 1],
        [2, 3, 3],
        [True, False, False],
    )


def counted(score: np.ndarray, gold: np.ndarray, policy: np.ndarray) -> float:
    """Every pair, one after the other: the definition."""
    right, total = 0.0, 0.0
    for i in range(len(gold)):
        for j in range(len(gold)):
            if i != j:
                weight = policy[i] * policy[j]
                total += weight
                agree = (score[i] - score[j]) * (gold[i] - gold[j])
                right += weight * (1.0 if agree > 0 else 0.5 if agree == 0 else 0.0)
    return right / total


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 24), st.booleans())
def test_accuracy_is_what_counting_every_pair_gives(seed: int, count: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    gold, policy = rng.normal(size=count), rng.dirichlet(np.ones(count))
    score = rng.integers(3, size=count).astype(float) if ties else rng.normal(size=count)
    assert accuracy(score, gold, policy) == pytest.approx(counted(score, gold, policy), abs=1e-12)


def test_accuracy_of_gold_its_opposite_and_nothing() -> None:
    gold = np.random.default_rng(6).normal(size=3000)
    assert accuracy(3 * gold + 1, gold) == pytest.approx(1)
    assert accuracy(-gold, gold) == pytest.approx(0, abs=1e-12)
    assert accuracy(np.zeros(3000), gold) == pytest.approx(0.5)
