"""The real trainers on the small language: from a random policy to how far it ends from the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord import models, online
from accord.config import Online
from accord.online import OnlineTrainer
from tests.exact import language
from tests.exact.language import World

LIMIT = 0.01  # nats from the optimum, of the prompt where it is largest
BETA = 0.5
REWARD_DEVIATION = 0.25  # half a nat of log ratio: the optimum is 0.1 to 0.2 nats away
UNFINISHED = 0.1  # what the trainer takes off a response that never ends
GROUP = 64
STEPS = 40

COMMON: dict[str, Any] = {
    "steps": STEPS,
    "prompts_per_step": len(language.PROMPTS),
    "samples_per_prompt": GROUP,
    "optimizer": {
        "learning_rate": 7e-4,
        "epsilon": 1e-5,
        "betas": (0.9, 0.99),
        "schedule": "linear",
        "max_grad_norm": 100.0,
    },
    "critic_learning_rate": 2e-3,
    "kl": {"coefficient": BETA},
    "sampling": {"max_new_tokens": language.LONGEST, "batch_size": 4096},
    "missing_end": {"mode": "subtract", "value": UNFINISHED},
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "reinforce": {"algorithm": "reinforce"},
    "reinforce++": {"algorithm": "reinforce++"},
    "rloo": {"algorithm": "rloo"},
    "ppo": {"algorithm": "ppo", "epochs": 2, "value_coefficient": 1.0},
    "grpo": {"algorithm": "grpo"},
    "dr grpo, KL in the loss": {
        "algorithm": "grpo",
        "group_std": False,
        "kl": {"coefficient": BETA, "placement": "loss"},
    },
    # Groups of two, so that every sample is in a pair; labels are the probabilities of Bradley–Terry.
    "online_dpo": {
        "algorithm": "online_dpo",
        "pair_labels": "soft",
        "samples_per_prompt": 2,
        "copies": GROUP,
    },
}
# The deviation is about 0.25, so that this is nearly the penalty that the others have.
DEVIATION_AND_KL_IN_THE_LOSS = {"algorithm": "grpo", "kl": {"coefficient": 2.0, "placement": "loss"}}


@dataclass(frozen=True)
class Trained:
    """A run: where it began and ended, in nats from the optimum, and its last policy as log π (P, Y)."""

    start: float
    end: float
    world: World
    policy_PY: Tensor


def make(folder: Path, seed: int, **options: Any) -> tuple[OnlineTrainer, World]:
    """A trainer over the language with the reward table as its scorer."""
    language.save_policy(folder, seed)
    policy = models.load_policy(folder, torch.float32)
    tokenizer = language.tokenizer()
    settings = Online(**(COMMON | options))
    reference_PY = language.log_probabilities(policy, settings.sampling.temperature)
    world = World(reference_PY, language.random_rewards(7, REWARD_DEVIATION), settings.kl.coefficient)
    critic = None
    if settings.algorithm == "ppo":
        critic = online.new_critic("zero", None, str(folder), tokenizer, torch.float32)
    scorer = world.scorer(settings.missing_end.value)
    return OnlineTrainer(policy, tokenizer, scorer, settings, critic=critic, seed=seed), world


def train(folder: Path, seed: int, **options: Any) -> Trained:
    """All steps of a run. ``copies`` of each prompt may make more groups of fewer samples."""
    copies = options.pop("copies", 1)
    count = len(language.PROMPTS) * copies
    trainer, world = make(folder, seed, **{"prompts_per_step": count} | options)
    prompts = language.prompt_records() * copies
    tokens = [models.encode_prompt(trainer.tokenizer, prompt) for prompt in prompts]
    for _ in range(trainer.config.steps):
        trainer.step(prompts, tokens)
    temperature = trainer.config.sampling.temperature
    found_PY = language.log_probabilities(trainer.policy, temperature)
    start, end = (language.kl(p, world.optimum_PY) for p in (world.reference_PY, found_PY))
    return Trained(start, end, world, found_PY)
