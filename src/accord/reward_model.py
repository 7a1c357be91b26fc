"""Bradley–Terry reward model on comparisons: both sides share their prompt's tokens, one scalar at the last
token.

Left out here on purpose: several heads, ensembles and length correction (they are stages of their own).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accord import batches, models, probe
from accord import preference_losses as losses
from accord.batches import Group, Tokens
from accord.config import Reward
from accord.diagnostics.calibration import reward_metrics
from accord.diagnostics.floors import floors
from accord.execution.local import Local
from accord.records import BadInput, Comparison, Response
from accord.scoring.reward_model import RewardModelScorer
from accord.streams import generator, permutation
from accord.towers import TOKENS_PER_BATCH, TrunkStates
from accord.workspace import Workspace, check_bad_steps

MAX_BAD_STEPS = 3
OUTCOME = {"a": 0, "b": 1, "tie": 2}


@dataclass(frozen=True)
class Example:
    """One comparison as token ids: both sides with the same prompt, outcome 0 (a), 1 (b) or 2 (tie)."""

    group: Group
    outcome: int


def encode(
    tokenizer: Any,
    comparisons: Sequence[Comparison],
    config: Reward,
    max_prompt: int = 512,
    max_response: int = 512,
) -> tuple[list[Example], list[Comparison]]:
    """Comparisons that can be learned from, as token ids, and the records they came from (same order).

    Skips and "both bad" carry no preference and are left out; ties by the configured choice. A pair with a
    side beyond the limits is left out and counted by the caller (the lengths of the two lists tell).
    """
    examples, kept = [], []
    for row in comparisons:
        if not _says_something(row, config):
            continue
        prompt = models.encode_prompt(tokenizer, row.prompt)
        a, b = _tokens(tokenizer, row.pair.a), _tokens(tokenizer, row.pair.b)
        if len(prompt) > max_prompt or max(len(a), len(b)) > max_response or not a or not b or a == b:
            continue
        examples.append(Example(Group(prompt, (a, b)), OUTCOME[row.verdict]))
        kept.append(row)
    return examples, kept


def _says_something(row: Comparison, config: Reward) -> bool:
    return row.verdict in OUTCOME and not (row.verdict == "tie" and config.ties == "drop")


def _tokens(tokenizer: Any, response: Response) -> Tokens:
    """The sampled ids where there are any; written text is encoded once, with the end token."""
    return (
        response.tokens if response.tokens is not None else models.encode_response(tokenizer, response.text)
    )


class RewardTrainer:
    """One optimiser step at a time, for the stage and for benchmarks alike."""

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
        if config.ties in ("rao_kupper", "davidson"):
            groups.append(({"tie": self.tie}, 1e-2))
        self.execution = Local(groups, config.optimizer, total_steps)

    def loss(self, a_N: Tensor, b_N: Tensor, outcome_N: Tensor, count: int) -> Tensor:
        """Nats per comparison: Bradley–Terry, or wins and ties by Rao–Kupper or Davidson, plus centering."""
        if self.config.ties == "rao_kupper":
            eta = nn.functional.softplus(self.tie) + 1e-4
            main = losses.rao_kupper(a_N - b_N, outcome_N, eta, count=count)
        elif self.config.ties == "davidson":
            main = losses.davidson(a_N - b_N, outcome_N, self.tie, count=count)
        else:
            soft_N = torch.tensor([1.0, 0.0, 0.5], device=a_N.device)[outcome_N]
            main = losses.bradley_terry(
                a_N, b_N, soft_label_N=soft_N, label_smoothing=self.config.label_smoothing, count=count
            )
        return main + losses.centering_penalty(a_N, b_N, self.config.centering, count=count)

    @torch.no_grad()
    def fit_head(
        self, examples: Sequence[Example], prompts: Sequence[str], trunk: TrunkStates | None = None
    ) -> probe.Probe:
        """Put a head fitted to the frozen hidden states in place of the random one.

        Args:
            prompts: prompt key of each example.
        """
        hidden = []
        lengths = [batches.stream_length(e.group) for e in examples]
        for run in batches.by_budget(lengths, TOKENS_PER_BATCH):
            groups = [examples[i].group for i in run]
            packed = batches.pack(groups, models.device())
            hidden_TH = self.scorer.tower.hidden(packed, trunk.of(groups) if trunk is not None else None)
            hidden.append(hidden_TH[packed.last_B].double().cpu())
        hidden_N2H = torch.cat(hidden).view(len(examples), 2, -1).numpy()
        outcome_N = np.array([e.outcome for e in examples])
        decided = outcome_N != OUTCOME["tie"]
        keys = [key for key, used in zip(prompts, decided, strict=True) if used]
        a_NH, b_NH = hidden_N2H[decided, 0], hidden_N2H[decided, 1]
        found = probe.fit(a_NH, b_NH, outcome_N[decided] == OUTCOME["a"], keys)
        weight: nn.Parameter = self.scorer.model.score.weight
        weight.copy_(torch.from_numpy(found.weight_H)[None])
        self.execution.adopt(weight)
        return found

    def step(self, examples: Sequence[Example], trunk: TrunkStates | None = None) -> dict[str, float]:
        """Train on one batch; returns loss (nats per comparison), accuracy (share of decided pairs), norm.

        Args:
            trunk: hidden states of the frozen trunk, where they are known already.
        """
        total, right, decided = 0.0, 0.0, 0
        lengths = [batches.stream_length(e.group) for e in examples]
        for run in batches.by_budget(lengths, batches.MICROBATCH_TOKENS):
            part = [examples[i] for i in run]
            groups = [e.group for e in part]
            packed = batches.pack(groups, models.device())
            trunk_TH = trunk.of(groups) if trunk is not None else None
            a_N, b_N = self.scorer.raw(packed, trunk_TH).view(-1, 2).unbind(1)
            outcome_N = torch.tensor([e.outcome for e in part], device=a_N.device)
            loss = self.loss(a_N, b_N, outcome_N, len(examples))
            self.execution.backward(loss)
            total += float(loss.detach())
            sign_N = torch.tensor([1.0, -1.0, 0.0], device=a_N.device)[outcome_N]
            right += float(((a_N - b_N).detach() * sign_N > 0).sum())
            decided += int((sign_N != 0).sum())
        return {"loss": total, "accuracy": right / max(1, decided), "grad_norm": self.execution.step()}


def train(
    model: Any,
    tokenizer: Any,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    config: Reward,
    work: Workspace,
    *,
    bootstrap: int = 2000,
    **limits: int,
) -> dict[str, Any]:
    """Train ``model`` (from ``models.new_reward``) in place; returns the figures of its card.

    The normalisation (mean and deviation over the training responses) goes into ``model.config.accord``.

    Raises:
        BadInput: too few usable pairs, no usable test pair.
        NumericalTrouble: repeated NaN.
    """
    examples, kept = encode(tokenizer, training, config, **limits)
    held_out, held_rows = encode(tokenizer, test, config.model_copy(update={"ties": "drop"}), **limits)
    if len(examples) < config.minimum_pairs:
        unusable = sum(_says_something(row, config) for row in training) - len(examples)
        why = (
            f" ({unusable} have an empty side, equal sides, or more tokens than data.max_prompt_tokens or"
            " data.max_response_tokens)"
        )
        raise BadInput(
            f"there are {len(examples)} usable pairs of {len(training)}{why if unusable else ''}, at least"
            f" {config.minimum_pairs} are needed: label more, or lower reward.minimum_pairs"
        )
    if not held_out:
        raise BadInput("no usable held-out pair is left to measure the reward model: label more pairs")
    per_epoch = -(-len(examples) // config.pairs_per_step)
    total = config.epochs * per_epoch
    trainer = RewardTrainer(model, tokenizer, config, total, work.seed)
    started = time.monotonic()
    done, state, extra = work.resume()
    if done:
        trainer.execution.load(state["execution"])
    trunk = TrunkStates(
        trainer.scorer.tower, [e.group for e in (*examples, *held_out)], models.device(), work.frozen_layers
    )
    progress = work.progress(total, done)
    started_at: dict[str, float] = dict(extra.get("probe", {}))
    if config.head_start == "probe" and not done:
        found = trainer.fit_head(examples, [row.prompt.key for row in kept], trunk)
        started_at = {"accuracy": found.accuracy, "strength": found.strength}
    for step in range(done, total):
        begun = time.monotonic()
        order = permutation(len(examples), work.seed, "reward", work.round, step // per_epoch)
        first = step % per_epoch * config.pairs_per_step
        batch = [examples[i] for i in order[first : first + config.pairs_per_step]]
        figures = trainer.step(batch, trunk)
        check_bad_steps(trainer.execution.bad_steps, MAX_BAD_STEPS, "reward", step)
        work.record(step, figures | {"pairs_per_second": len(batch) / (time.monotonic() - begun)})
        work.keep(step + 1, lambda: ({"execution": trainer.execution.state()}, {"probe": started_at}))
        progress.advance(f"loss {figures['loss']:.3f}  accuracy {figures['accuracy']:.2f}")
    reference = trainer.scorer.score_groups([e.group for e in examples], trunk)
    mean, std = float(reference.mean()), float(reference.std())
    if not (math.isfinite(std) and std > 1e-6):
        raise BadInput(
            f"the reward model gives every response the same score ({mean:.3g}): raise its learning rate"
        )
    model.config.accord = {
        "score_mean": mean,
        "score_std": std,
        "read_at": "last_token",
        "end_token": tokenizer.eos_token_id,
    }
    scorer = RewardModelScorer(model, tokenizer, trainer.scorer.tower.start)
    card = measure(scorer, held_out, held_rows, kept, trunk, bootstrap=bootstrap)
    learned = trainer.tie.detach()
    tie = float(nn.functional.softplus(learned) + 1e-4 if config.ties == "rao_kupper" else learned)
    ties = sum(1 for row in training if row.verdict == "tie")
    return card | {
        "pairs_train": len(examples),
        "pairs_left_out": len(training) - len(examples),
        "probe": started_at or None,
        "ties": {"choice": config.ties, "count": ties}
        | ({"parameter": tie} if config.ties in ("rao_kupper", "davidson") else {}),
        "score_mean": mean,
        "score_std": std,
        "read_at": "last_token",
        "seconds": time.monotonic() - started,
    }


def measure(
    scorer: RewardModelScorer,
    examples: Sequence[Example],
    rows: Sequence[Comparison],
    training: Sequence[Comparison],
    trunk: TrunkStates | None = None,
    *,
    bootstrap: int = 2000,
) -> dict[str, Any]:
    """Accuracy with its interval, calibration, score distribution, and the floors, on held-out comparisons.

    Margins are in raw score units (nats of Bradley–Terry log odds), so that calibration is of the model
    itself.
    """
    score_N2 = scorer.score_groups([e.group for e in examples], trunk).view(-1, 2).double().numpy()
    sign_N = np.array([1.0 if e.outcome == 0 else -1.0 for e in examples])
    margin_N = (score_N2[:, 0] - score_N2[:, 1]) * sign_N * scorer.std
    keys = [row.prompt.key for row in rows]
    chosen_N = np.where(sign_N > 0, score_N2[:, 0], score_N2[:, 1])
    rejected_N = np.where(sign_N > 0, score_N2[:, 1], score_N2[:, 0])
    edges = np.histogram_bin_edges(score_N2, bins=24)
    return reward_metrics(margin_N, keys, samples=bootstrap) | {
        "floors": floors(training, rows, samples=bootstrap) if training else {},
        "pairs_test": len(examples),
        "prompts_test": len(set(keys)),
        "score_histogram": {
            "edges": edges.tolist(),
            "chosen": np.histogram(chosen_N, edges)[0].tolist(),
            "rejected": np.histogram(rejected_N, edges)[0].tolist(),
        },
    }


def new(location: str, dtype: torch.dtype, tokenizer: Any, seed: int, round: int = 0) -> Any:
    """A reward model on the trunk of the checkpoint at ``location``, its head drawn from a named stream."""
    return models.new_reward(location, dtype, tokenizer, generator(seed, "reward head", round))
