"""Drift: against scikit-learn's AUC, a plain loop for MMD, and exactness of the permutation test."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel as sklearn_rbf

from accord.diagnostics import drift_classifier
from accord.diagnostics.drift_classifier import classifier_drift
from accord.diagnostics.drift_features import prompt_folds, word_features
from accord.diagnostics.drift_mmd import mmd_drift, rbf_kernel, squared_mmd
from accord.diagnostics.drift_outliers import held_out_distances, latent_outliers
from accord.diagnostics.statistics import stream
from accord.records import BadInput

PROMPTS = np.repeat(np.arange(40), 2)


def sides(shift: float, seed: int = 0, columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two answers a prompt on each side; what the prompt asks for is common to both."""
    rng = np.random.default_rng(seed)
    level = 2 * rng.normal(size=(40, columns))[PROMPTS]
    return level + rng.normal(size=level.shape), level + shift + rng.normal(size=level.shape)


# Classifier


def test_the_area_is_scikit_learns_within_each_fold() -> None:
    base, policy = sides(0.5)
    finding = classifier_drift(base, policy, PROMPTS, PROMPTS)
    fold_G = prompt_folds(40, 5, stream(0, "classifier_drift"))
    fold_N = fold_G[PROMPTS]
    score_N, score_M = drift_classifier._held_out_scores(base, policy, fold_N, fold_N, 5)
    areas, weights = [], []
    for fold in range(5):
        held = fold_N == fold
        sides_of = np.concatenate([np.zeros(held.sum()), np.ones(held.sum())])
        areas.append(roc_auc_score(sides_of, np.concatenate([score_N[held], score_M[held]])))
        weights.append(held.sum() ** 2)
    assert finding.figure == pytest.approx(np.average(areas, weights=weights))
    assert finding.verdict == "warn"
    assert finding.interval is not None
    assert 0.5 < finding.interval[0] < finding.figure < finding.interval[1] < 1


def test_a_prompt_is_never_on_both_sides_of_a_fold() -> None:
    fold_G = prompt_folds(23, 5, np.random.default_rng(0))
    assert sorted(np.bincount(fold_G).tolist()) == [4, 4, 5, 5, 5]


def test_what_a_prompt_asks_for_is_no_drift() -> None:
    """Prompts that differ widely, sides that do not: a classifier that knew the prompt again would find
    'drift'.
    """
    warned = sum(
        classifier_drift(*sides(0.0, seed), PROMPTS, PROMPTS, samples=300).verdict == "warn"
        for seed in range(20)
    )
    assert warned <= 3  # expected .5; benchmarks/coverage.py measures the rate


def test_few_prompts_are_unknown_and_prompts_that_never_meet_refused() -> None:
    base, policy = sides(0.5)
    few = classifier_drift(base[:8], policy[:8], PROMPTS[:8], PROMPTS[:8])
    assert (few.verdict, few.figure) == ("unknown", None)
    assert "4 prompts: 10 are needed" in few.sentence
    with pytest.raises(BadInput, match=r"shapes \(80, 5\) and \(80, 4\)"):
        classifier_drift(base, policy[:, :4], PROMPTS, PROMPTS)
    with pytest.raises(BadInput, match="one prompt for each answer"):
        classifier_drift(base, policy, PROMPTS[:3], PROMPTS)
    with pytest.raises(BadInput, match="at most 1000"):
        classifier_drift(np.zeros((1001, 1)), policy[:, :1], np.arange(1001), PROMPTS)


# Maximum mean discrepancy


def test_discrepancy_against_a_plain_loop_and_scikit_learns_kernel() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)) + 1
    h = 1.3

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * h * h)))

    within_x = np.mean([k(a, b) for a, b in itertools.permutations(x, 2)])
    within_y = np.mean([k(a, b) for a, b in itertools.permutations(y, 2)])
    between = np.mean([k(a, b) for a in x for b in y])
    rows = np.concatenate([x, y])
    kernel = rbf_kernel(rows, h)
    assert kernel == pytest.approx(sklearn_rbf(rows, gamma=1 / (2 * h * h)))
    side = np.array([[0.0] * 4 + [1.0] * 5])
    assert squared_mmd(kernel, side)[0] == pytest.approx(within_x + within_y - 2 * between)


