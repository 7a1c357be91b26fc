"""The updates of one batch: epochs over minibatches, each minibatch a sum of microbatches.

The update is blind to the algorithm's credit assignment: advantages are given. What is minimised is in
`policy_objective`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from accord import losses, policy_health
from accord.batches import Packed
from accord.config import Online
from accord.critic import Critic
from accord.execution.local import Local
from accord.online_batch import Part, Scored, microbatches, parts, rows_of, widen
from accord.policy_health import GradientNoise
from accord.policy_objective import Minibatch, minibatch, objective
from accord.ratio_checks import require_ratio_one
from accord.streams import permutation
from accord.workspace import check_bad_steps

Logps = Callable[[Packed, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Trained:
    """What an update changes, and how it sees the policy.

    Attributes:
        logps: log-probabilities (R,) of a packed batch under the policy being trained, with their graph.
    """

    logps: Logps
    policy: Local
    critic: Critic | None
    noise: GradientNoise


@dataclass(frozen=True)
class Moment:
    """Which batch of the run this is.

    Attributes:
        kl_coefficient: score per nat, where the KL is in the loss.
    """

    seed: int
    step: int
    kl_coefficient: float


def update(scored: Scored, config: Online, trained: Trained, now: Moment) -> dict[str, float]:
    """All optimiser steps of one batch; returns the figures of the last one and of the whole batch.

    The policy is left alone in the first ``policy_waits`` batches.

    Raises:
        RatioIsNotOne: log-probabilities changed before any weight did.
        NumericalTrouble: repeated NaN.
    """
    figures: dict[str, float] = {}
    first = True
    new_logp_BT = scored.old_logp_BT.clone()
    for epoch in range(config.epochs):
        for batch in minibatches(scored, config, now, epoch):
            figures |= _one_step(scored, config, trained, now, batch, new_logp_BT, check_ratio=first)
            first = False
    skipped = trained.policy.skipped + (trained.critic.execution.skipped if trained.critic is not None else 0)
    figures["skipped_updates"] = float(skipped)
    return figures | _movement(scored, config, new_logp_BT)


def minibatches(scored: Scored, config: Online, now: Moment, epoch: int) -> list[Minibatch]:
    """A fresh permutation of the prompts each epoch, cut into ``config.minibatches``."""
    count = len(scored.rollouts.groups)
    order = permutation(count, now.seed, "minibatches", now.step, epoch)
    size = -(-count // config.minibatches)
    return [minibatch(scored, config, sorted(order[start : start + size])) for start in range(0, count, size)]


def _one_step(
    scored: Scored,
    config: Online,
    trained: Trained,
    now: Moment,
    batch: Minibatch,
    new_logp_BT: Tensor,
    *,
    check_ratio: bool,
) -> dict[str, float]:
    """One optimiser step; ``new_logp_BT`` is filled with what its forward passes saw."""
    policy, critic = trained.policy, trained.critic
    learns = now.step >= config.policy_waits
    figures = {"policy_loss": 0.0, "value_loss": 0.0}
    noise = _NoiseOfOneStep(scored, batch)
    for part in parts(scored, batch.groups):
        logp_R = scored.live_logp_R
        if logp_R is None:
            logp_R, _ = trained.logps(part.packed, part.trunk_TH)
        logp_BT = widen(part.packed.to_BT(logp_R), batch.weight_BT.shape[1])
        new_logp_BT[part.rows_B] = logp_BT.detach()
        if check_ratio:
            old_R = part.packed.from_BT(scored.old_logp_BT[part.rows_B])
            error = require_ratio_one(logp_R, old_R)
            figures["ratio_max_error"] = max(figures.get("ratio_max_error", 0.0), error)
        loss = objective(scored, config, batch, part, logp_BT, now.kl_coefficient)
        figures["policy_loss"] += float(loss.detach())
        if learns:
            policy.backward(loss)
            noise.after(part, policy)
        if critic is not None:
            figures["value_loss"] += critic.backward(scored, part, batch.token_count)
    if learns:
        figures["grad_norm"] = policy.step()
        figures |= noise.figures(trained.noise, figures["grad_norm"])
    if critic is not None:
        figures["critic_grad_norm"] = critic.execution.step()
        check_bad_steps(critic.execution.bad_steps, config.max_bad_steps, "online (critic)", now.step)
    check_bad_steps(policy.bad_steps, config.max_bad_steps, "online", now.step)
    return figures


class _NoiseOfOneStep:
    """The gradient's norm after about half of the microbatches; with one microbatch there is no half."""

    def __init__(self, scored: Scored, batch: Minibatch) -> None:
        runs = microbatches(batch.groups, scored.rollouts.groups)
        self.whole = len(batch.rows_B)
        self.half = sum(len(rows_of(run, scored.rollouts.groups)) for run in runs[: len(runs) // 2])
        self.seen, self.norm = 0, 0.0

    def after(self, part: Part, policy: Local) -> None:
        self.seen += len(part.rows_B)
        if self.seen == self.half:
            # Parts are sums over the whole minibatch's count: × whole / half makes the mean over the half.
            self.norm = policy.gradient_norm() * self.whole / self.half

    def figures(self, noise: GradientNoise, whole_norm: float) -> dict[str, float]:
        if not self.half:
            return {}
        return {"gradient_noise": noise.update(self.norm, self.half, whole_norm, self.whole)}


def _movement(scored: Scored, config: Online, new_logp_BT: Tensor) -> dict[str, float]:
    """How far the policy moved, as its last pass over each response saw it."""
    mask_BT = scored.packed.mask_BT
    figures = policy_health.movement(new_logp_BT, scored.old_logp_BT, mask_BT, config.clip, config.clip_high)
    if config.algorithm == "gspo":
        figures["clip_fraction"] = policy_health.sequence_clip_fraction(
            new_logp_BT, scored.old_logp_BT, mask_BT, *config.sequence_clip
        )
    if scored.old_value_BT is not None and scored.return_BT is not None:
        figures["explained_variance"] = losses.explained_variance(
            scored.old_value_BT, scored.return_BT, mask_BT
        )
    return figures
