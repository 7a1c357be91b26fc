"""Each recipe in recipes/reward is valid, and what it says about rewards works on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from accord import config, pipeline
from accord.config import Run
from accord.records import Prompt
from accord.scoring.loading import load_scorer
from tests.conftest import byte_tokenizer

FOLDER = Path(__file__).parents[2] / "recipes" / "reward"
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
PAID_BY_OTHERS = ("foreign_model", "function")


@pytest.fixture
def labels(tmp_path):
    """24 pairs by two annotators each, and 24 rankings of three; strengths, ties, criteria and weights."""
    rows = []
    for i in range(24):
        for annotator in range(2):
            rows.append(
                {
                    "prompt": f"question {i}",
                    "a": f"yes {i}",
                    "b": f"no {'x' * (i % 4)}",
                    "verdict": "tie" if (i + annotator) % 7 == 0 else "a",
                    "strength": 1 + i % 3,
                    "annotator": f"ann{annotator}",
                    "criterion": ("helpful", "harmless")[i % 2],
                    "meta": {"weight": 1 + annotator},
                }
            )
    ranked = [
        {"prompt": f"rank {i}", "responses": [f"so {i}", f"yes {i}", f"no {i}"], "ranks": [2, 1, 2]}
        for i in range(24)
    ]
    pairs, rankings = tmp_path / "pairs.jsonl", tmp_path / "rankings.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rankings.write_text("".join(json.dumps(row) + "\n" for row in ranked))
    return {"pairs": pairs, "rankings": rankings}


def tiny(settings, name, labels):
    """The recipe's own say about rewards, on the tests' sizes and data."""
    recipe, reward = RECIPES[name], settings["reward"]
    for key, value in recipe["reward"].items():
        if key == "weights":
            value = {"train": value["train"], "lora_layers": 1} if value["train"] == "lora" else reward[key]
        if key not in ("optimizer", "head_learning_rate"):
            reward = reward | {key: value}
    file = labels["rankings" if name == "rankings" else "pairs"]
    return settings | {
        "sft": None,
        "judge": None,
        "data": settings["data"] | {"comparisons": str(file)},
        "reward": reward | {"base": None},
        "online": settings["online"] | {k: v for k, v in recipe.get("online", {}).items() if k != "rewards"},
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid(name):
    assert config.load(FOLDER / f"{name}.yaml").name == name


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in (*PAID_BY_OTHERS, "other_base")])
def test_its_reward_model_trains_and_scores(settings, labels, tmp_path, name):
    run = config.validate(Run, tiny(settings, name, labels))
    pipeline.run(run, tmp_path / "run", quiet=True, until="reward")
    online = run.online
    scorer = load_scorer(
        tmp_path / "run/round-0/reward", torch.float32, online.ensemble, online.criteria_weights
    )
    scores = torch.tensor(scorer.score([Prompt.from_text("question 1")] * 2, ["yes 1", "no"]))
    assert scores.isfinite().all()
    assert scores[0] != scores[1]
    card = json.loads((tmp_path / "run/round-0/reward/accord_reward.json").read_text())
    if name in ("rankings", "soft_labels", "ties"):  # three pairs of a ranking, two labels of a pair, are one
        assert card["pairs_train"] < 24


def test_a_function_pays_the_policy(settings, labels, tmp_path):
    values = tiny(settings, "function", labels)
    path = FOLDER / "full_stop.py"
    values["online"] |= {"rewards": [{"path": f"{path}:score"}]}
    pipeline.run(config.validate(Run, values), tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    paid = [row for row in rows if row["stage"] == "online"]
    assert all("reward_score" in row for row in paid)


def test_a_reward_model_on_another_base_is_given_text(settings, labels, tmp_path, tiny_folder):
    """Its tokenizer has the same letters under other numbers: the policy's token ids would be nonsense."""
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    tokenizer = byte_tokenizer()
    text = json.loads(tokenizer._tokenizer.to_str())
    vocabulary = text["model"]["vocab"]
    letters = sorted((t for t, i in vocabulary.items() if i > 2), key=vocabulary.get)
    for number, letter in enumerate(reversed(letters)):
        vocabulary[letter] = 3 + number
    (other / "tokenizer.json").write_text(json.dumps(text))
    values = tiny(settings, "other_base", labels)
    values["reward"] = values["reward"] | {"base": str(other)}
    pipeline.run(config.validate(Run, values), tmp_path / "run", quiet=True)
    scorer = load_scorer(tmp_path / "run/round-0/reward", torch.float32)
    found = json.loads((tmp_path / "run/round-0/rollouts/evaluations.json").read_text())
    row = next(row for row in found["evaluations"][-1]["rows"] if row["finished"] or row["text"])
    prompt = Prompt.from_json(row["prompt"])
    assert row["proxy"] == pytest.approx(scorer.score([prompt], [row["text"]])[0], abs=1e-4)
