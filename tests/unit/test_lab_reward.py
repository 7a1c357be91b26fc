"""Reward models of the small world: Newton against hand, scikit-learn and the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from accord.lab.ensembles import aggregate, disagreement
from accord.lab.preferences import accuracy, compare
from accord.lab.reward import RewardSettings, fit_bradley_terry
from accord.lab.trial import Recipe, Trial
from accord.lab.world import WorldSettings, make_world
from accord.records import BadInput


def test_one_pair_by_hand() -> None:
    # one feature, gap 1: ridge·w = σ(-w). At w = ln 3, σ(-w) = ¼, so the ridge is ¼ / ln 3.
    weight = fit_bradley_terry(np.array([[1.0]]), np.array([[0.0]]), 0.25 / math.log(3))
    assert weight == pytest.approx([math.log(3)])


@pytest.mark.parametrize("ridge", [0.03, 1.0, 30.0])
def test_newton_agrees_with_scikit_learn(ridge: float) -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(size=(120, 40)) * rng.exponential(size=40)
    winner = np.where(rng.random((120, 1)) < 0.5, gap, -gap)
    # The loss of (x, 1) and (-x, 0) is the same: mirroring half the rows gives the other solver two classes.
    sign = np.where(np.arange(120) % 2 == 0, 1.0, -1.0)
    other = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10, max_iter=10_000)
    other.fit(winner * sign[:, None], sign > 0)
    assert fit_bradley_terry(winner, np.zeros_like(winner), ridge) == pytest.approx(other.coef_[0], abs=1e-4)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(BadInput, match="1 pair or more"):
        fit_bradley_terry(np.zeros((0, 3)), np.zeros((0, 3)), 1.0)
    with pytest.raises(BadInput, match="ridge above 0"):
        fit_bradley_terry(np.ones((2, 3)), np.zeros((2, 3)), 0.0)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return Trial(make_world(WorldSettings(responses=3000)), RewardSettings(), seed=900)


def test_the_world_is_what_it_says(trial: Trial) -> None:
    world = trial.world
    for values in (world.gold_R, world.cause_RC):
        assert values.mean(axis=0) == pytest.approx(0, abs=1e-12)
        assert values.std(axis=0) == pytest.approx(1)
    # Gold is the weighted sum of its causes and the length: a least-squares fit leaves nothing over.
    design = np.column_stack([world.cause_RC, world.length_R, np.ones(3000)])
    left = world.gold_R - design @ np.linalg.lstsq(design, world.gold_R, rcond=None)[0]
    assert np.abs(left).max() < 1e-9
    # Concave in the length: answers of middling length beat both ends on average.
    third = np.digitize(world.length_R, np.quantile(world.length_R, [0.1, 0.9]))
    assert world.gold_R[third == 1].mean() > max(
        world.gold_R[third == 0].mean(), world.gold_R[third == 2].mean()
    )


def test_a_well_specified_model_learns_gold_and_a_blind_one_does_not(trial: Trial) -> None:
    knowing, blind = (
        accuracy(trial.scores(Recipe(20_000, 1.0, misspecification))[0], trial.world.gold_R)
        for misspecification in (0.0, 1.0)
    )
    assert knowing > 0.95
    assert blind < knowing - 0.05


def test_more_pairs_keep_the_first_ones(trial: Trial) -> None:
    few, many = trial.labels(Recipe(pairs=50)), trial.labels(Recipe(pairs=5000))
    assert few.a_N.tolist() == many.a_N[:50].tolist()
    noisy = trial.labels(Recipe(pairs=5000, noise=4.0))
    assert many.b_N.tolist() == noisy.b_N.tolist()
    assert 0.1 < np.mean(many.a_wins_N != noisy.a_wins_N) < 0.5


def test_labels_do_not_depend_on_what_was_asked_before() -> None:
    world = make_world(WorldSettings(responses=1000))
    fresh = Trial(world, RewardSettings(), seed=1).scores(Recipe(100, members=3))[2]
    used = Trial(world, RewardSettings(), seed=1)
    used.scores(Recipe(40, noise=2.0))
    assert used.scores(Recipe(100, members=3))[2].tolist() == fresh.tolist()
    compare(world.gold_R, 5, 1.0, np.random.default_rng(0))


def test_members_of_their_own_and_shared_ones(trial: Trial) -> None:
    own = trial.scores(Recipe(200, members=2))
    shared = trial.scores(Recipe(200, members=2, shared=True))
    assert own[0].tolist() == trial.scores(Recipe(200))[0].tolist()
    apart = [np.corrcoef(pair)[0, 1] for pair in (own, shared)]
    assert max(apart) < 0.999


def test_aggregations_by_hand() -> None:
    score = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0]])
    assert aggregate(score, "mean") == pytest.approx([3, 1])
    assert aggregate(score, "worst_case") == pytest.approx([1, 0])
    # variances 8/3 and 2, λ ½
    assert aggregate(score, "uncertainty_weighted") == pytest.approx([3 - 4 / 3, 1 - 1])
    # the mean variance under ¼, ¾ is 2/3 + 3/2
    assert disagreement(score, np.array([0.25, 0.75])) == pytest.approx(math.sqrt(8 / 12 + 3 / 2))
