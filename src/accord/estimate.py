"""What a run will cost, before it starts: memory as a number, time as a range from this machine's speed."""

from __future__ import annotations

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


def estimate(run: Run, found: Sizes) -> Estimate:
    """The cost of ``run`` on data of these sizes.

    Counted are the products of the layers and of the head: 2 operations a weight and token forward, twice
    that backward, the frozen trunk once where its states are kept.
    """
    layers, body, head = _operations(run)
    speed = _matrix_speed(models.resolve_dtype(run.model.dtype))

    def seconds(kind: str, operations: float) -> float:
        return operations / (speed * EFFICIENCY[kind])

    def training(tokens: float, epochs: float, weights: Weights, head_tokens: float = 0.0) -> float:
        share = trained_share(weights, layers)
        passes = (1 - share) * (1 if share < 1 else epochs) + 3 * share * epochs
        return seconds("train", body * tokens * passes + 4 * head * head_tokens * epochs)

    def sampling(prompts: float, samples: float, reply: float) -> float:
        prefill = seconds("forward", body * prompts * found.prompt_tokens)
        return prefill + seconds("sample", (body + head) * samples * reply)

    out: dict[str, float] = {}
    if run.sft is not None:
        tokens = found.demonstrations * found.demonstration_tokens
        replies = found.demonstrations * found.demonstration_reply_tokens
        out["sft"] = training(tokens, run.sft.epochs, run.sft.weights, replies)
    pairs, pair_tokens = found.comparisons, found.comparison_tokens
    if not pairs:
        pairs, reply = run.collect.pairs, run.collect.sampling.max_new_tokens * UNKNOWN_REPLY
        pair_tokens = found.prompt_tokens + 2 * reply
        each = run.collect.samples_per_prompt
        out["collect"] = sampling(pairs / (each // 2), pairs / (each // 2) * each, reply)
    share = trained_share(run.reward.weights, layers)
    ensemble = run.reward.ensemble
    members = ensemble.members if ensemble is not None and ensemble.kind == "full" else 1
    out["reward"] = training(pairs * pair_tokens, run.reward.epochs * members, run.reward.weights)
    out["reward"] += members * seconds("forward", body * pairs * pair_tokens * (share if share < 1 else 1))
    # The gate: held-out pairs whole, and each probe's edited answers.
    judged = pairs * run.reward.test_fraction + run.gate.probed_answers * PROBES * EDITED
    out["reward"] += members * seconds("forward", body * judged * pair_tokens)
    stage = run.policy_stage[1]
    if isinstance(stage, Online):
        out["optimize"] = _optimize(run, found, layers, body, head, seconds, sampling)
    elif isinstance(stage, Rejection):
        reply = stage.sampling.max_new_tokens * UNKNOWN_REPLY
        answers, tokens = (
            found.prompts * stage.samples_per_prompt,
            found.prompts * (found.prompt_tokens + reply),
        )
        out["optimize"] = sampling(found.prompts, answers, reply)
        out["optimize"] += seconds("forward", body * answers * reply)  # the reward model picks
        out["optimize"] += training(tokens, stage.epochs, stage.weights, found.prompts * reply)
        steps = stage.epochs * tokens / stage.tokens_per_step
        out["optimize"] += _evaluations(run, found, steps, body, head, seconds, sampling)
    else:
        replies = max(0.0, pairs * (pair_tokens - found.prompt_tokens))
        again = stage.epochs if stage.reference == "live" else 1
        part = trained_share(stage.weights, layers)
        out["optimize"] = training(pairs * pair_tokens, stage.epochs, stage.weights, replies)
        out["optimize"] += seconds("forward", again * (body * part * pairs * pair_tokens + head * replies))
        steps = stage.epochs * pairs / stage.pairs_per_step
        out["optimize"] += _evaluations(run, found, steps, body, head, seconds, sampling)
    out["evidence"] = seconds("forward", body * _evidence_tokens(run, found, pairs, pair_tokens))
    again = run.rounds - 1 if run.equal_label_control else 0  # later rounds once more, without evidence
    for name in ("collect", "reward", "optimize", "evidence"):
        if name in out:
            out[name] *= run.rounds + (again if name != "evidence" else 0)
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
    return Estimate(int(memory), out)


def _evidence_tokens(run: Run, found: Sizes, pairs: float, pair_tokens: float) -> float:
    """Tokens that a whole model reads after RL: states of both sides, margins, edits, second models."""
    evaluate = run.evaluate
    reply = run.online.sampling.max_new_tokens * UNKNOWN_REPLY
    test = pairs * run.reward.test_fraction * pair_tokens
    ends = 2 * evaluate.prompts * (found.prompt_tokens + evaluate.samples_per_prompt * reply)
    edited = 2 * EDITS_APPLIED * evaluate.probed_answers * (found.prompt_tokens + EDIT_LENGTHENS * reply)
    if not evaluate.split_half:
        return ends + test + edited
    between = run.online.steps // run.online.evaluate_every
    each = found.prompt_tokens + evaluate.curve_samples_per_prompt * reply
    curve = between * evaluate.prompts * each
    best_of = evaluate.best_of_prompts * (found.prompt_tokens + evaluate.best_of * reply)
    second = min(pairs, 3 * MOST_PAIRS) * pair_tokens
    return 2 * ends + test + edited + curve + best_of + second


def _optimize(
    run: Run, found: Sizes, layers: int, body: float, head: float, seconds: Any, sampling: Any
) -> float:
    """Steps (sample, score, reference, update, critic) and evaluations."""
    online = run.online
    share = trained_share(online.weights, layers)
    reply = online.sampling.max_new_tokens * UNKNOWN_REPLY
    batch = online.prompts_per_step * online.samples_per_prompt
    tokens, replies = online.prompts_per_step * found.prompt_tokens + batch * reply, batch * reply
    towers = 2 if online.algorithm == "ppo" else 1
    average = 0 if online.reference_ema is None else 1
    updates = online.epochs * online.minibatches
    again = 0.0 if updates == 1 else 1.0  # several updates need the old log-probabilities apart
    forward = 1 - share + share * (2 + again * towers + average)  # trunk, reward model, references
    trained = 3 * share * towers * online.epochs
    step = sampling(online.prompts_per_step, batch, reply)
    if online.dynamic_sampling is not None:
        # Prompts without spread come again and each draw is scored once more; half of them is a guess.
        step *= 1 + 0.5 * (online.dynamic_sampling.tries - 1)
        step += seconds("forward", body * tokens)
    step += seconds(
        "train", body * tokens * (forward + trained) + head * replies * (1 + average + 4 * online.epochs)
    )
    total: float = online.steps * step + _evaluations(run, found, online.steps, body, head, seconds, sampling)
    return total


def _evaluations(
    run: Run, found: Sizes, steps: float, body: float, head: float, seconds: Any, sampling: Any
) -> float:
    """Samples to held-out prompts, scored, with the KL, and best-of-n."""
    stage, evaluate = run.policy_stage[1], run.evaluate
    layers = _operations(run)[0]
    share, reply = trained_share(stage.weights, layers), stage.sampling.max_new_tokens * UNKNOWN_REPLY
    k = evaluate.curve_samples_per_prompt * (int(steps) // stage.evaluate_every)
    samples = evaluate.prompts * (k + 2 * evaluate.samples_per_prompt)
    samples += evaluate.best_of * evaluate.best_of_prompts
    once: float = sampling(evaluate.prompts, samples, reply)
    once += seconds("forward", samples * reply * (body * (1 + 3 * share) + 2 * head))
    return once
