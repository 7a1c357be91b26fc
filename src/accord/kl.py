"""KL to the reference policy: three estimators per token, and three controllers of the penalty.

All estimators take the log-probabilities of tokens that the *policy* sampled, and estimate KL(policy ‖
reference) in nats per token (Schulman 2020, "Approximating KL divergence",
http://joschu.net/blog/kl-approx.html).

- k1 sits in the reward: unbiased, of either sign; its sum over a response estimates the response's KL.
- k2 is the one that may be a loss: the expectation of its gradient on policy is the gradient of the KL. For a
  response of several tokens that is k2 of the response (`response_k2`), not the sum over its tokens.
- k3 is for logging: unbiased, never negative, low in variance.

None of them knows about masks: their values at padding mean nothing and must be masked by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.axes import check_axes
from accord.records import BadInput

ERROR_LIMIT = 0.2  # Ziegler et al. 2019, section 2.2


def k1(logp_BT: Tensor, reference_logp_BT: Tensor) -> Tensor:
    """log(policy / reference) per token, (B, T), nats. Unbiased; for the reward, never for the loss."""
    check_axes(logp_BT=logp_BT, reference_logp_BT=reference_logp_BT)
    return logp_BT - reference_logp_BT


def k2(logp_BT: Tensor, reference_logp_BT: Tensor) -> Tensor:
    """Half the squared log ratio per token, (B, T), nats. A biased value, with the right gradient on policy.

    ∇k2 = log(policy/reference) ∇log policy, which is the score-function gradient of the KL itself.
    """
    return 0.5 * k1(logp_BT, reference_logp_BT).square()


def response_k2(logp_BT: Tensor, reference_logp_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Half the squared log ratio of the whole response, (B,), nats: the KL as a loss.

    Its expected gradient on policy is the gradient of the responses' KL. The sum of k2 over tokens is not: it
    leaves out that a token changes the KL of those after it. Each response's gradient is the one that k1 in
    the reward gives it without a baseline: ∇ = (Σ_t log ratio_t) Σ_t ∇log policy_t.
    """
    check_axes(logp_BT=logp_BT, reference_logp_BT=reference_logp_BT, mask_BT=mask_BT)
    inside_BT = mask_BT != 0
    policy_B = torch.where(inside_BT, logp_BT, 0.0).sum(1)
    return 0.5 * (policy_B - torch.where(inside_BT, reference_logp_BT, 0.0).sum(1)).square()


def k3(logp_BT: Tensor, reference_logp_BT: Tensor) -> Tensor:
    """r − 1 − log r, r = reference / policy; per token, (B, T), nats. Unbiased, never negative."""
    log_ratio_BT = -k1(logp_BT, reference_logp_BT)
    # expm1 keeps the digits near r = 1, and with them the sign: exp(x) − 1 − x falls below zero in float32.
    return torch.expm1(log_ratio_BT) - log_ratio_BT


@dataclass
class FixedKl:
    """The same penalty throughout."""

    coefficient: float

    def update(self, kl: float, samples: int) -> float:
        """Returns the coefficient, which does not change."""
        return self.coefficient


@dataclass
class AdaptiveKl:
    """Steers the penalty so that the KL goes to ``target``.

    Ziegler et al. 2019 (arXiv 1909.08593, section 2.2):
    error = clip(kl / target − 1, ±0.2);  coefficient ← coefficient · (1 + error · samples / horizon)

    Attributes:
        coefficient: the penalty now, in units of normalised score per nat; the whole state to checkpoint.
        target: nats per response.
        horizon: samples (responses), counted over all processes.
    """

    coefficient: float
    target: float
    horizon: float

    def __post_init__(self) -> None:
        for name in ("coefficient", "target", "horizon"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BadInput(f"adaptive KL: {name} is {value}, it must be above 0")

    def update(self, kl: float, samples: int) -> float:
        """Moves the coefficient after a step and returns it.

        Args:
            kl: mean KL of the step in nats per response, over all processes (k1 sums: may be negative).
            samples: responses of the step, over all processes.

        Raises:
            ValueError: the KL is not finite (the coefficient would stay NaN for the rest of the run).
            BadInput: one step spans five horizons or more, where the penalty could turn negative.
        """
        if not math.isfinite(kl):
            raise ValueError(
                f"the KL of this step is {kl}: leave the step out, the coefficient was not changed"
            )
        if ERROR_LIMIT * samples >= self.horizon:
            raise BadInput(
                f"adaptive KL: a step has {samples} samples and the horizon is {self.horizon:g}, which lets"
                f" the penalty turn negative: set the horizon above {ERROR_LIMIT * samples:g}"
            )
        error = min(max(kl / self.target - 1, -ERROR_LIMIT), ERROR_LIMIT)
        self.coefficient *= 1 + error * samples / self.horizon
        return self.coefficient


@dataclass
class KlBudget:
    """Keeps the KL at or under ``target``: maximise reward − coefficient·KL subject to KL ≤ target.

    The Lagrange multiplier is added to the coefficient in its logarithm, by dual ascent (as in Safe RLHF,
    Dai et al. 2023, arXiv 2310.12773, which ascends in log λ): multiplier ← max(0, multiplier + rate
    · clip(kl / target − 1, ±1));  penalty = floor · exp(multiplier). Below the target the multiplier falls
    back to 0 and the penalty to the configured coefficient, never under
    it: a penalty that fades while the KL is still small lets it overshoot.

    Attributes:
        coefficient: the penalty now, in units of normalised score per nat; the whole state to checkpoint.
        target: nats per response.
        rate: largest change of the logarithm in one step.
        floor: the configured coefficient.
    """

    coefficient: float
    target: float
    rate: float
    floor: float

    def __post_init__(self) -> None:
        for name in ("coefficient", "target", "rate", "floor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BadInput(f"KL budget: {name} is {value}, it must be above 0")

    def update(self, kl: float, samples: int) -> float:
        """Moves the coefficient after a step and returns it.

        Args:
            kl: mean KL of the step in nats per response, over all processes (k1 sums: may be negative).

        Raises:
            ValueError: the KL is not finite.
        """
        if not math.isfinite(kl):
            raise ValueError(
                f"the KL of this step is {kl}: leave the step out, the coefficient was not changed"
            )
        error = min(max(kl / self.target - 1, -1.0), 1.0)
        multiplier = max(0.0, math.log(self.coefficient / self.floor) + self.rate * error)
        self.coefficient = self.floor * math.exp(multiplier)
        return self.coefficient
