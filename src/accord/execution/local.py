"""One process: float32 master weights behind bfloat16 ones, fused AdamW, gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accord.config import Optimizer


def schedule_factor(optimizer: Optimizer, step: int, total: int) -> float:
    """Factor on the learning rate at 0-based ``step``: linear warm-up, then constant, linear or cosine."""
    if step < optimizer.warmup_steps:
        return (step + 1) / optimizer.warmup_steps
    done = (step - optimizer.warmup_steps) / max(1, total - optimizer.warmup_steps)
    if optimizer.schedule == "linear":
        return max(0.0, 1.0 - done)
    if optimizer.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return 1.0


class Local:
    """Owns the optimiser of a set of parameters.

    Gradients are accumulated in float32 as they appear, so that microbatches add up exactly as one batch
    would.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Mapping[str, nn.Parameter], float]],
        optimizer: Optimizer,
        total_steps: int,
    ) -> None:
        self.optimizer, self.total_steps, self.steps = optimizer, total_steps, 0
        self.bad_steps = 0
        self.skipped = 0
        self.rate_factor = 1.0  # on the learning rate, besides the schedule; a rollback makes it smaller
        self._pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        adam_groups: list[dict[str, Any]] = []
        for parameters, rate in groups:
            masters = []
            for parameter in parameters.values():
                same = parameter.dtype == torch.float32
                master = parameter if same else nn.Parameter(parameter.detach().float())
                if not same:
                    hook: Any = parameter.register_post_accumulate_grad_hook
                    hook(self._collector(master))
                self._pairs.append((parameter, master))
                masters.append(master)
            adam_groups.append({"params": masters, "lr": rate, "base": rate})
        self._adam = torch.optim.AdamW(
            adam_groups,
            betas=optimizer.betas,
            eps=optimizer.epsilon,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )

    @staticmethod
    def _collector(master: nn.Parameter) -> Any:
        def collect(parameter: Tensor) -> None:
            if parameter.grad is None:
                return
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

        return collect

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> float:
        """Clip, update, clear. Returns the gradient norm before clipping.

        A norm that is not finite skips the update and is counted in ``bad_steps`` (reset by a good step) and
        in ``skipped``.
        """
        masters = [master for _, master in self._pairs if master.grad is not None]
        norm = float(
            torch.nn.utils.clip_grad_norm_(masters, self.optimizer.max_grad_norm, error_if_nonfinite=False)
        )
        factor = schedule_factor(self.optimizer, self.steps, self.total_steps)
        self.steps += 1
        if math.isfinite(norm):
            self.bad_steps = 0
            for group in self._adam.param_groups:
                group["lr"] = group["base"] * factor * self.rate_factor
            self._adam.step()
            self._publish()
        else:
            self.bad_steps += 1
            self.skipped += 1
        self.discard()
        return norm

    def gradient_norm(self) -> float:
        """Norm of the gradients collected so far."""
        gradients = [master.grad for _, master in self._pairs if master.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def discard(self) -> None:
        """Forget the gradients collected so far."""
        for _, master in self._pairs:
            master.grad = None

    @torch.no_grad()
    def _publish(self) -> None:
        for parameter, master in self._pairs:
            if parameter is not master:
                parameter.copy_(master)

    @torch.no_grad()
    def adopt(self, parameter: nn.Parameter) -> None:
        """Take over a weight that was set from outside, into its float32 master."""
        for mine, master in self._pairs:
            if mine is parameter and mine is not master:
                master.copy_(parameter)

    def state(self) -> dict[str, Any]:
        """Everything that a bit-identical continuation needs."""
        return {
            "masters": [master.detach() for _, master in self._pairs],
            "adam": self._adam.state_dict()["state"],
            "steps": self.steps,
            "bad_steps": self.bad_steps,
            "skipped": self.skipped,
            "rate_factor": self.rate_factor,
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        for (_, master), saved in zip(self._pairs, state["masters"], strict=True):
            master.copy_(saved)
        whole = self._adam.state_dict()
        whole["state"] = state["adam"]
        self._adam.load_state_dict(whole)
        self.steps, self.bad_steps = int(state["steps"]), int(state["bad_steps"])
        self.skipped, self.rate_factor = int(state["skipped"]), float(state["rate_factor"])
        self._publish()
