"""Scores of a trained reward model, normalised with the mean and deviation kept in its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord import batches, models, towers
from accord.batches import Group, Packed, stream_length
from accord.records import BadInput, Prompt
from accord.scoring.length_calibration import LengthCurve
from accord.towers import TOKENS_PER_BATCH, Tower, TrunkStates


class RewardModelScorer:
    """Reads the score at the last token of the response, (raw − mean) / std over reference samples.

    Args:
        model: from ``models.load_reward``.
        tokenizer: the reward model's own.
        start: where its layers above a shared trunk begin; 0 without a trunk.

    A curve of score against length (``reward.length: lowess``) that is kept in the checkpoint is taken off.

    Raises:
        BadInput: a deviation that is not above 0, a curve that cannot be read.
    """

    def __init__(self, model: Any, tokenizer: Any, start: int = 0) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.tower = Tower(towers.base_of(model), start)
        kept = getattr(model.config, "accord", None) or {}
        self.mean, self.std = float(kept.get("score_mean", 0.0)), float(kept.get("score_std", 1.0))
        self.curve = LengthCurve.from_json(kept["length_curve"]) if kept.get("length_curve") else None
        if not self.std > 0:
            raise BadInput(
                f"the reward model's score deviation is {self.std}: it gives every response one score"
            )

    def shares(self, base: Any, start: int) -> bool:
        """Whether its first ``start`` layers are the very same as ``base``'s."""
        return towers.common_layers(base, towers.base_of(self.model)) >= start > 0

    def on_trunk(self, start: int) -> RewardModelScorer:
        """The same scorer from layer ``start`` up; what lies below is given to it, or computed."""
        return RewardModelScorer(self.model, self.tokenizer, start)

    def outputs(self, packed: Packed, trunk_TH: Tensor | None = None) -> Tensor:
        """(B, O) of each head, as transformers would give them less the length curve, float32; carries a
        gradient where the model does.
        """
        hidden_TH = self.tower.hidden(packed, trunk_TH)
        output_BO: Tensor = self.model.score(hidden_TH[packed.last_B]).float()
        if self.curve is None:
            return output_BO
        bias_B = torch.from_numpy(self.curve.at(packed.length_B.cpu().numpy()))
        return output_BO - bias_B[:, None].to(output_BO)

    def raw(self, packed: Packed, trunk_TH: Tensor | None = None) -> Tensor:
        """(B,) of a model with one head.

        Raises:
            ValueError: it has several, of which none alone is the score.
        """
        output_BO = self.outputs(packed, trunk_TH)
        if output_BO.shape[1] != 1:
            raise ValueError(f"the reward model has {output_BO.shape[1]} heads: read it with load_scorer")
        return output_BO[:, 0]

    @torch.no_grad()
    def score_packed(self, packed: Packed, trunk_TH: Tensor | None = None) -> Tensor:
        """(B,) normalised scores of a packed batch."""
        return (self.raw(packed, trunk_TH) - self.mean) / self.std

    def score_groups(self, groups: Sequence[Group], trunk: TrunkStates | None = None) -> Tensor:
        """(B,) normalised scores in the order of the groups' responses.

        Args:
            trunk: kept states of the same trunk, where there are any.
        """
        parts = []
        for run in batches.by_budget([stream_length(group) for group in groups], TOKENS_PER_BATCH):
            chosen = [groups[i] for i in run]
            kept = trunk.of(chosen) if trunk is not None else None
            parts.append(self.score_packed(batches.pack(chosen, models.device()), kept))
        return torch.cat(parts).cpu()

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """Normalised scores of written answers, the end token added."""
        groups = [
            Group(
                models.encode_prompt(self.tokenizer, prompt),
                (models.encode_response(self.tokenizer, text),),
            )
            for prompt, text in zip(prompts, responses, strict=True)
        ]
        scores: list[float] = self.score_groups(groups).tolist()
        return scores
