"""Masked arithmetic and token log-probabilities: the only place where the shift by one happens.

Column t of any ``*_BT`` tensor describes token t. Its log-probability is read from the hidden state of the
token before it, so callers never shift anything themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEAD_CHUNK = 512  # positions whose logits exist at one time: 512 × 49,152 bfloat16 = 50 MB


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


class _HeadLogps(torch.autograd.Function):
    """Log-probability and entropy of given targets, with logits that only ever exist a chunk at a time.

    The backward recomputes a chunk's logits: one more head product in place of [R, V] memory.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_RH: Tensor, weight_VH: Tensor, target_R: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logps, normalisers, entropies = [], [], []
        split: Any = torch.split
        for hidden, target in zip(split(hidden_RH, HEAD_CHUNK), split(target_R, HEAD_CHUNK), strict=True):
            logits = (hidden @ weight_VH.t()).float()
            if temperature != 1.0:
                logits /= temperature
            chosen = logits.gather(1, target[:, None]).squeeze(1)
            normaliser = torch.logsumexp(logits, dim=1)
            if entropy:  # H = log Z − E[logit]
                expected = (torch.softmax(logits, dim=1) * logits).sum(1)
                entropies.append(normaliser - expected)
            logps.append(chosen - normaliser)
            normalisers.append(normaliser)
        normaliser_R = torch.cat(normalisers) if normalisers else hidden_RH.new_zeros(0, dtype=torch.float32)
        ctx.save_for_backward(hidden_RH, weight_VH, target_R, normaliser_R)
        ctx.temperature = temperature
        logp_R = torch.cat(logps) if logps else normaliser_R.clone()
        entropy_R = torch.cat(entropies) if entropies else torch.zeros_like(logp_R)
        ctx.mark_non_differentiable(entropy_R)
        return logp_R, entropy_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_RH, weight_VH, target_R, normaliser_R = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_RH) if need_hidden else None
        grad_weight = torch.zeros_like(weight_VH, dtype=torch.float32) if need_weight else None
        for start in range(0, hidden_RH.shape[0], HEAD_CHUNK):
            rows = slice(start, start + HEAD_CHUNK)
            hidden, grad = hidden_RH[rows], grad_R[rows, None] / ctx.temperature
            logits = (hidden @ weight_VH.t()).float()
            if ctx.temperature != 1.0:
                logits /= ctx.temperature
            # d logp / d logits = onehot − softmax
            grad_logits = logits.sub_(normaliser_R[rows, None]).exp_().mul_(-grad)
            grad_logits.scatter_add_(1, target_R[rows, None], grad)
            grad_logits = grad_logits.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[rows] = grad_logits @ weight_VH
            if grad_weight is not None:
                grad_weight += grad_logits.t() @ hidden
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
