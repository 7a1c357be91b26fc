"""Health figures by hand, alerts with value, limit and advice, and explosions by the run's own range."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from accord.advantages import rewards_with_kl
from accord.config import Online
from accord.credit import CreditAssignment
from accord.policy_alerts import Watch
from accord.policy_health import GradientNoise, movement, no_spread_share, sequence_clip_fraction
from accord.stability import OwnRange


def test_movement_by_hand():
    # ratios 2 and 1/2, and a padded column that must not count
    logp, old = tensor([[2.0, 0.5, 1e9]]).log(), torch.zeros(1, 3)
    found = movement(logp, old, tensor([[True, True, False]]), 0.2, None)
    assert found["clip_fraction"] == 1.0
    # k3: (2 − 1 − ln 2 + 1/2 − 1 + ln 2) / 2
    assert found["kl_old_new"] == pytest.approx(0.25)
    assert found["ratio_p99"] == pytest.approx(2.0)
    assert found["effective_share"] == pytest.approx(2.5**2 / (2 * 4.25))


def test_sequence_clip_fraction_by_hand():
    logp = tensor([[0.02, 0.0], [0.02, 0.02], [-0.05, -0.01]])
    mask = tensor([[True, True], [True, False], [True, True]])
    # means 0.01, 0.02, −0.03; ratios 1.01005, 1.0202, 0.97045
    assert sequence_clip_fraction(logp, torch.zeros(3, 2), mask, 0.02, 0.015) == pytest.approx(2 / 3)


def test_share_of_groups_without_spread():
    assert no_spread_share(tensor([[1.0, 1.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]])) == 0.75
    assert no_spread_share(tensor([[1.0], [1.0]])) == 0  # one sample a prompt has no spread to speak of


def test_gradient_noise_by_hand():
    # |G|² = (8·2 − 2·5) / 6 = 1; tr Σ = (5 − 2) / (1/2 − 1/8) = 8
    assert GradientNoise().update(5**0.5, 2, 2**0.5, 8) == pytest.approx(8.0)
    assert math.isnan(GradientNoise().update(3.0, 4, 1.0, 8))  # |G|² below 0: this step alone says nothing
    with pytest.raises(ValueError, match="must have fewer"):
        GradientNoise().update(1.0, 8, 1.0, 8)


def test_gradient_noise_finds_a_known_scale():
    """Gradients G + noise with |G|² = 4 and tr Σ = 100 (50 dimensions of variance 2): the scale is 25."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.full((50,), 4 / 50).sqrt()
    noise, scale = GradientNoise(decay=0.99), math.nan
    for _ in range(400):
        each = mean + 2**0.5 * torch.randn(64, 50, generator=generator)
        scale = noise.update(float(each[:16].mean(0).norm()), 16, float(each.mean(0).norm()), 64)
    assert scale == pytest.approx(25, rel=0.15)


def test_an_alert_has_value_limit_and_advice_and_is_new_once():
    watch = Watch(Online())
    healthy = {"clip_fraction": 0.1, "entropy": 2.0, "no_spread_share": 0.2, "skipped_updates": 0.0}
    assert watch.look(0, healthy) == ([], [])
    found, new = watch.look(1, healthy | {"clip_fraction": 0.4, "entropy": 0.3})
    assert [a.figure for a in found] == [a.figure for a in new] == ["clip_fraction", "entropy"]
    assert found[0].sentence().startswith("clip_fraction is 0.4, the limit is 0.3: lower the learning rate")
    assert found[1].limit == pytest.approx(0.4)  # a fifth of the run's own start
    found, new = watch.look(2, healthy | {"clip_fraction": 0.5})
    assert ([a.figure for a in found], new) == (["clip_fraction"], [])
    assert watch.look(3, healthy | {"explained_variance": -1.0}) == ([], [])  # a critic needs its first steps
    assert watch.look(12, healthy | {"explained_variance": -1.0})[1][0].figure == "explained_variance"
    assert watch.look(13, healthy | {"clip_fraction": math.nan}) == ([], [])


def test_the_kl_alert_knows_the_recipes_target():
    fixed, budget = (Watch(Online(kl={"controller": c, "target": 4.0})) for c in ("fixed", "budget"))
    assert fixed.look(0, {"kl": 9.0}) == ([], [])
    assert budget.look(0, {"kl": 5.9}) == ([], [])
    assert budget.look(1, {"kl": 6.1})[0][0].limit == 6.0
    # with a moving average as reference the target is of the KL to it, not of that to SFT
    assert budget.look(2, {"kl": 20.0, "kl_penalised": 5.9}) == ([], [])
    assert budget.look(3, {"kl": 20.0, "kl_penalised": 6.1})[0][0].value == 6.1


def test_groups_without_spread_are_counted_by_their_scores_also_with_the_kl_in_the_reward():
    """Scores 1 1 | 0 2 and one token each, KL 0.1 and 0.3 nats: the first group's totals differ by the KL."""
    score, kl, mask = tensor([1.0, 1.0, 0.0, 2.0]), tensor([0.1, 0.3, 0.1, 0.3]), torch.ones(4, 1).bool()
    reward = rewards_with_kl(score, kl[:, None], mask, 0.5)
    given = CreditAssignment(Online(algorithm="grpo", group_std=False)).assign(score, reward, None, mask, 2)
    assert given.no_spread_share == 0.5
    # totals 0.95 0.85 | −0.05 1.85: the KL's own gradient stays
    assert given.advantage_BT[:, 0].tolist() == pytest.approx([0.05, -0.05, -0.95, 0.95], abs=1e-6)


def test_an_explosion_is_a_multiple_of_the_runs_own_largest():
    own = OwnRange(factor=10, after=3)
    for kl, norm in ((0.0, 9.0), (1.0, 1.0), (1.5, 2.0)):
        assert own.judge({"kl": kl, "grad_norm": norm}) is None
    assert own.judge({"kl": 3.0, "grad_norm": 89.0}) is None  # inside 10 · 9; KL rose by 1.5, inside 10 · 1
    said = own.judge({"kl": 20.0, "grad_norm": 1.0})  # by 17, the largest rise was 1.5
    assert said is not None
    assert "rise of the KL in one step, nats per response is 17, more than 10 times" in said
    assert "(1.5)" in said
    assert own.judge({"kl": 4.0, "grad_norm": 891.0}) is not None
    assert own.judge({"kl": 4.0, "grad_norm": 100.0}) is None  # what exploded did not widen the range


def test_no_explosion_before_there_is_a_range():
    own = OwnRange(factor=10, after=3)
    assert own.judge({"kl": 0.0, "value_loss": 0.001}) is None
    assert own.judge({"kl": 0.0, "value_loss": 5.0}) is None
    again = OwnRange(factor=10, after=3)
    again.load(own.state())
    assert again == own


def test_a_figure_that_stood_still_has_no_range_yet():
    own = OwnRange(factor=10, after=3)
    for _ in range(20):  # the critic warms up: the KL stays 0
        assert own.judge({"kl": 0.0}) is None
    for kl in (0.001, 0.2, 0.9):  # then it begins, as it should
        assert own.judge({"kl": kl}) is None
    assert own.judge({"kl": 9.0}) is not None  # 8.1, the largest rise was 0.7
