"""A recipe of a few tiny steps for every stage, on a random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WORDS = ["good", "bad", "happy", "sad", "fine", "awful", "lovely", "poor", "great", "nice", "cold", "warm"]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def recipe(model: Path, folder: Path) -> dict[str, Any]:
    """Values of a Run, as a recipe file would hold them; its data is written to ``folder``."""
    demonstrations = [
        {
            "messages": [
                {"role": "user", "content": f"say {w} number {i}"},
                {"role": "assistant", "content": f"{w} day"},
            ]
        }
        for i, w in enumerate(WORDS)
    ]
    prompts = [{"prompt": [{"role": "user", "content": f"{w} {v}?"}]} for w in WORDS for v in ("cat", "dog")]
    top = {"train": "top", "top_layers": 2}
    sampling = {"max_new_tokens": 6}
    return {
        "name": "tiny",
        "model": {"path": str(model), "dtype": "float32"},
        "data": {
            "demonstrations": write_rows(folder / "demonstrations.jsonl", demonstrations),
            "prompts": write_rows(folder / "prompts.jsonl", prompts),
        },
        "sft": {"epochs": 1, "tokens_per_step": 150, "weights": top, "checkpoint_seconds": 0},
        "collect": {"pairs": 24, "samples_per_prompt": 4, "sampling": sampling},
        "judge": {"kind": "simulated", "tie_margin": 0.0},
        "reward": {
            "epochs": 1,
            "pairs_per_step": 8,
            "minimum_pairs": 4,
            "test_fraction": 0.3,
            "weights": top,
            "checkpoint_seconds": 0,
            "optimizer": {"learning_rate": 1e-3},
        },
        "online": {
            "steps": 3,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "evaluate_every": 2,
            "weights": top,
            "sampling": sampling,
            "checkpoint_seconds": 0,
            "optimizer": {"learning_rate": 1e-3},
        },
        "gate": {"stop_on_reject": False, "probed_answers": 2},  # a random model knows nothing
        "evaluate": {
            "prompts": 4,
            "best_of": 2,
            "best_of_prompts": 2,
            "bootstrap": 50,
            "split_half": False,
            "probed_answers": 0,
        },
        "logging": {"tensorboard": False},
    }


@pytest.fixture
def settings(tiny_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return recipe(tiny_folder, tmp_path)
