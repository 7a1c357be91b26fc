"""A policy and the reference that it is held to, on one frozen trunk where there is one.

What every stage that trains a policy off its own samples needs: log-probabilities under both, and samples to
held-out prompts with the reward model's score and the KL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord import batches, models, policy_evaluation, tensors, towers
from accord.batches import Group, Packed, Rollouts
from accord.config import Sampling, Weights
from accord.records import BadInput, Prompt
from accord.reference import Reference
from accord.response_scores import ResponseScores
from accord.sampling.local import LocalSampler
from accord.scoring.base import Scorer
from accord.towers import Tower, TrunkStates


class Anchored:
    """Make it before any weight of the policy is selected for training: the reference is the policy as it is.

    Args:
        policy: a model from ``models.load_policy``.
        sampling: of evaluations; all log-probabilities are at its temperature.
        scorer: what evaluations score samples with; None: there are no evaluations.
        reference: another model to be held to.

    Raises:
        BadInput: a reference with another vocabulary.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: Any,
        weights: Weights,
        sampling: Sampling,
        *,
        scorer: Scorer | None = None,
        reference: Any | None = None,
    ) -> None:
        self.policy, self.tokenizer, self.sampling = policy, tokenizer, sampling
        self.sampler = LocalSampler(policy, models.end_tokens(policy, tokenizer))
        base, start = towers.base_of(policy), models.trunk_layers(policy, weights)
        self.tower = Tower(base, start)
        self.scores = (
            ResponseScores(scorer, tokenizer, self.sampler, base, start) if scorer is not None else None
        )
        self._given = _same_vocabulary(reference, policy)
        self._reference = Reference(policy, weights, start)

    @property
    def reference_model(self) -> Any:
        return self._reference.model if self._given is None else self._given

    def packed(
        self, groups: Sequence[Group], trunk: TrunkStates | None = None
    ) -> tuple[Packed, Tensor | None]:
        """The packed groups and the trunk's states of them, kept or computed."""
        packed = batches.pack(groups, models.device())
        kept_TH = trunk.of(groups) if trunk is not None else None
        return packed, self.tower.trunk(packed) if kept_TH is None else kept_TH

    def logps(
        self, packed: Packed, trunk_TH: Tensor | None, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        """log π of the response tokens (R,) at the sampling temperature, and their entropy where asked."""
        return self._head(self.tower.hidden(packed, trunk_TH), self.policy, packed, entropy)

    @torch.no_grad()
    def reference_logps(self, packed: Packed, trunk_TH: Tensor | None) -> Tensor:
        """log π_ref of the response tokens (R,)."""
        if self._given is not None:
            return self._head(Tower(towers.base_of(self._given)).hidden(packed), self._given, packed)[0]
        with self._reference.tower(self.tower) as tower:
            hidden_TH = tower.hidden(packed, trunk_TH)
        return self._head(hidden_TH, self._reference.model, packed)[0]

    def _head(
        self, hidden_TH: Tensor, model: Any, packed: Packed, entropy: bool = False
    ) -> tuple[Tensor, Tensor]:
        return tensors.head_logps(
            hidden_TH[packed.predictor_R],
            towers.head_of(model),
            packed.target_R,
            temperature=self.sampling.temperature,
            entropy=entropy,
        )

    def score_members(
        self, prompts: Sequence[Prompt], rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """(B,) scores, and an ensemble's members (E, B); see `response_scores`."""
        assert self.scores is not None
        return self.scores.of(prompts, rollouts, packed, trunk_TH)

    def evaluate(self, prompts: Sequence[Prompt], k: int, seed: int) -> list[dict[str, Any]]:
        """k samples to each prompt, with score and KL; see `policy_evaluation`."""
        return policy_evaluation.evaluate(self, prompts, k, seed, self.sampling)


def _same_vocabulary(reference: Any | None, policy: Any) -> Any | None:
    """Raises BadInput for a reference that means other words by the policy's token ids."""
    if reference is not None:
        mine, theirs = len(towers.head_of(policy)), len(towers.head_of(reference))
        if mine != theirs:
            raise BadInput(
                f"the reference has a vocabulary of {theirs} tokens, the policy one of {mine}: both must read"
                " the same token ids, give a reference with the policy's tokenizer"
            )
    return reference