def test_the_bandwidth_is_the_median_distance() -> None:
    rows = np.array([[0.0], [1.0], [3.0]])  # distances 1, 2, 3: median 2
    assert rbf_kernel(rows)[0, 1] == pytest.approx(np.exp(-1 / 8))
    assert rbf_kernel(np.zeros((3, 2))) == pytest.approx(np.ones((3, 3)))


def test_the_permutation_p_is_the_exact_one_where_all_exchanges_can_be_listed() -> None:
    """Three prompts, one answer each side: 8 exchanges, of which 4 pairs are mirrored. All can be
    enumerated.
    """
    x = np.array([[0.0], [0.2], [0.1]])
    y = np.array([[1.0], [1.3], [0.9]])
    kernel = rbf_kernel(np.concatenate([x, y]))
    seen = squared_mmd(kernel, np.array([[0.0, 0, 0, 1, 1, 1]]))[0]
    exact = []
    for swaps in itertools.product([0, 1], repeat=3):
        side = np.array([[*swaps, *(1 - s for s in swaps)]], dtype=float)
        exact.append(squared_mmd(kernel, side)[0] >= seen - 1e-12)
    assert np.mean(exact) == 0.25  # the labels as they are, and all exchanged
    found = mmd_drift(x, y, [1, 2, 3], [1, 2, 3], permutations=4000)
    assert found.evidence["p"] == pytest.approx(0.25, abs=0.025)  # standard error .007
    assert found.figure == pytest.approx(seen)
    assert found.verdict == "good"


def test_a_shift_is_found_and_prompts_apart_cannot_be_tested() -> None:
    base, policy = sides(1.0)
    found = mmd_drift(base, policy, PROMPTS, PROMPTS, permutations=199)
    assert (found.verdict, found.evidence["p"]) == ("warn", 0.005)
    assert found.evidence["shared"] == 40
    apart = mmd_drift(base, policy, PROMPTS, PROMPTS + 100)
    assert (apart.verdict, apart.figure) == ("unknown", None)


# Outliers


def test_distances_are_scipys_with_the_shrunk_covariance_of_the_other_prompts() -> None:
    base, policy = sides(0.0)
    fold_N = PROMPTS % 5
    distance_N, distance_M = held_out_distances(base, policy, fold_N, fold_N, 5)
    model = LedoitWolf().fit(base[fold_N != 2])
    row = int(np.flatnonzero(fold_N == 2)[3])
    inverse = np.linalg.inv(model.covariance_)
    assert distance_N[row] == pytest.approx(mahalanobis(base[row], model.location_, inverse) ** 2)
    assert distance_M[row] == pytest.approx(mahalanobis(policy[row], model.location_, inverse) ** 2)


def test_five_per_cent_are_outliers_without_drift_and_more_with_it() -> None:
    still = [latent_outliers(*sides(0.0, seed), PROMPTS, PROMPTS, samples=200) for seed in range(10)]
    assert np.mean([f.figure for f in still]) == pytest.approx(0.05, abs=0.03)
    assert sum(f.verdict == "warn" for f in still) <= 1
    moved = latent_outliers(*sides(4.0), PROMPTS, PROMPTS)
    assert moved.verdict == "warn"
    assert moved.figure is not None
    assert moved.figure > 0.4
    assert latent_outliers(*(s[:8] for s in sides(4.0)), PROMPTS[:8], PROMPTS[:8]).verdict == "unknown"


# Words


def test_words_tell_answers_apart_and_empty_ones_do_not_break_it() -> None:
    base = [f"the answer to this is number {i % 7}" for i in range(80)]
    policy = [f"what a wonderful question, number {i % 7}" for i in range(80)]
    found = classifier_drift(*word_features(base, policy), PROMPTS, PROMPTS)
    assert found.figure == pytest.approx(1)
    for texts in (["", ""], ["a", "b"], ["same", "same"]):
        one, other = word_features(texts * 40, texts * 40)
        assert len(one) == len(other) == 80
        same = classifier_drift(one, other, PROMPTS, PROMPTS)
        assert same.verdict == "good"
