"""x → x Wᵀ + b many times with the same W, which is copied to oneDNN's blocked order where that pays.

A product of few rows with a weight that lies row by row spends much of its time on rearranging it. Measured
in docs/decisions/010-less-work.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Product = Callable[[Tensor], Tensor]


def product(weight: Tensor, bias: Tensor | None, rows: int) -> Product:
    """x → x Wᵀ + b for about ``rows`` rows at a time; W (out, in) is copied to blocked order if it pays.

    No gradient flows through it, and it does not follow later changes of W.
    """
    if blocked_order_pays(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        run: Any = torch.ops.mkldnn._linear_pointwise
        return lambda x: run(x, packed, bias, "none", [], "")
    return lambda x: functional.linear(x, weight, bias)


def blocked_order_pays(weight: Tensor) -> bool:
    """float32 on a CPU, and bfloat16 on one for which oneDNN has it (AVX-512 at least: elsewhere its
    operators raise), with a torch that has the operators (those that torch's own compiler emits).
    """
    onednn: Any = torch.backends.mkldnn  # untyped functions
    if weight.device.type != "cpu" or not onednn.is_available():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    bfloat16 = weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bfloat16 or weight.dtype == torch.float32
