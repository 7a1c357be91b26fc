"""Direct preference optimisation: a policy trained on comparisons themselves, by DPO and its relatives.

One step reads: log-probabilities of both answers, the reference's, the loss of the margin, update. The
algorithms differ in the loss alone (`direct_objective`). Two answers to one prompt share its tokens in the
packed stream; the reference's log-probabilities are computed once and kept on disk.

Left out on purpose: sampling during training, dropout, an SFT term beside DPO's loss.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord import (
    batches,
    direct_examples,
    direct_losses,
    direct_objective,
    models,
    reference_logps,
)
from accord.anchored import Anchored
from accord.batches import Group, Packed, stream_length
from accord.config import Direct
from accord.diagnostics.implicit_reward import implicit_accuracy, likelihood_shift
from accord.direct_examples import Example
from accord.execution.local import Local
from accord.formats_unpaired import Unpaired
from accord.policy_alerts import Alert
from accord.records import Comparison, Finding, Prompt
from accord.scoring.base import Scorer
from accord.streams import permutation, stream_seed
from accord.towers import TOKENS_PER_BATCH, TrunkStates
from accord.workspace import Workspace, check_bad_steps

TIE_RATE = 1e-2  # learning rate of the tie parameter, as the reward model's
NU_RAO_KUPPER = 3.0  # where it starts: ν of Chen et al. 2024; Davidson's starts at 1
BOTH_FALL_STEPS = 5  # so many steps in a row are said; a single batch may fall by chance

logger = logging.getLogger("accord")
Logps = Callable[[Packed, Tensor | None], Tensor]


class DirectTrainer:
    """The policy and its reference; one ``step`` a batch of examples.

    Args:
        policy: a model from ``models.load_policy``, trained in place.
        total_steps: optimiser steps of the whole run, for the schedule.
        scorer: what evaluations score samples with; training knows nothing of it.
        reference: another model to be held to; None: the policy as it is now.

    Raises:
        BadInput: a reference with another vocabulary.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: Any,
        config: Direct,
        total_steps: int,
        *,
        scorer: Scorer | None = None,
        reference: Any | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config
        self.held = Anchored(
            policy, tokenizer, config.weights, config.sampling, scorer=scorer, reference=reference
        )
        parameters = models.select_weights(policy, config.weights, seed)
        groups: list[tuple[Mapping[str, nn.Parameter], float]] = [
            (parameters, config.optimizer.learning_rate)
        ]
        # η = softplus for Rao–Kupper, log ν for Davidson
        first = math.log(NU_RAO_KUPPER - 1) if config.ties == "rao_kupper" else 0.0
        self._free_tie = nn.Parameter(torch.tensor(first, device=models.device()))
        if config.ties != "drop":
            groups.append(({"tie": self._free_tie}, TIE_RATE))
        self.execution = Local(groups, config.optimizer, total_steps)
        self.known: dict[Group, Tensor] = {}  # log π_ref of the answers of a group, where it was computed

    # One step, readable from top to bottom.

    def step(self, examples: Sequence[Example], trunk: TrunkStates | None = None) -> dict[str, float]:
        """Train on one batch. Returns its figures, over the whole batch (`direct_objective.figures`)."""
        began, kto = time.monotonic(), self.config.algorithm == "kto"
        count = sum(len(e.good) for e in examples) if kto else len(examples)
        baseline = self._baseline(examples, trunk) if kto else None
        total, seen = 0.0, []
        for run in batches.by_budget([stream_length(e.group) for e in examples], batches.MICROBATCH_TOKENS):
            part = [examples[i] for i in run]
            groups = [e.group for e in part]
            packed, trunk_TH = self.held.packed(groups, trunk)
            logp_B = _sums(packed, self.held.logps(packed, trunk_TH)[0])
            reference_B = self._reference(groups, packed, trunk_TH)
            loss = direct_objective.objective(
                self.config, logp_B, reference_B, part, count=count, baseline=baseline, tie=self.tie
            )
            self.execution.backward(loss)
            total += float(loss.detach())
            seen.append(torch.stack([logp_B.detach(), reference_B]).cpu())
        logp_B, reference_B = torch.cat(seen, dim=1)
        figures = {"loss": total}
        figures |= direct_objective.figures(self.config, logp_B, reference_B, examples)
        if baseline is not None:
            figures["kl_baseline"] = float(baseline)
        if self.tie is not None:
            figures["tie_parameter"] = float(self.tie.detach())
        figures["grad_norm"] = self.execution.step()
        return figures | {"pairs_per_second": len(examples) / (time.monotonic() - began)}

    @torch.no_grad()
    def _baseline(self, examples: Sequence[Example], trunk: TrunkStates | None) -> Tensor:
        """KTO's z0 of the batch: the mean log ratio of answers under prompts that they do not belong to."""
        groups = [e.mismatched for e in examples if e.mismatched is not None]
        parts = []
        for run in batches.by_budget([stream_length(g) for g in groups], TOKENS_PER_BATCH):
            chosen = [groups[i] for i in run]
            packed, trunk_TH = self.held.packed(chosen, trunk)
            logp_B = _sums(packed, self.held.logps(packed, trunk_TH)[0])
            parts.append(logp_B - self._reference(chosen, packed, trunk_TH))
        return direct_losses.kto_baseline(torch.cat(parts))

    # What the step is made of.

    @property
    def tie(self) -> Tensor | None:
        """η of Rao–Kupper (above 0) or log ν of Davidson; None where ties are dropped."""
        match self.config.ties:
            case "rao_kupper":
                return nn.functional.softplus(self._free_tie) + 1e-4
            case "davidson":
                return self._free_tie
            case _:
                return None

    def _reference(self, groups: Sequence[Group], packed: Packed, trunk_TH: Tensor | None) -> Tensor:
        """log π_ref of the answers (B,): kept, or computed now; zeros where the loss has no reference."""
        if not self.config.needs_reference:
            return torch.zeros(len(packed.length_B), device=packed.tokens_T.device)
        if all(group in self.known for group in groups):
            return torch.cat([self.known[group] for group in groups]).to(packed.tokens_T.device)
        return _sums(packed, self.held.reference_logps(packed, trunk_TH))

    @torch.no_grad()
    def answer_logps(self, groups: Sequence[Group], logps: Logps, trunk: TrunkStates | None = None) -> Tensor:
        """Log-probability of every answer of ``groups``, in order (B,), without gradient."""
        parts = []
        for run in batches.by_budget([stream_length(g) for g in groups], TOKENS_PER_BATCH):
            packed, trunk_TH = self.held.packed([groups[i] for i in run], trunk)
            parts.append(_sums(packed, logps(packed, trunk_TH)).cpu())
        return torch.cat(parts)

    def know(self, groups: Sequence[Group], folder: Path | None, trunk: TrunkStates | None = None) -> None:
        """Put the reference's log-probabilities of ``groups`` in place, from ``folder`` or computed once.

        Call it before the first step: with LoRA the reference is the policy.
        """
        unique = list(dict.fromkeys(groups))
        digest = reference_logps.weights_digest(self.held.reference_model)
        key = reference_logps.content_key(digest, unique, self.config.sampling.temperature)

        def compute() -> Tensor:
            return self.answer_logps(unique, self.held.reference_logps, trunk)

        self.known |= dict(zip(unique, reference_logps.kept(folder, key, unique, compute), strict=True))

    def measure(
        self, examples: Sequence[Example], rows: Sequence[Comparison], bootstrap: int
    ) -> list[Finding]:
        """What the policy says about held-out pairs: implicit accuracy, and where their probability went."""
        groups, keys = [e.group for e in examples], [row.prompt.key for row in rows]
        logp_B = self.answer_logps(groups, lambda packed, trunk_TH: self.held.logps(packed, trunk_TH)[0])
        reference_B = self.answer_logps(groups, self.held.reference_logps)
        margin_N = direct_objective.margins(self.config, logp_B, reference_B, examples)
        change_N2 = (logp_B - reference_B).double().view(-1, 2).numpy()
        return [
            implicit_accuracy(margin_N.double().numpy(), keys, samples=bootstrap),
            likelihood_shift(change_N2[:, 0], change_N2[:, 1], keys, samples=bootstrap),
        ]


