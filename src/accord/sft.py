"""Supervised fine-tuning on demonstrations: packed, loss on the reply only, end token included.

Left out on purpose: loss on prompts, dropout, several epochs' worth of shuffled files on disk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord import batches, models, tensors, towers
from accord.batches import Group
from accord.config import Sft
from accord.execution.local import Local
from accord.records import BadInput, Demonstration
from accord.streams import permutation
from accord.towers import TrunkStates
from accord.workspace import Workspace, check_bad_steps

MAX_BAD_STEPS = 3


def encode(
    tokenizer: Any, demonstrations: Sequence[Demonstration], max_prompt: int = 512, max_response: int = 512
) -> list[Group]:
    """Demonstrations as token ids, replies with their end token.

    Raises:
        BadInput: none at all, an empty reply, or one that exceeds the limits (nothing is cut silently).
    """
    if not demonstrations:
        raise BadInput("there are no demonstrations to train on: give data.demonstrations")
    groups = []
    for number, row in enumerate(demonstrations, 1):
        prompt = models.encode_prompt(tokenizer, row.prompt)
        response = models.encode_response(tokenizer, row.response)
        if len(response) < 2:
            raise BadInput(f"demonstration {number} has an empty reply: remove it or write one")
        if len(prompt) > max_prompt or len(response) > max_response:
            raise BadInput(
                f"demonstration {number} has {len(prompt)} + {len(response)} tokens, the limits are"
                f" {max_prompt} + {max_response}:"
                " raise data.max_prompt_tokens or data.max_response_tokens, or shorten it"
            )
        groups.append(Group(prompt, (response,)))
    return groups


def plan(groups: Sequence[Group], config: Sft, seed: int) -> list[list[int]]:
    """The batches of all epochs: a pure function of data and seed, so that a resumed run goes on exactly."""
    steps: list[list[int]] = []
    for epoch in range(config.epochs):
        order = permutation(len(groups), seed, "sft", epoch)
        lengths = [len(groups[i].prompt) + len(groups[i].responses[0]) for i in order]
        steps += [[order[i] for i in run] for run in batches.by_budget(lengths, config.tokens_per_step)]
    return steps


class SftTrainer:
    """One optimiser step at a time, for the stage and for benchmarks alike."""

    def __init__(self, model: Any, config: Sft, total_steps: int, seed: int = 0) -> None:
        self.model, self.config = model, config
        parameters = models.select_weights(model, config.weights, seed)
        self.tower = towers.Tower(towers.base_of(model), models.trunk_layers(model, config.weights))
        self.execution = Local([(parameters, config.optimizer.learning_rate)], config.optimizer, total_steps)

    def step(self, groups: Sequence[Group], trunk_TH: Tensor | None = None) -> dict[str, float]:
        """Train on one batch of groups; returns loss (nats per reply token) and gradient norm.

        Args:
            trunk_TH: hidden states of the frozen trunk, where they are known already.
        """
        count = sum(len(group.responses[0]) for group in groups)
        packed = batches.pack(groups, models.device())
        hidden_TH = self.tower.hidden(packed, trunk_TH)
        factor_R = hidden_TH.new_full((len(packed.target_R),), -1 / count, dtype=torch.float32)
        loss = tensors.head_sum(
            hidden_TH[packed.predictor_R], towers.head_of(self.model), packed.target_R, factor_R
        )
        self.execution.backward(loss)
        return {"loss": float(loss.detach()), "grad_norm": self.execution.step()}


def train(
    model: Any,
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    config: Sft,
    work: Workspace,
    **limits: int,
) -> dict[str, float]:
    """Fine-tune ``model`` in place. Returns the loss of the first and the last epoch, nats per reply token.

    Raises:
        BadInput: see ``encode``.
        NumericalTrouble: repeated NaN.
    """
    groups = encode(tokenizer, demonstrations, **limits)
    steps = plan(groups, config, work.seed)
    trainer = SftTrainer(model, config, len(steps), work.seed)
    done, state, extra = work.resume()
    losses: list[float] = list(extra.get("losses", []))
    if done:
        trainer.execution.load(state["execution"])
    trunk = TrunkStates(trainer.tower, groups, models.device(), work.frozen_layers)
    progress = work.progress(len(steps), done)
    for step in range(done, len(steps)):
        started = time.monotonic()
        batch = [groups[i] for i in steps[step]]
        figures = trainer.step(batch, trunk.of(batch))
        check_bad_steps(trainer.execution.bad_steps, MAX_BAD_STEPS, "sft", step)
        losses.append(figures["loss"])
        tokens = sum(len(g.prompt) + len(g.responses[0]) for g in batch)
        work.record(step, figures | {"tokens_per_second": tokens / (time.monotonic() - started)})
        work.keep(step + 1, lambda: ({"execution": trainer.execution.state()}, {"losses": losses}))
        progress.advance(f"loss {figures['loss']:.3f}")
    epoch = max(1, len(steps) // config.epochs)
    return {
        "first_loss": sum(losses[:epoch]) / epoch,
        "last_loss": sum(losses[-epoch:]) / epoch,
        "steps": len(steps),
    }
