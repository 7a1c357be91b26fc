"""Masked arithmetic and token log-probabilities: the only place where the shift by one happens.

Column t of any ``*_BT`` tensor describes token t. Its log-probability is read from the hidden state of the
token before it, so callers never shift anything themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accord.products import Product, product

# Logits exist for a few rows at a time. On CPU one float32 chunk of 25 MB stays in the last-level cache, so
# that its passes (maximum, exponential, sum) do not wait for memory; a GPU wants few large kernels.
HEAD_CHUNK = {"cpu": 128 * 49_152, "cuda": 2048 * 49_152}  # elements
_CHUNKS_A_PRODUCT = 8  # the backward's two products take so many chunks at once, in the weights' own dtype


def masked_mean(value: Tensor, mask: Tensor, count: Tensor | float | None = None) -> Tensor:
    """Sum of ``value`` where ``mask`` is true, divided by ``count`` (default: the number of true entries)."""
    total = mask.sum() if count is None else count
    return (value * mask).sum() / total


def whiten(value: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Zero mean, unit variance over the masked entries (biased variance); masked-out entries become 0.

    Without ``shift_mean`` the mean is kept, as for rewards (Ziegler et al. 2019 code).
    """
    mean = masked_mean(value, mask)
    variance = masked_mean((value - mean) ** 2, mask)
    out = (value - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        out = out + mean
    return out * mask


def _chunk_rows(weight_VH: Tensor) -> int:
    return max(1, HEAD_CHUNK.get(weight_VH.device.type, HEAD_CHUNK["cuda"]) // weight_VH.shape[0])


def _head(weight_VH: Tensor, rows: int) -> Product:
    """The head for ``rows`` hidden states. In float32 a copy in blocked order pays from two chunks on."""
    chunk = _chunk_rows(weight_VH)
    if weight_VH.dtype == torch.float32 and rows > chunk:
        return product(weight_VH, None, chunk)
    return lambda hidden_CH: hidden_CH @ weight_VH.t()


def _log_softmax(hidden_CH: Tensor, head: Product, temperature: float, buffers: _Buffers) -> Tensor:
    """One chunk's log-probabilities of all tokens at the sampling temperature, float32, in the buffer."""
    logits_CV = buffers.logits_CV[: len(hidden_CH)].copy_(head(hidden_CH))
    if temperature != 1.0:
        logits_CV.div_(temperature)
    out: Tensor = torch.log_softmax(logits_CV, 1, out=buffers.logp_CV[: len(hidden_CH)])
    return out


class _Buffers:
    """Two chunks of [C, V] floats, filled again for each chunk: fresh memory costs more than filling it."""

    def __init__(self, hidden_RH: Tensor, weight_VH: Tensor) -> None:
        size = (min(_chunk_rows(weight_VH), len(hidden_RH)), len(weight_VH))
        self.logits_CV = hidden_RH.new_empty(size, dtype=torch.float32)
        self.logp_CV = hidden_RH.new_empty(size, dtype=torch.float32)


def _chunks(hidden_RH: Tensor, weight_VH: Tensor) -> list[slice]:
    chunk = _chunk_rows(weight_VH)
    return [slice(start, start + chunk) for start in range(0, len(hidden_RH), chunk)]


class _HeadLogps(torch.autograd.Function):
    """Log-probability and entropy of given targets, with logits that only ever exist a chunk at a time.

    The backward recomputes a chunk's logits: one more head product in place of [R, V] memory.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logp_R, entropy_R = (hidden_RH.new_zeros(len(hidden_RH), dtype=torch.float32) for _ in range(2))
        buffers, head = _Buffers(hidden_RH, weight_VH), _head(weight_VH, len(hidden_RH))
        for rows in _chunks(hidden_RH, weight_VH):
            logp_CV = _log_softmax(hidden_RH[rows], head, temperature, buffers)
            logp_R[rows] = logp_CV.gather(1, target_R[rows, None]).squeeze(1)
            if entropy:
                softmax_CV = torch.exp(logp_CV, out=buffers.logits_CV[: len(logp_CV)])
                entropy_R[rows] = -softmax_CV.mul_(logp_CV).sum(1)
        ctx.save_for_backward(hidden_RH, weight_VH, target_R)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_R)
        return logp_R, entropy_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_RH, weight_VH, target_R = ctx.saved_tensors
        factor_R = grad_R / ctx.temperature
        gradients = _HeadGradients(hidden_RH, weight_VH, factor_R, *ctx.needs_input_grad[:2])
        buffers, head = _Buffers(hidden_RH, weight_VH), _head(weight_VH, len(hidden_RH))
        for rows in _chunks(hidden_RH, weight_VH):
            logp_CV = _log_softmax(hidden_RH[rows], head, ctx.temperature, buffers)
            gradients.add(logp_CV, target_R[rows])
        return *gradients.whole(), None, None, None


class _HeadGradients:
    """Σ factor · ∂ log π(target) by the hidden states and by the weights, a few chunks a product.

    ∂ log π / ∂ logits = onehot − softmax. The factor multiplies rows of H, not rows of V.
    """

    def __init__(
        self, hidden_RH: Tensor, weight_VH: Tensor, factor_R: Tensor, need_hidden: bool, need_weight: bool
    ) -> None:
        self.hidden_RH, self.weight_VH, self.factor_R = hidden_RH, weight_VH, factor_R
        self.grad_hidden = torch.empty_like(hidden_RH) if need_hidden else None
        # Summed in the weights' dtype: four products in bfloat16 are as exact as a float32 sum rounded once.
        self.grad_weight = torch.zeros_like(weight_VH) if need_weight else None
        together = _CHUNKS_A_PRODUCT * _chunk_rows(weight_VH)
        self.waiting_SV = hidden_RH.new_empty(min(together, len(hidden_RH)), len(weight_VH))
        self.first = self.last = 0  # rows in self.waiting_SV

    def add(self, logp_CV: Tensor, target_C: Tensor) -> None:
        """The next chunk of rows; ``logp_CV`` is overwritten."""
        softmax_CV = logp_CV.exp_()
        softmax_CV.scatter_add_(1, target_C[:, None], softmax_CV.new_full((len(target_C), 1), -1.0))
        place = self.last - self.first
        self.waiting_SV[place : place + len(softmax_CV)].copy_(softmax_CV)
        self.last += len(softmax_CV)
        if self.last - self.first == len(self.waiting_SV):
            self._multiply()

    def _multiply(self) -> None:
        rows, products = slice(self.first, self.last), self.waiting_SV[: self.last - self.first]
        factor_S1 = -self.factor_R[rows, None]
        if self.grad_hidden is not None:
            self.grad_hidden[rows] = (products @ self.weight_VH) * factor_S1
        if self.grad_weight is not None:
            self.grad_weight.addmm_(products.t(), (self.hidden_RH[rows] * factor_S1).to(products.dtype))
        self.first = self.last

    def whole(self) -> tuple[Tensor | None, Tensor | None]:
        if self.last > self.first:
            self._multiply()
        return self.grad_hidden, self.grad_weight


class _HeadSum(torch.autograd.Function):
    """Σ factor · log π(target): the derivative by each log-probability is known beforehand, so the gradient
    is computed together with the value and no logits are computed twice."""

    @staticmethod
    def forward(ctx: Any, hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, factor_R: Tensor) -> Tensor:
        gradients = _HeadGradients(hidden_RH, weight_VH, factor_R, *ctx.needs_input_grad[:2])
        buffers, head = _Buffers(hidden_RH, weight_VH), _head(weight_VH, len(hidden_RH))
        logp_R = hidden_RH.new_zeros(len(hidden_RH), dtype=torch.float32)
        for rows in _chunks(hidden_RH, weight_VH):
            logp_CV = _log_softmax(hidden_RH[rows], head, 1.0, buffers)
            logp_R[rows] = logp_CV.gather(1, target_R[rows, None]).squeeze(1)
            if any(ctx.needs_input_grad[:2]):
                gradients.add(logp_CV, target_R[rows])
        ctx.gradients = gradients.whole()
        return (logp_R * factor_R).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if part is None else part * grad.to(part.dtype) for part in ctx.gradients]
        return *scaled, None, None


def head_sum(hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, factor_R: Tensor) -> Tensor:
    """Σ factor · log π(target) over R positions, a float32 scalar.

    As ``(head_logps(...)[0] * factor_R).sum()``, with three products of the head instead of four.

    Args:
        hidden_RH: hidden states of the tokens *before* the targets.
        weight_VH: language-model head.
        target_R: token ids.
        factor_R: constants; no gradient flows into them.
    """
    apply: Any = _HeadSum.apply
    total: Tensor = apply(hidden_RH, weight_VH, target_R, factor_R)
    return total


def head_logps(
    hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, *, temperature: float = 1.0, entropy: bool = False
) -> tuple[Tensor, Tensor]:
    """log π(target) and, where asked, the entropy, at R positions, float32.

    Args:
        hidden_RH: hidden states of the tokens *before* the targets.
        weight_VH: language-model head.
        target_R: token ids.
        temperature: logits are divided by it, for policy, reference and update alike.
    """
    apply: Any = _HeadLogps.apply
    logp_R, entropy_R = apply(hidden_RH, weight_VH, target_R, temperature, entropy)
    return logp_R, entropy_R
