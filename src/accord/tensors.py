"""Masked arithmetic and token log-probabilities: the only place where the shift by one happens.

Column t of any ``*_BT`` tensor describes token t. Its log-probability is read from the hidden state of the
token before it, so callers never shift anything themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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


def _logits(hidden_CH: Tensor, weight_VH: Tensor, temperature: float, buffer_CV: Tensor) -> Tensor:
    """One chunk's logits at the sampling temperature, float32, in the buffer."""
    logits_CV = buffer_CV[: len(hidden_CH)].copy_(hidden_CH @ weight_VH.t())
    return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)


class _HeadLogps(torch.autograd.Function):
    """Log-probability and entropy of given targets, with logits that only ever exist a chunk at a time.

    The backward recomputes a chunk's logits: one more head product in place of [R, V] memory.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        count, chunk = len(hidden_RH), _chunk_rows(weight_VH)
        logp_R, normaliser_R, entropy_R = (hidden_RH.new_zeros(count, dtype=torch.float32) for _ in range(3))
        buffer_CV = hidden_RH.new_empty(min(chunk, count), len(weight_VH), dtype=torch.float32)
        for start in range(0, count, chunk):
            rows = slice(start, start + chunk)
            logits_CV = _logits(hidden_RH[rows], weight_VH, temperature, buffer_CV)
            highest_C1 = logits_CV.amax(1, keepdim=True)
            logits_CV.sub_(highest_C1)
            chosen_C = logits_CV.gather(1, target_R[rows, None]).squeeze(1)
            if entropy:  # H = log Z − E[logit], both relative to the highest logit
                weight_CV = logits_CV.exp()
                total_C = weight_CV.sum(1)
                entropy_R[rows] = total_C.log() - weight_CV.mul_(logits_CV).sum(1) / total_C
            else:
                total_C = logits_CV.exp_().sum(1)
            logp_R[rows] = chosen_C - total_C.log()
            normaliser_R[rows] = highest_C1[:, 0] + total_C.log()
        ctx.save_for_backward(hidden_RH, weight_VH, target_R, normaliser_R)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_R)
        return logp_R, entropy_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_RH, weight_VH, target_R, normaliser_R = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_RH) if need_hidden else None
        grad_weight = torch.zeros_like(weight_VH, dtype=torch.float32) if need_weight else None
        count, chunk = len(hidden_RH), _chunk_rows(weight_VH)
        buffer_CV = hidden_RH.new_empty(min(chunk, count), len(weight_VH), dtype=torch.float32)
        together = _CHUNKS_A_PRODUCT * chunk
        grad_SV = hidden_RH.new_empty(min(together, count), len(weight_VH))
        for first in range(0, count, together):
            last = min(first + together, count)
            for start in range(first, last, chunk):
                rows = slice(start, min(start + chunk, last))
                grad_C1 = grad_R[rows, None] / ctx.temperature
                logits_CV = _logits(hidden_RH[rows], weight_VH, ctx.temperature, buffer_CV)
                # d logp / d logits = onehot − softmax
                logits_CV.sub_(normaliser_R[rows, None]).exp_().mul_(-grad_C1)
                logits_CV.scatter_add_(1, target_R[rows, None], grad_C1)
                grad_SV[start - first : rows.stop - first].copy_(logits_CV)
            products = grad_SV[: last - first]
            if grad_hidden is not None:
                grad_hidden[first:last] = products @ weight_VH
            if grad_weight is not None:
                grad_weight += products.t() @ hidden_RH[first:last]
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VH.dtype)
        return grad_hidden, grad_weight, None, None, None


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
