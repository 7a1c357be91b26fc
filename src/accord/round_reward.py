"""The reward model of a round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord import checkpoints, reward_stage
from accord.config import Run
from accord.inputs import Inputs
from accord.records import Comparison
from accord.round_labels import sides_of, source_of_labels
from accord.running import Running


def card_key(run: Run, reward_key: str) -> str:
    """Key of a reward model with its card, of ``reward_key``, which is of its weights alone.

    What is measured of the same weights changes the card and no policy that was optimised against them.
    """
    return checkpoints.key("card", reward_key, run.gate.probed_answers, run.evaluate.bootstrap)


def train_reward(
    running: Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    labels: Sequence[Comparison],
    inputs: Inputs,
    key: str,
    limits: dict[str, int],
    start: Path | None = None,
) -> dict[str, Any]:
    """The round's reward model and its card; ``start`` is the model that it is trained further from."""
    run, name = running.run, f"round-{round}/reward"
    folder, settings = running.out / name, run.reward

    def make() -> None:
        training, test = sides_of(run, labels, inputs.test_comparisons)
        work = running.workspace("reward", round, key, settings.checkpoint_seconds)
        bases = reward_stage.bases_of(run, sft_folder, tokenizer)
        source = source_of_labels(run, labels, inputs.comparisons)
        reward_stage.make(run, round, folder, bases, dtype, training, test, work, source, start, **limits)

    running.stage(name, key, make, settings.weights)
    card: dict[str, Any] = json.loads((folder / "accord_reward.json").read_text(encoding="utf-8"))
    return card
