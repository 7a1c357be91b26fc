"""Shaping and penalties of length, by hand."""

from __future__ import annotations

import pytest
from torch import tensor
from torch.testing import assert_close

from accord.constraints import ConstraintMultiplier
from accord.records import BadInput
from accord.reward_terms import length_penalty, shape, soft_overlong


def test_shaping_by_hand():
    score = tensor([-3.0, 0.0, 1.0, 8.0])
    assert_close(shape(score, "none", centre=1.0, limit=2.0), score)
    assert_close(shape(score, "clip", centre=1.0, limit=2.0), tensor([-1.0, 0.0, 1.0, 3.0]))
    # σ(−4), σ(−1), σ(0), σ(7)
    expected = tensor([0.01798621, 0.26894143, 0.5, 0.99908894])
    assert_close(shape(score, "sigmoid", centre=1.0, limit=2.0), expected)
    # mean 1.5, squared deviations 20.25 + 2.25 + 0.25 + 42.25 = 65, over 4: deviation 4.0311289
    assert_close(shape(score, "whiten", centre=0.0, limit=1.0), score / 4.0311289)
    equal = tensor([2.0, 2.0])
    assert_close(shape(equal, "whiten", centre=0.0, limit=1.0), equal)


def test_length_penalties_by_hand():
    length = tensor([1, 16, 18, 20])
    assert_close(length_penalty(length, 0.5), tensor([-0.5, -8.0, -9.0, -10.0]))
    # limit 20, buffer 4: nothing up to 16, half at 18, all at 20
    found = soft_overlong(length, limit=20, buffer_tokens=4, penalty=2.0)
    assert_close(found, tensor([0.0, 0.0, -1.0, -2.0]))


def test_constraint_multiplier_by_hand():
    one = ConstraintMultiplier(threshold=1.0, rate=0.5)
    assert one.update(0.0) == 0.5  # broken by 1
    assert one.update(-1.0) == 1.5
    assert one.update(2.0) == 1.0
    assert one.update(9.0) == 0.0  # never below 0
    with pytest.raises(ValueError, match="leave the step out"):
        one.update(float("nan"))
    with pytest.raises(BadInput, match="rate is 0"):
        ConstraintMultiplier(0.0, 0.0)
