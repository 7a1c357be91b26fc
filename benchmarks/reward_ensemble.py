"""An ensemble of heads beside one reward model: training and scoring, in turns, on the same pairs.

    python benchmarks/reward_ensemble.py [--model FOLDER] [--steps 12] [--pairs 16] [--members 4]

Prints JSON: seconds a step (median, after two steps of warm-up) of one model and of the ensemble, and their
ratios. Steps alternate, so that other work on the machine falls on both alike.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from typing import Any

import torch

from accord import models, reward_model
from accord.config import PACKAGED_MODEL, Ensemble, Model, Optimizer, Reward, Weights
from accord.records import Comparison, Pair, Prompt, Response
from accord.reward_examples import Example, encode
from accord.reward_trainer import RewardTrainer
from accord.scoring.ensemble import EnsembleScorer
from accord.scoring.reward_model import RewardModelScorer

WARM_UP = 2
WORDS = "the a light water near old green never slowly house under answer with many small of to and is"


def comparisons(count: int) -> list[Comparison]:
    draw = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS.split(), k=draw.randint(low, high)))

    return [
        Comparison(Pair(Prompt.from_text(text(8, 30)), Response(text(10, 90)), Response(text(10, 90))), "a")
        for _ in range(count)
    ]


def trainer_of(
    location: str, dtype: torch.dtype, tokenizer: Any, config: Reward, steps: int
) -> RewardTrainer:
    return RewardTrainer(
        reward_model.new(location, dtype, tokenizer, 0, config=config), tokenizer, config, steps
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=PACKAGED_MODEL)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=16, help="pairs a step")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--top-layers", type=int, default=8)
    given = parser.parse_args()
    settings = Model(path=given.model, chat_template="chatml")
    location, dtype = models.locate(settings), models.resolve_dtype()
    tokenizer = models.load_tokenizer(settings, location)
    one = Reward(
        weights=Weights(train="top", top_layers=given.top_layers), optimizer=Optimizer(learning_rate=1e-4)
    )
    several = one.model_copy(update={"ensemble": Ensemble(members=given.members)})
    examples, _ = encode(tokenizer, comparisons(given.pairs * given.steps), one)
    parts: list[list[Example]] = [examples[i :: given.steps] for i in range(given.steps)]
    seconds: dict[str, list[float]] = {
        "train one": [],
        "train ensemble": [],
        "score one": [],
        "score ensemble": [],
    }
    trainers = {
        "one": trainer_of(location, dtype, tokenizer, one, given.steps),
        "ensemble": trainer_of(location, dtype, tokenizer, several, given.steps),
    }
    scorers: dict[str, Any] = {
        "one": RewardModelScorer(trainers["one"].scorer.model, tokenizer),
        "ensemble": EnsembleScorer(
            [RewardModelScorer(trainers["ensemble"].scorer.model, tokenizer)], trunk=0
        ),
    }
    for part in parts:
        times = torch.ones(len(part), given.members)
        for name, trainer in trainers.items():
            began = time.perf_counter()
            trainer.step(part, None, times if name == "ensemble" else None)
            seconds[f"train {name}"].append(time.perf_counter() - began)
        for name, scorer in scorers.items():
            began = time.perf_counter()
            scorer.score_groups([example.group for example in part])
            seconds[f"score {name}"].append(time.perf_counter() - began)
    median = {name: statistics.median(found[WARM_UP:]) for name, found in seconds.items()}
    spread = {name: [min(found[WARM_UP:]), max(found[WARM_UP:])] for name, found in seconds.items()}
    print(
        json.dumps(
            {
                "model": given.model,
                "dtype": str(dtype),
                "threads": torch.get_num_threads(),
                "members": given.members,
                "pairs_per_step": given.pairs,
                "steps": given.steps - WARM_UP,
                "median_seconds": median,
                "least_and_most_seconds": spread,
                "train_ratio": median["train ensemble"] / median["train one"],
                "score_ratio": median["score ensemble"] / median["score one"],
                "versions": {"torch": torch.__version__},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
