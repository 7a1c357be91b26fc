"""Figures that say whether policy optimisation is healthy: masked, over all tokens of the batch. Pure, but
for the two moments that the gradient-noise scale averages over steps.

Axes: B responses, T tokens, P prompts, K samples of one prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from accord import losses
from accord.axes import check_axes


@torch.no_grad()
def movement(
    logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor, clip: float, clip_high: float | None
) -> dict[str, float]:
    """How far the policy has moved from the one that sampled, over all response tokens.

    Returns:
        clip_fraction: share of tokens whose ratio is outside the clip range.
        kl_old_new: k3 estimate of KL(old ‖ new), nats per token.
        ratio_p99: ratio that 99% of the tokens do not exceed.
        effective_share: effective sample size over the number of tokens, in (0, 1].
    """
    seen = losses.policy_statistics(logp_BT, old_logp_BT, mask_BT, clip, clip_high)
    return {
        "clip_fraction": seen.clip_fraction,
        "kl_old_new": seen.kl_k3,
        "ratio_p99": seen.ratio_p99,
        "effective_share": seen.effective_share,
    }


@torch.no_grad()
def sequence_clip_fraction(
    logp_BT: Tensor, old_logp_BT: Tensor, mask_BT: Tensor, clip: float, clip_high: float
) -> float:
    """GSPO: share of responses whose ratio ^ (1 / length) is outside [1 − clip, 1 + clip_high]."""
    check_axes(logp_BT=logp_BT, old_logp_BT=old_logp_BT, mask_BT=mask_BT)
    used_BT = mask_BT != 0
    new_B, old_B = (torch.where(used_BT, x_BT, 0.0).double().sum(1) for x_BT in (logp_BT, old_logp_BT))
    length_B = used_BT.sum(1)
    ratio_B = ((new_B - old_B) / length_B.clamp(min=1)).exp()[length_B > 0]
    return float(((ratio_B - 1 > clip_high) | (1 - ratio_B > clip)).double().mean())


@torch.no_grad()
def no_spread_share(score_PK: Tensor) -> float:
    """Share of prompts whose samples all have one score, of which nothing is learned; 0 where K is 1."""
    check_axes(score_PK=score_PK)
    if score_PK.shape[1] < 2:
        return 0.0
    return float((score_PK.amax(1) == score_PK.amin(1)).double().mean())


@dataclass
class GradientNoise:
    """The simple gradient-noise scale tr(Σ) / |G|² (McCandlish et al. 2018, arXiv 1812.06162, appendix A.1).

    It is the batch, in responses, at which noise and signal of the gradient are of one size; far above the
    batch in use, more samples a step would pay. Estimated from the gradient's norm after a part of a batch
    and after all of it, which need no further backward pass: |G|² = (B |g_B|² − b |g_b|²) / (B − b),  tr(Σ)
    = (|g_b|² − |g_B|²) / (1/b − 1/B). Each is averaged over steps before they are divided, as one step's
    |G|² may be below 0.

    Attributes:
        decay: of the two moving averages.
        signal, noise: moving averages of |G|² and tr(Σ); with ``steps``, the state to checkpoint.
    """

    decay: float = 0.9
    signal: float = 0.0
    noise: float = 0.0
    steps: int = 0

    def update(self, part_norm: float, part: int, whole_norm: float, whole: int) -> float:
        """Takes one step in and returns the scale so far, in responses; NaN where |G|² is not above 0.

        Args:
            part_norm: norm of the *mean* gradient over the first ``part`` responses.
            whole_norm: norm of the mean gradient over all ``whole`` of them.

        Raises:
            ValueError: the part is not smaller than the whole.
        """
        if not 0 < part < whole:
            raise ValueError(f"the part has {part} responses and the whole {whole}: it must have fewer")
        if math.isfinite(part_norm) and math.isfinite(whole_norm):
            signal = (whole * whole_norm**2 - part * part_norm**2) / (whole - part)
            noise = (part_norm**2 - whole_norm**2) / (1 / part - 1 / whole)
            self.signal = self.decay * self.signal + (1 - self.decay) * signal
            self.noise = self.decay * self.noise + (1 - self.decay) * noise
            self.steps += 1
        # The start at 0 biases both averages by one factor, which their ratio is free of.
        return self.noise / self.signal if self.signal > 0 else math.nan
