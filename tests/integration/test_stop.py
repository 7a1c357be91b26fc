"""A run that a rule stops: the checkpoint is the result, the curve shows what came after, nothing is left."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from accord import config, pipeline, round_policy
from accord.config import Run


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()["model.layers.3.mlp.up_proj.weight"]


def test_the_best_checkpoint_is_the_result(settings, tmp_path):
    """A budget that the first update breaks: the result is SFT itself, and RL ended at that evaluation."""
    # A rate at which one update's KL is far above the noise of its estimate on four samples.
    settings["online"] |= {"steps": 4, "evaluate_every": 1, "optimizer": {"learning_rate": 1e-2}}
    plain, stopped = tmp_path / "plain", tmp_path / "stopped"
    settings["stop"] = {"rules": [{"rule": "kl_budget", "limit": 1e-6}]}
    run = config.validate(Run, settings)
    result = pipeline.run(run, stopped, quiet=True)
    rule = next(f for f in result.findings if f.name == "stop_rule")
    steps = [point["step"] for point in result.curve["points"]]
    assert rule.evidence["stopped"]
    assert rule.evidence["best_step"] == 0
    assert rule.evidence["last_step"] == steps[-1] == 1
    assert torch.equal(weights(stopped / "round-0/policy"), weights(stopped / "sft"))
    assert not (stopped / "unfinished").exists()
    assert "The result is the policy of step 0" in (stopped / "report.html").read_text()
    pipeline.run(run, stopped, quiet=True)
    lock = json.loads((stopped / "accord.lock.json").read_text())
    assert all(stage["cached"] for stage in lock["stages"])
    # A budget that nothing reaches changes nothing of the policy.
    del settings["stop"]
    pipeline.run(config.validate(Run, settings), plain, quiet=True)
    settings["stop"] = {"rules": [{"rule": "kl_budget", "limit": 1e6}]}
    pipeline.run(config.validate(Run, settings), stopped, quiet=True)
    assert torch.equal(weights(stopped / "round-0/policy"), weights(plain / "round-0/policy"))


def test_a_kill_before_the_policy_is_saved_loses_no_checkpoint(settings, tmp_path, monkeypatch):
    settings["online"] |= {"steps": 4, "evaluate_every": 2, "optimizer": {"learning_rate": 1e-2}}
    settings["stop"] = {"rules": [{"rule": "kl_budget", "limit": 1e-6}]}
    run, save = config.validate(Run, settings), round_policy.save

    def killed(model, tokenizer, folder, *rest):
        if folder.name == "policy":
            raise KeyboardInterrupt
        save(model, tokenizer, folder, *rest)

    monkeypatch.setattr(round_policy, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(run, tmp_path / "killed", quiet=True)
    monkeypatch.undo()
    pipeline.run(run, tmp_path / "killed", quiet=True)
    assert torch.equal(weights(tmp_path / "killed/round-0/policy"), weights(tmp_path / "killed/sft"))


def test_step_0_is_sft_where_a_round_goes_on_from_the_last_policy(settings, tmp_path):
    """Also in the control, which starts and chooses its pairs as the round does."""
    settings |= {"rounds": 2, "equal_label_control": True}
    settings["online"] |= {"evaluate_every": 1, "optimizer": {"learning_rate": 1e-2}}
    settings["collect"] |= {"strategy": "disagreement", "pairs": 40, "members": 2}
    settings["between_rounds"] = {"policy_from": "previous", "reward_from": "previous"}
    settings["evaluate"] |= {"fresh_pairs": 4}
    out = tmp_path / "run"
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    manifest = json.loads((out / "control/round-1/pairs/COMMIT.json").read_text())["manifest"]
    assert (manifest["policy"], manifest["chosen_by"]) == ("sft", "disagreement")
    sft, start = weights(out / "sft"), weights(out / "round-0/policy")
    for folder in (out, out / "control"):
        end = weights(folder / "round-1/policy")
        # Adam moves a weight by about its rate a step at most, so that from SFT two rounds' way is too far.
        assert float((end - start).abs().max()) < 1.2e-2 * settings["online"]["steps"]
        assert float((end - sft).abs().max()) > float((end - start).abs().max())
    settings["stop"] = {"rules": [{"rule": "kl_budget", "limit": 1e-6}]}
    settings["online"]["steps"] = 2
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    for folder in (out, out / "control"):
        assert torch.equal(weights(folder / "round-1/policy"), weights(out / "sft"))
