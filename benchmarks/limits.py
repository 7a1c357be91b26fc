"""What the machine can do: matrix products and memory, so that a step can be held against its floor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def _median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure() -> dict[str, float]:
    """TF/s of a 1,442 × 576 × 1,536 product (a feed-forward layer of SmolLM2-135M) and GB/s read, medians."""
    out = {}
    for dtype in (torch.bfloat16, torch.float32):
        generator = torch.Generator().manual_seed(0)
        x_TH = torch.randn(1442, 576, generator=generator).to(dtype)
        weight_FH = torch.randn(1536, 576, generator=generator).to(dtype)
        seconds = _median_seconds(lambda x=x_TH, w=weight_FH: torch.nn.functional.linear(x, w))  # type: ignore[misc]
        name = str(dtype).removeprefix("torch.")
        out[f"{name}_tflops"] = round(2 * 1442 * 576 * 1536 / seconds / 1e12, 3)
    block = torch.ones(64 * 2**20)  # 268 MB, as much as the bf16 weights of the model
    out["memory_gb_per_second"] = round(block.numel() * 4 / _median_seconds(block.sum) / 1e9, 1)
    return out