@dataclass(frozen=True)
class Trained:
    """What the stage ends with: evaluations as `online.train` gives them, and findings on held-out pairs."""

    evaluations: list[dict[str, Any]]
    findings: list[Finding]


def load_examples(
    tokenizer: Any,
    comparisons: Sequence[Comparison],
    answers: Sequence[Unpaired],
    config: Direct,
    seed: int,
    *,
    context: int | None = None,
    **limits: int,
) -> list[Example]:
    """What can be learned from, as token ids. KTO takes judged answers where there are any, else both sides
    of each pair.

    Raises:
        BadInput: nothing can be learned, see `direct_examples.require`.
    """
    kto = config.algorithm == "kto"
    if kto and answers:
        examples, given, ties = (
            direct_examples.judged(tokenizer, answers, context=context, **limits),
            len(answers),
            0,
        )
    else:
        examples, _ = direct_examples.pairs(tokenizer, comparisons, config.ties, context=context, **limits)
        given, ties = len(comparisons), sum(row.verdict == "tie" for row in comparisons)
    direct_examples.require(examples, given, ties, config)
    return direct_examples.mismatched(examples, seed, context) if kto else examples


def train(
    trainer: DirectTrainer,
    examples: Sequence[Example],
    held_out: tuple[Sequence[Example], Sequence[Comparison]],
    test_prompts: Sequence[Prompt],
    work: Workspace,
    *,
    reference_folder: Path | None = None,
    samples: int = 2,
    curve_samples: int = 1,
    bootstrap: int = 2000,
) -> Trained:
    """Optimise ``trainer.policy`` in place.

    Args:
        held_out: pairs, and the records that they came from.
        reference_folder: where the reference's log-probabilities are kept.

    Raises:
        NumericalTrouble: repeated NaN.
    """
    config = trainer.config
    per_epoch = steps_of(len(examples), config) // config.epochs
    total = steps_of(len(examples), config)
    groups = [g for e in examples for g in (e.group, e.mismatched) if g is not None]
    trunk = TrunkStates(trainer.held.tower, groups, models.device(), work.frozen_layers)
    if config.needs_reference and config.reference == "cached":
        trainer.know(groups, reference_folder, trunk)
    done, state, extra = work.resume()
    evaluations: list[dict[str, Any]] = list(extra.get("evaluations", []))
    falling = int(extra.get("falling", 0))
    if done:
        trainer.execution.load(state["execution"])
    progress = work.progress(total, done)

    def evaluate(step: int) -> dict[str, float]:
        if not any(e["step"] == step for e in evaluations):
            k = samples if step in (0, total) else curve_samples
            seed = stream_seed(work.seed, "evaluate", work.round, step)
            with progress.aside(left=-(-(total - step) // config.evaluate_every)):
                evaluations.append({"step": step, "rows": trainer.held.evaluate(test_prompts, k, seed)})
        rows = next(e["rows"] for e in evaluations if e["step"] == step)
        return {"kl": sum(row["kl"] for row in rows) / len(rows)}

    for step in range(done, total):
        at_evaluation = evaluate(step) if step % config.evaluate_every == 0 else {}
        order = permutation(len(examples), work.seed, "direct", work.round, step // per_epoch)
        first = step % per_epoch * config.pairs_per_step
        figures = trainer.step([examples[i] for i in order[first : first + config.pairs_per_step]], trunk)
        check_bad_steps(trainer.execution.bad_steps, config.max_bad_steps, "direct", step)
        falling = falling + 1 if figures.get("both_fall") else 0
        alerts = [_both_fall(figures, config)] if falling >= BOTH_FALL_STEPS else []
        if falling == BOTH_FALL_STEPS:
            logger.warning("step %d: %s", step, alerts[0].sentence())
        finite = {name: value for name, value in (figures | at_evaluation).items() if math.isfinite(value)}
        work.record(step, finite, [alert.to_json() for alert in alerts])
        kept = {"evaluations": evaluations, "falling": falling}
        work.keep(step + 1, partial(_state, trainer, kept))
        progress.advance(f"loss {figures['loss']:.3f}  margin {figures.get('margin', math.nan):+.2f}")
    evaluate(total)
    findings = trainer.measure(*held_out, bootstrap) if held_out[0] else []
    return Trained(evaluations, findings)


def _state(trainer: DirectTrainer, kept: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    return {"execution": trainer.execution.state()}, kept


def steps_of(count: int, config: Direct) -> int:
    """Optimiser steps for so many examples."""
    return config.epochs * -(-count // config.pairs_per_step)


def _both_fall(figures: Mapping[str, float], config: Direct) -> Alert:
    return Alert(
        "chosen_log_ratio",
        figures["chosen_log_ratio"],
        0.0,
        f"preferred answers and the others have both lost probability for {BOTH_FALL_STEPS} steps or more;"
        f" raise direct.beta (now {config.strength:g}), lower the learning rate, or use algorithm: ipo",
    )


def _sums(packed: Packed, logp_R: Tensor) -> Tensor:
    return direct_losses.response_logps(packed.to_BT(logp_R), packed.mask_BT)
