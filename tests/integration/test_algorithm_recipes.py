"""Every recipe of an online algorithm in recipes/algorithms is valid, and trains a tiny model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from accord import config, models, online
from accord.scoring.function import FunctionScorer
from accord.workspace import Workspace

FOLDER = Path(__file__).parents[2] / "recipes" / "algorithms"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "\nonline:" in path.read_text("utf-8"))


def letters(prompts, texts):
    """Any reward that differs between the answers of a random model."""
    return [sum(map(ord, text)) % 7 / 7 for text in texts]


def test_there_is_a_recipe_for_every_algorithm():
    runs = [config.load(FOLDER / f"{name}.yaml") for name in NAMES]
    known = config.Online.model_fields["algorithm"].annotation.__args__
    assert {run.online.algorithm for run in runs} == set(known)


def test_the_gate_stops_no_recipe_whose_annotators_like_what_an_edit_can_add():
    """Their labels make a reward model that the gate rejects; a direct method is not asked."""
    runs = [config.load(path) for path in sorted(FOLDER.glob("*.yaml"))]
    asked = [run for run in runs if run.policy_stage[0] != "direct"]
    assert {run.policy_stage[0] for run in asked} == {"online", "rejection"}
    assert [run.name for run in asked if run.gate.stop_on_reject] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recipes_settings_train_a_tiny_model(name, tiny_folder, tokenizer, prompts):
    overrides = [
        "online.steps=2",
        "online.prompts_per_step=4",
        "online.minibatches=2",
        "online.evaluate_every=2",
        "online.sampling.max_new_tokens=8",
        "online.weights.top_layers=2",
    ]
    settings = config.load(FOLDER / f"{name}.yaml", overrides).online
    policy = models.load_policy(tiny_folder, torch.float32)
    critic = None
    if settings.algorithm == "ppo":
        critic = online.new_critic("zero", None, str(tiny_folder), tokenizer, torch.float32)
    before = policy.model.layers[-1].mlp.down_proj.weight.detach().clone()
    trainer = online.OnlineTrainer(policy, tokenizer, FunctionScorer(letters), settings, critic=critic)
    found = online.train(trainer, prompts, prompts[:2], Workspace("online", quiet=True))
    assert [e["step"] for e in found] == [0, 2]
    assert all(math.isfinite(row["kl"]) for row in found[-1]["rows"])
    assert not torch.equal(policy.model.layers[-1].mlp.down_proj.weight, before)
