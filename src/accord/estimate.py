"""What a run will cost, before it starts: memory as a number, time as a range from a calibration on this
machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from accord import models
from accord.config import Run, Weights

TRAINED_BYTES = 18  # bfloat16 weight, float32 gradient, master, two Adam moments
FROZEN_BYTES = 2
# Small operations, attention and memory traffic: share of the matrix-product speed that a stage reaches.
EFFICIENCY = {"train": 0.6, "forward": 0.6, "sample": 0.4}


@dataclass(frozen=True)
class Estimate:
    """Bytes at the peak, and seconds for each stage with the range they are believed to lie in."""

    memory_bytes: int
    seconds: dict[str, float]

    def lines(self) -> list[str]:
        total = sum(self.seconds.values())
        parts = ", ".join(f"{name} {value / 60:.1f}" for name, value in self.seconds.items())
        return [
            f"memory at the peak: about {self.memory_bytes / 1e9:.1f} GB",
            f"time: {total / 120:.0f} to {total / 30:.0f} minutes on this machine"
            f" (mid estimates in minutes: {parts})",
        ]


def _matrix_speed(dtype: torch.dtype) -> float:
    """Multiply-add operations per second of one product of model-like shape (2 operations each)."""
    a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    fastest = float("inf")  # the best of a few: other work on the machine only ever makes it slower
    for _ in range(8):
        began = time.monotonic()
        a @ b
        fastest = min(fastest, time.monotonic() - began)
    return 2 * 1024**3 / fastest


def _trained_share(weights: Weights, layers: int) -> float:
    return {"all": 1.0, "top": min(1.0, weights.top_layers / layers), "lora": 0.02}[weights.train]


def estimate(run: Run, demonstrations: int, prompts: int, comparisons: int) -> Estimate:
    """The cost of ``run`` for data of these sizes, assuming short conversations (30 prompt tokens)."""
    config: Any = AutoConfig.from_pretrained(models.locate(run.model))
    layers, hidden = config.num_hidden_layers, config.hidden_size
    count = layers * (4 * hidden**2 + 3 * hidden * config.intermediate_size) + config.vocab_size * hidden
    speed = _matrix_speed(models.resolve_dtype(run.model.dtype))
    reply, prompt = run.online.sampling.max_new_tokens, 30

    def seconds(kind: str, tokens: float, share: float = 0.0) -> float:
        operations: float = 2 * count * tokens * (1 + 2 * share)
        return operations / (speed * EFFICIENCY[kind])

    out: dict[str, float] = {}
    if run.sft is not None:
        share = _trained_share(run.sft.weights, layers)
        out["sft"] = seconds("train", run.sft.epochs * demonstrations * (prompt + reply), share)
    pairs = comparisons or run.collect.pairs
    if not comparisons:
        out["collect"] = seconds("sample", 2 * pairs * reply)
    share = _trained_share(run.reward.weights, layers)
    out["reward"] = seconds("train", run.reward.epochs * pairs * (prompt + 2 * reply), share)
    batch = run.online.prompts_per_step * run.online.samples_per_prompt
    share = _trained_share(run.online.weights, layers)
    towers = 4 if run.online.algorithm == "ppo" else 3
    step = seconds("sample", batch * reply) + seconds("forward", batch * (reply + prompt)) * (
        1 + towers * share
    )
    step += seconds("train", batch * (reply + prompt), share) * (2 if run.online.algorithm == "ppo" else 1)
    out["optimize"] = run.online.steps * step
    evaluations = run.online.steps // run.online.evaluate_every * run.evaluate.curve_samples_per_prompt
    samples = run.evaluate.prompts * (evaluations + 2 * run.evaluate.samples_per_prompt)
    samples += run.evaluate.best_of * run.evaluate.best_of_prompts
    out["evaluate"] = seconds("sample", samples * reply)
    for name in ("collect", "reward", "optimize", "evaluate"):
        if name in out:
            out[name] *= run.rounds
    trained = count * share * (2 if run.online.algorithm == "ppo" else 1)
    copies = 4 if run.online.algorithm == "ppo" else 3
    return Estimate(int(trained * TRAINED_BYTES + copies * count * FROZEN_BYTES + 1.5e9), out)
