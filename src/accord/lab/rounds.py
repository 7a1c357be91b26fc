"""Circularity: a reward model is learned from an older policy's answers and used on newer ones.

Each round compares answers, trains again on all labels, and optimises from the start to the same KL. The arm
"fresh" compares answers of the newest policy; the control spends the same number of labels on the old one's.
"""

from __future__ import annotations

from dataclasses import dataclass

from accord.diagnostics.statistics import FloatArray, stream
from accord.lab.policies import policy_at
from accord.lab.preferences import accuracy, compare
from accord.lab.trial import Recipe, Trial


@dataclass(frozen=True, slots=True)
class Round:
    """After ``labels`` labels. ``on_policy`` is the accuracy on answers of the policy that this round
    optimised *before* the newest labels (the one that was relabelled), ``on_start`` on answers of the start,
    ``gold`` the mean gold of the policy optimised *after* them, all exact.
    """

    labels: int
    on_policy: float
    on_start: float
    gold: float


def run_rounds(trial: Trial, recipe: Recipe, rounds: int, distance: float, fresh: bool) -> list[Round]:
    """Round 0 and ``rounds`` more, each with ``recipe.pairs`` labels.

    Both arms share round 0, so that they part only in where the later labels come from. In round 0 the
    policy whose answers ``on_policy`` counts is the one that round 0 itself leads to.
    """
    gold_R = trial.world.gold_R
    pairs = trial.labels(recipe)
    score_R = trial.scores(recipe, pairs).mean(axis=0)
    policy_R, _ = policy_at(score_R, distance)
    found = [_measure(len(pairs), score_R, policy_R, policy_R, gold_R)]
    for number in range(1, rounds + 1):
        arm = "fresh" if fresh else "control"
        rng = stream(trial.seed, f"lab round {number} {arm}")
        pairs = pairs + compare(gold_R, recipe.pairs, recipe.noise, rng, policy_R if fresh else None)
        score_R = trial.scores(recipe, pairs).mean(axis=0)
        newer_R, _ = policy_at(score_R, distance)
        found.append(_measure(len(pairs), score_R, policy_R, newer_R, gold_R))
        policy_R = newer_R
    return found


def _measure(
    labels: int, score_R: FloatArray, relabelled_R: FloatArray, newest_R: FloatArray, gold_R: FloatArray
) -> Round:
    return Round(
        labels=labels,
        on_policy=accuracy(score_R, gold_R, relabelled_R),
        on_start=accuracy(score_R, gold_R),
        gold=float(newest_R @ gold_R),
    )
