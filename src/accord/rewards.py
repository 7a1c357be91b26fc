"""What a response is paid: the reward model's score with other scorers, shaping, penalties and a constraint.

The KL is not in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord import advantages, reward_terms
from accord.config import Online
from accord.constraints import ConstraintMultiplier
from accord.records import BadInput, Prompt
from accord.scoring.base import Scorer


@dataclass(frozen=True)
class WeightedScorer:
    """A scorer beside the run's own reward model; ``name`` is what its figure is called."""

    name: str
    scorer: Scorer
    weight: float


@dataclass(frozen=True)
class Paid:
    """Payment of a batch.

    Attributes:
        score_B: with everything but the KL; 0 where a response could not be scored.
        valid_B: false there; None where all could.
        figures: mean of each scorer, of the payment, the multiplier.
    """

    score_B: Tensor
    valid_B: Tensor | None
    figures: dict[str, float]


class Rewards:
    """Every score of a response, turned into one payment.

    Args:
        others: scorers that are summed with the run's own.
        constrained: gives the score that `config.constraint` is about.
    """

    def __init__(
        self, config: Online, others: Sequence[WeightedScorer] = (), constrained: Scorer | None = None
    ) -> None:
        self.config, self.others, self.constrained = config, list(others), constrained
        if (config.constraint is None) != (constrained is None):
            raise BadInput("online.constraint and its scorer go together: one of them is missing")
        if [other.weight for other in others] != [source.weight for source in config.rewards]:
            raise BadInput(f"online.rewards names {len(config.rewards)} scorers, {len(others)} were given")
        self.multiplier = (
            ConstraintMultiplier(config.constraint.threshold, config.constraint.rate)
            if config.constraint is not None
            else None
        )

    @property
    def needs_text(self) -> bool:
        """Whether anything here has to be given decoded responses."""
        return bool(self.others) or self.constrained is not None

    def pay(
        self,
        own_B: Tensor,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        length_B: Tensor,
        finished_B: Tensor,
    ) -> Paid:
        """Payment of B responses.

        Args:
            own_B: normalised scores of the run's own reward model; NaN where it could not score.
            prompts, texts: one for each response; read only where ``needs_text``.

        Raises:
            BadInput: a scorer failed; no response of the batch could be scored.
        """
        config = self.config
        score_B, figures = self.summed(own_B, prompts, texts)
        valid_B = torch.isfinite(score_B)
        if not valid_B.any():
            raise BadInput("no response of the step could be scored: mend the reward function")
        if not valid_B.all():
            figures["unscored_share"] = 1 - float(valid_B.float().mean())
            score_B = torch.where(valid_B, score_B, score_B[valid_B].mean())  # out of the batch's statistics
        shaping = config.shaping
        score_B = reward_terms.shape(score_B, shaping.kind, centre=shaping.centre, limit=shaping.limit)
        if self.multiplier is not None:
            score_B = score_B + self._constraint(prompts, texts, figures, own_B.device)
        if config.length_penalty:
            score_B = score_B + reward_terms.length_penalty(length_B, config.length_penalty)
        if config.overlong is not None:
            score_B = score_B + reward_terms.soft_overlong(
                length_B,
                limit=config.sampling.max_new_tokens,
                buffer_tokens=config.overlong.buffer_tokens,
                penalty=config.overlong.penalty,
            )
        score_B = advantages.missing_end(
            score_B, finished_B, config.missing_end.mode, config.missing_end.value
        )
        figures["paid_mean"] = float(score_B[valid_B].mean())
        if valid_B.all():
            return Paid(score_B, None, figures)
        return Paid(torch.where(valid_B, score_B, 0.0), valid_B, figures)

    def summed(
        self, own_B: Tensor, prompts: Sequence[Prompt], texts: Sequence[str]
    ) -> tuple[Tensor, dict[str, float]]:
        """Weighted sum of the scorers, (B,), NaN where one of them could not score; and each one's mean."""
        weight, figures = self.config.reward_weight, {}
        score_B = own_B if weight == 1 else weight * own_B
        for other in self.others:
            given_B = torch.tensor(other.scorer.score(prompts, texts), device=own_B.device)
            figures[f"reward_{other.name}"] = float(given_B.nanmean())
            score_B = score_B + other.weight * given_B
        return score_B, figures

    def _constraint(
        self, prompts: Sequence[Prompt], texts: Sequence[str], figures: dict[str, float], device: torch.device
    ) -> Tensor:
        assert self.constrained is not None
        assert self.multiplier is not None
        given_B = torch.tensor(self.constrained.score(prompts, texts), device=device)
        if not bool(torch.isfinite(given_B).all()):
            raise BadInput("the constraint's scorer gave a score that is not finite: mend it")
        figures["constraint"] = float(given_B.mean())
        figures["constraint_multiplier"] = self.multiplier.multiplier
        return self.multiplier.multiplier * (given_B - self.multiplier.threshold)

    def after_step(self, figures: dict[str, float]) -> None:
        """Dual ascent, from the figures of the step that is done."""
        if self.multiplier is not None:
            self.multiplier.update(figures["constraint"])

    def state(self) -> dict[str, Any]:
        return {"multiplier": self.multiplier.multiplier if self.multiplier is not None else 0.0}

    def load(self, state: dict[str, Any]) -> None:
        if self.multiplier is not None:
            self.multiplier.multiplier = float(state["multiplier"])
