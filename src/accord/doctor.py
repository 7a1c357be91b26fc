"""Self-tests: is this machine, and is this model, set up so that RLHF is right? `accord doctor`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from accord import batches, models, tensors, towers
from accord.batches import Group
from accord.config import Model, Sampling
from accord.number_format import bfloat16_speedup
from accord.records import BadInput, Prompt
from accord.sampling.local import LocalSampler

GAP = {torch.float32: 1e-3, torch.bfloat16: 0.35}  # max |Δ log-probability| between two batch shapes


@dataclass(frozen=True)
class Check:
    """One self-test: what was looked at, what came out, and whether that is all right."""

    name: str
    ok: bool
    result: str


def machine() -> list[Check]:
    """What runs here: versions, cores, memory, disk, the number format."""
    dtype = models.resolve_dtype()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    memory = psutil.virtual_memory().available / 1e9
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, CPU is used"
    return [
        Check(
            "versions",
            True,
            f"python {platform.python_version()}, torch {torch.__version__},"
            f" transformers {transformers.__version__}",
        ),
        Check("accelerator", True, accelerator),
        Check("threads", True, f"{torch.get_num_threads()}"),
        Check("number format", True, _number_format(dtype)),
        Check("memory", memory > 2, f"{memory:.1f} GB free, 2 GB needed for the demo"),
        Check("disk", free > 3, f"{free:.1f} GB free, 3 GB needed for the demo"),
    ]


def _number_format(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if torch.cuda.is_available():
        return f"{name} (CUDA)"
    return (
        f"{name} (bfloat16 products run at {bfloat16_speedup(models.cache_folder()):.1f} × float32's speed)"
    )


def model_checks(settings: Model) -> list[Check]:
    """Template round trip, end tokens, padding and packing invariance, ratio is 1, on the real model."""
    model, tokenizer = models.load_causal(settings)
    prompts = [Prompt.from_text("How are you?"), Prompt.from_text("Tell me about the sea in winter, please.")]
    encoded = [models.encode_prompt(tokenizer, p) for p in prompts]
    sampler = LocalSampler(model, models.end_tokens(model, tokenizer))
    rollouts = sampler.sample(encoded, 2, Sampling(max_new_tokens=8), 0)
    alone_gap, ratio_gap = _gaps(model, rollouts.groups)
    tolerance = GAP[model.dtype]
    sampled = float((_logps(model, rollouts.groups) - _flat(rollouts)).abs().max())
    checks: list[tuple[str, Callable[[], tuple[bool, str]]]] = [
        ("template round trip", lambda: _template(tokenizer, prompts[0])),
        ("end tokens", lambda: (True, ", ".join(repr(tokenizer.decode([i])) for i in sorted(sampler.ends)))),
        (
            "pad of the reward model",
            lambda: (True, repr(tokenizer.decode([models.pad_for_scores(model, tokenizer)]))),
        ),
        (
            "packing invariance",
            lambda: (alone_gap <= tolerance, f"max |Δ log p| {alone_gap:.2g}, limit {tolerance:g}"),
        ),
        ("ratio is 1", lambda: (ratio_gap == 0, f"max |log ratio| {ratio_gap:.2g} without an update")),
        (
            "sampler against trainer",
            lambda: (sampled <= tolerance, f"max |Δ log p| {sampled:.2g}, limit {tolerance:g}"),
        ),
    ]
    out = []
    for name, check in checks:
        try:
            out.append(Check(name, *check()))
        except BadInput as error:
            out.append(Check(name, False, str(error)))
    return out


def _template(tokenizer: Any, prompt: Prompt) -> tuple[bool, str]:
    tokens = models.encode_prompt(tokenizer, prompt)
    bos = tokenizer.bos_token_id
    doubled = len(tokens) > 1 and tokens[0] == tokens[1] == bos
    kept = prompt.text in tokenizer.decode(tokens)
    return kept and not doubled, f"{len(tokens)} tokens, text kept: {kept}, doubled BOS: {doubled}"


@torch.no_grad()
def _logps(model: Any, groups: tuple[Group, ...]) -> torch.Tensor:
    packed = batches.pack(groups, models.device())
    hidden_TH = towers.Tower(towers.base_of(model)).hidden(packed)
    return tensors.head_logps(hidden_TH[packed.predictor_R], towers.head_of(model), packed.target_R)[0].cpu()


def _flat(rollouts: batches.Rollouts) -> torch.Tensor:
    return torch.cat([row[:n] for row, n in zip(rollouts.sampled_logp_BT, rollouts.lengths, strict=True)])


def _gaps(model: Any, groups: tuple[Group, ...]) -> tuple[float, float]:
    together = _logps(model, groups)
    alone = torch.cat([_logps(model, (Group(g.prompt, (r,)),)) for g in groups for r in g.responses])
    again = _logps(model, groups)
    return float((together - alone).abs().max()), float((together - again).abs().max())
