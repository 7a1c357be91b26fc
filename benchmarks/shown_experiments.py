"""The experiments of docs/shown.md: which arms, which seeds, what is kept of a run, what is said of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shown_curves import measure_curves
from benchmarks.shown_matched import measure_ensemble, summary_against, summary_ensemble
from benchmarks.shown_pairs import summary_pairs
from benchmarks.shown_planted import HACKS, measure_planted, summary_planted

from accord.config import Run
from accord.judging.gold import AUTHORITY, FLATTERY

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    arm: str
    seed: int
    development: bool = False


@dataclass(frozen=True)
class Experiment:
    """A recipe of recipes/shown with what is varied.

    Attributes:
        recipe: the file's name without .yaml.
        arms: overrides by name.
        plan: the documentation's runs, development first; () means every arm with seeds 0, 1 and 2.
        tiny: overrides for the model of 210,000 weights.
    """

    name: str
    recipe: str
    arms: dict[str, list[str]]
    measure: Callable[[Path, Sequence[Row], Run], Row]
    summary: Callable[[Sequence[Row]], tuple[str, str]]
    plan: tuple[Job, ...] = ()
    tiny: tuple[str, ...] = ()
    always_tiny: bool = False
    seeds: tuple[int, ...] = field(default=(0, 1, 2))


def _phrases(phrases: Sequence[str], bias: float) -> list[str]:
    return [f"judge.phrases={list(phrases)}", f"judge.phrase_bias={bias}"]


PLANTED = Experiment(
    name="planted",
    recipe="planted",
    arms={
        "clean": [],
        "length": ["judge.length_bias=2"],
        "flattery": _phrases(FLATTERY, 3.0),
        "phrase": _phrases(AUTHORITY, 3.0),
    },
    measure=measure_planted,
    summary=summary_planted,
    plan=(
        *(Job("clean", seed, development=True) for seed in range(100, 120)),
        *(Job("clean", seed) for seed in range(20)),
        *(Job(HACKS[seed % 3], seed) for seed in range(20)),
    ),
    always_tiny=True,
)

# The same experiment on the model of 210,000 weights: longer answers, all weights, more seeds.
TINY = (
    "threads=1",
    "model.dtype=float32",
    "model.chat_template=null",
    "data.demonstrations=null",
    "data.test_fraction=0.15",
    "collect.sampling.max_new_tokens=48",
    "collect.samples_per_prompt=4",
    "reward.weights.train=all",
    "reward.optimizer.learning_rate=2e-3",
    "online.weights.train=all",
    "online.prompts_per_step=12",
    "online.optimizer.learning_rate=1e-3",
    "online.sampling.max_new_tokens=48",
    "evaluate.prompts=48",
    "evaluate.probed_answers=0",
)

PAIRS = Experiment(
    name="pairs",
    recipe="pairs",
    arms={"60 pairs": ["collect.pairs=60"], "700 pairs": ["collect.pairs=700"]},
    measure=measure_curves,
    summary=summary_pairs,
    tiny=TINY,
)

FEW = "collect.pairs=120"
FOUR = ["reward.ensemble={kind: full, members: 4}", FEW]
BEST_OF_16 = ["evaluate.best_of=16", "evaluate.best_of_prompts=96"]
ENSEMBLE = Experiment(
    name="ensemble",
    recipe="pairs",
    arms={
        "single": [FEW],
        # Best-of-n does not ask what RL does: it is in one arm, picked by the mean and pessimistically.
        "mean": [*FOUR, "evaluate.best_of_ensemble={rule: uwo, coefficient: 0.5}", *BEST_OF_16],
        "worst case": [*FOUR, "online.ensemble.rule=worst"],
        "mean - variance": [*FOUR, "online.ensemble={rule: uwo, coefficient: 0.1}"],
    },
    measure=measure_ensemble,
    summary=summary_ensemble("single"),
    tiny=TINY,
)

# Equal labels: 300 in both arms. The control's are all of the start's samples, the other's half of them are
# of the policy that the first half made.
FRESH = Experiment(
    name="fresh",
    recipe="pairs",
    arms={
        "old samples": ["collect.pairs=300"],
        "fresh samples": ["collect.pairs=150", "rounds=2"],
    },
    measure=measure_curves,
    summary=summary_against("old samples"),
    tiny=TINY,
)

EXPERIMENTS = {one.name: one for one in (PLANTED, PAIRS, ENSEMBLE, FRESH)}


def jobs(experiment: Experiment, seeds: Sequence[int] | None, arms: Sequence[str] | None) -> list[Job]:
    """What is to be run: the plan, or the arms and seeds that were asked for."""
    if experiment.plan and seeds is None:
        return [job for job in experiment.plan if not arms or job.arm in arms]
    chosen = arms or list(experiment.arms)
    return [Job(arm, seed, development=seed >= 100) for seed in (seeds or experiment.seeds) for arm in chosen]
