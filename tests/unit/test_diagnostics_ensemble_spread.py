"""Disagreement between members: by hand, scale and origin of a member do not count."""

from __future__ import annotations

import numpy as np
import pytest

from accord.diagnostics.ensemble_spread import ensemble_spread
from accord.records import BadInput

PROMPTS = np.arange(40)


def test_ratio_by_hand() -> None:
    # Every prompt has the same four SFT samples, so that every fold has the same mean .5 and deviation .5
    base = np.tile([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]], (1, 10))
    # Standardised, the two members differ by 0, 0, 2, 2: variance over two is difference²/2, mean 1.
    # On the policy's samples (3 and -1, -1 and 3) they differ by 4: variance 8.
    policy = np.tile([[2.0, 0.0], [0.0, 2.0]], (1, 10))
    finding = ensemble_spread(base, policy, np.repeat(np.arange(10), 4), np.repeat(np.arange(10), 2))
    assert finding.figure == pytest.approx(np.sqrt(8))
    assert finding.interval == pytest.approx((np.sqrt(8), np.sqrt(8)))
    assert finding.evidence["base_spread"] == pytest.approx(1)
    assert finding.evidence["policy_spread"] == pytest.approx(np.sqrt(8))


def test_units_of_a_member_do_not_count() -> None:
    rng = np.random.default_rng(0)
    base, policy = rng.normal(size=(3, 40)), 1 + rng.normal(size=(3, 40))
    scale, origin = np.array([[1.0], [20.0], [0.1]]), np.array([[0.0], [5.0], [-3.0]])
    one = ensemble_spread(base, policy, PROMPTS, PROMPTS)
    other = ensemble_spread(scale * base + origin, scale * policy + origin, PROMPTS, PROMPTS)
    assert one.figure == pytest.approx(other.figure)
    assert one.interval == pytest.approx(other.interval)


def test_growth_warns_and_none_does_not() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=40)
    base = truth + rng.normal(0, 0.3, (5, 40))
    grown = ensemble_spread(base, 2 + truth + rng.normal(0, 0.9, (5, 40)), PROMPTS, PROMPTS)
    assert (grown.verdict, grown.figure) == ("warn", pytest.approx(3, abs=0.6))
    assert ensemble_spread(base, 2 + truth + rng.normal(0, 0.3, (5, 40)), PROMPTS, PROMPTS).verdict == "good"
    assert ensemble_spread(base, base, [1] * 40, [1] * 40).verdict == "unknown"


@pytest.mark.parametrize(
    ("base", "policy", "message"),
    [
        (np.ones((1, 4)), np.ones((1, 4)), "2 members or more"),
        (np.ones((2, 4)), np.ones((2, 4)), "the same score, so its scores have no unit"),
        (np.arange(8.0).reshape(2, 4), np.ones((3, 4)), "the same members on both"),
        (np.arange(8.0).reshape(2, 4), np.ones((2, 4)), "an ensemble of copies"),
        (np.arange(8.0).reshape(2, 4) ** 2, np.ones((2, 3)), "4 and 3 samples but 4 and 4 prompts"),
    ],
)
def test_what_cannot_be_compared_is_refused(base: np.ndarray, policy: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ensemble_spread(base, policy, list("pqrs"), list("pqrs"))
