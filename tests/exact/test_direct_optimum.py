"""DPO on every pair of responses, labelled as Bradley–Terry would, ends at the same known optimum.

Rafailov et al. 2023, section 4: the policy that fits the preferences of a reward r best is
π*(y|x) ∝ π_ref(y|x) exp(r(x, y)/β), whatever pairs were labelled, as long as they connect all responses.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import torch

from accord import direct_losses, models
from accord.batches import Group
from accord.config import Direct
from accord.direct import DirectTrainer
from accord.direct_examples import Example
from tests.exact import language
from tests.exact.language import World
from tests.exact.training import LIMIT

STEPS = 40  # enough from policy 0; others need three times as many (docs/known-optimum.md)
# As far from the reference as in the online tests, but with rewards large enough that labels say something.
BETA, REWARD_DEVIATION = 4.0, 2.0
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly: each pair's labels have the right share


def labelled_pairs(world: World, tokenizer, step: int) -> list[Example]:
    """Half of each prompt's pairs; the first wins with the probability σ(difference of rewards)."""
    every, found = language.responses(), []
    for prompt, reward_Y in zip(language.prompt_records(), world.reward_PY.tolist(), strict=True):
        tokens = models.encode_prompt(tokenizer, prompt)
        for number, (a, b) in enumerate(itertools.combinations(range(len(every)), 2)):
            if (number + step) % 2:
                continue
            wins = 1 / (1 + math.exp(reward_Y[b] - reward_Y[a]))
            if (step // 2 * GOLDEN + number * 0.317) % 1 >= wins:
                a, b = b, a
            found.append(Example(Group(tokens, (every[a], every[b])), (True, False)))
    return found


def train(folder: Path, seed: int = 0, steps: int = STEPS) -> tuple[float, float]:
    """Nats from the optimum, before and after."""
    language.save_policy(folder, seed)
    policy, tokenizer = models.load_policy(folder, torch.float32), language.tokenizer()
    reference_PY = language.log_probabilities(policy)
    world = World(reference_PY, language.random_rewards(7, REWARD_DEVIATION), BETA)
    settings = Direct(
        beta=BETA,
        optimizer={"learning_rate": 1e-3, "betas": (0.9, 0.99), "schedule": "linear", "max_grad_norm": 100.0},
    )
    trainer = DirectTrainer(policy, tokenizer, settings, steps)
    for step in range(steps):
        trainer.step(labelled_pairs(world, tokenizer, step))
    return tuple(
        language.kl(log_p_PY, world.optimum_PY)
        for log_p_PY in (reference_PY, language.log_probabilities(policy))
    )


def test_dpo_reaches_the_optimum(tmp_path):
    start, end = train(tmp_path)
    assert start > 5 * LIMIT
    assert end <= LIMIT


def test_log_probabilities_that_are_averaged_do_not(tmp_path, monkeypatch):
    right = direct_losses.dpo
    monkeypatch.setattr(direct_losses, "dpo", lambda a, b, **o: right(a / 2, b / 2, **o))
    assert train(tmp_path)[1] > LIMIT
