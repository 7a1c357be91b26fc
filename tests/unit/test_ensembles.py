"""Aggregation of ensemble members against numbers derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor, zeros
from torch.testing import assert_close

from accord.ensembles import (
    lower_confidence_bound,
    mean_minus_variance,
    mean_score,
    member_variance,
    reference_statistics,
    standardise,
    worst_case,
)


def f64(values) -> Tensor:
    return tensor(values, dtype=torch.float64)


# three members, two responses: the first 1, 2, 6 (mean 3, variance (4 + 1 + 9) / 3), on the second all agree
SCORES = f64([[1.0, 4.0], [2.0, 4.0], [6.0, 4.0]])


def test_by_hand():
    assert_close(mean_score(SCORES), f64([3.0, 4.0]))
    assert_close(worst_case(SCORES), f64([1.0, 4.0]))
    assert_close(member_variance(SCORES), f64([14 / 3, 0.0]))
    assert_close(lower_confidence_bound(SCORES, 1.5), f64([3 - 1.5 * math.sqrt(14 / 3), 4.0]))


def test_uncertainty_weighting_takes_the_variance_and_not_the_deviation():
    # 3 − .3 · 14/3 = 1.6; the standard deviation would give 3 − .3 · 2.1602 = 2.352, E − 1 would give .9
    assert_close(mean_minus_variance(SCORES, 0.3), f64([1.6, 4.0]))
    # doubling every score quadruples the penalty, as a variance does
    assert_close(mean_minus_variance(2 * SCORES, 0.3), f64([6 - 4 * 1.4, 8.0]))


def test_members_are_standardised_each_by_itself():
    # member 1 over the reference 0, 2, 4: mean 2, deviation 2; member 2 over 10, 10.5, 11: 10.5 and .5
    reference = f64([[0.0, 2.0, 4.0], [10.0, 10.5, 11.0]])
    mean, deviation = reference_statistics(reference)
    assert_close(mean, f64([2.0, 10.5]))
    assert_close(deviation, f64([2.0, 0.5]))
    # new scores 6 and 10: 2 and −1. The worst is the second; by raw scores it would be the first
    new = standardise(f64([[6.0], [10.0]]), mean, deviation)
    assert_close(new, f64([[2.0], [-1.0]]))
    assert_close(worst_case(new), f64([-1.0]))


def test_one_member_is_itself_under_every_rule():
    one = SCORES[2:]
    for value in (
        mean_score(one),
        worst_case(one),
        mean_minus_variance(one, 0.5),
        lower_confidence_bound(one, 2),
    ):
        assert_close(value, one[0])


def test_no_pessimism_is_the_mean():
    assert_close(mean_minus_variance(SCORES, 0.0), mean_score(SCORES))
    assert_close(lower_confidence_bound(SCORES, 0.0), mean_score(SCORES))


def test_what_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match=r"members \[1\] of 3 give every response the same score"):
        reference_statistics(f64([[0.0, 1.0], [2.0, 2.0], [0.0, 3.0]]))
    with pytest.raises(ValueError, match=r"members \[0\] of 2 gave scores that are NaN"):
        reference_statistics(f64([[math.nan, 1.0], [2.0, 3.0]]))
    with pytest.raises(ValueError, match="2 reference responses or more, got 1"):
        reference_statistics(f64([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="would reward disagreement"):
        mean_minus_variance(SCORES, -0.1)
    with pytest.raises(ValueError, match="z is nan"):
        lower_confidence_bound(SCORES, math.nan)
    with pytest.raises(ValueError, match="1 member or more"):
        mean_score(zeros(0, 3))
