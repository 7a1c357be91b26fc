"""A head fitted to hidden states: the ridge optimum by another solver, its penalty by held-out prompts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from accord import probe
from accord.records import BadInput


def planted(pairs: int, width: int = 6, noise: float = 1.0, seed: int = 0):
    """Pairs whose winner follows the first feature (log odds 3 a unit), features of very different sizes."""
    draw = np.random.default_rng(seed)
    size = 10.0 ** np.arange(-2, width - 2)
    a, b = draw.normal(size=(2, pairs, width)) * size
    odds = 3 * (a[:, 0] - b[:, 0]) / size[0] / noise
    wins = draw.random(pairs) < 1 / (1 + np.exp(-odds))
    return a, b, wins, [f"prompt {i // 2}" for i in range(pairs)]


def test_the_weights_are_those_of_the_penalised_likelihood():
    a, b, wins, prompts = planted(60)
    found = probe.fit(a, b, wins, prompts)
    spread = np.concatenate([a, b]).std(0)
    x = np.where(wins[:, None], a - b, b - a) / spread

    def objective(w):  # scikit-learn's own: ½ |w|² + C Σ loss, here with the strength as C
        return 0.5 * w @ w + found.strength * np.logaddexp(0, -x @ w).sum()

    expected = minimize(objective, np.zeros(6), method="BFGS", tol=1e-10).x / spread
    np.testing.assert_allclose(found.weight_H, expected, rtol=2e-3, atol=1e-6 * abs(expected).max())


def test_a_planted_direction_is_found_and_noise_is_penalised_more():
    clear = probe.fit(*planted(400, noise=0.5))
    loud = probe.fit(*planted(400, noise=100.0))
    strength = clear.weight_H * 10.0 ** np.arange(-2, 4)
    assert abs(strength[0]) > 5 * abs(strength[1:]).max()
    assert clear.accuracy > 0.9
    assert loud.accuracy < 0.6
    assert loud.strength < clear.strength


def test_a_prompt_is_never_in_two_folds():
    # every prompt has one pair that says yes and many copies that say the same: only a leak could make it
    # predictable
    draw = np.random.default_rng(1)
    a = np.repeat(draw.normal(size=(30, 40)), 10, axis=0)
    b = np.repeat(draw.normal(size=(30, 40)), 10, axis=0)
    wins = np.repeat(draw.random(30) < 0.5, 10)
    prompts = [f"p{i // 10}" for i in range(300)]
    assert probe.fit(a, b, wins, prompts).accuracy < 0.75
    leaky = probe.fit(a, b, wins, [f"p{i}" for i in range(300)])
    assert leaky.accuracy == 1.0  # what it would look like


def test_a_feature_that_never_changes_is_no_division_by_zero():
    a, b, wins, prompts = planted(40)
    a[:, 2] = b[:, 2] = 7.0
    found = probe.fit(a, b, wins, prompts)
    assert np.isfinite(found.weight_H).all()
    assert found.weight_H[2] == 0


def test_too_few_pairs_are_refused_with_the_way_out():
    a, b, wins, prompts = planted(9)
    with pytest.raises(BadInput, match=r"9 decided pairs of 5 prompts.*head_start: normal"):
        probe.fit(a, b, wins, prompts)
