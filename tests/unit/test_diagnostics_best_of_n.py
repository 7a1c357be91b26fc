"""Best-of-n against brute force over all subsets, and against the known expectation of a uniform maximum."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from accord.diagnostics.best_of_n import best_of_n_curve, best_of_n_weights
from accord.records import BadInput


def brute_force(score_N: np.ndarray, value_N: np.ndarray, n: int) -> float:
    """Mean over every subset of the mean value of its top-scoring members (ties broken at random)."""
    found = []
    for subset in itertools.combinations(range(len(score_N)), n):
        top = max(score_N[i] for i in subset)
        found.append(np.mean([value_N[i] for i in subset if score_N[i] == top]))
    return float(np.mean(found))


@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_mean_over_all_subsets(ties: bool) -> None:
    rng = np.random.default_rng(0)
    score_PN = rng.integers(0, 3, size=(4, 7)).astype(float) if ties else rng.normal(size=(4, 7))
    gold_PN = rng.normal(size=(4, 7))
    for point in best_of_n_curve(score_PN, gold_PN, samples=10):
        proxy = [brute_force(s, s, point["n"]) for s in score_PN]
        gold = [brute_force(s, g, point["n"]) for s, g in zip(score_PN, gold_PN, strict=True)]
        assert point["proxy"] == pytest.approx(np.mean(proxy), abs=1e-12)
        assert point["gold"] == pytest.approx(np.mean(gold), abs=1e-12)


def test_weights_by_hand() -> None:
    # of the 6 pairs among 4: the 2nd smallest is largest in 1, the 3rd in 2, the largest in 3
    assert best_of_n_weights(2, 4) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert best_of_n_weights(300, 1000).sum() == pytest.approx(1)


def test_mean_and_interval_of_uniform_scores() -> None:
    """E max of n uniforms is n/(n+1); 95% intervals over prompts hold it in about 19 of 20 simulations."""
    rng = np.random.default_rng(1)
    held, means = 0, []
    for seed in range(200):
        (point,) = best_of_n_curve(rng.random((30, 8)), sizes=[4], samples=400, seed=seed)
        low, high = point["proxy_interval"]
        held += low <= 0.8 <= high
        means.append(point["proxy"])
    assert np.mean(means) == pytest.approx(0.8, abs=0.004)
    assert 0.91 <= held / 200 <= 0.985


def test_kl_and_missing_gold() -> None:
    curve = best_of_n_curve([[1.0, 2.0], [3.0, 4.0]])
    assert curve[0]["kl"] == 0
    assert curve[1]["kl"] == pytest.approx(math.log(2) - 0.5)
    assert (curve[1]["gold"], curve[1]["gold_interval"]) == (None, None)
    assert curve[1]["proxy"] == 3.0
    json.dumps(curve, allow_nan=False)


def test_one_prompt_has_no_interval() -> None:
    curve = best_of_n_curve([[1.0, 2.0]], [[5.0, 7.0]])
    assert curve[1]["proxy_interval"] is None
    assert curve[1]["gold"] == 7.0
    assert curve[0]["gold"] == 6.0


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(BadInput, match="best of 3 needs 3 samples a prompt, but there are 2"):
        best_of_n_curve([[1.0, 2.0]], sizes=[3])
    with pytest.raises(BadInput, match="one row a prompt"):
        best_of_n_curve([1.0, 2.0])
    with pytest.raises(BadInput, match="must be the same samples"):
        best_of_n_curve([[1.0, 2.0]], [[1.0]])
