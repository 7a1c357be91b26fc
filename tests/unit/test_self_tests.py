"""Each self-test passes on a sound model, and fails on the fault that it is there for."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from accord import batches, config, models, pipeline, self_tests, towers
from accord.records import BadInput
from accord.sampling import local
from accord.scoring.reward_model import RewardModelScorer
from accord.self_tests import SelfTestFailed, insist

ALL = {"template round trip", "end tokens", "pad of the reward model"}
ALL |= {"dropout is off", "packing invariance", "ratio is 1", "sampler against trainer"}


@pytest.fixture
def reward(tiny_folder, tokenizer):
    return models.new_reward(tiny_folder, torch.float32, tokenizer, torch.Generator().manual_seed(0))


def failing(checks) -> set[str]:
    return {check.name for check in checks if not check.ok}


def test_a_sound_model_passes(policy, tokenizer, reward):
    checks = [*self_tests.tokens(policy, tokenizer), *self_tests.policy(policy, tokenizer)]
    assert {check.name for check in checks} == ALL
    assert not failing(checks)
    assert not failing(self_tests.reward(reward, tokenizer))
    insist(checks)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "template round trip"),  # drops what was said
        ("{{ bos_token }}{{ bos_token }}{{ messages[0]['content'] }}", "template round trip"),
    ],
)
def test_templates(policy, tokenizer, template, name, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    assert failing(self_tests.tokens(policy, tokenizer)) == {name}


def test_an_end_token_that_the_model_does_not_know(policy, tokenizer, monkeypatch):
    monkeypatch.setattr(models, "end_tokens", lambda *_: frozenset({0}))
    assert failing(self_tests.tokens(policy, tokenizer)) == {"end tokens"}


def test_a_part_in_training_mode(policy, tokenizer, reward):
    policy.model.layers[1].mlp.train()
    assert failing(self_tests.policy(policy, tokenizer)) == {"dropout is off"}
    reward.train()
    assert failing(self_tests.reward(reward, tokenizer)) == {"dropout is off"}


def test_positions_that_run_on_over_the_stream(policy, tokenizer, monkeypatch):
    pack = batches.pack

    def wrong(*arguments):
        packed = pack(*arguments)
        return dataclasses.replace(packed, position_T=torch.arange(len(packed.position_T)))

    monkeypatch.setattr(batches, "pack", wrong)
    assert "packing invariance" in failing(self_tests.policy(policy, tokenizer))


def test_dropout(policy, tokenizer, monkeypatch):
    hidden = towers.Tower.hidden
    monkeypatch.setattr(
        towers.Tower,
        "hidden",
        lambda self, *a: torch.nn.functional.dropout(hidden(self, *a), 0.1),
    )
    assert "ratio is 1" in failing(self_tests.policy(policy, tokenizer))


def test_log_probabilities_at_another_temperature(policy, tokenizer, monkeypatch):
    draw = local.inverse_cdf
    monkeypatch.setattr(local, "inverse_cdf", lambda logits, uniform: draw(logits * 1.1, uniform))
    assert failing(self_tests.policy(policy, tokenizer)) == {"sampler against trainer"}


def test_scores_that_depend_on_the_batch(reward, tokenizer, monkeypatch):
    raw = RewardModelScorer.raw
    monkeypatch.setattr(RewardModelScorer, "raw", lambda self, *a: raw(self, *a) - raw(self, *a).mean())
    assert failing(self_tests.reward(reward, tokenizer)) == {"reward batch invariance"}


def test_two_tokenizers(tokenizer):
    class Other:
        def get_vocab(self):
            return {"a": 0}

    assert self_tests.same_tokenizer(tokenizer, tokenizer).ok
    assert not self_tests.same_tokenizer(tokenizer, Other()).ok


def test_memory():
    assert self_tests.memory(1).ok
    check = self_tests.memory(1e15)
    assert not check.ok
    assert "about 1000000.0 GB needed" in check.result


def test_a_run_stops_before_it_trains(tiny_folder, tmp_path, monkeypatch):
    for name, row in {"demonstrations": {"prompt": "a", "response": "b"}, "prompts": {"prompt": "c"}}.items():
        rows = [{k: f"{v} {i}" for k, v in row.items()} for i in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{r}\n".replace("'", '"') for r in rows))
    settings = config.validate(
        config.Run,
        {
            "model": {"path": str(tiny_folder), "dtype": "float32"},
            "data": {n: str(tmp_path / f"{n}.jsonl") for n in ("demonstrations", "prompts")},
            "online": {"prompts_per_step": 4},
        },
    )
    monkeypatch.setattr(models, "end_tokens", lambda *_: frozenset({0}))
    with pytest.raises(SelfTestFailed, match="'end tokens' failed before the stage began"):
        pipeline.run(settings, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run/sft").exists()
    assert not issubclass(SelfTestFailed, BadInput)  # the input was fine: exit code 1
