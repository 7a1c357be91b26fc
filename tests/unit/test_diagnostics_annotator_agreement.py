"""Agreement between annotators, counted by hand; which answer is called a does not matter."""

from __future__ import annotations

import pytest

from accord.diagnostics.annotator_agreement import (
    best_reachable,
    ceiling,
    contradicted,
    labels_by_pair,
    majority_share,
    pair_key,
    winner,
)
from tests.unit.comparisons import compared


def test_a_pair_is_the_same_with_its_sides_exchanged() -> None:
    one, other = compared("p", "x", "y", "a"), compared("P ", "y", "x", "b")
    assert pair_key(one) == pair_key(other)
    assert winner(one) == winner(other) == "first"
    assert winner(compared("p", "y", "x", "a")) == "second"
    assert winner(compared("p", "x", "y", "skip")) is None
    assert pair_key(compared("q", "x", "y")) != pair_key(one)
    assert pair_key(compared("p", "x", "y", criterion="harmless")) != pair_key(one)  # another question


def three_annotators():
    """Pair 1: x, x, y. Pair 2: x, x, x. Pair 3: one annotator. Pair 4: tie, x. And a label without a name."""
    return [
        compared("p", "x", "y", "a", "ann"),
        compared("p", "y", "x", "b", "bob"),
        compared("p", "x", "y", "b", "cat"),
        compared("q", "x", "y", "a", "ann"),
        compared("q", "x", "y", "a", "bob"),
        compared("q", "x", "y", "a", "cat"),
        compared("r", "x", "y", "b", "ann"),
        compared("r", "x", "y", "b", ""),
        compared("s", "x", "y", "tie", "ann"),
        compared("s", "x", "y", "a", "bob"),
    ]


def test_agreement_by_hand() -> None:
    found = ceiling(three_annotators())
    assert (found["pairs"], found["labels"], found["annotators"]) == (3, 8, 3)
    # pairs of labels that agree: 1 of 3, 3 of 3, 0 of 1
    assert found["agreement"] == pytest.approx(4 / 7)
    # those that name a winner: 1 of 3 and 3 of 3
    assert found["decided_agreement"] == pytest.approx(4 / 6)
    # alpha: x 6 times, y once, tie once of 8; disagreement 2·2/2 + 2/1 = 4 against (64 − 38) / 7
    assert found["krippendorff_alpha"] == pytest.approx(1 - 4 / (26 / 7))
    # kappa, weighted by the pairs of answers shared. ann–bob on p, q, s: x x, x x, tie x: .667 − .667 over
    # .333 is 0. ann–cat and bob–cat on p, q: x y, x x: .5 − .5 over .5 is 0
    assert found["cohens_kappa"] == pytest.approx(0)


def test_majority_share_by_hand() -> None:
    rows = three_annotators()
    assert majority_share(rows, [rows[0], rows[3], rows[6], rows[9]]) == [
        pytest.approx(2 / 3),
        1.0,
        None,
        0.5,
    ]


def test_contradictions_and_what_can_be_reached() -> None:
    rows = three_annotators()
    assert contradicted(rows) == 1
    # winners: pair 1 two of three, pair 2 three of three, pair 3 two of two, pair 4 one of one
    assert best_reachable(rows) == pytest.approx(8 / 9)
    assert best_reachable([compared("p", "x", "y", "tie")]) is None
    # the same annotator twice, both ways: it contradicts itself
    both = [compared("p", "x", "y", "a", "ann"), compared("p", "x", "y", "b", "ann")]
    assert contradicted(both) == 1
    assert labels_by_pair(both)[pair_key(both[0])] == {"ann": "second"}
    # two questions about one pair may be answered differently
    asked = [
        compared("p", "x", "y", "a", criterion="helpful"),
        compared("p", "x", "y", "b", criterion="harmless"),
    ]
    assert contradicted(asked) == 0


def test_why_there_is_no_ceiling() -> None:
    unnamed = ceiling([compared("p", "x", "y"), compared("p", "x", "y")])
    assert unnamed["agreement"] is None
    assert unnamed["reason"] == "no annotator is named"
    alone = ceiling([compared("p", "x", "y", "a", "ann"), compared("p", "x", "y", "a", "")])
    assert alone["reason"] == "1 named annotator(s), and no pair was judged by two of them"


def test_where_all_always_say_the_same_nothing_lies_beyond_chance() -> None:
    found = ceiling([compared(f"p{i}", "x", "y", "a", name) for i in range(5) for name in ("ann", "bob")])
    assert found["agreement"] == 1
    assert found["krippendorff_alpha"] is None
    assert found["cohens_kappa"] is None
