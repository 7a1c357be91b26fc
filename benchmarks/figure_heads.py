"""Linear reward heads on hidden states, by accord's own losses: Bradley–Terry, ties, length taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import optimize
from torch import Tensor
from torch.nn import functional

from accord import length_losses
from accord import preference_losses as losses
from accord.diagnostics.statistics import FloatArray
from accord.records import content_hash

Ties = Literal["bradley_terry", "rao_kupper", "davidson"]
RIDGES = (1e5, 3e4, 1e4, 3e3, 1e3, 3e2, 1e2)  # on standardised states; each fit starts from the last
FOLDS = 5  # held out for a figure
INNER_FOLDS = 3  # held out for choosing the ridge


@dataclass(frozen=True)
class Head:
    """score = weight · state; ``tie`` is η of Rao–Kupper or log ν of Davidson."""

    weight_H: FloatArray
    tie: float
    ridge: float

    def log_probabilities(self, difference_NH: FloatArray, ties: Ties) -> FloatArray:
        """(N, 3): log P of a, b, tie; Bradley–Terry has no ties, so that column is −inf."""
        d_N = torch.from_numpy(difference_NH @ self.weight_H)
        tie = torch.tensor(self.tie, dtype=torch.float64)
        if ties == "rao_kupper":
            return losses.rao_kupper_log_probabilities(d_N, tie).numpy()
        if ties == "davidson":
            return losses.davidson_log_probabilities(d_N, tie).numpy()
        columns = [functional.logsigmoid(d_N), functional.logsigmoid(-d_N), torch.full_like(d_N, -torch.inf)]
        return torch.stack(columns, 1).numpy()


def _minimise(loss: Callable[[Tensor], Tensor], start: FloatArray) -> FloatArray:
    def value(x: FloatArray) -> tuple[float, FloatArray]:
        x_P = torch.from_numpy(x).requires_grad_()
        found = loss(x_P)
        (slope_P,) = torch.autograd.grad(found, x_P)
        return float(found.detach()), slope_P.numpy()

    options = {"maxiter": 500, "ftol": 1e-9, "gtol": 1e-6}
    return optimize.minimize(value, start, jac=True, method="L-BFGS-B", options=options).x


def _eta(free: Tensor) -> Tensor:
    return functional.softplus(free) + 1e-4


def fit(
    difference_NH: FloatArray,
    target_NO: FloatArray,
    weight_N: FloatArray,
    ridge: float,
    ties: Ties = "bradley_terry",
    start: FloatArray | None = None,
) -> tuple[Head, FloatArray]:
    """Σ weight · cross-entropy + ridge/2 · |w|² at its minimum; also the parameters, to start the next from.

    Args:
        difference_NH: states of a minus states of b, standardised.
        target_NO: shares of a, b and tie; for Bradley–Terry a tie is half a win for either.
    """
    x_NH, target, weight = (torch.from_numpy(v) for v in (difference_NH, target_NO, weight_N))
    width = difference_NH.shape[1]

    def loss(x_P: Tensor) -> Tensor:
        d_N = x_NH @ x_P[:width]
        penalty = 0.5 * ridge * x_P[:width].square().sum()
        if ties == "bradley_terry":
            soft_N = target[:, 0] + 0.5 * target[:, 2]
            main = losses.bradley_terry(
                d_N, torch.zeros_like(d_N), soft_label_N=soft_N, weight_N=weight, count=1
            )
            return main + penalty
        log_NO = (
            losses.rao_kupper_log_probabilities(d_N, _eta(x_P[width]))
            if ties == "rao_kupper"
            else losses.davidson_log_probabilities(d_N, x_P[width])
        )
        return losses.outcome_cross_entropy(log_NO, target, weight_N=weight, count=1) + penalty

    begin = np.zeros(width + (ties != "bradley_terry")) if start is None else start
    found = _minimise(loss, begin)
    tie = 0.0
    if ties == "rao_kupper":
        tie = float(_eta(torch.tensor(found[width], dtype=torch.float64)))
    elif ties == "davidson":
        tie = float(found[width])
    return Head(found[:width], tie, ridge), found


def folds_of(keys: Sequence[str], seed: int, folds: int = FOLDS) -> FloatArray:
    """A fold for each row, whole keys together, in nearly equal numbers of keys."""
    unique = sorted(set(keys), key=lambda key: content_hash("figure fold", str(seed), key))
    place = {key: i % folds for i, key in enumerate(unique)}
    return np.array([place[key] for key in keys])


def fit_validated(
    difference_NH: FloatArray,
    target_NO: FloatArray,
    weight_N: FloatArray,
    keys: Sequence[str],
    ties: Ties = "bradley_terry",
    seed: int = 0,
) -> Head:
    """`fit` with the ridge that gives held-out folds (by key) the highest likelihood."""
    fold_N = folds_of(keys, seed, INNER_FOLDS)
    total_R = np.zeros(len(RIDGES))
    for fold in range(INNER_FOLDS):
        held, start = fold_N == fold, None
        if not held.any() or held.all():
            continue
        for r, ridge in enumerate(RIDGES):
            head, start = fit(difference_NH[~held], target_NO[~held], weight_N[~held], ridge, ties, start)
            log_NO = head.log_probabilities(difference_NH[held], ties)
            target = target_NO[held]
            if ties == "bradley_terry":
                half = 0.5 * target[:, 2:]
                target, log_NO = target[:, :2] + half, log_NO[:, :2]
            total_R[r] += float((weight_N[held, None] * target * log_NO).sum())
    return fit(difference_NH, target_NO, weight_N, RIDGES[int(total_R.argmax())], ties)[0]


def fit_two_heads(
    a_NH: FloatArray,
    b_NH: FloatArray,
    length_N2: FloatArray,
    ridge: float,
    length_weight: float,
    orthogonality: float = 1.0,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """ODIN (Chen et al. 2024) on frozen states: (quality_H, length_H); a is the chosen side.

    Nats per pair + length_weight · (|ρ(quality, L)| − ρ(length head, L)) + orthogonality · |cosine| + ridge.
    """
    a, b = torch.from_numpy(a_NH), torch.from_numpy(b_NH)
    length_B = torch.from_numpy(length_N2.T.reshape(-1).copy())
    count, width = a_NH.shape

    def loss(x_P: Tensor) -> Tensor:
        quality_H, length_H = x_P[:width], x_P[width:]
        both_H = quality_H + length_H
        main = functional.softplus(-(a - b) @ both_H).mean() + 0.5 * ridge / count * x_P.square().sum()
        quality_B = torch.cat([a @ quality_H, b @ quality_H])
        head_B = torch.cat([a @ length_H, b @ length_H])
        apart = length_losses.length_correlation_loss(quality_B, head_B, length_B)
        cosine = length_losses.orthogonality_penalty(quality_H, length_H)
        return main + length_weight * apart + orthogonality * cosine

    start = 0.01 * np.random.default_rng([seed, 20261128]).normal(size=2 * width)
    found = _minimise(loss, start)
    return found[:width], found[width:]
