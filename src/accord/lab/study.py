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

SECONDS_A_CURVE = 0.034  # its share of everything a seed needs, on one core of the machine of docs/lab.md


@dataclass(frozen=True)
class SeedResult:
    """One seed. ``accuracies`` on the start's answers and ``beliefs`` (mean proxy by length) are of single
    models; ``rounds`` by whether labels are fresh; ``stops`` are the checkpoints that the rules ship,
    ``instead`` gold at the fixed KL where the labels of the checkpoints go into training.
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
    """Ensembles at the usual noise, blind: by what their members share beside the labels (nothing, the
    pretraining, annotators with a taste for length) and by how they are put together.
    """
    shared = ((False, 0.0), (True, 0.0), (False, settings.annotator_bias))
    shapes = itertools.product(settings.pairs, settings.members[1:], shared, AGGREGATIONS)
    return [Recipe(n, settings.usual_noise, 1.0, k, same, how, bias) for n, k, (same, bias), how in shapes]


def every_position(settings: LabSettings) -> list[Recipe]:
    """What the page can be asked for."""
    return [*grid(settings), *variants(settings)]


def study_seed(world: World, settings: LabSettings, seed: int, recipes: Sequence[Recipe]) -> SeedResult:
    """One seed's curves of ``recipes``; the stop rules are run on its single models of the usual noise, and
    the largest ensemble of the same labels looks on.
    """
    trial = Trial(world, settings.reward, seed)
    distance_P = settings.distance_P
    curves: dict[Recipe, Curve] = {}
    accuracies: dict[Recipe, float] = {}
    beliefs: dict[Recipe, FloatArray] = {}
    stops: dict[Recipe, dict[str, int]] = {}
    instead: dict[Recipe, float] = {}
    # Members are trained once for each kind of label and eye, and then put together in several ways.
    for _, group in itertools.groupby(sorted(dict.fromkeys(recipes), key=_training), key=_training):
        together = list(group)
        largest = max(together, key=lambda recipe: recipe.members)
        score_KR = trial.scores(largest)
        for recipe in together:
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
    settings: LabSettings,
    workers: int = 1,
    done: Callable[[int], None] = lambda seed: None,
    recipes: Sequence[Recipe] | None = None,
) -> Study:
    """Every seed, ``workers`` at a time: the result does not depend on them. ``done`` is told each seed.

    ``recipes`` are the curves to compute (None: every position of the sliders).

    One thread for each seed and none inside numpy: sums are then added in the same order on every machine.
    """
    world = make_world(settings.world)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    wanted = every_position(settings) if recipes is None else recipes
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(study_seed, world, settings, seed, wanted): seed for seed in seeds}
        try:
            for future in as_completed(futures):
                future.result()
                done(futures[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the seeds at work, not for the whole queue
            raise
    return Study(settings, world, [future.result() for future in sorted(futures, key=futures.__getitem__)])


def cost(settings: LabSettings, workers: int) -> str:
    """What a study will take, in one sentence: counts, and from them time and memory (docs/lab.md)."""
    curves = len(dict.fromkeys(every_position(settings)))
    share = settings.world.responses / 30_000
    seconds = settings.seeds * curves * share * SECONDS_A_CURVE / workers
    features = settings.world.features + settings.world.gold_units + 1 + settings.reward.random_units
    megabytes = 200 + 8e-6 * settings.world.responses * features * (settings.members[-1] + 2) * workers
    return (
        f"{settings.seeds} reward-model seeds, {curves} curves each over {settings.world.responses:,}"
        f" responses, {workers} at a time: about {max(1, seconds):.0f} s and {megabytes:.0f} MB"
    )
