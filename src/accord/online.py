"""Policy optimisation on the policy's own samples: PPO, RLOO and GRPO.

One step reads: sample, score, reference, reward with KL, advantage, update. The three algorithms differ in
credit assignment (and PPO in its critic): a ``match``, not three trainers. The KL to the reference is in the
reward (k1, per token) for all three.

Left out on purpose: reward whitening by default, dropout, generation settings of the model's files.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord import advantages, batches, kl, losses, models, tensors, towers
from accord.batches import Group, Packed, Rollouts, Tokens
from accord.config import Online, Sampling
from accord.execution.local import Local
from accord.records import BadInput, Prompt
from accord.sampling.local import LocalSampler
from accord.scoring.base import Scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.streams import permutation, stream_seed
from accord.towers import Tower
from accord.workspace import Workspace, check_bad_steps

RATIO_TOLERANCE = 0.05  # max |log ratio| before the first update: bfloat16 rounding between two batch shapes
# Mean |log ratio| between sampler and trainer, which compute by different code. A mask, a shift or a position
# that is wrong costs whole nats.
SAMPLER_TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.25, torch.float16: 0.25}


class RatioIsNotOne(RuntimeError):
    """Log-probabilities changed although no weight did: a mask, a shift or dropout is wrong."""


@dataclass(frozen=True)
class Scored:
    """Rollouts with everything that is computed before the first update, on one packed batch.

    Attributes:
        trunk_TH: hidden states of the shared frozen trunk, or None.
        score_B: normalised scores, missing-end penalty applied.
        kl_BT: k1 to the reference per token, nats.
        old_logp_BT, advantage_BT: inputs of the policy loss.
        importance_BT: trainer / sampler per token, truncated: corrects for the sampler's other arithmetic.
        old_value_BT, return_BT: inputs of the critic's loss (PPO), else None.
        live_logp_R, live_value_R: the same log-probabilities and values with their graph, where the batch has
        one
            update in one microbatch: it needs no second forward pass, and the ratio is 1 by construction.
    """

    rollouts: Rollouts
    packed: Packed
    trunk_TH: Tensor | None
    score_B: Tensor
    kl_BT: Tensor
    old_logp_BT: Tensor
    advantage_BT: Tensor
    importance_BT: Tensor
    old_value_BT: Tensor | None
    return_BT: Tensor | None
    figures: dict[str, float]
    live_logp_R: Tensor | None = None
    live_value_R: Tensor | None = None


class OnlineTrainer:
    """The policy, its reference, its scorer and, for PPO, its critic; one ``step`` a batch of prompts.

    Args:
        policy: a model from ``models.load_policy``, trained in place.
        scorer: a reward model (token ids in) or any Scorer (texts in).
        critic: a model like the reward model with one output; needed by PPO.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: Any,
        scorer: RewardModelScorer | Scorer,
        config: Online,
        *,
        critic: Any | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.tokenizer, self.scorer, self.config, self.seed = (
            policy,
            tokenizer,
            scorer,
            config,
            seed,
        )
        self.sampler = LocalSampler(policy, models.end_tokens(policy, tokenizer))
        base = towers.base_of(policy)
        start = models.trunk_layers(policy, config.weights)
        self.reference = None if config.weights.train == "lora" else _frozen_copy(policy, start)
        parameters = models.select_weights(policy, config.weights, seed)
        self.tower = Tower(base, start)
        self.reference_tower = (
            Tower(towers.base_of(self.reference), start) if self.reference is not None else None
        )
        if isinstance(scorer, RewardModelScorer):
            shared = towers.common_layers(base, towers.base_of(scorer.model)) >= start > 0
            self.scorer = RewardModelScorer(scorer.model, scorer.tokenizer, start if shared else 0)
        rate = config.optimizer.learning_rate
        # A schedule counts updates: a batch has one for each minibatch of each epoch.
        size = -(-config.prompts_per_step // config.minibatches)
        updates = config.epochs * -(-config.prompts_per_step // size)
        trained = max(1, config.steps - config.critic_warmup_steps)
        self.execution = Local([(parameters, rate)], config.optimizer, trained * updates)
        self.critic, self.critic_execution = critic, None
        if config.algorithm == "ppo":
            if critic is None:
                raise BadInput("PPO needs a critic: give one, or choose algorithm: rloo")
            critic_parameters = models.select_weights(critic, config.weights, seed)
            shared = towers.common_layers(base, towers.base_of(critic)) >= start > 0
            self.critic_tower = Tower(towers.base_of(critic), start if shared else 0)
            kept = getattr(critic.config, "accord", None) or {}
            self.value_mean, self.value_std = kept.get("score_mean", 0.0), kept.get("score_std", 1.0)
            self.critic_execution = Local(
                [(critic_parameters, config.critic_learning_rate)],
                config.optimizer,
                config.steps * updates,
            )
        penalty = config.kl
        self.kl: kl.FixedKl | kl.AdaptiveKl = (
            kl.AdaptiveKl(penalty.coefficient, penalty.target, penalty.horizon)
            if penalty.controller == "adaptive"
            else kl.FixedKl(penalty.coefficient)
        )
        self.steps = 0

    # One step, readable from top to bottom.

    def step(self, prompts: Sequence[Prompt], tokens: Sequence[Tokens]) -> dict[str, float]:
        """Sample, score, assign credit, update. Returns the step's figures, over the whole batch."""
        began = time.monotonic()
        seed = stream_seed(self.seed, "rollout", self.steps)
        rollouts = self.sampler.sample(tokens, self.config.samples_per_prompt, self.config.sampling, seed)
        sampled = time.monotonic()
        scored = self.score(prompts, rollouts)
        counted = time.monotonic()
        figures = scored.figures | self.update(scored)
        self.kl.update(figures["kl"], rollouts.response_count)
        self.steps += 1
        self.sampler.version = self.steps
        ended = time.monotonic()
        response_tokens = sum(rollouts.lengths)
        return figures | {
            "tokens_per_second": response_tokens / (ended - began),
            "seconds_sample": sampled - began,
            "seconds_score": counted - sampled,
            "seconds_train": ended - counted,
        }

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], rollouts: Rollouts) -> Scored:
        """Scores, reference, KL and advantages of a batch, all before any update."""
        config = self.config
        packed = batches.pack(rollouts.groups, models.device())
        trunk_TH = self.tower.trunk(packed)
        mask_BT = packed.mask_BT
        proxy_B = self.score_responses(prompts, rollouts, packed, trunk_TH)
        live = self._one_pass(rollouts.groups)
        with torch.set_grad_enabled(live and self.steps >= config.critic_warmup_steps):
            live_logp_R, entropy_R = self.logps(packed, trunk_TH, entropy=True)
        logp_R = live_logp_R.detach()
        logp_BT = packed.to_BT(logp_R)
        reference_BT = packed.to_BT(self.reference_logps(packed, trunk_TH))
        kl_BT = kl.k1(logp_BT, reference_BT)
        finished_B = rollouts.finished_B.to(proxy_B.device)
        score_B = advantages.missing_end(
            proxy_B, finished_B, config.missing_end.mode, config.missing_end.value
        )
        reward_BT = advantages.rewards_with_kl(score_B, kl_BT, mask_BT, self.kl.coefficient)
        if config.whiten_reward:
            reward_BT = tensors.whiten(reward_BT, mask_BT, shift_mean=False)
        value_BT = return_BT = live_value_R = None
        no_spread = 0.0
        groups = len(rollouts.groups)
        match config.algorithm:
            case "ppo":
                with torch.set_grad_enabled(live):
                    live_value_R = self.values(packed, trunk_TH)
                value_BT = packed.to_BT(live_value_R.detach())
                advantage_BT, return_BT = advantages.gae(
                    reward_BT, value_BT, mask_BT, config.gamma, config.gae_lambda
                )
                if config.whiten_advantage:
                    advantage_BT = tensors.whiten(advantage_BT, mask_BT)
            case "rloo":
                advantage_PK = advantages.rloo(reward_BT.sum(1).view(groups, -1))
                advantage_BT = advantage_PK.reshape(-1, 1) * mask_BT
            case "grpo":
                advantage_PK, no_spread_P = advantages.grpo(
                    reward_BT.sum(1).view(groups, -1), divide_by_std=config.group_std
                )
                advantage_BT = advantage_PK.reshape(-1, 1) * mask_BT
                no_spread = float(no_spread_P.float().mean())
        sampled_BT = rollouts.sampled_logp_BT.to(logp_R.device)
        gap_R = (packed.from_BT(sampled_BT) - logp_R).abs()
        self._check_sampler(float(gap_R.mean()))
        importance_BT = losses.truncated_importance_weight(
            logp_BT, sampled_BT, mask_BT, cap=config.importance_cap
        )
        figures = {
            "score_mean": float(proxy_B.mean()),
            "score_std": float(proxy_B.std()) if len(proxy_B) > 1 else 0.0,
            "kl": float(kl_BT.sum(1).mean()),
            "kl_k3": float(tensors.masked_mean(kl.k3(logp_BT, reference_BT), mask_BT)),
            "kl_coefficient": self.kl.coefficient,
            "entropy": float(entropy_R.mean()),
            "length_mean": float(packed.length_B.float().mean()),
            "unfinished_share": 1.0 - float(finished_B.float().mean()),
            "no_spread_share": no_spread,
            "sampler_gap": float(gap_R.max()),
            "sampler_gap_mean": float(gap_R.mean()),
        }
        return Scored(
            rollouts,
            packed,
            trunk_TH,
            score_B,
            kl_BT,
            logp_BT,
            advantage_BT,
            importance_BT,
            value_BT,
            return_BT,
            figures,
            live_logp_R if live else None,
            live_value_R if live else None,
        )

    def update(self, scored: Scored) -> dict[str, float]:
        """The optimiser steps of one batch: ``epochs`` passes over ``minibatches`` groups of prompts."""
        config = self.config
        groups = scored.rollouts.groups
        group_rows = _ranges([len(g.responses) for g in groups])
        group_tokens = _ranges([batches.stream_length(g) for g in groups])
        totals: dict[str, float] = {}
        first = True
        new_logp_BT = scored.old_logp_BT.clone()
        for epoch in range(config.epochs):
            order = permutation(len(groups), self.seed, "minibatches", self.steps, epoch)
            size = -(-len(groups) // config.minibatches)
            for start in range(0, len(groups), size):
                chosen = sorted(order[start : start + size])
                rows = torch.cat([torch.arange(*group_rows[i]) for i in chosen])
                weight_BT = losses.aggregation_weight(
                    scored.packed.mask_BT[rows], config.aggregation, config.sampling.max_new_tokens
                )
                weight_BT = weight_BT * scored.importance_BT[rows, : weight_BT.shape[1]]
                count = float(losses.aggregation_count(scored.packed.mask_BT[rows], config.aggregation))
                token_count = float(scored.packed.length_B[rows].sum())
                sums = {"policy_loss": 0.0, "value_loss": 0.0}
                for part in _microbatches(chosen, groups):
                    part_rows = torch.cat([torch.arange(*group_rows[i]) for i in part])
                    local = torch.isin(rows, part_rows)
                    packed, trunk_TH = self._part(scored, part, group_tokens)
                    logp_R = scored.live_logp_R
                    if logp_R is None:
                        logp_R, _ = self.logps(packed, trunk_TH)
                    logp_BT = _widen(packed.to_BT(logp_R), weight_BT.shape[1])
                    new_logp_BT[part_rows] = logp_BT.detach()
                    if first:
                        totals["ratio_max_error"] = max(
                            totals.get("ratio_max_error", 0.0),
                            self._check_ratio(scored, packed, logp_R, part_rows),
                        )
                    loss = losses.clipped_policy_loss(
                        logp_BT,
                        scored.old_logp_BT[part_rows],
                        scored.advantage_BT[part_rows],
                        weight_BT[local],
                        clip=config.clip,
                        token_count=count,
                    )
                    sums["policy_loss"] += float(loss.detach())
                    if self.steps >= config.critic_warmup_steps:
                        self.execution.backward(loss)
                    if self.critic_execution is not None:
                        sums["value_loss"] += self._value_backward(
                            scored, packed, trunk_TH, part_rows, token_count
                        )
                if self.steps >= config.critic_warmup_steps:
                    totals["grad_norm"] = self.execution.step()
                if self.critic_execution is not None:
                    totals["critic_grad_norm"] = self.critic_execution.step()
                    check_bad_steps(
                        self.critic_execution.bad_steps, config.max_bad_steps, "online (critic)", self.steps
                    )
                check_bad_steps(self.execution.bad_steps, config.max_bad_steps, "online", self.steps)
                totals |= sums
                first = False
        mask_BT = scored.packed.mask_BT
        seen = losses.policy_statistics(new_logp_BT, scored.old_logp_BT, mask_BT, config.clip)
        totals |= {"clip_fraction": seen.clip_fraction}
        if scored.old_value_BT is not None and scored.return_BT is not None:
            totals["explained_variance"] = losses.explained_variance(
                scored.old_value_BT, scored.return_BT, mask_BT
            )
        return totals

    def _one_pass(self, groups: Sequence[Group]) -> bool:
        """Whether the whole batch is one microbatch of one update."""
        once = self.config.epochs == self.config.minibatches == 1
        return once and len(_microbatches(range(len(groups)), groups)) == 1

    # What the step is made of.

    def logps(
        self, packed: Packed, trunk_TH: Tensor | None, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """log π of the response tokens (R,) at the sampling temperature, and their entropy where asked."""
        hidden_TH = self.tower.hidden(packed, trunk_TH)
        return tensors.head_logps(
            hidden_TH[packed.predictor_R],
            towers.head_of(self.policy),
            packed.target_R,
            temperature=self.config.sampling.temperature,
            entropy=entropy,
        )

    @torch.no_grad()
    def reference_logps(self, packed: Packed, trunk_TH: Tensor | None) -> Tensor:
        """log π_ref (R,): the frozen copy on the shared trunk, or the policy with LoRA off."""
        if self.reference_tower is None:
            models.set_lora(self.policy, False)
            try:
                return self.logps(packed, trunk_TH)[0]
            finally:
                models.set_lora(self.policy, True)
        hidden_TH = self.reference_tower.hidden(packed, trunk_TH)
        temperature = self.config.sampling.temperature
        head = towers.head_of(self.reference)
        rows = hidden_TH[packed.predictor_R]
        logp_R, _ = tensors.head_logps(rows, head, packed.target_R, temperature=temperature)
        return logp_R

    def values(self, packed: Packed, trunk_TH: Tensor | None) -> Tensor:
        """V of the state before each response token (R,), in units of the normalised score."""
        assert self.critic is not None
        hidden_TH = self.critic_tower.hidden(packed, trunk_TH if self.critic_tower.start else None)
        raw_R: Tensor = self.critic.score(hidden_TH[packed.predictor_R])[:, 0].float()
        value_R: Tensor = (raw_R - self.value_mean) / self.value_std
        return value_R

    @torch.no_grad()
    def score_responses(
        self, prompts: Sequence[Prompt], rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None
    ) -> Tensor:
        """(B,) scores. A reward model gets the very tokens; any other scorer gets text.

        Raises:
            BadInput: a score that is not finite.
        """
        if isinstance(self.scorer, RewardModelScorer):
            score_B = self.scorer.score_packed(packed, trunk_TH if self.scorer.tower.start else None)
        else:
            asked = [p for p, g in zip(prompts, rollouts.groups, strict=True) for _ in g.responses]
            texts = [
                models.decode(self.tokenizer, r, self.sampler.ends)
                for g in rollouts.groups
                for r in g.responses
            ]
            score_B = torch.tensor(self.scorer.score(asked, texts), device=packed.tokens_T.device)
        if not torch.isfinite(score_B).all():
            raise BadInput(
                "the reward model gave a score that is not finite: its training diverged, train it again"
            )
        return score_B

    def _value_backward(
        self, scored: Scored, packed: Packed, trunk_TH: Tensor | None, rows: Tensor, token_count: float
    ) -> float:
        assert self.critic_execution is not None
        assert scored.old_value_BT is not None
        assert scored.return_BT is not None
        value_R = scored.live_value_R
        value_BT = packed.to_BT(self.values(packed, trunk_TH) if value_R is None else value_R)
        width = value_BT.shape[1]
        loss = losses.value_loss(
            value_BT,
            scored.old_value_BT[rows, :width],
            scored.return_BT[rows, :width],
            packed.mask_BT,
            clip=self.config.value_clip,
            token_count=token_count,
        )
        self.critic_execution.backward(self.config.value_coefficient * loss)
        return float(loss.detach())

    def _part(
        self, scored: Scored, part: Sequence[int], group_tokens: Sequence[tuple[int, int]]
    ) -> tuple[Packed, Tensor | None]:
        """Some groups as a batch of their own; the trunk's hidden states are cut out, not recomputed."""
        groups = scored.rollouts.groups
        if len(part) == len(groups):
            return scored.packed, scored.trunk_TH
        packed = batches.pack([groups[i] for i in part], models.device())
        if scored.trunk_TH is None:
            return packed, None
        return packed, torch.cat([scored.trunk_TH[slice(*group_tokens[i])] for i in part])

    @staticmethod
    def _check_ratio(scored: Scored, packed: Packed, logp_R: Tensor, rows: Tensor) -> float:
        """Before the first update the ratio must be 1; returns max |log ratio|."""
        old_BT = scored.old_logp_BT[rows]
        error = float((logp_R.detach() - packed.from_BT(old_BT)).abs().max())
        if not error <= RATIO_TOLERANCE:
            raise RatioIsNotOne(
                f"max |log ratio| is {error:.3g} before the first update, the limit is {RATIO_TOLERANCE}:"
                " policy and old log-probabilities disagree, run `accord doctor`"
            )
        return error

    def _check_sampler(self, gap: float) -> None:
        """Sampler and trainer must agree about the tokens that were sampled, up to the number format."""
        sampling = self.config.sampling
        limit = SAMPLER_TOLERANCE[towers.head_of(self.policy).dtype]
        plain = (
            sampling.top_p == 1 and not sampling.top_k
        )  # else the sampler's own distribution is another one
        if plain and not gap <= limit:
            raise RatioIsNotOne(
                f"mean |log ratio| between sampler and trainer is {gap:.3g} before the first update, the"
                f" limit is {limit}: a mask, a position or dropout is wrong, run `accord doctor`"
            )

    def state(self) -> dict[str, Any]:
        """Everything that a bit-identical continuation needs."""
        critic = self.critic_execution.state() if self.critic_execution is not None else None
        return {
            "policy": self.execution.state(),
            "critic": critic,
            "steps": self.steps,
            "kl_coefficient": self.kl.coefficient,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.execution.load(state["policy"])
        if self.critic_execution is not None:
            self.critic_execution.load(state["critic"])
        self.steps = self.sampler.version = int(state["steps"])
        self.kl.coefficient = float(state["kl_coefficient"])

    @torch.no_grad()
    def evaluate(
        self, prompts: Sequence[Prompt], k: int, seed: int, sampling: Sampling | None = None
    ) -> list[dict[str, Any]]:
        """k samples to each held-out prompt: text, proxy, KL to the reference, length. Gold is not known
        here.
        """
        sampling = sampling or self.config.sampling
        rows: list[dict[str, Any]] = []
        chunk = max(1, sampling.batch_size // k)
        for start in range(0, len(prompts), chunk):
            asked = prompts[start : start + chunk]
            tokens = [models.encode_prompt(self.tokenizer, p) for p in asked]
            rollouts = self.sampler.sample(tokens, k, sampling, stream_seed(seed, start))
            packed = batches.pack(rollouts.groups, models.device())
            trunk_TH = self.tower.trunk(packed)
            proxy = self.score_responses(asked, rollouts, packed, trunk_TH).tolist()
            logp_BT = packed.to_BT(self.logps(packed, trunk_TH)[0])
            reference_BT = packed.to_BT(self.reference_logps(packed, trunk_TH))
            divergence = kl.k1(logp_BT, reference_BT).sum(1).tolist()
            responses = [r for g in rollouts.groups for r in g.responses]
            for i, response in enumerate(responses):
                rows.append(
                    {
                        "prompt": asked[i // k].to_json(),
                        "key": asked[i // k].key,
                        "text": models.decode(self.tokenizer, response, self.sampler.ends),
                        "tokens": len(response),
                        "finished": bool(rollouts.finished_B[i]),
                        "proxy": proxy[i],
                        "kl": divergence[i],
                    }
                )
        return rows


def train(
    trainer: OnlineTrainer,
    prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    work: Workspace,
    *,
    samples: int = 2,
    curve_samples: int = 1,
) -> list[dict[str, Any]]:
    """Optimise ``trainer.policy`` in place. Returns the evaluations: step and rows of held-out samples.

    Step 0 is the SFT policy itself, the last one the final policy.

    Raises:
        BadInput: fewer prompts than a step needs.
        NumericalTrouble: repeated NaN.
    """
    config = trainer.config
    if len(prompts) < config.prompts_per_step:
        raise BadInput(
            f"there are {len(prompts)} training prompts, one step takes {config.prompts_per_step}:"
            " give more prompts or lower online.prompts_per_step"
        )
    encoded = [models.encode_prompt(trainer.tokenizer, p) for p in prompts]
    done, state, extra = work.resume()
    evaluations: list[dict[str, Any]] = list(extra.get("evaluations", []))
    if done:
        trainer.load(state["trainer"])
    progress = work.progress(config.steps, done)
    per_epoch = len(prompts) // config.prompts_per_step

    def evaluate(step: int) -> None:
        if any(e["step"] == step for e in evaluations):
            return
        k = samples if step in (0, config.steps) else curve_samples
        seed = stream_seed(work.seed, "evaluate", work.round, step)
        with progress.aside(left=-(-(config.steps - step) // config.evaluate_every)):
            evaluations.append({"step": step, "rows": trainer.evaluate(test_prompts, k, seed)})

    for step in range(done, config.steps):
        if step % config.evaluate_every == 0:
            evaluate(step)
        order = permutation(len(prompts), work.seed, "prompts", work.round, step // per_epoch)
        first = step % per_epoch * config.prompts_per_step
        chosen = order[first : first + config.prompts_per_step]
        figures = trainer.step([prompts[i] for i in chosen], [encoded[i] for i in chosen])
        work.record(step, {name: value for name, value in figures.items() if math.isfinite(value)})
        work.keep(step + 1, lambda: ({"trainer": trainer.state()}, {"evaluations": evaluations}))
        progress.advance(f"score {figures['score_mean']:+.2f}  KL {figures['kl']:.1f}")
    evaluate(config.steps)
    return evaluations


def new_critic(start: str, reward: Any, policy_location: str, tokenizer: Any, dtype: torch.dtype) -> Any:
    """The critic's own backbone: a copy of the reward model, or the SFT policy's with a zero head."""
    if start == "reward":
        return copy.deepcopy(reward)
    critic = models.new_reward(policy_location, dtype, tokenizer, torch.Generator())
    with torch.no_grad():
        critic.score.weight.zero_()
    return critic


def _frozen_copy(policy: Any, shared_layers: int) -> Any:
    """The reference: a copy whose frozen bottom layers stay shared with the policy."""
    base = towers.base_of(policy)
    memo: dict[int, Any] = {id(layer): layer for layer in base.layers[:shared_layers]}
    if shared_layers:
        memo |= {id(base.embed_tokens.weight): base.embed_tokens.weight}
    reference = copy.deepcopy(policy, memo)
    return reference.requires_grad_(False).eval()


def _ranges(lengths: Sequence[int]) -> list[tuple[int, int]]:
    stops = torch.tensor(lengths).cumsum(0).tolist()
    return [(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]


def _microbatches(chosen: Sequence[int], groups: Sequence[Group]) -> list[list[int]]:
    runs = batches.by_budget([batches.stream_length(groups[i]) for i in chosen], batches.MICROBATCH_TOKENS)
    return [[chosen[i] for i in run] for run in runs]


def _widen(value_BT: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(value_BT, (0, width - value_BT.shape[1]))
