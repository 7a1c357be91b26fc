"""All that is computed for one reward-model seed, and then for several beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from accord.diagnostics.statistics import FloatArray, stream
from accord.lab import stopping
from accord.lab.ensembles import AGGREGATIONS, aggregate
from accord.lab.preferences import accuracy, shuffled
from accord.lab.rounds import Round, run_rounds
from accord.lab.settings import LabSettings
from accord.lab.trial import Curve, Recipe, Trial
from accord.lab.world import World, by_length, make_world


@dataclass(frozen=True)
class SeedResult:
    """One seed. ``accuracies`` on the start's answers and ``beliefs`` (mean proxy by length) are of single models;
    ``rounds`` by whether labels are fresh; ``stops`` are the checkpoints that the rules ship, ``instead`` gold at the
    fixed KL where the labels of the checkpoints go into training.
    """

    seed: int
    curves: dict[Recipe, Curve]
    accuracies: dict[Recipe, float]
    beliefs: dict[Recipe, FloatArray]
    rounds: dict[bool, list[Round]]
    stops: dict[Recipe, dict[str, int]]
    instead: dict[Recipe, float]
    shuffled_accuracy: float
    shuffled_curve: Curve


@dataclass(frozen=True)
class Study:
    settings: LabSettings
    world: World
    seeds: Sequence[SeedResult]

    def gold(self, recipe: Recipe) -> FloatArray:
        """gold_PS of a recipe: P distances, S seeds."""
        return np.stack([one.curves[recipe].gold_P for one in self.seeds], axis=1)

    def proxy(self, recipe: Recipe) -> FloatArray:
        """proxy_PS of a recipe."""
        return np.stack([one.curves[recipe].proxy_P for one in self.seeds], axis=1)


def grid(settings: LabSettings) -> list[Recipe]:
    """The recipes of every position of the four sliders."""
    levels = itertools.product(settings.pairs, settings.noise, settings.misspecification)
    return [Recipe(*level, members=k) for level in levels for k in settings.members]


def variants(settings: LabSettings) -> list[Recipe]:
    """Ensembles at the usual noise, blind: by what their members share beside the labels (nothing, the pretraining,
    annotators with a taste for length) and by how they are put together.
    """
    shared = ((False, 0.0), (True, 0.0), (False, settings.annotator_bias))
    shapes = itertools.product(settings.pairs, settings.members[1:], shared, AGGREGATIONS)
    return [Recipe(n, settings.usual_noise, 1.0, k, same, how, bias) for n, k, (same, bias), how in shapes]


def study_seed(world: World, settings: LabSettings, seed: int) -> SeedResult:
    trial = Trial(world, settings.reward, seed)
    distance_P = settings.distance_P
    curves: dict[Recipe, Curve] = {}
    accuracies: dict[Recipe, float] = {}
    beliefs: dict[Recipe, FloatArray] = {}
    stops: dict[Recipe, dict[str, int]] = {}
    instead: dict[Recipe, float] = {}
    # Members are trained once for each kind of label and eye, and then put together in several ways.
    every = sorted({*grid(settings), *variants(settings)}, key=_training)
    for _, group in itertools.groupby(every, key=_training):
        recipes = list(group)
        largest = max(recipes, key=lambda recipe: recipe.members)
        score_KR = trial.scores(largest)
        for recipe in recipes:
            proxy_R = aggregate(score_KR[: recipe.members], recipe.aggregation)
            curves[recipe] = trial.curve_of(proxy_R, distance_P)
            if recipe.members == 1 and recipe.misspecification == 1:
                accuracies[recipe] = accuracy(proxy_R, world.gold_R)
            if recipe.members == 1 and recipe.noise == settings.usual_noise:
                beliefs[recipe] = by_length(world, proxy_R / proxy_R.std())
                if recipe.misspecification > 0:
                    stops[recipe] = stopping.choices(
                        trial, recipe, score_KR, distance_P, settings.fixed_kl, settings.checkpoint_labels
                    )
                    extra = stopping.LABELLED * settings.checkpoint_labels
                    instead[recipe] = stopping.labels_in_training(
                        trial, recipe, float(np.sqrt(settings.fixed_kl)), extra
                    )
    few = Recipe(settings.few_pairs, settings.usual_noise)
    nothing_R = trial.member(0, 1.0, shuffled(trial.labels(few), stream(seed, "lab shuffle")))
    return SeedResult(
        seed=seed,
        curves=curves,
        accuracies=accuracies,
        beliefs=beliefs,
        rounds={
            fresh: run_rounds(trial, few, settings.rounds, float(np.sqrt(settings.round_kl)), fresh)
            for fresh in (True, False)
        },
        stops=stops,
        instead=instead,
        shuffled_accuracy=accuracy(nothing_R, world.gold_R),
        shuffled_curve=trial.curve_of(nothing_R, distance_P),
    )


def _training(recipe: Recipe) -> tuple[float, float, float, bool, float]:
    return recipe.pairs, recipe.noise, recipe.misspecification, recipe.shared, recipe.length_bias


def run_study(
    settings: LabSettings, workers: int = 1, done: Callable[[int], None] = lambda seed: None
) -> Study:
    """Every seed, ``workers`` at a time; ``done`` is told each that is ready. The result does not depend on workers.

    One thread for each seed and none inside numpy: sums are then added in the same order on every machine.
    """
    world = make_world(settings.world)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(study_seed, world, settings, seed): seed for seed in seeds}
        for future in as_completed(futures):
            future.result()
            done(futures[future])
    return Study(settings, world, [future.result() for future in sorted(futures, key=futures.__getitem__)])


def cost(settings: LabSettings, workers: int) -> str:
    """What a study will take, in one sentence, from counts and from times measured on one core (docs/lab.md)."""
    curves = len({*grid(settings), *variants(settings)})
    size = settings.world.responses / 30_000
    return (
        f"{settings.seeds} reward-model seeds, {curves} curves each over {settings.world.responses:,} responses,"
        f" {workers} at a time"
    )
