"""Policy optimisation: ratio, KL, penalties and credit against plain forwards, and a reward that goes up."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from accord import batches, models, online, towers
from accord.config import MissingEnd, Online, Optimizer, Sampling, Weights
from accord.execution.local import schedule_factor
from accord.online import OnlineTrainer, RatioIsNotOne
from accord.records import BadInput
from accord.scoring.function import FunctionScorer
from accord.workspace import NumericalTrouble, Workspace

ALGORITHMS = ["ppo", "rloo", "grpo"]


def ascii_share(prompts, texts):
    """A trivial reward: the share of characters below 128 (half of the byte tokens)."""
    return [sum(c.isascii() for c in text) / max(1, len(text)) for text in texts]


def by_order(prompts, texts):
    return [float(i * i % 7) for i in range(len(texts))]


def config(algorithm="rloo", **options):
    base = {
        "algorithm": algorithm,
        "steps": 20,
        "prompts_per_step": 4,
        "samples_per_prompt": 4,
        "sampling": Sampling(max_new_tokens=8),
        "missing_end": MissingEnd(mode="none"),
    }
    return Online(**(base | options))


def trainer_of(policy, tokenizer, settings, scorer=ascii_share, kind=OnlineTrainer, folder=None):
    critic = None
    if settings.algorithm == "ppo":
        critic = online.new_critic("zero", None, folder, tokenizer, torch.float32)
    return kind(policy, tokenizer, FunctionScorer(scorer), settings, critic=critic, seed=1)


def encoded(tokenizer, prompts):
    return [models.encode_prompt(tokenizer, p) for p in prompts]


def sample(trainer, tokens, seed=0):
    return trainer.sampler.sample(tokens, trainer.config.samples_per_prompt, trainer.config.sampling, seed)


@pytest.mark.parametrize("weights", [Weights(), Weights(train="top", top_layers=2), Weights(train="lora")])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_ratio_is_one_and_kl_zero_at_the_start(policy, tokenizer, tiny_folder, prompts, algorithm, weights):
    settings = config(algorithm, weights=weights, sampling=Sampling(max_new_tokens=8, temperature=0.8))
    trainer = trainer_of(policy, tokenizer, settings, folder=tiny_folder)
    first = trainer.step(prompts, encoded(tokenizer, prompts))
    assert first["ratio_max_error"] <= 1e-5
    assert first["sampler_gap"] <= 1e-5
    assert abs(first["kl"]) <= 1e-4
    assert abs(first["kl_k3"]) <= 1e-6
    second = trainer.step(prompts, encoded(tokenizer, prompts))
    assert second["ratio_max_error"] <= 1e-5
    assert second["kl"] != 0


def test_ratio_is_one_with_minibatches_and_microbatches(policy, tokenizer, prompts, monkeypatch):
    monkeypatch.setattr(batches, "MICROBATCH_TOKENS", 60)  # one group each
    settings = config(minibatches=2, epochs=2, weights=Weights(train="top", top_layers=2))
    figures = trainer_of(policy, tokenizer, settings).step(prompts, encoded(tokenizer, prompts))
    assert figures["ratio_max_error"] <= 1e-5
    assert figures["clip_fraction"] >= 0


def test_microbatches_give_the_whole_batchs_update(tiny_folder, tokenizer, prompts, monkeypatch):
    # one step from the same rollouts; SGD-like comparison through the reported norm and the weights
    found = []
    for budget in (4096, 60):
        monkeypatch.setattr(batches, "MICROBATCH_TOKENS", budget)
        policy = models.load_policy(tiny_folder, torch.float32)
        settings = config("ppo", optimizer=Optimizer(epsilon=1.0, learning_rate=1e-2))
        trainer = trainer_of(policy, tokenizer, settings, folder=tiny_folder)
        figures = trainer.step(prompts, encoded(tokenizer, prompts))
        found.append((figures, towers.head_of(policy).detach().clone()))
    (whole, one), (parts, many) = found
    for name in ("grad_norm", "critic_grad_norm", "policy_loss", "value_loss"):
        assert_close(parts[name], whole[name], atol=1e-6, rtol=1e-4)
    assert_close(many, one, atol=1e-6, rtol=1e-5)


class Noisy(OnlineTrainer):
    """As if dropout were on while training."""

    def logps(self, packed, trunk_TH, *, entropy=False):
        logp_R, entropy_R = super().logps(packed, trunk_TH, entropy=entropy)
        noise = torch.linspace(-0.3, 0.3, len(logp_R)) if torch.is_grad_enabled() else 0
        return logp_R + noise, entropy_R


class Shifted(OnlineTrainer):
    """As if the shift by one were missing while training."""

    def logps(self, packed, trunk_TH, *, entropy=False):
        logp_R, entropy_R = super().logps(packed, trunk_TH, entropy=entropy)
        return (logp_R.roll(1) if torch.is_grad_enabled() else logp_R), entropy_R


@pytest.mark.parametrize("epochs", [1, 2])  # one forward pass for both, checked against the sampler; and two
@pytest.mark.parametrize("kind", [Noisy, Shifted])
def test_a_broken_trainer_is_caught_before_its_first_update(policy, tokenizer, prompts, kind, epochs):
    trainer = trainer_of(policy, tokenizer, config(epochs=epochs), kind=kind)
    before = towers.head_of(policy).detach().clone()
    with pytest.raises(RatioIsNotOne, match="before the first update"):
        trainer.step(prompts, encoded(tokenizer, prompts))
    assert torch.equal(towers.head_of(policy), before)


def test_figures_are_those_of_plain_forwards(policy, tokenizer, tiny_folder, prompts, logps_of, tmp_path):
    # a policy that differs from its reference: KL, and advantages that contain it
    settings = config("ppo", samples_per_prompt=2, whiten_advantage=False, gae_lambda=1.0)
    trainer = trainer_of(policy, tokenizer, settings, by_order, folder=tiny_folder)
    with torch.no_grad():
        for layer in policy.model.layers:
            layer.mlp.down_proj.weight.mul_(1.3)
    models.save(policy, tokenizer, tmp_path)
    changed = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    rollouts = sample(trainer, encoded(tokenizer, prompts))
    scored = trainer.score(prompts, rollouts)
    pairs = [(g.prompt, r) for g in rollouts.groups for r in g.responses]
    total = []
    for row, (prompt, response) in enumerate(pairs):
        new, old = logps_of(changed, prompt, response), logps_of(original, prompt, response)
        n = len(response)
        assert_close(scored.old_logp_BT[row, :n], new, atol=1e-5, rtol=0)
        assert_close(scored.kl_BT[row, :n], new - old, atol=3e-5, rtol=0)
        # critic 0, γ = λ = 1: advantage t = what follows from t on; the score once, at the end
        reward = -0.05 * (new - old)
        reward[-1] += by_order(prompts, pairs)[row]
        ahead = reward.flip(0).cumsum(0).flip(0)
        assert_close(scored.advantage_BT[row, :n], ahead, atol=1e-4, rtol=0)
        assert not scored.advantage_BT[row, n:].any()
        total.append(float((new - old).sum()))
    assert abs(sum(total)) > 0.1
    assert_close(scored.figures["kl"], sum(total) / len(total), atol=1e-4, rtol=0)


def test_rloo_credit_by_hand(policy, tokenizer, prompts):
    # reference = policy, so the score alone: 0, 1, 4, 2 (i² mod 7), then 2, 4, 1, 0 for the second prompt
    trainer = trainer_of(policy, tokenizer, config(), by_order)
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    # minus the mean of the other three
    expected = [0 - 7 / 3, 1 - 2, 4 - 1, 2 - 5 / 3, 2 - 5 / 3, 4 - 1, 1 - 2, 0 - 7 / 3]
    assert_close(scored.advantage_BT[:8, 0], torch.tensor(expected), atol=1e-4, rtol=0)
    mask = scored.packed.mask_BT
    assert_close(scored.advantage_BT, scored.advantage_BT[:, :1] * mask)  # the same at every token


@pytest.mark.parametrize(("mode", "change"), [("none", 0.0), ("subtract", -2.5), ("replace", None)])
def test_missing_end(policy, tokenizer, prompts, mode, change):
    settings = config(missing_end=MissingEnd(mode=mode, value=2.5), samples_per_prompt=16)
    trainer = trainer_of(policy, tokenizer, settings, by_order)
    trainer.sampler.ends = frozenset({2, *range(40, 70)})  # frequent enough to see both
    rollouts = sample(trainer, encoded(tokenizer, prompts))
    ended = [r[-1] in trainer.sampler.ends for g in rollouts.groups for r in g.responses]
    assert 0 < sum(ended) < len(ended)
    scored = trainer.score(prompts, rollouts)
    given = by_order(prompts, ended)
    paid = [s if e else (-2.5 if change is None else s + change) for s, e in zip(given, ended, strict=True)]
    assert_close(scored.score_B, torch.tensor(paid))
    assert_close(scored.figures["score_mean"], sum(given) / len(given))  # the figure is without the penalty
    assert_close(scored.figures["unfinished_share"], 1 - sum(ended) / len(ended))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trivial_reward_goes_up(policy, tokenizer, tiny_folder, prompts, algorithm):
    settings = config(
        algorithm,
        samples_per_prompt=16,
        optimizer=Optimizer(learning_rate=3e-3, epsilon=1e-5),
        critic_learning_rate=3e-3,
        kl={"coefficient": 0.01},
        epochs=2,
        minibatches=2,
    )
    trainer = trainer_of(policy, tokenizer, settings, folder=tiny_folder)
    scores = [trainer.step(prompts, encoded(tokenizer, prompts))["score_mean"] for _ in range(settings.steps)]
    assert sum(scores[-3:]) / 3 > sum(scores[:2]) / 2 + 0.2


def test_equal_scores_give_grpo_nothing_to_learn(policy, tokenizer, prompts):
    trainer = trainer_of(policy, tokenizer, config("grpo"), lambda p, t: [1.0] * len(t))
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    # KL of float32 rounding must not be blown up by a division through a zero deviation
    assert scored.advantage_BT.abs().max() <= 0.05
    assert math.isfinite(scored.figures["no_spread_share"])


def test_state_continues_bit_for_bit(tiny_folder, tokenizer, prompts):
    settings = config("ppo", kl={"controller": "adaptive", "target": 1.0}, epochs=2, minibatches=2)

    def fresh():
        policy = models.load_policy(tiny_folder, torch.float32)
        return trainer_of(policy, tokenizer, settings, folder=tiny_folder)

    tokens = encoded(tokenizer, prompts)
    straight, resumed = fresh(), fresh()
    for _ in range(2):
        straight.step(prompts, tokens)
    saved = torch.utils._pytree.tree_map(
        lambda v: v.clone() if isinstance(v, torch.Tensor) else v, straight.state()
    )
    straight.step(prompts, tokens)
    resumed.load(saved)
    resumed.step(prompts, tokens)
    for mine, theirs in zip(resumed.policy.parameters(), straight.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(
        resumed.critic.model.parameters(), straight.critic.model.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert resumed.kl.coefficient == straight.kl.coefficient


def test_critic_warmup_leaves_the_policy(policy, tokenizer, tiny_folder, prompts):
    trainer = trainer_of(policy, tokenizer, config("ppo", critic_warmup_steps=1), folder=tiny_folder)
    before, head = towers.head_of(policy).detach().clone(), trainer.critic.model.score.weight.detach().clone()
    trainer.step(prompts, encoded(tokenizer, prompts))
    assert torch.equal(towers.head_of(policy), before)
    assert not torch.equal(trainer.critic.model.score.weight, head)
    trainer.step(prompts, encoded(tokenizer, prompts))
    assert not torch.equal(towers.head_of(policy), before)


def test_without_a_critic_the_policy_does_not_wait_for_one(policy, tokenizer, prompts):
    """A PPO recipe run with another algorithm: every batch is learned from, the first one too."""
    trainer = trainer_of(policy, tokenizer, config("rloo", critic_warmup_steps=3), by_order)
    before = towers.head_of(policy).detach().clone()
    assert trainer.step(prompts, encoded(tokenizer, prompts))["grad_norm"] > 0
    assert not torch.equal(towers.head_of(policy), before)
    assert trainer.execution.total_steps == 20  # the schedule's too


def test_one_sample_a_prompt_is_refused_where_samples_are_compared():
    for algorithm in ("rloo", "grpo"):
        with pytest.raises(ValidationError, match="samples_per_prompt is 1"):
            Online(algorithm=algorithm, samples_per_prompt=1)
    assert Online(algorithm="ppo", samples_per_prompt=1).samples_per_prompt == 1


def test_ppo_without_critic_is_refused(policy, tokenizer):
    with pytest.raises(BadInput, match="PPO needs a critic"):
        OnlineTrainer(policy, tokenizer, FunctionScorer(ascii_share), config("ppo"))


def test_scores_that_are_not_finite_are_refused(policy, tokenizer, prompts):
    trainer = trainer_of(policy, tokenizer, config(), lambda p, t: [math.nan] * len(t))
    with pytest.raises(BadInput, match="finite"):
        trainer.step(prompts, encoded(tokenizer, prompts))


def test_train_evaluates_first_and_last(policy, tokenizer, prompts):
    trainer = trainer_of(policy, tokenizer, config(steps=2))
    found = online.train(trainer, prompts, prompts[:2], Workspace("online", quiet=True), samples=2)
    assert [e["step"] for e in found] == [0, 2]
    assert [len(e["rows"]) for e in found] == [4, 4]
    assert all(abs(row["kl"]) <= 1e-4 for row in found[0]["rows"])


def test_too_few_prompts_are_refused(policy, tokenizer, prompts):
    trainer = trainer_of(policy, tokenizer, config())
    with pytest.raises(BadInput, match="3 training prompts, one step takes 4"):
        online.train(trainer, prompts[:3], prompts, Workspace("online", quiet=True))


def test_updates_that_stay_nan_stop_the_stage(policy, tokenizer, prompts, monkeypatch):
    trainer = trainer_of(policy, tokenizer, config(max_bad_steps=2))
    monkeypatch.setattr(trainer.execution, "backward", lambda loss: (loss * math.nan).backward())
    trainer.step(prompts, encoded(tokenizer, prompts))
    with pytest.raises(NumericalTrouble, match="online stopped at step 1: 2 updates"):
        trainer.step(prompts, encoded(tokenizer, prompts))


def test_a_schedule_counts_updates_and_not_batches(policy, tokenizer, prompts):
    """2 epochs of 2 minibatches, 3 batches: 12 updates, so the last one has 1/12 of the linear rate."""
    linear = {"learning_rate": 1e-3, "schedule": "linear"}
    settings = config(steps=3, epochs=2, minibatches=2, prompts_per_step=4, optimizer=linear)
    trainer = trainer_of(policy, tokenizer, settings)
    assert trainer.execution.total_steps == 12
    assert schedule_factor(settings.optimizer, 11, trainer.execution.total_steps) == pytest.approx(1 / 12)
