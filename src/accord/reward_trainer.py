"""One optimiser step of a reward model at a time: score, loss, backward, update.

The heads (axis O) are one score; or the members of an ensemble that share everything below; or one head for
each criterion; or ODIN's quality and length. What the loss compares are voices (axis M): the members, or one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from accord import batches, models, probe
from accord.config import Reward
from accord.execution.local import Local
from accord.length_losses import length_correlation_loss, orthogonality_penalty
from accord.reward_examples import OUTCOME, Example
from accord.reward_loss import TieModel, pair_loss, ranking_loss
from accord.scoring.reward_model import RewardModelScorer
from accord.streams import generator
from accord.towers import TOKENS_PER_BATCH, TrunkStates

TIE_MODELS: dict[str, TieModel] = {"rao_kupper": "rao_kupper", "davidson": "davidson"}


def head_names(config: Reward) -> list[str]:
    """What the heads are called, in order; one empty name for the usual single score."""
    if config.ensemble is not None and config.ensemble.kind == "heads":
        return [f"member {number}" for number in range(config.ensemble.members)]
    if config.length == "odin":
        return ["quality", "length"]
    return list(config.criteria) or [""]


def resample(count: int, seed: int, *names: str | int) -> list[int]:
    """Indices of a bootstrap: ``count`` of ``count``, drawn with replacement from the named stream."""
    drawn: list[int] = torch.randint(count, (count,), generator=generator(seed, "bootstrap", *names)).tolist()
    return drawn


def voices(score_BO: Tensor, examples: Sequence[Example], config: Reward) -> Tensor:
    """(B, M) scores that are compared: each member's; ODIN's two heads added; the example's own criterion."""
    if config.length == "odin":
        return score_BO.sum(1, keepdim=True)
    if config.criteria:
        asked_B = [e.criterion for e in examples for _ in e.group.responses]
        return score_BO.gather(1, torch.tensor(asked_B, device=score_BO.device)[:, None])
    return score_BO


