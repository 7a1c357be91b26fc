"""Explosions inside the loop, rollouts on disk, and a batch that is taken up again after a kill."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from accord import models, online
from accord.drawn_rollouts import Drawn
from accord.metrics import MetricsLog
from accord.rollout_files import RolloutFiles
from accord.stability import PolicyExploded
from accord.training_state import TrainingState
from accord.workspace import Workspace

from .test_online import by_order, config, encoded, sample, trainer_of


def exploding(trainer, at):
    """The gradient of step ``at`` is 1,000 times what it is."""
    plain = trainer.execution.backward

    def backward(loss):
        plain(loss * (1000.0 if trainer.steps == at else 1.0))

    trainer.execution.backward = backward
    return trainer


def settings_of(action):
    return config(
        steps=6,
        evaluate_every=9,
        checkpoint_seconds=0,
        on_explosion=action,
        explosion={"after": 3, "factor": 10},
        optimizer={"learning_rate": 1e-3},
    )


def weights(trainer):
    return [p.detach().clone() for p in trainer.policy.parameters()]


def test_an_explosion_stops_and_the_last_healthy_state_is_in_the_trainer_and_on_disk(
    policy, tokenizer, prompts, tmp_path
):
    trainer = exploding(trainer_of(policy, tokenizer, settings_of("stop"), by_order), at=4)
    seen = {}
    plain = trainer.step

    def step(*given):
        seen[trainer.steps] = weights(trainer)
        return plain(*given)

    trainer.step = step
    work = Workspace("online", folder=tmp_path / "online", key="k", checkpoint_seconds=0, quiet=True)
    with pytest.raises(
        PolicyExploded, match=r"gradient norm is .* more than 10 times the largest"
    ) as stopped:
        online.train(trainer, prompts, prompts[:1], work)
    assert stopped.value.kept
    assert "the healthy state after step 2 was kept" in str(stopped.value)
    # the state before step 3: an explosion of the KL would show one step after the update that made it
    for mine, healthy in zip(weights(trainer), seen[3], strict=True):
        assert torch.equal(mine, healthy)
    found = TrainingState(tmp_path / "online", "k", 0).latest()
    assert found is not None
    assert found[0] == 3


def test_rollback_goes_back_and_on_with_a_smaller_step(policy, tokenizer, prompts, caplog):
    trainer = exploding(trainer_of(policy, tokenizer, settings_of("rollback"), by_order), at=4)
    rows = []
    work = Workspace("online", quiet=True)
    work.record = lambda step, figures, alerts=(): rows.append(figures)
    with caplog.at_level(logging.WARNING, "accord"):
        online.train(trainer, prompts, prompts[:1], work)
    assert trainer.steps == 6
    assert trainer.execution.rate_factor == 0.5
    assert "back to the weights before it, with 0.5 of the step size" in caplog.text
    assert rows[5]["rollbacks"] == 1
    assert rows[5]["grad_norm"] < 10 * rows[3]["grad_norm"]


def test_none_goes_on(policy, tokenizer, prompts):
    trainer = exploding(trainer_of(policy, tokenizer, settings_of("none"), by_order), at=4)
    online.train(trainer, prompts, prompts[:1], Workspace("online", quiet=True))
    assert trainer.steps == 6


def test_alerts_are_in_the_log_and_in_metrics_jsonl(policy, tokenizer, prompts, tmp_path, caplog):
    with MetricsLog(tmp_path / "metrics.jsonl") as log, caplog.at_level(logging.WARNING, "accord"):
        settings = config("grpo", steps=2, kl={"placement": "none"})
        trainer = trainer_of(policy, tokenizer, settings, lambda p, t: [1.0] * len(t))
        online.train(trainer, prompts, prompts[:1], Workspace("online", log=log, quiet=True))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    alert = next(a for a in rows[0]["alerts"] if a["figure"] == "no_spread_share")
    assert (alert["value"], alert["limit"]) == (1.0, 0.5)
    assert "raise samples_per_prompt" in alert["what_to_try"]
    assert caplog.text.count("no_spread_share is 1, the limit is 0.5") == 1  # said when it begins


def test_rollouts_come_back_as_they_were_with_their_version(policy, tokenizer, prompts, tmp_path):
    trainer = trainer_of(policy, tokenizer, config(), by_order)
    rollouts = sample(trainer, encoded(tokenizer, prompts))
    files = RolloutFiles(tmp_path / "rollouts", "k")
    files.save(3, Drawn(rollouts, (0, 1, 2, 3), {"tries": 1.0}))
    found = files.load(3, 0)
    assert found.rollouts.groups == rollouts.groups
    assert torch.equal(found.rollouts.sampled_logp_BT, rollouts.sampled_logp_BT)
    assert torch.equal(found.rollouts.finished_B, rollouts.finished_B)
    assert (found.kept, found.figures) == ((0, 1, 2, 3), {"tries": 1.0})
    assert files.load(3, 1) is None  # another policy's
    assert files.load(2, 0) is None
    assert RolloutFiles(tmp_path / "rollouts", "other").load(3, 0) is None
    (tmp_path / "rollouts/batch-000003.pt").write_bytes(b"cut short")
    assert files.load(3, 0) is None  # sampled again
    files.prune(4)
    assert not list((tmp_path / "rollouts").iterdir())


class Forgetful(Exception):
    """The process is gone."""


def test_a_batch_is_taken_up_again_and_not_sampled_again(
    tiny_folder, tokenizer, prompts, tmp_path, monkeypatch
):
    """Cut between the two updates of batch 1; the second process reads its rollouts, same bits at the end."""
    settings = config(steps=3, minibatches=2, evaluate_every=9, optimizer={"learning_rate": 1e-3})

    def fresh(on_disk=None):
        trainer = trainer_of(models.load_policy(tiny_folder, torch.float32), tokenizer, settings, by_order)
        plain = trainer.sampler.sample

        def asked(*given):
            assert trainer.steps != on_disk, "the batch on disk was sampled again"
            return plain(*given)

        trainer.sampler.sample = asked
        return trainer

    def work(name):
        return Workspace("online", folder=tmp_path / name, key="k", checkpoint_seconds=0, quiet=True)

    whole = fresh()
    online.train(whole, prompts, prompts[:1], work("whole"))
    cut = fresh()
    plain, seen = cut.execution.step, []

    def dying():
        seen.append(0)
        if len(seen) == 4:  # the second update of batch 1
            raise Forgetful
        return plain()

    cut.execution.step = dying
    with pytest.raises(Forgetful):
        online.train(cut, prompts, prompts[:1], work("cut"))
    again = fresh(on_disk=1)
    online.train(again, prompts, prompts[:1], work("cut"))
    for mine, theirs in zip(weights(again), weights(whole), strict=True):
        assert torch.equal(mine, theirs)
