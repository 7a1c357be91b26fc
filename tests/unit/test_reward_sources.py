"""What a recipe names as rewards: functions in modules and files, reward models; what cannot be loaded."""

from __future__ import annotations

import pytest
import torch

from accord import config, models, reward_sources
from accord.config import Online
from accord.records import BadInput
from accord.scoring.function import FunctionScorer
from accord.scoring.reward_model import RewardModelScorer


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def short(prompts, texts):\n    return [-float(len(t)) for t in texts]\n")
    return path


def test_a_function_in_a_file_and_one_in_a_module(file, prompts):
    online = Online(
        rewards=[{"path": f"{file}:short", "weight": 2.0}, {"path": f"{file}:short"}],
        constraint={"path": f"{file}:short", "threshold": -10},
    )
    reward_sources.require_loadable(online)
    one, two = reward_sources.others(online.rewards)
    assert (one.name, two.name) == ("short", "short-2")
    assert (one.weight, two.weight) == (2.0, 1.0)
    assert one.scorer.score(prompts[:2], ["ab", "abc"]) == [-2.0, -3.0]
    assert isinstance(reward_sources.constrained(online.constraint), FunctionScorer)
    assert isinstance(reward_sources.open_scorer("accord.streams:generator"), FunctionScorer)


def test_an_accord_reward_model_is_given_in_normalised_scores(tiny_folder, tokenizer, tmp_path, prompts):
    reward = models.new_reward(tiny_folder, torch.float32, tokenizer, torch.Generator().manual_seed(0))
    reward.config.accord = {"score_mean": 2.0, "score_std": 0.5}
    models.save(reward, tokenizer, tmp_path)
    (tmp_path / "accord_reward.json").write_text("{}")
    scorer = reward_sources.open_scorer(str(tmp_path))
    assert isinstance(scorer, RewardModelScorer)
    assert (scorer.mean, scorer.std) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("accord.streams:nothing", "has no attribute 'nothing'"),
        ("no.such.module:f", "No module named 'no'"),
        ("./no-folder", "there is no reward model at ./no-folder"),
    ],
)
def test_what_cannot_be_loaded_is_said_before_the_run(path, said):
    with pytest.raises(BadInput, match=said):
        reward_sources.require_loadable(Online(rewards=[{"path": path}]))
    with pytest.raises(BadInput, match=said):
        reward_sources.require_loadable(Online(constraint={"path": path, "threshold": 0}))


def test_paths_are_relative_to_the_recipe(tmp_path, file):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data: {demonstrations: d.jsonl, prompts: p.jsonl}\n"
        "online:\n  rewards: [{path: './mine.py:short'}, {path: 'm.n:f'}]\n"
        "  constraint: {path: ./model, threshold: 1}\n"
    )
    online = config.load(recipe).online
    assert [source.path for source in online.rewards] == [f"{file}:short", "m.n:f"]
    assert online.constraint.path == str(tmp_path / "model")
