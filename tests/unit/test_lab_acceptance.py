"""The acceptance list of the small world, and that each of its claims can fail.

The full size (30,000 answers, 64 seeds, eight other worlds) takes a quarter of an hour:
scripts/lab_acceptance.py makes it, docs/lab.md shows it. Here is the same code over fewer answers,
checkpoints and numbers of pairs. The seeds are the first ones, not ones that come out well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from accord.config import validate
from accord.lab import acceptance
from accord.lab.settings import LabSettings
from accord.lab.study import SeedResult, Study, run_study
from accord.lab.trial import Curve, Recipe

SIZE = {
    "world": {"responses": 6000},
    "seeds": 16,
    "points": 13,
    "pairs": [100, 300, 1200],
    "noise": [0.5],
    "misspecification": [0.0, 1.0],
    "members": [1, 8],
    "rounds": 1,
}


@pytest.fixture(scope="module")
def study() -> Study:
    settings = validate(LabSettings, SIZE, "lab")
    return run_study(settings, recipes=acceptance.needed(settings))


CLAIMS = (
    acceptance.hacking,
    acceptance.foresight,
    acceptance.more_labels,
    acceptance.together,
    acceptance.fresh_labels,
    acceptance.stopping_in_time,
)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_the_claim_holds(study: Study, claim: Callable) -> None:  # type: ignore[type-arg]
    finding = claim(study)
    assert finding.verdict == "good", finding.sentence


FEW = Recipe(300, 0.5)


def with_curves(study: Study, *swaps: tuple[Recipe, Callable[[SeedResult], Curve]]) -> Study:
    """The study with some recipes' curves replaced."""
    seeds = [
        replace(one, curves=one.curves | {recipe: curve(one) for recipe, curve in swaps})
        for one in study.seeds
    ]
    return replace(study, seeds=seeds)


def of(recipe: Recipe) -> Callable[[SeedResult], Curve]:
    return lambda one: one.curves[recipe]


def gold_is(gold_P: np.ndarray) -> Callable[[SeedResult], Curve]:
    return lambda one: replace(one.curves[FEW], gold_P=gold_P)


def test_hacking_is_not_claimed_where_gold_rises_or_everything_falls_or_the_proxy_dips(study: Study) -> None:
    knowing = replace(FEW, misspecification=0.0)
    assert acceptance.hacking(with_curves(study, (FEW, of(knowing)))).verdict == "bad"
    assert acceptance.hacking(with_curves(study, (knowing, of(FEW)))).verdict == "bad"

    def dips(one: SeedResult) -> Curve:
        curve = one.curves[FEW]
        proxy_P = curve.proxy_P.copy()
        if one.seed == study.seeds[-1].seed:
            proxy_P[5] = proxy_P[4] - 0.001
        return replace(curve, proxy_P=proxy_P)

    assert acceptance.hacking(with_curves(study, (FEW, dips))).verdict == "bad"


def test_foresight_is_not_claimed_of_lines_and_constants(study: Study) -> None:
    distance_P = study.settings.distance_P
    for gold_P in (0.3 * distance_P, np.zeros_like(distance_P)):
        straight = [(replace(FEW, pairs=n), gold_is(gold_P)) for n in study.settings.pairs]
        assert acceptance.foresight(with_curves(study, *straight)).verdict == "bad"


def test_more_labels_are_not_praised_where_they_do_not_help_or_where_noise_teaches(study: Study) -> None:
    backwards = dict(zip(study.settings.pairs, reversed(study.settings.pairs), strict=True))
    swaps = [(replace(FEW, pairs=n), of(replace(FEW, pairs=m))) for n, m in backwards.items()]
    assert acceptance.more_labels(with_curves(study, *swaps)).verdict == "bad"
    taught = replace(study, seeds=[replace(one, shuffled_accuracy=0.51) for one in study.seeds])
    assert acceptance.more_labels(taught).verdict == "bad"
    gained = replace(
        study,
        seeds=[replace(one, shuffled_curve=one.curves[replace(FEW, pairs=1200)]) for one in study.seeds],
    )
    assert acceptance.more_labels(gained).verdict == "bad"


def test_an_ensemble_that_falls_or_a_shared_error_that_does_not_are_told(study: Study) -> None:
    own = replace(FEW, members=8)
    assert acceptance.together(with_curves(study, (own, of(FEW)))).verdict == "bad"
    assert acceptance.together(with_curves(study, (replace(own, shared=True), of(own)))).verdict == "bad"
    biased = replace(own, length_bias=1.0, aggregation="worst_case")
    assert acceptance.together(with_curves(study, (biased, of(own)))).verdict == "bad"


def test_fresh_labels_that_are_worth_no_more_are_told(study: Study) -> None:
    same = [replace(one, rounds={True: one.rounds[False], False: one.rounds[False]}) for one in study.seeds]
    assert acceptance.fresh_labels(replace(study, seeds=same)).verdict == "bad"


@pytest.mark.parametrize("like", ["fixed KL", "last checkpoint"])
def test_a_rule_that_stops_where_a_simple_one_does_is_told(study: Study, like: str) -> None:
    seeds = [
        replace(
            one,
            stops={
                recipe: places | {acceptance.THE_RULE: places[like]} for recipe, places in one.stops.items()
            },
        )
        for one in study.seeds
    ]
    assert acceptance.stopping_in_time(replace(study, seeds=seeds)).verdict == "bad"


def test_a_fall_by_hand() -> None:
    gold_PS = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, 1.0], [1.0, 3.0, 2.0], [0.0, 1.0, 2.5]])
    # seed 0: others 0, 2, 5, 3.5 → point 2: 1 - 0. seed 1: others 0, 3, 3, 2.5 → point 1: 1 - 1.
    # seed 2: others 0, 3, 4, 1 → point 2: 2 - 2.5.
    found = acceptance.fall(gold_PS)
    assert found.figure == pytest.approx((1 + 0 - 0.5) / 3)
    assert acceptance.fall(np.array([[0.0, 0.0], [1.0, 2.0]])).figure == 0


def test_the_interval_over_seeds_is_students() -> None:
    # mean 3, deviation √2.5 of 1 … 5: 3 ± 2.776445·√(2.5/5)
    found = acceptance.over_seeds(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (found.figure, found.low, found.high) == pytest.approx((3, 1.036757, 4.963243), abs=1e-5)


def test_the_study_does_not_depend_on_what_else_is_asked(study: Study) -> None:
    """One seed alone, without the other recipes: the same curve."""
    settings = validate(LabSettings, SIZE | {"seeds": 2, "seed": 3}, "lab")
    wanted = [replace(FEW, members=8), FEW]
    alone = run_study(settings, workers=2, recipes=wanted)
    assert alone.seeds[1].curves[FEW].gold_P.tolist() == study.seeds[4].curves[FEW].gold_P.tolist()
    assert alone.seeds[1].stops[FEW] == study.seeds[4].stops[FEW]
