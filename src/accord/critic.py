"""PPO's critic: a backbone of its own with one output, the value of the state before each response token."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from accord import losses, models, towers
from accord.batches import Packed
from accord.config import Online
from accord.execution.local import Local
from accord.online_batch import Part, Scored
from accord.towers import Tower


def new_critic(start: str, reward: Any, policy_location: str, tokenizer: Any, dtype: torch.dtype) -> Any:
    """The critic's own backbone: a copy of the reward model, or the SFT policy's with a zero head."""
    if start == "reward":
        return copy.deepcopy(reward)
    critic = models.new_reward(policy_location, dtype, tokenizer, torch.Generator())
    with torch.no_grad():
        critic.score.weight.zero_()
    return critic


class Critic:
    """A critic model with its optimiser.

    Args:
        model: like a reward model, from `new_critic`; trained in place.
        policy_base, start: the policy's decoder and its frozen layers, whose states it reads where its own
            are the same.
        updates: optimiser steps in the whole run.
    """

    def __init__(
        self, model: Any, config: Online, policy_base: Any, start: int, updates: int, seed: int
    ) -> None:
        self.model, self.config = model, config
        parameters = models.select_weights(model, config.weights, seed)
        shared = towers.common_layers(policy_base, towers.base_of(model)) >= start > 0
        self.tower = Tower(towers.base_of(model), start if shared else 0)
        kept = getattr(model.config, "accord", None) or {}
        self.mean, self.std = kept.get("score_mean", 0.0), kept.get("score_std", 1.0)
        self.execution = Local([(parameters, config.critic_learning_rate)], config.optimizer, updates)

    def values(self, packed: Packed, trunk_TH: Tensor | None) -> Tensor:
        """V of the state before each response token (R,), in units of the normalised score."""
        hidden_TH = self.tower.hidden(packed, trunk_TH if self.tower.start else None)
        raw_R: Tensor = self.model.score(hidden_TH[packed.predictor_R])[:, 0].float()
        value_R: Tensor = (raw_R - self.mean) / self.std
        return value_R

    def backward(self, scored: Scored, part: Part, token_count: float) -> float:
        """Adds the gradient of one part's value loss; returns the loss."""
        assert scored.old_value_BT is not None
        assert scored.return_BT is not None
        value_R = scored.live_value_R
        if value_R is None:
            value_R = self.values(part.packed, part.trunk_TH)
        value_BT = part.packed.to_BT(value_R)
        width = value_BT.shape[1]
        loss = losses.value_loss(
            value_BT,
            scored.old_value_BT[part.rows_B, :width],
            scored.return_BT[part.rows_B, :width],
            part.packed.mask_BT,
            clip=self.config.value_clip,
            token_count=token_count,
        )
        self.execution.backward(self.config.value_coefficient * loss)
        return float(loss.detach())
