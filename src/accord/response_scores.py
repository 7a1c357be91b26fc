"""Scores of sampled responses by the run's own scorer: token ids for a reward model, text for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord import models
from accord.batches import Packed, Rollouts
from accord.records import BadInput, Prompt
from accord.sampling.local import LocalSampler
from accord.scoring.base import Scorer
from accord.scoring.ensemble import EnsembleScorer, TextEnsembleScorer
from accord.scoring.reward_model import RewardModelScorer


class ResponseScores:
    """The run's own scorer: a reward model with the policy's vocabulary gets the very token ids, others text.

    Args:
        policy_base, start: the policy's decoder and its frozen layers, whose states are read where the
            scorer's own are the same.
    """

    def __init__(
        self,
        scorer: RewardModelScorer | EnsembleScorer | Scorer,
        tokenizer: Any,
        sampler: LocalSampler,
        policy_base: Any,
        start: int,
    ) -> None:
        self.tokenizer, self.sampler, self.scorer = tokenizer, sampler, scorer
        self.reads_tokens = self.on_trunk = False
        if isinstance(scorer, (RewardModelScorer, EnsembleScorer)):
            self.reads_tokens = scorer.tokenizer.get_vocab() == tokenizer.get_vocab()
            self.on_trunk = self.reads_tokens and scorer.shares(policy_base, start)
            self.scorer = scorer.on_trunk(start if self.on_trunk else 0)

    @torch.no_grad()
    def of(
        self, prompts: Sequence[Prompt], rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """(B,) scores, and an ensemble's standardised members (E, B).

        Raises:
            BadInput: a score that is not finite, where the scorer may not leave responses out.
        """
        scorer, device, member_EB = self.scorer, packed.tokens_T.device, None
        if self.reads_tokens and isinstance(scorer, (RewardModelScorer, EnsembleScorer)):
            known_TH = trunk_TH if self.on_trunk else None
            if isinstance(scorer, EnsembleScorer):
                member_EB = scorer.members_packed(packed, known_TH)
                score_B = scorer.combine(member_EB)
            else:
                score_B = scorer.score_packed(packed, known_TH)
        elif isinstance(scorer, (EnsembleScorer, TextEnsembleScorer)):
            member_EB = torch.tensor(scorer.members(*self.texts(prompts, rollouts)), device=device).T
            score_B = scorer.combine(member_EB)
        else:
            score_B = torch.tensor(scorer.score(*self.texts(prompts, rollouts)), device=device)
        if not torch.isfinite(score_B).all() and not getattr(scorer, "skip_failures", False):
            raise BadInput(
                "the reward model gave a score that is not finite: its training diverged, train it again"
            )
        if isinstance(scorer, EnsembleScorer) and scorer.weight_E is not None:
            member_EB = None  # criteria are no members that ought to agree
        return score_B, member_EB

    def texts(self, prompts: Sequence[Prompt], rollouts: Rollouts) -> tuple[list[Prompt], list[str]]:
        """Prompt and decoded response of each row, for scorers of other tokenizers."""
        asked = [p for p, g in zip(prompts, rollouts.groups, strict=True) for _ in g.responses]
        responses = [r for g in rollouts.groups for r in g.responses]
        return asked, [models.decode(self.tokenizer, r, self.sampler.ends) for r in responses]


def member_figures(member_EB: Tensor | None) -> dict[str, float]:
    """Mean score of each member, by its number, and their spread (deviation over E, batch mean)."""
    if member_EB is None:
        return {}
    figures = {f"member_{number}": mean for number, mean in enumerate(member_EB.mean(1).tolist())}
    return figures | {"member_spread": float(member_EB.std(0, correction=0).mean())}
