"""When to stop: rules that see what a real run sees, and the oracle that sees gold.

A rule is given the checkpoints of one optimisation, at P distances √KL, and names the one it would ship.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accord.diagnostics.overoptimisation import MONOTONE, PEAKED, curve, fit_form
from accord.diagnostics.statistics import FloatArray, stream
from accord.lab.policies import optimise, policy_at
from accord.lab.preferences import compare
from accord.lab.trial import Recipe, Trial

LABELLED = 8  # checkpoints that annotators see


def last_checkpoint(distance_P: FloatArray) -> int:
    """The rule of whoever looks at the proxy only: it never falls."""
    return len(distance_P) - 1


def fixed_kl(distance_P: FloatArray, kl: float) -> int:
    """The checkpoint whose KL is nearest to a budget that was fixed beforehand."""
    return int(np.argmin(np.abs(distance_P**2 - kl)))


def oracle(gold_P: FloatArray) -> int:
    """The best checkpoint. No real run can know it: it is what the others are measured against."""
    return int(np.argmax(gold_P))


def turned_down(watched_P: FloatArray) -> int:
    """The checkpoint after which a watched reward, one that is not optimised, goes down."""
    return int(np.argmax(watched_P))


def predicted_peak(distance_C: FloatArray, win_rate_C: FloatArray, distance_P: FloatArray) -> int:
    """The top of the curve that describes labelled checkpoints best, of two that peak and two that do not.

    Args:
        distance_C: √KL of C labelled checkpoints, the start (win rate one half) among them; 6 or more.
        win_rate_C: how often annotators preferred the checkpoint's answers to the start's.
        distance_P: √KL of the checkpoints to choose from.
    """
    fits = [fit_form(distance_C, win_rate_C, form) for form in PEAKED + MONOTONE]
    best = min(fits, key=lambda fit: np.inf if fit.aicc is None else fit.aicc)
    return int(np.argmax(curve(best, distance_P)))


def labelled_checkpoints(
    trial: Trial, recipe: Recipe, proxy_R: FloatArray, distance_C: FloatArray, labels_each: int
) -> FloatArray:
    """win_rate_C: how often noisy annotators prefer a checkpoint's answer to one of the start's.

    The start itself, distance 0, is not labelled: its win rate is one half.
    """
    gold_R = trial.world.gold_R
    start_R = np.full(len(gold_R), 1.0 / len(gold_R))
    win_rate_C = np.full(len(distance_C), 0.5)
    for place in np.flatnonzero(distance_C > 0):
        rng = stream(trial.seed, f"lab checkpoint {place}")
        policy_R, _ = policy_at(proxy_R, float(distance_C[place]))
        labels = compare(gold_R, labels_each, recipe.noise, rng, policy_R, start_R)
        win_rate_C[place] = labels.a_wins_N.mean()
    return win_rate_C


def split_half(trial: Trial, recipe: Recipe, distance_P: FloatArray) -> int:
    """Two reward models, each from one half of the labels and a pretraining run of its own: one is optimised
    while the other, which has not seen its errors, looks on; then the other way round. The mean of both
    stops.
    """
    pairs = trial.labels(recipe)
    half_NR = [pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]]
    score_2R = [trial.member(run, recipe.misspecification, half) for run, half in enumerate(half_NR)]
    stops = [
        distance_P[turned_down(optimise(optimised_R, distance_P, watched_R)[0])]
        for optimised_R, watched_R in (score_2R, score_2R[::-1])
    ]
    return int(np.argmin(np.abs(distance_P - np.mean(stops))))


def choices(
    trial: Trial, recipe: Recipe, score_KR: FloatArray, distance_P: FloatArray, fixed: float, labels_each: int
) -> dict[str, int]:
    """The checkpoint that each rule ships, for one reward model that is optimised to the end.

    Args:
        recipe: how the reward model was made.
        score_KR: that reward model first, then the K - 1 that look on: other pretraining, the same labels.
        distance_P: √KL of the checkpoints.
        fixed: KL budget in nats of the fixed rule.
        labels_each: labels for each of the ``LABELLED`` checkpoints of the predicted peak, the one rule that
            needs fresh labels.
    """
    gold_P, *watched_P = optimise(score_KR[0], distance_P, trial.world.gold_R, *score_KR[1:])
    distance_C = np.linspace(0.0, distance_P[-1], LABELLED + 1)
    win_rate_C = labelled_checkpoints(trial, recipe, score_KR[0], distance_C, labels_each)
    return {
        "oracle": oracle(gold_P),
        "predicted peak": predicted_peak(distance_C, win_rate_C, distance_P),
        "pessimistic ensemble": turned_down(np.min(watched_P, axis=0)),
        "split half": split_half(trial, recipe, distance_P),
        "fixed KL": fixed_kl(distance_P, fixed),
        "last checkpoint": last_checkpoint(distance_P),
    }


def labels_in_training(trial: Trial, recipe: Recipe, distance: float, extra: int) -> float:
    """Gold at a fixed distance if the ``extra`` labels of checkpoints teach the reward model instead."""
    more_R = trial.scores(replace(recipe, pairs=recipe.pairs + extra))[0]
    (gold_P,) = optimise(more_R, np.array([distance]), trial.world.gold_R)
    return float(gold_P[0])
