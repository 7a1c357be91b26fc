"""Reward models of the small world: Bradley-Terry on raw and random features, fitted exactly."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import special

from accord.config import Config
from accord.diagnostics.statistics import FloatArray
from accord.lab.preferences import Pairs
from accord.lab.world import World, standardised
from accord.records import BadInput

Mask = npt.NDArray[np.bool_]
MOST_STEPS = 100
CONVERGED = 1e-9


class RewardSettings(Config):
    """Capacity and prior of every reward model. Chosen on development seeds only; docs/lab.md says how."""

    random_units: Annotated[int, Field(ge=0)] = Field(64, description="hidden units that are never trained")
    ridge: Annotated[float, Field(gt=0)] = Field(0.1, description="penalty on the squared weights")


def random_units(world: World, units: int, rng: np.random.Generator) -> FloatArray:
    """hidden_RU: a hidden layer that is never trained. It stands for what one pretraining run happened to
    learn; another stream is another run.

    Squared ReLU (So et al. 2021, 2109.08668): few answers excite a unit very much, so an error of its weight
    shows in the answers that an optimiser is after, and hardly in the labels.
    """
    weight_FU = rng.normal(size=(world.feature_RF.shape[1], units)) / np.sqrt(world.feature_RF.shape[1])
    excitation_RU = np.maximum(world.feature_RF @ weight_FU + 0.5 * rng.normal(size=units), 0.0)
    return standardised(excitation_RU**2)


def visible(world: World, hidden_RU: FloatArray) -> FloatArray:
    """feature_RD, all that a reward model could see: raw features, random units, the causes of gold."""
    return np.hstack([world.feature_RF, hidden_RU, world.cause_RC])


def seen(world: World, units: int, misspecification: float) -> Mask:
    """seen_D: which columns of ``visible`` a reward model sees: the raw features always.

    At misspecification 0 it sees the causes of gold and no random units, and can express gold exactly. The
    causes are hidden one after the other, "too long" last, and random units take their place, until at 1
    only those are left.
    """
    causes = world.cause_RC.shape[1]
    seen_F = np.ones(world.feature_RF.shape[1], dtype=bool)
    seen_U = np.arange(units) < round(misspecification * units)
    seen_C = np.arange(causes) < round((1 - misspecification) * causes)
    return np.concatenate([seen_F, seen_U, seen_C])


def fit_bradley_terry(winner_ND: FloatArray, loser_ND: FloatArray, ridge: float) -> FloatArray:
    """weight_D that minimises Σ -ln σ(margin) + ridge/2·|weight|², by Newton's method.

    margin_N = weight·(winner - loser), Bradley and Terry 1952. The ridge makes the problem strictly convex:
    there is one solution, whatever the start. Newton's step is halved while the loss would rise.

    Raises:
        BadInput: no pairs, or a ridge that is not above 0.
    """
    gap_ND = winner_ND - loser_ND
    if len(gap_ND) == 0 or not ridge > 0:
        raise BadInput(
            f"a reward model needs 1 pair or more and a ridge above 0, got {len(gap_ND)} and {ridge:g}"
        )
    weight_D = np.zeros(gap_ND.shape[1])
    loss = fit_loss(gap_ND, weight_D, ridge)
    for _ in range(MOST_STEPS):
        wrong_N = special.expit(-(gap_ND @ weight_D))
        gradient_D = ridge * weight_D - wrong_N @ gap_ND
        curvature_DD = (gap_ND.T * (wrong_N * (1 - wrong_N))) @ gap_ND
        curvature_DD[np.diag_indices_from(curvature_DD)] += ridge
        step_D = np.linalg.solve(curvature_DD, gradient_D)
        if np.abs(step_D).max() < CONVERGED:
            return weight_D - step_D
        size = 1.0
        while (after := fit_loss(gap_ND, weight_D - size * step_D, ridge)) > loss and size > 1e-6:
            size /= 2
        weight_D, loss = weight_D - size * step_D, after
    raise BadInput(f"Newton's method did not settle in {MOST_STEPS} steps: use a larger ridge than {ridge:g}")


def fit_loss(gap_ND: FloatArray, weight_D: FloatArray, ridge: float) -> float:
    """Σ -ln σ(margin) + ridge/2·|weight|², in nats."""
    margin_N = gap_ND @ weight_D
    return float(np.logaddexp(0.0, -margin_N).sum() + ridge / 2 * (weight_D @ weight_D))


def train(feature_RD: FloatArray, seen_D: Mask, pairs: Pairs, ridge: float) -> FloatArray:
    """score_R of the reward model that these labels teach, with mean 0 (Bradley-Terry fixes no zero)."""
    winner_N = np.where(pairs.a_wins_N, pairs.a_N, pairs.b_N)
    loser_N = np.where(pairs.a_wins_N, pairs.b_N, pairs.a_N)
    winner_ND, loser_ND = (feature_RD[rows][:, seen_D] for rows in (winner_N, loser_N))
    weight_D = np.zeros(len(seen_D))
    weight_D[seen_D] = fit_bradley_terry(winner_ND, loser_ND, ridge)
    score_R = feature_RD @ weight_D
    centred: FloatArray = score_R - score_R.mean()
    return centred
