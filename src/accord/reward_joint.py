"""Annotators fitted together with a reward model: in turns, each held fixed while the other is fitted.

An epoch of the reward model on labels that are read through their annotators, then the annotators' inverse
temperatures and side biases to its scores (`reward_annotators.fit_to_scores`), and again. Both turns raise
the same posterior: labels given scores and annotators (`preference_losses.annotator_bradley_terry`), times
the annotators' prior (`preference_losses.annotator_prior`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from accord.annotators import Annotators
from accord.reward_annotators import fit_to_scores
from accord.reward_examples import Data
from accord.reward_lessons import by_annotators
from accord.reward_trainer import RewardTrainer
from accord.towers import TrunkStates


def refitted(data: Data, trainer: RewardTrainer, trunk: TrunkStates | None) -> Data:
    """The data with annotators fitted to the model's present scores of the training pairs.

    Raises:
        BadInput: no label names its annotator; every score is the same.
    """
    pairs = [n for n, lesson in enumerate(data.kept) if not lesson.ranks]
    raw = trainer.scorer.score_groups([data.examples[n].group for n in pairs], trunk)
    score_N2 = raw.view(-1, 2).double().numpy()
    rows = [data.kept[n].row for n in pairs]
    return taught_by(data, fit_to_scores(rows, score_N2[:, 0] - score_N2[:, 1]))


def taught_by(data: Data, annotators: Annotators) -> Data:
    """The data with every label read through these annotators; ``data`` itself as it was first read."""
    examples = [
        replace(example, scale=lesson.scale, margin=lesson.margin)
        for example, lesson in zip(data.examples, by_annotators(data.kept, annotators), strict=True)
    ]
    return replace(data, examples=examples, annotators=annotators)


def to_state(annotators: Annotators | None) -> dict[str, Any]:
    """Plain values for a training state; {} for none."""
    if annotators is None:
        return {}
    state = {field.name: getattr(annotators, field.name) for field in fields(Annotators)}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}


def from_state(state: Mapping[str, Any]) -> Annotators | None:
    """The inverse of `to_state`."""
    if not state:
        return None
    arrays = {k: np.array(v) for k, v in state.items() if k.endswith("_J")}
    return Annotators(names=tuple(state["names"]), log_likelihood=state["log_likelihood"], **arrays)
