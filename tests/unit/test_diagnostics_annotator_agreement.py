"""Agreement between annotators, counted by hand; which answer is called a does not matter."""

from __future__ import annotations

import pytest

from accord.diagnostics.annotator_agreement import (
    best_reachable,
    ceiling,
    contradicted,
    labels_by_pair,
    majority_share,
    oriented,
    pair_key,
)
from tests.unit.comparisons import compared


def test_a_pair_is_the_same_with_its_sides_exchanged() -> None:
    one, other = compared("p", "x", "y", "a"), compared("P ", "y", "x", "b")
    assert pair_key(one)[0] == pair_key(other)[0]
    assert oriented(one) == oriented(other) == "first"
    assert oriented(compared("p", "y", "x", "a")) == "second"
    assert oriented(compared("p", "x", "y", "skip")) is None
    assert pair_key(compared("q", "x", "y"))[0] != pair_key(one)[0]


def three_annotators():
    """Pair 1: x, x, y. Pair 2: x, x, x. Pair 3: one annotator. Pair 4: tie, x."""
    return [
        compared("p", "x", "y", "a", "ann"),
        compared("p", "y", "x", "b", "bob"),
        compared("p", "x", "y", "b", "cat"),
        compared("q", "x", "y", "a", "ann"),
        compared("q", "x", "y", "a", "bob"),
        compared("q", "x", "y", "a", "cat"),
        compared("r", "x", "y", "b", "ann"),
        compared("s", "x", "y", "tie", "ann"),
        compared("s", "x", "y", "a", "bob"),
    ]


def test_agreement_by_hand() -> None:
    found = ceiling(three_annotators())
    assert (found["pairs"], found["labels"], found["annotators"]) == (3, 8, 3)
    # of the pairs of labels agree: 1 of 3, 3 of 3, 0 of 1; each pair of answers counts once
    assert found["agreement"] == pytest.approx((1 / 3 + 1 + 0) / 3)
    # winners only: 1/3 and 1; the fourth pair has one winner left
    assert found["decided_agreement"] == pytest.approx(2 / 3)
    assert found["agreement_interval"][0] < found["agreement"] < found["agreement_interval"][1]


def test_majority_share_by_hand() -> None:
    rows = three_annotators()
    assert majority_share(rows, [rows[0], rows[3], rows[6], rows[8]]) == [
        pytest.approx(2 / 3),
        1.0,
        None,
        0.5,
    ]


def test_contradictions_and_what_can_be_reached() -> None:
    rows = three_annotators()
    assert contradicted(rows) == 1
    # winners: pair 1 two of three, pair 2 three of three, pair 3 one of one, pair 4 one of one
    assert best_reachable(rows) == pytest.approx(7 / 8)
    assert best_reachable([compared("p", "x", "y", "tie")]) is None
    # the same annotator twice, both ways: it contradicts itself
    both = [compared("p", "x", "y", "a", "ann"), compared("p", "x", "y", "b", "ann")]
    assert contradicted(both) == 1
    assert labels_by_pair(both)[pair_key(both[0])[0]] == {"ann": "second"}


def test_why_there_is_no_ceiling() -> None:
    unnamed = ceiling([compared("p", "x", "y"), compared("p", "x", "y")])
    assert unnamed["agreement"] is None
    assert unnamed["reason"] == "no annotator is named"
    alone = ceiling([compared("p", "x", "y", "a", "ann")])
    assert alone["reason"] == "1 named annotator(s), and no pair was judged by two of them"
