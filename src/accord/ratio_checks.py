"""Before the first update nothing has changed: what must be so, and the error when it is not."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.config import Sampling

RATIO_TOLERANCE = 0.05  # max |log ratio| before the first update: bfloat16 rounding between two batch shapes
# Mean |log ratio| between sampler and trainer, which compute by different code. A mask, a shift or a position
# that is wrong costs whole nats.
SAMPLER_TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.25, torch.float16: 0.25}


class RatioIsNotOne(RuntimeError):
    """Log-probabilities changed although no weight did: a mask, a shift or dropout is wrong."""


def require_ratio_one(logp_R: Tensor, old_logp_R: Tensor) -> float:
    """Max |log ratio| before the first update of a batch, which must be 0 up to rounding.

    Raises:
        RatioIsNotOne: it is not.
    """
    error = float((logp_R.detach() - old_logp_R).abs().max())
    if not error <= RATIO_TOLERANCE:
        raise RatioIsNotOne(
            f"max |log ratio| is {error:.3g} before the first update, the limit is {RATIO_TOLERANCE}:"
            " policy and old log-probabilities disagree, run `accord doctor`"
        )
    return error


def require_sampler_agrees(gap: float, sampling: Sampling, dtype: torch.dtype) -> None:
    """Sampler and trainer must agree about the tokens that were sampled, up to the number format.

    Args:
        gap: mean |log-probability of the sampler − of the trainer|, nats.

    Raises:
        RatioIsNotOne: they do not.
    """
    limit = SAMPLER_TOLERANCE[dtype]
    plain = sampling.top_p == 1 and not sampling.top_k  # else the sampler's own distribution is another one
    if plain and not gap <= limit:
        raise RatioIsNotOne(
            f"mean |log ratio| between sampler and trainer is {gap:.3g} before the first update, the"
            f" limit is {limit}: a mask, a position or dropout is wrong, run `accord doctor`"
        )
