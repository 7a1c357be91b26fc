"""Stop rules and rounds of the small world: what each picks, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from accord.diagnostics.statistics import stream
from accord.lab import stopping
from accord.lab.policies import policy_at
from accord.lab.preferences import accuracy, compare
from accord.lab.rounds import run_rounds
from accord.lab.trial import Recipe, Trial
from accord.lab.world import make_world
from tests.small_lab import small

DISTANCE = np.linspace(0.0, 2.0, 21)


@pytest.fixture(scope="module")
def trial() -> Trial:
    settings = small()
    return Trial(make_world(settings.world), settings.reward, seed=5)


def test_simple_rules_by_hand() -> None:
    assert stopping.last_checkpoint(DISTANCE) == 20
    assert stopping.fixed_kl(DISTANCE, 1.0) == 10  # √1 = 1.0
    assert stopping.fixed_kl(DISTANCE, 2.89) == 17
    assert stopping.oracle(np.array([0.0, 0.4, 0.9, 0.2])) == 2
    assert stopping.turned_down(np.array([0.0, 1.0, 0.5, 0.7])) == 1


def test_the_peak_of_gaos_curve_is_found_from_a_few_noisy_checkpoints() -> None:
    labelled = np.linspace(0.0, 2.0, 9)
    noise = 0.01 * np.array([1, -1, 1, 1, -1, -1, 1, -1, 0])
    # d(α - β d) peaks at α/2β = .6 / (2·.3) = 1
    found = stopping.predicted_peak(labelled, 0.5 + labelled * (0.6 - 0.3 * labelled) + noise, DISTANCE)
    assert DISTANCE[found] == pytest.approx(1.0, abs=0.1)
    # a line has no peak: the last checkpoint
    assert stopping.predicted_peak(labelled, 0.5 + 0.1 * labelled, DISTANCE) == 20


def test_labelled_checkpoints_are_compared_with_the_start(trial: Trial) -> None:
    gold = trial.world.gold_R
    # Optimised for gold itself, a pushed policy wins nearly always; the start is not labelled.
    won = stopping.labelled_checkpoints(trial, Recipe(60, 0.05), gold, np.array([0.0, 0.3, 1.6]), 400)
    assert won[0] == 0.5
    assert 0.5 < won[1] < won[2]
    assert won[2] > 0.9


def test_rules_of_a_perfect_reward_model_never_stop_early(trial: Trial) -> None:
    recipe = Recipe(60, 0.5)
    gold = trial.world.gold_R
    found = stopping.choices(trial, recipe, np.stack([gold, gold, gold]), np.linspace(0, 1.6, 11), 1.0, 50)
    assert (found["oracle"], found["pessimistic ensemble"], found["last checkpoint"]) == (10, 10, 10)
    assert found["fixed KL"] == 6  # .96² = .92 is nearer to 1 than 1.12² = 1.25


def test_the_pessimistic_ensemble_listens_to_the_member_that_dissents(trial: Trial) -> None:
    gold = trial.world.gold_R
    found = stopping.choices(
        trial, Recipe(60, 0.5), np.stack([gold, gold, -gold]), np.linspace(0, 1.6, 11), 1.0, 50
    )
    assert found["pessimistic ensemble"] == 0


def test_rounds_share_the_first_and_part_then(trial: Trial) -> None:
    recipe = Recipe(60, 0.5)
    fresh, control = (run_rounds(trial, recipe, 2, 1.2, kind) for kind in (True, False))
    assert [one.labels for one in fresh] == [one.labels for one in control] == [60, 120, 180]
    assert fresh[0] == control[0]
    assert fresh[1] != control[1]
    # Round 0 by its definition: the model of the first 60 labels, on answers of the policy that it leads to.
    score = trial.scores(recipe)[0]
    policy, _ = policy_at(score, 1.2)
    assert fresh[0].on_policy == pytest.approx(accuracy(score, trial.world.gold_R, policy))
    assert fresh[0].gold == pytest.approx(float(policy @ trial.world.gold_R))
    # Round 1 by its definition: that policy's answers are labelled, and accuracy is counted on them, not on
    # answers of the next policy. The control labels answers of the start.
    for arm, asked, found in (("fresh", policy, fresh[1]), ("control", None, control[1])):
        new = compare(trial.world.gold_R, 60, 0.5, stream(5, f"lab round 1 {arm}"), asked)
        later = trial.scores(recipe, trial.labels(recipe) + new)[0]
        newer, _ = policy_at(later, 1.2)
        assert found.on_policy == pytest.approx(accuracy(later, trial.world.gold_R, policy))
        assert found.on_start == pytest.approx(accuracy(later, trial.world.gold_R))
        assert found.gold == pytest.approx(float(newer @ trial.world.gold_R))
