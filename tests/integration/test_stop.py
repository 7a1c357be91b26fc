"""A run that a rule stops: the checkpoint is the result, the curve shows what came after, nothing is left."""

from __future__ import annotations

import json

import torch
from transformers import AutoModelForCausalLM

from accord import config, pipeline
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
