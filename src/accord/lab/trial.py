"""One reward-model seed: its labels, its pretraining runs, and the curves that its reward models lead to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from accord.diagnostics.statistics import FloatArray, stream
from accord.lab import ensembles
from accord.lab.policies import optimise
from accord.lab.preferences import Indices, Pairs, compare
from accord.lab.reward import RewardSettings, random_units, seen, train, visible
from accord.lab.world import World


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a reward model is made. ``shared`` members are all one pretraining run and differ only in which of
    the labels they were shown (a bootstrap draw); otherwise each is a run of its own, shown all labels.
    """

    pairs: int = 300
    noise: float = 0.5
    misspecification: float = 1.0
    members: int = 1
    shared: bool = False
    aggregation: ensembles.Aggregation = "mean"
    length_bias: float = 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """What optimising a reward model harder and harder does, at P distances √KL.

    ``proxy_P`` in deviations of the proxy under the start, ``gold_P`` in those of gold, ``length_P`` in
    those of the length; all start at 0.
    """

    distance_P: FloatArray
    proxy_P: FloatArray
    gold_P: FloatArray
    length_P: FloatArray


@dataclass(frozen=True)
class Trial:
    """Named streams: a member, a label or a sample is the same whatever else was asked for before it."""

    world: World
    settings: RewardSettings
    seed: int
    _visible: dict[int, FloatArray] = field(default_factory=dict, repr=False)

    def labels(self, recipe: Recipe) -> Pairs:
        """The recipe's pairs. Fewer are the first of more; noise and bias change labels only."""
        liked_R = self.world.gold_R + recipe.length_bias * self.world.length_R
        return compare(liked_R, recipe.pairs, recipe.noise, stream(self.seed, "lab labels"))

    def visible(self, member: int) -> FloatArray:
        """feature_RD of one pretraining run, kept for the life of the trial (25 MB)."""
        if member not in self._visible:
            rng = stream(self.seed, f"lab pretraining {member}")
            self._visible[member] = visible(
                self.world, random_units(self.world, self.settings.random_units, rng)
            )
        return self._visible[member]

    def member(self, run: int, misspecification: float, pairs: Pairs) -> FloatArray:
        """score_R of one reward model: a pretraining run, taught by these labels."""
        seen_D = seen(self.world, self.settings.random_units, misspecification)
        return train(self.visible(run), seen_D, pairs, self.settings.ridge)

    def scores(self, recipe: Recipe, pairs: Pairs | None = None) -> FloatArray:
        """score_KR of the recipe's members, trained on ``pairs`` (None: the recipe's own labels)."""
        pairs = self.labels(recipe) if pairs is None else pairs
        if recipe.shared and recipe.members > 1:
            shown_K = [pairs[self.bootstrap(member, len(pairs))] for member in range(recipe.members)]
            return np.stack([self.member(0, recipe.misspecification, shown) for shown in shown_K])
        return np.stack([self.member(k, recipe.misspecification, pairs) for k in range(recipe.members)])

    def bootstrap(self, member: int, count: int) -> Indices:
        return stream(self.seed, f"lab bootstrap {member}").integers(count, size=count)

    def curve(self, recipe: Recipe, distance_P: FloatArray) -> Curve:
        """Train, aggregate, optimise: proxy, gold and length at each distance, exactly."""
        return self.curve_of(ensembles.aggregate(self.scores(recipe), recipe.aggregation), distance_P)

    def curve_of(self, proxy_R: FloatArray, distance_P: FloatArray) -> Curve:
        proxy_R = (proxy_R - proxy_R.mean()) / proxy_R.std()
        proxy_P, gold_P, length_P = optimise(
            proxy_R, distance_P, proxy_R, self.world.gold_R, self.world.length_R
        )
        return Curve(distance_P, proxy_P, gold_P, length_P)
