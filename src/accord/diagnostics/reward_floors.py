"""The floors beside a reward model, on the very pairs that it is judged on, and its gain over each.

Floors that learn (a bag of words, which way length points) learn from other prompts: from training pairs
where there are any, else by cross-fitting over prompts. So they stand in every table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.diagnostics.floors import (
    always_longer_correct,
    bag_of_words_correct,
    decided,
    prompt_keys,
)
from accord.diagnostics.statistics import FloatArray, cluster_bootstrap, clustered_share
from accord.records import BadInput, Comparison, content_hash

FOLDS = 5
FLOORS = ("always_longer", "length_rule", "bag_of_words", "chance")
LENGTH_FLOORS = ("always_longer", "length_rule")


@dataclass(frozen=True)
class Floors:
    """correct_N of every floor over the decided pairs, in order, and what the learned ones learned from."""

    correct: dict[str, FloatArray]
    learned_from: str


def length_rule_correct(train: Sequence[Comparison], test: Sequence[Comparison]) -> FloatArray:
    """correct_N of "the longer one" or "the shorter one", whichever is right more often on ``train``.

    Where people prefer short answers, "always longer" is no floor at all: its opposite is.
    """
    longer_N = always_longer_correct(test)
    return longer_N if always_longer_correct(train).mean() >= 0.5 else 1 - longer_N


def folds_of(keys: Sequence[str], folds: int, seed: int) -> list[int]:
    """The fold of each row. Prompts are dealt out in the order of a hash, so folds differ by one prompt."""
    order = sorted(set(keys), key=lambda key: content_hash(key, str(seed), "floor folds"))
    place = {key: i % folds for i, key in enumerate(order)}
    return [place[key] for key in keys]


def _cross_fitted(test: Sequence[Comparison], seed: int) -> tuple[FloatArray, FloatArray]:
    """(bag of words, length rule): each row by what the other folds' prompts teach."""
    keys = prompt_keys(test)
    folds = min(FOLDS, len(set(keys)))
    words_N, length_N = np.full(len(test), 0.5), np.full(len(test), 0.5)
    if folds < 2:
        return words_N, length_N
    fold_N = np.array(folds_of(keys, folds, seed))
    for fold in range(folds):
        inside_N = fold_N == fold
        others = [row for row, held in zip(test, inside_N, strict=True) if not held]
        held_out = [row for row, held in zip(test, inside_N, strict=True) if held]
        length_N[inside_N] = length_rule_correct(others, held_out)
        if len(others) > 1:
            words_N[inside_N] = bag_of_words_correct(others, held_out)
    return words_N, length_N


def measured_floors(train: Sequence[Comparison], test: Sequence[Comparison], seed: int = 0) -> Floors:
    """Every floor on the decided pairs of ``test``.

    Training pairs whose prompt is among the test prompts are not learned from.

    Raises:
        BadInput: no pair of ``test`` names a winner.
    """
    rows = decided(test)
    if not rows:
        raise BadInput(
            f"none of {len(test)} comparisons names a winner, so nothing can be right or wrong:"
            " give pairs that name a better side"
        )
    held_out = set(prompt_keys(rows))
    usable = [row for row in decided(train) if row.prompt.key not in held_out]
    if len(usable) > 1:
        words_N, length_N = bag_of_words_correct(usable, rows), length_rule_correct(usable, rows)
        learned_from = f"{len(usable)} training pairs"
    else:
        words_N, length_N = _cross_fitted(rows, seed)
        learned_from = f"the evaluated pairs, cross-fitted over {min(FOLDS, len(held_out))} folds of prompts"
        if len(held_out) < 2:
            learned_from = "nothing: there is one prompt only"
    found = {
        "always_longer": always_longer_correct(rows),
        "length_rule": length_N,
        "bag_of_words": words_N,
        "chance": np.full(len(rows), 0.5),
    }
    return Floors(found, learned_from)


def floor_table(
    right_N: FloatArray, floors: Floors, prompt_N: Sequence[str], samples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Accuracy of each floor, and the reward model's paired gain over it, both with intervals over prompts.

    The gain is a bootstrap of the difference on the same pairs, which is narrower than the difference of two
    intervals, and is what "better than" means.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, correct_N in floors.correct.items():
        share = clustered_share(correct_N, prompt_N, samples, seed)
        gain = cluster_bootstrap(right_N - correct_N, prompt_N, samples=samples, seed=seed)
        table[name] = {
            "accuracy": share.figure,
            "interval": (0.5, 0.5) if name == "chance" else share.bounds,
            "gain": gain.figure,
            "gain_interval": gain.bounds,
        }
    return table