class RewardTrainer:
    """For the stage and for benchmarks alike.

    Args:
        model: from ``models.new_reward``, with as many heads as ``head_names`` has names.
    """

    def __init__(self, model: Any, tokenizer: Any, config: Reward, total_steps: int, seed: int = 0) -> None:
        self.config = config
        parameters = models.select_weights(model, config.weights, seed)
        self.scorer = RewardModelScorer(model, tokenizer, models.trunk_layers(model, config.weights))
        head = {n: p for n, p in parameters.items() if n.startswith("score.")}
        rest = {n: p for n, p in parameters.items() if n not in head}
        rate = config.optimizer.learning_rate
        groups: list[tuple[dict[str, nn.Parameter], float]] = [
            (rest, rate),
            (head, config.head_learning_rate or rate),
        ]
        self.tie = nn.Parameter(torch.zeros(()))  # η = softplus for Rao–Kupper, log ν for Davidson
        if config.ties in TIE_MODELS:
            groups.append(({"tie": self.tie}, 1e-2))
        self.execution = Local(groups, config.optimizer, total_steps)

    def step(
        self,
        examples: Sequence[Example],
        trunk: TrunkStates | None = None,
        times_NM: Tensor | None = None,
    ) -> dict[str, float]:
        """Train on one batch; returns loss (nats per comparison), accuracy (share of decided pairs), norm.

        Args:
            trunk: hidden states of the frozen trunk, where they are known already.
            times_NM: how often each example is in each member's resample of the pairs.
        """
        total, right, decided = 0.0, 0.0, 0
        runs = batches.by_budget(
            [batches.stream_length(e.group) for e in examples], batches.MICROBATCH_TOKENS
        )
        parts = [[examples[i] for i in run] for run in runs]
        weights = [e.weight for e in examples]
        count = len(examples) if set(weights) == {1.0} else sum(weights)
        slopes = self._length_slopes(parts, trunk)
        for place, (run, part) in enumerate(zip(runs, parts, strict=True)):
            score_BO = self._outputs(part, trunk)
            score_BM = voices(score_BO, part, self.config)
            loss = self.loss(score_BM, part, count, times_NM[run] if times_NM is not None else None)
            extra = self._length_loss(score_BO, part) if len(parts) == 1 else None
            if slopes:
                extra = (score_BO * slopes[place]).sum()  # its gradient is the correlation loss's
            self.execution.backward(loss if extra is None else loss + extra)
            total += float(loss.detach())
            found, pairs = _right(score_BM.detach(), part)
            right, decided = right + found, decided + pairs
        return {"loss": total, "accuracy": right / max(1, decided), "grad_norm": self.execution.step()}

    def loss(
        self, score_BM: Tensor, examples: Sequence[Example], count: float, times_NM: Tensor | None = None
    ) -> Tensor:
        """Nats per comparison, the mean over voices; ``count`` is the weight of the whole step."""
        starts = [0, *itertools.accumulate(len(e.group.responses) for e in examples)]
        terms = []
        for voice, score_B in enumerate(score_BM.unbind(1)):
            for ranked, term in ((False, self._pairs), (True, self._rankings)):
                chosen = [i for i, e in enumerate(examples) if bool(e.ranks) == ranked]
                if chosen:
                    part = [examples[i] for i in chosen]
                    rows = [row for i in chosen for row in range(starts[i], starts[i + 1])]
                    times_N = times_NM[chosen, voice] if times_NM is not None else None
                    score_R = score_B if len(part) == len(examples) else score_B[rows]
                    terms.append(term(score_R, part, _weights(part, times_N, score_B.device), count))
        loss = sum(terms[1:], terms[0])
        return loss / score_BM.shape[1] if score_BM.shape[1] > 1 else loss

    def _pairs(
        self, score_R: Tensor, examples: Sequence[Example], weight_N: Tensor | None, count: float
    ) -> Tensor:
        a_N, b_N = score_R.view(-1, 2).unbind(1)
        margins, scales = [e.margin for e in examples], [e.scale for e in examples]
        return pair_loss(
            a_N,
            b_N,
            torch.tensor([e.shares for e in examples], device=a_N.device),
            tie_model=TIE_MODELS.get(self.config.ties, "none"),
            tie=self.tie,
            margin_N=torch.tensor(margins, device=a_N.device) if any(margins) else None,
            scale_N=torch.tensor(scales, device=a_N.device) if set(scales) != {1.0} else None,
            weight_N=weight_N,
            label_smoothing=self.config.label_smoothing,
            centering=self.config.centering,
            count=count,
        )

    def _rankings(
        self, score_R: Tensor, examples: Sequence[Example], weight_N: Tensor | None, count: float
    ) -> Tensor:
        ranks = [torch.tensor(e.ranks, device=score_R.device) for e in examples]
        parts = list(torch.split(score_R, [len(e.ranks) for e in examples]))
        score_NK = pad_sequence(parts, batch_first=True)
        rank_NK = pad_sequence(ranks, batch_first=True)
        return ranking_loss(
            score_NK, rank_NK, rank_NK > 0, weight_N=weight_N, centering=self.config.centering, count=count
        )

    def _outputs(self, examples: Sequence[Example], trunk: TrunkStates | None) -> Tensor:
        groups = [e.group for e in examples]
        packed = batches.pack(groups, models.device())
        return self.scorer.outputs(packed, trunk.of(groups) if trunk is not None else None)

    def _length_loss(self, score_BO: Tensor, examples: Sequence[Example]) -> Tensor | None:
        """ODIN's terms over a whole step's answers."""
        if self.config.length != "odin":
            return None
        length_B = torch.tensor([float(len(r)) for e in examples for r in e.group.responses])
        quality_B, length_head_B = score_BO.unbind(1)
        apart = length_correlation_loss(quality_B, length_head_B, length_B.to(score_BO.device))
        cosine = orthogonality_penalty(*self.scorer.model.score.weight.float())
        return self.config.length_weight * apart + self.config.orthogonality_weight * cosine

    def _length_slopes(self, parts: Sequence[Sequence[Example]], trunk: TrunkStates | None) -> list[Tensor]:
        """Gradient of ODIN's terms by the scores of each microbatch; that by the heads is collected here.

        A correlation is no sum over answers, so microbatches do not add up: all answers are scored first.
        """
        if self.config.length != "odin" or len(parts) == 1:
            return []
        with torch.no_grad():
            known = [self._outputs(part, trunk) for part in parts]
        score_BO = torch.cat(known).requires_grad_()
        terms = self._length_loss(score_BO, [e for part in parts for e in part])
        assert terms is not None
        self.execution.backward(terms)
        assert score_BO.grad is not None
        return list(torch.split(score_BO.grad, [len(one) for one in known]))

    @torch.no_grad()
    def fit_head(
        self,
        examples: Sequence[Example],
        prompts: Sequence[str],
        trunk: TrunkStates | None = None,
        resamples: Sequence[Sequence[int]] = (),
    ) -> probe.Probe:
        """Put heads fitted to the frozen hidden states in place of the random ones; returns the first fit.

        Of ODIN's heads the one that is kept is fitted. Rankings and ties do not count here.

        Args:
            prompts: prompt key of each example.
            resamples: of an ensemble's heads, each member's examples by number.
        """
        last_NH = self._last_states(examples, trunk)
        weight: nn.Parameter = self.scorer.model.score.weight
        fits = []
        for head in range(1 if self.config.length == "odin" else len(weight)):
            use = [
                i
                for i in (resamples[head] if resamples else range(len(examples)))
                if examples[i].decided and (not self.config.criteria or examples[i].criterion == head)
            ]
            pair_NH = [last_NH[i] for i in use]
            a_NH, b_NH = (
                torch.stack([pair_KH[side] for pair_KH in pair_NH] or [torch.zeros(1)]).numpy()
                for side in (0, 1)
            )
            a_wins_N = np.array([examples[i].outcome == OUTCOME["a"] for i in use])
            fits.append(probe.fit(a_NH, b_NH, a_wins_N, [prompts[i] for i in use]))
            weight[head] = torch.from_numpy(fits[-1].weight_H)
        self.execution.adopt(weight)
        return fits[0]

    def _last_states(self, examples: Sequence[Example], trunk: TrunkStates | None) -> list[Tensor]:
        """Hidden states (K, H) at the last token of each example's answers, float64."""
        found: list[Tensor] = []
        lengths = [batches.stream_length(e.group) for e in examples]
        for run in batches.by_budget(lengths, TOKENS_PER_BATCH):
            groups = [examples[i].group for i in run]
            packed = batches.pack(groups, models.device())
            hidden_TH = self.scorer.tower.hidden(packed, trunk.of(groups) if trunk is not None else None)
            last_BH = hidden_TH[packed.last_B].double().cpu()
            found += torch.split(last_BH, [len(group.responses) for group in groups])
        return found


def _weights(examples: Sequence[Example], times_N: Tensor | None, device: torch.device) -> Tensor | None:
    """Weight of each example in one voice's loss; None where all are 1."""
    weights = [e.weight for e in examples]
    if times_N is None and set(weights) == {1.0}:
        return None
    weight_N = torch.tensor(weights, device=device)
    return weight_N if times_N is None else weight_N * times_N.to(weight_N)


def _right(score_BM: Tensor, examples: Sequence[Example]) -> tuple[float, int]:
    """Decided pairs that are right, the mean over voices, and how many there are; a ranking has K(K−1)/2."""
    better, worse, start = [], [], 0
    for example in examples:
        places = example.ranks or {0: (1, 2), 1: (2, 1), 2: (1, 1)}[example.outcome]
        for i, j in itertools.permutations(range(len(places)), 2):
            if places[i] < places[j]:
                better.append(start + i)
                worse.append(start + j)
        start += len(places)
    ahead_NM = score_BM[better] > score_BM[worse]
    return float(ahead_NM.sum()) / score_BM.shape[1], len(better)
