"""The world: every answer that can be given, what it looks like, and how good it truly is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from accord.config import Config
from accord.diagnostics.statistics import FloatArray, stream

Share = Annotated[float, Field(ge=0, le=1)]
LENGTH = 0  # the feature column that stands for an answer's length
SHARPNESS = 3.0  # of the bend in what length is worth, a softplus: smooth, and a straight line on both sides


class WorldSettings(Config):
    """The constants of the world. They were chosen on development seeds only; docs/lab.md says how."""

    responses: Annotated[int, Field(ge=1000, le=1_000_000)] = 30_000
    features: Annotated[int, Field(ge=2)] = 16
    gold_units: Annotated[int, Field(ge=1)] = Field(24, description="hidden units of gold's network")
    length_weight: Annotated[float, Field(ge=0)] = Field(
        2.5,
        description="gold a standard deviation of length, short of the point, in deviations of the network",
    )
    too_long: float = Field(0.3, description="the point, in deviations of length, from where longer is worse")
    too_long_weight: Annotated[float, Field(ge=0)] = Field(
        3.0, description="loss beyond it, in length weights"
    )
    fullness: Annotated[float, Field(ge=0, le=1)] = Field(
        0.95,
        description="correlation of length with the size of the other features: long answers have more",
    )
    seed: int = Field(0, description="of the world itself; reward models have seeds of their own")


@dataclass(frozen=True, slots=True)
class World:
    """R responses. The starting policy gives each the same probability 1/R.

    ``feature_RF`` has mean 0 and deviation 1, column ``LENGTH`` is the length. ``cause_RC`` are the
    quantities whose weighted sum, with the length, is gold: first how much too long an answer is, then
    gold's hidden units, each with mean 0 and deviation 1. ``gold_R`` has mean 0 and deviation 1 under the
    starting policy.
    """

    feature_RF: FloatArray
    cause_RC: FloatArray
    gold_R: FloatArray

    @property
    def length_R(self) -> FloatArray:
        return self.feature_RF[:, LENGTH]


def standardised(values_RD: FloatArray) -> FloatArray:
    """Each column with mean 0 and deviation 1 under the starting policy; a constant column becomes 0.

    Constant ones occur: about one random unit in 10,000 is excited by no answer at all.
    """
    deviation_D = np.asarray(values_RD.std(axis=0))
    out: FloatArray = (values_RD - values_RD.mean(axis=0)) / np.where(deviation_D > 0, deviation_D, 1.0)
    return out


def make_world(settings: WorldSettings) -> World:
    """Gold is a fixed random network of all features but the length, plus a concave term of the length."""
    rng = stream(settings.seed, "lab world")
    other_RF = rng.normal(size=(settings.responses, settings.features - 1))
    size_R = standardised(np.linalg.norm(other_RF, axis=1))
    own_R = np.sqrt(1 - settings.fullness**2) * rng.normal(size=settings.responses)
    length_R = standardised(settings.fullness * size_R + own_R)

    weight_FC = rng.normal(size=(settings.features - 1, settings.gold_units)) / np.sqrt(settings.features - 1)
    hidden_RC = np.tanh(other_RF @ weight_FC + 0.5 * rng.normal(size=settings.gold_units))
    network_R = standardised(hidden_RC @ rng.normal(size=settings.gold_units))
    too_long_R = np.logaddexp(0.0, SHARPNESS * (length_R - settings.too_long)) / SHARPNESS
    liked_length_R = settings.length_weight * (length_R - settings.too_long_weight * too_long_R)
    return World(
        feature_RF=standardised(np.column_stack([length_R, other_RF])),
        cause_RC=standardised(np.column_stack([too_long_R, hidden_RC])),
        gold_R=standardised(network_R + liked_length_R),
    )


LENGTH_BINS = np.linspace(-2.6, 2.6, 14)  # edges; beyond them lie 0.9% of the answers


def by_length(world: World, value_R: FloatArray) -> FloatArray:
    """mean_L of a value over answers of like length, for the bins between ``LENGTH_BINS``."""
    inside_R = (world.length_R >= LENGTH_BINS[0]) & (world.length_R < LENGTH_BINS[-1])
    bin_R = np.digitize(world.length_R[inside_R], LENGTH_BINS) - 1
    count_L = np.bincount(bin_R, minlength=len(LENGTH_BINS) - 1)
    total_L = np.bincount(bin_R, value_R[inside_R], minlength=len(LENGTH_BINS) - 1)
    mean_L: FloatArray = total_L / np.maximum(count_L, 1)
    return mean_L
