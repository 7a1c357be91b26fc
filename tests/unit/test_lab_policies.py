"""Exact policies: numbers by hand, the theorem that they solve, and best-of-n counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.diagnostics.best_of_n import best_of_n_kl
from accord.lab.policies import best_of_n, kl_to_start, optimise, policy_at, tilted
from accord.records import BadInput


def test_a_tilt_by_hand() -> None:
    # scores 0 and ln 3 at 1/β = 1: weights 1 and 3; KL = ¼ ln ½ + ¾ ln 1½
    policy = tilted(np.array([0.0, math.log(3)]), 1.0)
    assert policy == pytest.approx([0.25, 0.75])
    assert kl_to_start(policy) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert kl_to_start(policy) == pytest.approx(0.130_812, abs=1e-6)


def test_a_policy_that_never_says_something_has_a_kl() -> None:
    assert kl_to_start(np.array([0.5, 0.5, 0.0, 0.0])) == pytest.approx(math.log(2))


def test_the_tilted_policy_maximises_reward_minus_kl() -> None:
    """Its value is β ln mean exp(score/β), and no other policy of 500 tried has more."""
    rng = np.random.default_rng(0)
    score, beta = rng.normal(size=40), 0.7
    policy = tilted(score, 1 / beta)

    def value(one: np.ndarray) -> float:
        return float(one @ score) - beta * kl_to_start(one)

    assert value(policy) == pytest.approx(beta * math.log(np.mean(np.exp(score / beta))))
    others = [policy * np.exp(0.3 * rng.normal(size=40)) for _ in range(500)]
    assert max(value(one / one.sum()) for one in others) < value(policy)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.01, 1.5),
    st.sampled_from(["normal", "cauchy", "two values", "tiny", "huge"]),
)
def test_the_kl_asked_for_is_the_kl_that_comes(seed: int, distance: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    score = {
        "normal": rng.normal(size=300),
        "cauchy": rng.standard_cauchy(size=300),
        "two values": (np.arange(300) < 5).astype(float),
        "tiny": 1e-9 * rng.normal(size=300),
        "huge": 1e9 * rng.normal(size=300),
    }[kind]
    policy, inverse = policy_at(score, distance)
    assert policy.sum() == pytest.approx(1)
    assert kl_to_start(policy) == pytest.approx(distance**2, abs=1e-7)
    assert inverse > 0


def test_a_distance_that_no_policy_reaches_is_refused() -> None:
    with pytest.raises(BadInput, match=r"needs KL 9\.00, but 100 responses"):
        policy_at(np.arange(100.0), 3.0)
    with pytest.raises(BadInput, match=r"allow 0\.00 at most"):
        policy_at(np.zeros(100), 0.5)


def test_gaussian_scores_rise_by_the_square_root_of_twice_the_kl() -> None:
    """For a normal score E[score] = λ and KL = λ²/2, so at distance d the mean is √2·d."""
    score = np.random.default_rng(1).normal(size=400_000)
    distance = np.array([0.0, 0.5, 1.0, 1.5])
    (mean,) = optimise(score, distance, score)
    assert mean == pytest.approx(math.sqrt(2) * distance, abs=0.03)


def test_best_of_two_of_three_by_hand() -> None:
    # the smallest wins only against itself: 1/9; then 3/9 and 5/9
    assert best_of_n(np.array([5.0, -1.0, 2.0]), 2) == pytest.approx([5 / 9, 1 / 9, 3 / 9])
    assert best_of_n(np.array([1.0, 1.0, 0.0]), 2) == pytest.approx([4 / 9, 4 / 9, 1 / 9])


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_best_of_n_has_the_kl_of_the_formula(n: int) -> None:
    score = np.random.default_rng(2).normal(size=30_000)
    assert kl_to_start(best_of_n(score, n)) == pytest.approx(best_of_n_kl(n), abs=2e-3)
