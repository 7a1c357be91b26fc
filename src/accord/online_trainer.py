"""One step of policy optimisation, which reads: sample, score, reference, reward with KL, advantage, update.

The algorithms differ in credit assignment (`credit`, and PPO in its `critic`) and in what is minimised
(`policy_objective`): a ``match`` in each, not several trainers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord import (
    advantages,
    batches,
    kl,
    losses,
    models,
    policy_evaluation,
    policy_health,
    policy_update,
    tensors,
    towers,
)
from accord.batches import Group, Packed, Rollouts, Tokens
from accord.config import Online, Sampling
from accord.credit import CreditAssignment
from accord.critic import Critic
from accord.drawn_rollouts import Drawn, StaleRollouts, draw_with_spread
from accord.execution.local import Local
from accord.online_batch import Scored, Seen, microbatches, score_figures
from accord.ratio_checks import require_sampler_agrees
from accord.records import BadInput, Prompt
from accord.reference import MovingAverage, Reference
from accord.response_scores import ResponseScores, member_figures
from accord.rewards import Paid, Rewards, WeightedScorer
from accord.rollout_files import RolloutFiles
from accord.sampling.local import LocalSampler
from accord.scoring.base import Scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.streams import stream_seed
from accord.towers import Tower


class OnlineTrainer:
    """The policy, its reference, its rewards and, for PPO, its critic; one ``step`` a batch of prompts.

    Args:
        policy: a model from ``models.load_policy``, trained in place.
        scorer: a reward model (token ids in) or any Scorer (texts in).
        critic: a model like the reward model with one output; needed by PPO.
        others: scorers that are summed with it, those of ``config.rewards``.
        constrained: the scorer of ``config.constraint``.
        reference: the model that the KL is to, where it is not the policy as it is given here.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: Any,
        scorer: RewardModelScorer | Scorer,
        config: Online,
        *,
        critic: Any | None = None,
        others: Sequence[WeightedScorer] = (),
        constrained: Scorer | None = None,
        reference: Any | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.tokenizer, self.config, self.seed = policy, tokenizer, config, seed
        self.sampler = LocalSampler(policy, models.end_tokens(policy, tokenizer))
        base, start = towers.base_of(policy), models.trunk_layers(policy, config.weights)
        self.reference = Reference(policy, config.weights, start, reference)
        parameters = models.select_weights(policy, config.weights, seed)
        self.tower = Tower(base, start)
        self.average = (
            MovingAverage(parameters, config.reference_ema) if config.reference_ema is not None else None
        )
        self.scores = ResponseScores(scorer, tokenizer, self.sampler, base, start)
        self.rewards = Rewards(config, others, constrained)
        rate = config.optimizer.learning_rate
        # A schedule counts updates: a batch has one for each minibatch of each epoch.
        size = -(-config.prompts_per_step // config.minibatches)
        updates = config.epochs * -(-config.prompts_per_step // size)
        trained = max(1, config.steps - config.policy_waits)
        self.execution = Local([(parameters, rate)], config.optimizer, trained * updates)
        self.critic: Critic | None = None
        if config.algorithm == "ppo":
            if critic is None:
                raise BadInput("PPO needs a critic: give one, or choose algorithm: rloo")
            self.critic = Critic(critic, config, base, start, config.steps * updates, seed)
        self.kl = _controller(config)
        self.credit = CreditAssignment(config)
        self.noise = policy_health.GradientNoise()
        self.rollout_files: RolloutFiles | None = None
        self.member_EB: Tensor | None = None
        self.steps = 0

    # One step, readable from top to bottom.

    def step(self, prompts: Sequence[Prompt], tokens: Sequence[Tokens]) -> dict[str, float]:
        """Sample, score, assign credit, update. Returns the step's figures, over the whole batch."""
        began = time.monotonic()
        drawn = self.draw(prompts, tokens)
        rollouts = drawn.rollouts
        sampled = time.monotonic()
        scored = self.score([prompts[i] for i in drawn.kept], rollouts)
        counted = time.monotonic()
        figures = drawn.figures | scored.figures | self.update(scored)
        self.kl.update(figures.get("kl_penalised", figures["kl"]), rollouts.response_count)
        self.rewards.after_step(figures)
        if self.average is not None:
            self.average.update()
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

    def draw(self, prompts: Sequence[Prompt], tokens: Sequence[Tokens]) -> Drawn:
        """The step's rollouts: those on disk, where a killed run had made them, or new ones, saved first."""
        config = self.config
        if self.rollout_files is not None:
            found = self.rollout_files.load(self.steps, self.sampler.version)
            if found is not None:
                return found

        def sample(chosen: Sequence[int], attempt: int) -> Rollouts:
            name = ("rollout", self.steps) if not attempt else ("rollout", self.steps, attempt)
            seed = stream_seed(self.seed, *name)
            asked = [tokens[i] for i in chosen]
            return self.sampler.sample(asked, config.samples_per_prompt, config.sampling, seed)

        def summed(chosen: Sequence[int], rollouts: Rollouts) -> Tensor:
            asked = [prompts[i] for i in chosen]
            packed = batches.pack(rollouts.groups, models.device())
            own_B = self.score_responses(asked, rollouts, packed, self.tower.trunk(packed))
            return self.rewards.summed(own_B, *self.scores.texts(asked, rollouts))[0]

        if config.dynamic_sampling is None:
            drawn = Drawn(sample(range(len(tokens)), 0), tuple(range(len(tokens))))
        else:
            drawn = draw_with_spread(sample, summed, len(tokens), config.dynamic_sampling.tries)
        if self.rollout_files is not None:
            self.rollout_files.save(self.steps, drawn)
        return drawn

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], rollouts: Rollouts) -> Scored:
        """Scores, reference, KL and advantages of a batch, all before any update.

        Raises:
            StaleRollouts: the policy was trained on more batches since than ``max_staleness``.
            RatioIsNotOne: sampler and trainer disagree about the tokens' probabilities.
            BadInput: a score that is not finite, or a reward function that fails.
        """
        config = self.config
        staleness = self._require_fresh(rollouts)
        packed = batches.pack(rollouts.groups, models.device())
        trunk_TH = self.tower.trunk(packed)
        mask_BT = packed.mask_BT
        proxy_B = self.score_responses(prompts, rollouts, packed, trunk_TH)
        live = self._one_pass(rollouts.groups)
        seen = self._look(rollouts, packed, trunk_TH, live)
        if not staleness:
            require_sampler_agrees(
                float(seen.gap_R.mean()), config.sampling, towers.head_of(self.policy).dtype
            )
        paid = self.pay(prompts, rollouts, proxy_B, packed.length_B)
        in_reward = config.kl.placement == "reward" and config.algorithm != "online_dpo"
        penalised_BT = kl.k1(seen.logp_BT, seen.reference_BT)
        reward_BT = advantages.rewards_with_kl(
            paid.score_B, penalised_BT, mask_BT, self.kl.coefficient if in_reward else 0.0
        )
        if config.whiten_reward:
            reward_BT = tensors.whiten(reward_BT, mask_BT, shift_mean=False)
        value_BT = live_value_R = None
        if self.critic is not None:
            with torch.set_grad_enabled(live):
                live_value_R = self.critic.values(packed, trunk_TH)
            value_BT = packed.to_BT(live_value_R.detach())
        given = self.credit.assign(
            paid.score_B, reward_BT, value_BT, mask_BT, len(rollouts.groups), paid.valid_B
        )
        importance_BT = losses.truncated_importance_weight(
            seen.logp_BT, seen.sampled_BT, mask_BT, cap=config.importance_cap
        )
        if paid.valid_B is not None:
            importance_BT = importance_BT * paid.valid_B[:, None]
        figures = member_figures(self.member_EB) | paid.figures | score_figures(proxy_B)
        figures |= seen.figures(packed, rollouts)
        figures |= {"kl_coefficient": self.kl.coefficient, "staleness": float(staleness)}
        figures["no_spread_share"] = (
            policy_health.no_spread_share(paid.score_B.view(len(rollouts.groups), -1))
            if given.no_spread_share is None
            else given.no_spread_share
        )
        if self.average is not None:
            figures["kl_penalised"] = float(penalised_BT.sum(1).mean())
        return Scored(
            rollouts,
            packed,
            trunk_TH,
            paid.score_B,
            kl.k1(seen.logp_BT, seen.start_BT),
            seen.reference_BT,
            seen.logp_BT,
            given.advantage_BT,
            importance_BT,
            value_BT,
            given.return_BT,
            figures,
            given.pair_P2,
            seen.live_logp_R if live else None,
            live_value_R if live else None,
        )

    def _look(self, rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None, live: bool) -> Seen:
        """The batch's log-probabilities under policy, references and sampler."""
        average_BT = None
        if self.average is not None:  # before any graph is made: it computes with the policy's own modules
            with self.average.tower(self.tower) as tower:
                average_BT = packed.to_BT(self._logps_of(tower, self.policy, packed, trunk_TH)[0])
        with torch.set_grad_enabled(live and self.steps >= self.config.policy_waits):
            live_logp_R, entropy_R = self.logps(packed, trunk_TH, entropy=True)
        logp_R = live_logp_R.detach()
        start_BT = packed.to_BT(self.reference_logps(packed, trunk_TH))
        sampled_BT = rollouts.sampled_logp_BT.to(logp_R.device)
        return Seen(
            live_logp_R,
            packed.to_BT(logp_R),
            start_BT,
            start_BT if average_BT is None else average_BT,
            sampled_BT,
            entropy_R,
            (packed.from_BT(sampled_BT) - logp_R).abs(),
        )

    def update(self, scored: Scored) -> dict[str, float]:
        """The optimiser steps of one batch: ``epochs`` passes over ``minibatches`` groups of prompts."""
        trained = policy_update.Trained(self.logps, self.execution, self.critic, self.noise)
        now = policy_update.Moment(self.seed, self.steps, self.kl.coefficient)
        return policy_update.update(scored, self.config, trained, now)

    # What the step is made of.

    def logps(
        self, packed: Packed, trunk_TH: Tensor | None, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """log π of the response tokens (R,) at the sampling temperature, and their entropy where asked."""
        return self._logps_of(self.tower, self.policy, packed, trunk_TH, entropy=entropy)

    @torch.no_grad()
    def reference_logps(self, packed: Packed, trunk_TH: Tensor | None) -> Tensor:
        """log π_SFT (R,): the frozen copy on the shared trunk, or the policy with LoRA off."""
        with self.reference.tower(self.tower) as tower:
            return self._logps_of(tower, self.reference.model, packed, trunk_TH)[0]

    def _logps_of(
        self, tower: Tower, model: Any, packed: Packed, trunk_TH: Tensor | None, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        hidden_TH = tower.hidden(packed, trunk_TH if tower.start else None)
        return tensors.head_logps(
            hidden_TH[packed.predictor_R],
            towers.head_of(model),
            packed.target_R,
            temperature=self.config.sampling.temperature,
            entropy=entropy,
        )

    @property
    def scorer(self) -> Any:
        """The run's own scorer, above the policy's trunk where it can be."""
        return self.scores.scorer

    def score_responses(
        self, prompts: Sequence[Prompt], rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None
    ) -> Tensor:
        """(B,) scores of the run's own scorer."""
        return self.score_members(prompts, rollouts, packed, trunk_TH)[0]

    def score_members(
        self, prompts: Sequence[Prompt], rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """(B,) scores, and an ensemble's standardised members (E, B), which the next log shows."""
        score_B, self.member_EB = self.scores.of(prompts, rollouts, packed, trunk_TH)
        return score_B, self.member_EB

    def pay(self, prompts: Sequence[Prompt], rollouts: Rollouts, proxy_B: Tensor, length_B: Tensor) -> Paid:
        """What each response is paid, without the KL."""
        asked, texts = self.scores.texts(prompts, rollouts) if self.rewards.needs_text else ([], [])
        return self.rewards.pay(proxy_B, asked, texts, length_B, rollouts.finished_B.to(proxy_B.device))

    def _one_pass(self, groups: Sequence[Group]) -> bool:
        """Whether the whole batch is one microbatch of one update."""
        once = self.config.epochs == self.config.minibatches == 1
        return once and len(microbatches(range(len(groups)), groups)) == 1

    def _require_fresh(self, rollouts: Rollouts) -> int:
        """How many batches the policy was trained on since it made these rollouts."""
        got, want, allowed = rollouts.policy_version, self.steps, self.config.max_staleness
        if want - got > allowed:
            raise StaleRollouts(
                f"rollouts come from policy v{got}, the trainer is at v{want}, online.max_staleness is"
                f" {allowed}: sample again after each step, or raise it"
            )
        return max(0, want - got)

    def shrink(self, factor: float) -> None:
        """Sets the step size to this share of what the recipe says, from now on."""
        self.execution.rate_factor = factor
        if self.critic is not None:
            self.critic.execution.rate_factor = factor

    def state(self) -> dict[str, Any]:
        """Everything that a bit-identical continuation needs."""
        return {
            "policy": self.execution.state(),
            "critic": self.critic.execution.state() if self.critic is not None else None,
            "average": self.average.state() if self.average is not None else None,
            "steps": self.steps,
            "kl_coefficient": self.kl.coefficient,
            "baseline": self.credit.baseline,
            "rewards": self.rewards.state(),
            "noise": [self.noise.signal, self.noise.noise, self.noise.steps],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.execution.load(state["policy"])
        if self.critic is not None:
            self.critic.execution.load(state["critic"])
        if self.average is not None:
            self.average.load(state["average"])
        self.steps = self.sampler.version = int(state["steps"])
        self.kl.coefficient = float(state["kl_coefficient"])
        self.credit.baseline = state["baseline"]
        self.rewards.load(state["rewards"])
        self.noise.signal, self.noise.noise, self.noise.steps = state["noise"]

    def evaluate(
        self, prompts: Sequence[Prompt], k: int, seed: int, sampling: Sampling | None = None
    ) -> list[dict[str, Any]]:
        """k samples to each held-out prompt: text, proxy, KL to the SFT policy, length."""
        return policy_evaluation.evaluate(self, prompts, k, seed, sampling or self.config.sampling)


def _controller(config: Online) -> kl.FixedKl | kl.AdaptiveKl | kl.KlBudget:
    penalty = config.kl
    match penalty.controller:
        case "fixed":
            return kl.FixedKl(penalty.coefficient)
        case "adaptive":
            return kl.AdaptiveKl(penalty.coefficient, penalty.target, penalty.horizon)
        case "budget":
            return kl.KlBudget(penalty.coefficient, penalty.target, penalty.rate, penalty.coefficient)
