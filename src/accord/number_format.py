"""Which number format multiplies faster on this machine: measured once, then remembered.

What a CPU says about itself does not tell. Of two CPUs that report ``avx512_bf16`` and no AMX, one ran
bfloat16 products at twice the speed of float32, the other at half (docs/decisions/008-number-format.md). The
answer is kept in a file, so that a run that goes on after a kill has the format that it began with.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import time
from functools import cache
from pathlib import Path

import torch

FASTER = 1.2  # bfloat16 has to win by this much: its rounding is a cost
_SHAPE = (512, 576, 1536)  # tokens, in, out: a layer of a small model
_REPEATS = 12


@cache
def bfloat16_speedup(folder: Path) -> float:
    """Speed of bfloat16 matrix products over float32 ones on this CPU, kept in ``folder``."""
    path = folder / "number-format.json"
    key = f"{_cpu()}, torch {torch.__version__}"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text(encoding="utf-8"))[key])
    seconds = {dtype: float("inf") for dtype in (torch.float32, torch.bfloat16)}
    for _ in range(_REPEATS):  # in turn, and the fastest of each: other work only ever makes one slower
        for dtype, best in seconds.items():
            seconds[dtype] = min(best, _seconds(dtype))
    speedup = round(seconds[torch.float32] / seconds[torch.bfloat16], 3)
    with contextlib.suppress(OSError):  # a cache that cannot be written: measured again next time
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({key: speedup}), encoding="utf-8")
        os.replace(temporary, path)
    return speedup


def _seconds(dtype: torch.dtype) -> float:
    rows, width, out = _SHAPE
    x, w = torch.ones(rows, width, dtype=dtype), torch.ones(out, width, dtype=dtype)
    torch.nn.functional.linear(x[:8], w)
    began = time.perf_counter()
    torch.nn.functional.linear(x, w)
    return time.perf_counter() - began


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = [re.search(rf"^{name}\s*:\s*(.*)$", text, re.M) for name in ("model name", "cpu family", "model")]
    return " ".join(match[1] for match in found if match)
