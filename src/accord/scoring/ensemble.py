"""Several reward models, or several heads, as one scorer: standardised first, then one score by a rule.

The members of an ensemble are aggregated (mean, worst case, mean − λ·variance, lower bound); the heads of
several criteria are weighed. Members that share their first layers with each other share one pass through
them, and the policy's pass where it has the very same layers.

Axes: E members, B responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accord import batches, ensembles, models, towers
from accord.batches import Group, Packed, stream_length
from accord.config import Aggregation
from accord.records import BadInput, Prompt
from accord.scoring.base import Scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.towers import TOKENS_PER_BATCH, TrunkStates


def aggregate(score_EB: Tensor, how: Aggregation) -> Tensor:
    """(B,) from standardised members."""
    match how.rule:
        case "mean":
            return ensembles.mean_score(score_EB)
        case "worst":
            return ensembles.worst_case(score_EB)
        case "uwo":
            return ensembles.mean_minus_variance(score_EB, how.coefficient)
        case "lcb":
            return ensembles.lower_confidence_bound(score_EB, how.coefficient)


def criterion_weights(names: Sequence[str], weights: Mapping[str, float]) -> list[float]:
    """A weight for each criterion; all alike, summing to 1, where none are given.

    Raises:
        BadInput: a name that is no criterion of the model, or nothing but zeros.
    """
    if not weights:
        return [1 / len(names)] * len(names)
    for name in weights:
        if name not in names:
            raise BadInput(f"{name!r} is no criterion of the reward model: it has {', '.join(names)}")
    if not any(weights.values()):
        raise BadInput("every criterion has weight 0: give one of them another")
    return [float(weights.get(name, 0.0)) for name in names]


class EnsembleScorer:
    """Reads the token ids of the policy, or texts; higher is better.

    Args:
        bodies: models with one head or several, all with one tokenizer.
        how: the rule for the members of an ensemble.
        weights: of the criteria, for a model that has them (the rule does not matter then).
        trunk: layers that the bodies are known to share; None compares their weights.

    Raises:
        BadInput: a weight for a criterion that the model does not have.
    """

    def __init__(
        self,
        bodies: Sequence[RewardModelScorer],
        how: Aggregation = Aggregation(),
        weights: Mapping[str, float] | None = None,
        trunk: int | None = None,
    ) -> None:
        self.how, self.weights = how, dict(weights or {})
        start = _common(bodies) if trunk is None else trunk
        self.bodies = [RewardModelScorer(b.model, b.tokenizer, start) for b in bodies]
        self.tokenizer, self.model = bodies[0].tokenizer, bodies[0].model
        kept = [_statistics(body) for body in bodies]
        self.names = [name for names, _, _ in kept for name in names]
        if len(bodies) > 1:
            self.names = [f"member {number}" for number in range(len(self.names))]
        self.mean_E = torch.tensor([mean for _, means, _ in kept for mean in means], device=models.device())
        self.std_E = torch.tensor([std for _, _, stds in kept for std in stds], device=models.device())
        self.mean, self.std = float(self.mean_E.mean()), float(self.std_E.mean())
        criteria = (getattr(self.model.config, "accord", None) or {}).get("heads") == "criteria"
        self.weight_E = (
            torch.tensor(criterion_weights(self.names, self.weights), device=models.device())
            if criteria
            else None
        )

    @property
    def tower(self) -> towers.Tower:
        """The first body's; ``tower.start`` is where the shared trunk ends."""
        return self.bodies[0].tower

    def shares(self, base: Any, start: int) -> bool:
        """Whether all bodies' first ``start`` layers are the very same as ``base``'s."""
        return start > 0 and all(body.shares(base, start) for body in self.bodies)

    def on_trunk(self, start: int) -> EnsembleScorer:
        """The same scorer from layer ``start`` up; 0: from where the bodies differ."""
        return EnsembleScorer(self.bodies, self.how, self.weights, start or None)

    def combine(self, score_EB: Tensor) -> Tensor:
        """(B,) from standardised members or criteria."""
        if self.weight_E is not None:
            return self.weight_E.to(score_EB) @ score_EB
        return aggregate(score_EB, self.how)

    @torch.no_grad()
    def members_packed(self, packed: Packed, trunk_TH: Tensor | None = None) -> Tensor:
        """(E, B) standardised scores of a packed batch."""
        if trunk_TH is None:
            trunk_TH = self.tower.trunk(packed)
        raw_BE = torch.cat([body.outputs(packed, trunk_TH) for body in self.bodies], dim=1)
        return ensembles.standardise(raw_BE.T, self.mean_E, self.std_E)

    def score_packed(self, packed: Packed, trunk_TH: Tensor | None = None) -> Tensor:
        """(B,) scores of a packed batch."""
        return self.combine(self.members_packed(packed, trunk_TH))

    def member_groups(self, groups: Sequence[Group], trunk: TrunkStates | None = None) -> Tensor:
        """(E, B) standardised scores in the order of the groups' responses."""
        parts = []
        for run in batches.by_budget([stream_length(group) for group in groups], TOKENS_PER_BATCH):
            chosen = [groups[i] for i in run]
            known = trunk.of(chosen) if trunk is not None else None
            parts.append(self.members_packed(batches.pack(chosen, models.device()), known))
        return torch.cat(parts, dim=1).cpu()

    def score_groups(self, groups: Sequence[Group], trunk: TrunkStates | None = None) -> Tensor:
        """(B,) scores in the order of the groups' responses."""
        return self.combine(self.member_groups(groups, trunk))

    def members(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[list[float]]:
        """For each written answer the standardised scores of all members."""
        groups = [
            Group(models.encode_prompt(self.tokenizer, p), (models.encode_response(self.tokenizer, r),))
            for p, r in zip(prompts, responses, strict=True)
        ]
        found: list[list[float]] = self.member_groups(groups).T.tolist()
        return found

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """One score for each written answer, the end token added."""
        member_BE = torch.tensor(self.members(prompts, responses))
        scores: list[float] = self.combine(member_BE.T).tolist()
        return scores


class TextEnsembleScorer:
    """Members with tokenizers of their own: each is given text; their scores are normalised already."""

    def __init__(self, scorers: Sequence[Scorer], how: Aggregation = Aggregation()) -> None:
        self.scorers, self.how = list(scorers), how
        self.names = [f"member {number}" for number in range(len(scorers))]
        self.std_E = torch.tensor([float(getattr(scorer, "std", 1.0)) for scorer in scorers])
        self.std = float(self.std_E.mean())

    def combine(self, score_EB: Tensor) -> Tensor:
        return aggregate(score_EB, self.how)

    def members(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[list[float]]:
        """For each answer the scores of all members."""
        each = [scorer.score(prompts, responses) for scorer in self.scorers]
        return [list(scores) for scores in zip(*each, strict=True)]

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        scores: list[float] = self.combine(torch.tensor(self.members(prompts, responses)).T).tolist()
        return scores


def _statistics(body: RewardModelScorer) -> tuple[list[str], list[float], list[float]]:
    """Names, means and deviations of a body's heads, as they are kept in its configuration."""
    kept = getattr(body.model.config, "accord", None) or {}
    if "head_mean" in kept:
        return list(kept["head_names"]), list(kept["head_mean"]), list(kept["head_std"])
    heads = len(body.model.score.weight)
    return [f"head {i}" for i in range(heads)], [body.mean] * heads, [body.std] * heads


def _common(bodies: Sequence[RewardModelScorer]) -> int:
    """Layers that all bodies have in common; 0 for a body alone."""
    if len(bodies) == 1:
        return 0
    first = towers.base_of(bodies[0].model)
    return min(towers.common_layers(first, towers.base_of(b.model)) for b in bodies[1:])
