"""Floors on the evaluated pairs: who learns from what, and the paired gain by hand."""

from __future__ import annotations

import numpy as np
import pytest

from accord.diagnostics.reward_floors import (
    Floors,
    floor_table,
    folds_of,
    length_rule_correct,
    measured_floors,
)
from accord.records import BadInput
from tests.unit.comparisons import compared


def short_wins(count: int, name: str):
    return [compared(f"{name} {i}", "good", "bad and long", "a") for i in range(count)]


def test_the_length_rule_learns_which_way_length_points() -> None:
    test = [compared("p", "xx", "xxxx", "a"), compared("q", "xxxx", "x", "a"), compared("r", "x", "y", "b")]
    # trained where the short one wins: right, wrong, equal lengths one half
    assert length_rule_correct(short_wins(3, "t"), test).tolist() == [1, 0, 0.5]
    longer = [compared("t", "long answer", "x", "a")]
    assert length_rule_correct(longer, test).tolist() == [0, 1, 0.5]


def test_training_pairs_teach_the_floors() -> None:
    floors = measured_floors(short_wins(30, "train"), short_wins(10, "test"))
    assert floors.learned_from == "30 training pairs"
    assert floors.correct["bag_of_words"].tolist() == [1] * 10
    assert floors.correct["length_rule"].tolist() == [1] * 10
    assert floors.correct["always_longer"].tolist() == [0] * 10
    assert floors.correct["chance"].tolist() == [0.5] * 10


def test_without_training_pairs_floors_are_cross_fitted_over_prompts() -> None:
    floors = measured_floors([], short_wins(20, "p"))
    assert "cross-fitted over 5 folds of prompts" in floors.learned_from
    assert floors.correct["bag_of_words"].tolist() == [1] * 20
    assert floors.correct["length_rule"].tolist() == [1] * 20


def test_a_floor_never_learns_from_the_prompt_it_answers() -> None:
    """Each prompt has a winning word of its own, three times: whoever had seen it would be right."""
    rows = [
        compared(f"p{i}", f"w{i} x{j}", f"v{i} x{j}", "a" if j % 2 else "b")
        for i in range(12)
        for j in range(3)
    ]
    rows = [compared(r.prompt.text, f"win{r.prompt.text}", f"lose{r.prompt.text}", "a") for r in rows]
    for training in ([], rows):  # training on the very same prompts must not help either
        floors = measured_floors(training, rows)
        assert set(floors.correct["bag_of_words"].tolist()) == {0.5}
    with_leak = measured_floors([*rows, *short_wins(4, "train")], rows)
    assert with_leak.learned_from == "4 training pairs"


def test_folds_keep_prompts_together_and_do_not_depend_on_the_order() -> None:
    keys = [f"p{i // 2}" for i in range(20)]
    folds = folds_of(keys, 5, 0)
    assert all(folds[i] == folds[i + 1] for i in range(0, 20, 2))
    assert folds_of(keys[::-1], 5, 0) == folds[::-1]
    assert sorted(np.bincount(folds).tolist()) == [4] * 5
    assert folds_of(keys, 5, 1) != folds


def test_gain_is_the_paired_difference() -> None:
    # right on 4 of 4, the floor on 2 of 4: the gain per prompt is 0, 1, 0, 1
    floors = Floors({"floor": np.array([1.0, 0.0, 1.0, 0.0]), "chance": np.full(4, 0.5)}, "x")
    table = floor_table(np.ones(4), floors, list("pqrs"))
    assert table["floor"]["accuracy"] == 0.5
    assert table["floor"]["gain"] == 0.5
    assert table["chance"]["interval"] == (0.5, 0.5)
    assert table["chance"]["gain"] == 0.5
    same = floor_table(np.array([1.0, 0.0, 1.0, 0.0]), floors, list("pqrs"))
    assert same["floor"]["gain"] == 0
    assert same["floor"]["gain_interval"] == (0, 0)  # paired: equal on every pair is no gain, without doubt


def test_one_prompt_and_no_winner() -> None:
    floors = measured_floors([], [compared("p", "a", "bb"), compared("p", "ccc", "d")])
    assert floors.learned_from == "nothing: there is one prompt only"
    assert floors.correct["bag_of_words"].tolist() == [0.5, 0.5]
    with pytest.raises(BadInput, match="none of 1 comparisons names a winner"):
        measured_floors([], [compared("p", "a", "b", "tie")])
