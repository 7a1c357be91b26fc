"""What a run will cost, before it starts: memory as a number, time as a range from this machine's speed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from accord import models
from accord.config import Online, Rejection, Run, Weights
from accord.records import Comparison, Demonstration, Prompt
from accord.round_evidence import MOST_PAIRS

TRAINED_BYTES = 18  # bfloat16 weight, float32 gradient, master, two Adam moments
FROZEN_BYTES = 2
WORKING_BYTES = 1.5e9  # activations of a microbatch, the process itself
# Share of the matrix-product speed that a stage reaches, with everything that is not a matrix product counted
# against it. Measured on three recipes (docs/decisions/011-time-estimates.md).
EFFICIENCY = {"train": 0.5, "forward": 0.5, "sample": 0.36}
PROBES, EDITED = (
    12,
    0.75,
)  # edits that a gate tries on an answer; an edited answer's tokens, in those of a pair
LOOKED_AT = 200  # rows whose lengths are counted
EDITS_APPLIED = 9  # of the eleven edits, how many an answer has on average (some apply to better ones only)
EDIT_LENGTHENS = 1.5  # an answer, on average over the edits
UNKNOWN_REPLY = 0.75  # of max_new_tokens: what an answer that is not sampled yet is taken to need


@dataclass(frozen=True)
class Sizes:
    """Rows, and mean tokens of a row, that a run works on."""

    demonstrations: int
    demonstration_tokens: float
    demonstration_reply_tokens: float
    prompt_tokens: float
    comparisons: int
    comparison_tokens: float
    prompts: int = 0


@dataclass(frozen=True)
class Estimate:
    """Bytes at the peak, and seconds for each stage with the range they are believed to lie in."""

    memory_bytes: int
    seconds: dict[str, float]

    def lines(self) -> list[str]:
        total = sum(self.seconds.values())
        parts = ", ".join(f"{name} {value / 60:.1f}" for name, value in self.seconds.items())
        low, high = total / 60 * 0.6, total / 60 * 1.7
        return [
            f"memory at the peak: about {self.memory_bytes / 1e9:.1f} GB",
            f"time: {low:.0f} to {max(high, low + 1):.0f} minutes on this machine"
            f" (mid estimates in minutes: {parts})",
        ]


def sizes(
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    prompts: Sequence[Prompt],
    comparisons: Sequence[Comparison],
) -> Sizes:
    """Counted on the first ``LOOKED_AT`` rows of each kind."""

    def text(value: str) -> int:
        return len(tokenizer(value, add_special_tokens=False)["input_ids"])

    def mean(values: list[int]) -> float:
        return sum(values) / len(values) if values else 0.0

    shown = demonstrations[:LOOKED_AT]
    replies = [text(row.response) + 1 for row in shown]
    asked = [len(models.encode_prompt(tokenizer, row.prompt)) for row in shown]
    pairs = [
        len(models.encode_prompt(tokenizer, row.prompt)) + text(row.pair.a.text) + text(row.pair.b.text)
        for row in comparisons[:LOOKED_AT]
    ]
    return Sizes(
        len(demonstrations),
        mean([a + b for a, b in zip(asked, replies, strict=True)]),
        mean(replies),
        mean([len(models.encode_prompt(tokenizer, prompt)) for prompt in prompts[:LOOKED_AT]]),
        len(comparisons),
        mean(pairs),
        len(prompts),
    )


def _matrix_speed(dtype: torch.dtype) -> float:
    """Operations per second (a multiply and an add are two) of one product of model-like shape."""
    a, b = torch.randn(1024, 576).to(dtype), torch.randn(576, 1536).to(dtype)
    fastest = float("inf")  # the best of a few: other work on the machine only ever makes it slower
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * 1024 * 576 * 1536 / fastest


def trained_share(weights: Weights, layers: int) -> float:
    """Share of the layers that a backward pass goes through."""
    trained = {"top": weights.top_layers, "lora": weights.lora_layers}.get(weights.train)
    return min(1.0, trained / layers) if trained is not None else 1.0


def _operations(run: Run) -> tuple[int, float, float]:
    """Layers of the model, and operations a token in its layers and in its head, forward: 2 a weight."""
    config: Any = AutoConfig.from_pretrained(models.locate(run.model))
    layers, hidden = config.num_hidden_layers, config.hidden_size
    key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    attention = 2 * hidden**2 * (1 + key_heads / config.num_attention_heads)
    body = 2 * layers * (attention + 3 * hidden * config.intermediate_size)
    return layers, body, 2 * config.vocab_size * hidden


def checkpoint_bytes(run: Run, weights: Weights) -> int:
    """Room that a stage needs: the model it ends with, and one state on the way (masters and two moments)."""
    layers, body, head = _operations(run)
    count = (body + head) / 2
    width = torch.empty((), dtype=models.resolve_dtype(run.model.dtype)).element_size()
    return int(count * (width + 12 * trained_share(weights, layers)))


@dataclass(frozen=True)
class _Work:
    """Seconds that pieces of a stage take: the model's operations over this machine's speed.

    Attributes:
        layers, body, head: see `_operations`.
        speed: operations a second of one matrix product.
        prompt_tokens: mean of a prompt.
    """

    layers: int
    body: float
    head: float
    speed: float
    prompt_tokens: float

    def seconds(self, kind: str, operations: float) -> float:
        return operations / (self.speed * EFFICIENCY[kind])

    def forward(self, tokens: float) -> float:
        """A pass through all layers, without the head."""
        return self.seconds("forward", self.body * tokens)

    def training(self, tokens: float, epochs: float, weights: Weights, head_tokens: float = 0.0) -> float:
        share = trained_share(weights, self.layers)
        passes = (1 - share) * (1 if share < 1 else epochs) + 3 * share * epochs
        return self.seconds("train", self.body * tokens * passes + 4 * self.head * head_tokens * epochs)

    def sampling(self, prompts: float, samples: float, reply: float) -> float:
        prefill = self.forward(prompts * self.prompt_tokens)
        return prefill + self.seconds("sample", (self.body + self.head) * samples * reply)


@dataclass(frozen=True)
class _Labels:
    """What a round has: pairs that it collects, all pairs so far, and their mean tokens."""

    collected: int
    pairs: float
    pair_tokens: float

    @property
    def tokens(self) -> float:
        return self.pairs * self.pair_tokens


def _labels(run: Run, found: Sizes) -> list[_Labels]:
    """Of each round: the reward model is trained on all labels so far."""
    each = found.prompt_tokens + 2 * run.collect.sampling.max_new_tokens * UNKNOWN_REPLY
    pairs, tokens = float(found.comparisons), found.comparisons * found.comparison_tokens
    rounds = []
    for round in range(run.rounds):
        collected = 0 if round == 0 and found.comparisons else run.collect.pairs
        pairs, tokens = pairs + collected, tokens + collected * each
        rounds.append(_Labels(collected, pairs, tokens / pairs))
    return rounds


def estimate(run: Run, found: Sizes) -> Estimate:
    """The cost of ``run`` on data of these sizes.

    Counted are the products of the layers and of the head: 2 operations a weight and token forward, twice
    that backward, the frozen trunk once where its states are kept.
    """
    layers, body, head = _operations(run)
    speed = _matrix_speed(models.resolve_dtype(run.model.dtype))
    work = _Work(layers, body, head, speed, found.prompt_tokens)
    out: dict[str, float] = {}
    if run.sft is not None:
        tokens = found.demonstrations * found.demonstration_tokens
        replies = found.demonstrations * found.demonstration_reply_tokens
        out["sft"] = work.training(tokens, run.sft.epochs, run.sft.weights, replies)
    for round, labels in enumerate(_labels(run, found)):
        again = 2 if run.equal_label_control and round else 1  # the control, which has no evidence
        for name, seconds in _round(run, found, work, labels).items():
            out[name] = out.get(name, 0.0) + seconds * (again if name != "evidence" else 1)
    return Estimate(_memory(run, layers, body, head), out)


def _round(run: Run, found: Sizes, work: _Work, labels: _Labels) -> dict[str, float]:
    """Seconds of a round's stages."""
    out: dict[str, float] = {}
    if labels.collected:
        prompts = labels.collected / (run.collect.samples_per_prompt // 2)
        reply = run.collect.sampling.max_new_tokens * UNKNOWN_REPLY
        out["collect"] = work.sampling(prompts, prompts * run.collect.samples_per_prompt, reply)
    out["reward"] = _reward(run, work, labels)
    out["optimize"], steps = _optimize(run, found, work, labels)
    out["optimize"] += _evaluations(run, work, steps)
    out["evidence"] = work.forward(_evidence_tokens(run, work, labels, steps))
    return out


def _reward(run: Run, work: _Work, labels: _Labels) -> float:
    """Training, and the gate: held-out pairs whole, and each probe's edited answers."""
    share = trained_share(run.reward.weights, work.layers)
    ensemble = run.reward.ensemble
    members = ensemble.members if ensemble is not None and ensemble.kind == "full" else 1
    total = work.training(labels.tokens, run.reward.epochs * members, run.reward.weights)
    judged = labels.pairs * run.reward.test_fraction + run.gate.probed_answers * PROBES * EDITED
    return total + members * work.forward(labels.tokens * share + judged * labels.pair_tokens)


def _optimize(run: Run, found: Sizes, work: _Work, labels: _Labels) -> tuple[float, int]:
    """(seconds without evaluations, optimiser steps) of what trains the policy."""
    stage = run.policy_stage[1]
    if isinstance(stage, Online):
        return stage.steps * _online_step(stage, work), stage.steps
    if isinstance(stage, Rejection):
        reply = stage.sampling.max_new_tokens * UNKNOWN_REPLY
        answers, tokens = (
            found.prompts * stage.samples_per_prompt,
            found.prompts * (work.prompt_tokens + reply),
        )
        total = work.sampling(found.prompts, answers, reply)
        total += work.forward(answers * reply)  # the reward model picks
        total += work.training(tokens, stage.epochs, stage.weights, found.prompts * reply)
        return total, math.ceil(stage.epochs * tokens / stage.tokens_per_step)
    replies = max(0.0, labels.pairs * (labels.pair_tokens - work.prompt_tokens))
    again = stage.epochs if stage.reference == "live" else 1
    part = trained_share(stage.weights, work.layers)
    total = work.training(labels.tokens, stage.epochs, stage.weights, replies)
    total += work.seconds("forward", again * (work.body * part * labels.tokens + work.head * replies))
    return total, stage.epochs * math.ceil(labels.pairs / stage.pairs_per_step)


def _online_step(online: Online, work: _Work) -> float:
    """Sample, score, reference, update, critic."""
    share = trained_share(online.weights, work.layers)
    reply = online.sampling.max_new_tokens * UNKNOWN_REPLY
    batch = online.prompts_per_step * online.samples_per_prompt
    tokens, replies = online.prompts_per_step * work.prompt_tokens + batch * reply, batch * reply
    towers = 2 if online.algorithm == "ppo" else 1
    average = 0 if online.reference_ema is None else 1
    updates = online.epochs * online.minibatches
    again = 0.0 if updates == 1 else 1.0  # several updates need the old log-probabilities apart
    forward = 1 - share + share * (2 + again * towers + average)  # trunk, reward model, references
    trained = 3 * share * towers * online.epochs
    step = work.sampling(online.prompts_per_step, batch, reply)
    if online.dynamic_sampling is not None:
        # Prompts without spread come again and each draw is scored once more; half of them is a guess.
        step *= 1 + 0.5 * (online.dynamic_sampling.tries - 1)
        step += work.forward(tokens)
    head = work.head * replies * (1 + average + 4 * online.epochs)
    return step + work.seconds("train", work.body * tokens * (forward + trained) + head)


def _between(run: Run, steps: int) -> int:
    """Evaluations between the first and the last one."""
    return max(0, -(-steps // run.policy_stage[1].evaluate_every) - 1)


def _evaluations(run: Run, work: _Work, steps: int) -> float:
    """Samples to held-out prompts, scored, with the KL, and best-of-n."""
    stage, evaluate = run.policy_stage[1], run.evaluate
    share, reply = trained_share(stage.weights, work.layers), stage.sampling.max_new_tokens * UNKNOWN_REPLY
    between = evaluate.curve_samples_per_prompt * _between(run, steps)
    samples = evaluate.prompts * (between + 2 * evaluate.samples_per_prompt)
    samples += evaluate.best_of * evaluate.best_of_prompts
    once = work.sampling(evaluate.prompts, samples, reply)
    return once + work.seconds("forward", samples * reply * (work.body * (1 + 3 * share) + 2 * work.head))


def _evidence_tokens(run: Run, work: _Work, labels: _Labels, steps: int) -> float:
    """Tokens that a whole model reads after RL: states of both sides, margins, edits, second models."""
    evaluate = run.evaluate
    reply = run.policy_stage[1].sampling.max_new_tokens * UNKNOWN_REPLY
    test = run.reward.test_fraction * labels.tokens
    ends = 2 * evaluate.prompts * (work.prompt_tokens + evaluate.samples_per_prompt * reply)
    edited = 2 * EDITS_APPLIED * evaluate.probed_answers * (work.prompt_tokens + EDIT_LENGTHENS * reply)
    if not evaluate.split_half:
        return ends + test + edited
    each = work.prompt_tokens + evaluate.curve_samples_per_prompt * reply
    curve = _between(run, steps) * evaluate.prompts * each
    best_of = evaluate.best_of_prompts * (work.prompt_tokens + evaluate.best_of * reply)
    second = min(labels.pairs, 3 * MOST_PAIRS) * labels.pair_tokens
    return 2 * ends + test + edited + curve + best_of + second


def _memory(run: Run, layers: int, body: float, head: float) -> int:
    """Bytes at the peak."""
    stage = run.policy_stage[1]
    towers = 2 if isinstance(stage, Online) and stage.algorithm == "ppo" else 1
    trained = trained_share(stage.weights, layers) * towers
    if stage.weights.train == "lora":
        trained = 0.02 * towers
    count = (body + head) / 2
    kept = float(TRAINED_BYTES)
    if isinstance(stage, Online) and stage.reference_ema is not None:
        kept += 4 / towers  # of the policy alone
    if isinstance(stage, Online) and stage.on_explosion == "rollback":
        kept += 2 * 12  # two copies of masters and moments
    memory = count * (trained * kept + (2 + towers) * FROZEN_BYTES) + WORKING_BYTES
    if run.sft is not None:
        memory = max(memory, count * trained_share(run.sft.weights, layers) * TRAINED_BYTES + WORKING_BYTES)
    return int(memory)
