"""What to label next: utilities by hand, budgets, evaluation pairs of their own, and a small comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.labelling_strategies import World, compare
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.labelling_strategies import (
    STRATEGIES,
    Choice,
    choose_pairs,
    disagreement,
    double_thompson,
    information_gain,
)
from accord.records import BadInput

LOGIT_9 = math.log(9)  # σ = 0.9


def test_disagreement_and_information_gain_by_hand() -> None:
    # columns: members say .9 and .1; both say .5; both say .9
    margin_EC = np.array([[LOGIT_9, 0.0, LOGIT_9], [-LOGIT_9, 0.0, LOGIT_9]])
    # variance of (.9, .1) is .4² = .16
    assert disagreement(margin_EC) == pytest.approx([0.16, 0, 0], abs=1e-12)
    # H(.5) - H(.9) = ln 2 - (-.9 ln .9 - .1 ln .1) = .693147 - .325083
    assert information_gain(margin_EC) == pytest.approx([0.3680642, 0, 0], abs=1e-6)


def test_a_toss_up_on_which_all_agree_tells_nothing_and_certain_opposites_tell_most() -> None:
    margin_EC = np.array([[0.0, 50.0], [0.0, -50.0]])
    assert information_gain(margin_EC) == pytest.approx([0, math.log(2)])


def test_double_thompson_takes_the_favourites_of_two_members() -> None:
    score_EK = np.array([[3.0, 0, 1, 0], [0, 0, 5, 1]])  # favourites 0 and 2
    drawn = {frozenset(double_thompson(score_EK, np.random.default_rng(i))) for i in range(50)}
    assert drawn == {frozenset({0, 2})}


def test_double_thompson_with_one_favourite_draws_the_other_answer_at_random() -> None:
    score_EK = np.array([[3.0, 0, 1], [4.0, 2, 1]])
    pairs = [double_thompson(score_EK, np.random.default_rng(i)) for i in range(200)]
    assert {a for a, _ in pairs} == {0}
    share = sum(b == 1 for _, b in pairs) / 200
    assert 0.38 < share < 0.62  # one half, standard error .035


def scores(rng: np.random.Generator, prompts: int, answers: int = 4, members: int = 3) -> list[np.ndarray]:
    return [rng.normal(size=(members, answers)) for _ in range(prompts)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_budget_is_spent_evenly_and_evaluation_has_prompts_of_its_own(strategy) -> None:  # type: ignore[no-untyped-def]
    chosen = choose_pairs(scores(np.random.default_rng(0), 20), 40, strategy, random_share=0.25)
    test = [c for c in chosen if c.purpose == "evaluation"]
    train = [c for c in chosen if c.purpose == "train"]
    assert (len(test), len(train)) == (10, 30)
    assert len({c.prompt for c in test}) == 5  # a quarter of 20 prompts
    assert not {c.prompt for c in test} & {c.prompt for c in train}
    assert {c.prompt for c in train} | {c.prompt for c in test} == set(range(20))
    counts = np.bincount([c.prompt for c in train], minlength=20)
    assert set(counts[counts > 0].tolist()) == {2}  # 30 pairs over 15 prompts
    assert len({(c.prompt, frozenset((c.a, c.b))) for c in chosen}) == 40


def test_the_evaluation_pairs_are_the_same_for_every_strategy_and_random() -> None:
    given_scores = scores(np.random.default_rng(1), 30)
    kept = [
        [c for c in choose_pairs(given_scores, 30, s, seed=7) if c.purpose == "evaluation"]
        for s in STRATEGIES
    ]
    assert kept[0] == kept[1] == kept[2] == kept[3]
    assert all(c.utility is None for c in kept[0])
    # over many seeds each prompt is kept about equally often: 20% of 300 is 60, standard deviation 7
    counts = np.zeros(30)
    for seed in range(300):
        for c in choose_pairs(given_scores, 30, "random", seed=seed):
            counts[c.prompt] += c.purpose == "evaluation"
    assert counts.min() > 35
    assert counts.max() < 85


def test_the_most_informative_pairs_are_taken_first() -> None:
    sure = np.array([[4.0, 0.0], [4.0, 0.0]])
    split = np.array([[4.0, 0.0], [0.0, 4.0]])
    chosen = choose_pairs([sure, split, sure, split], 2, "information_gain", random_share=0)
    assert {c.prompt for c in chosen} == {1, 3}
    # σ(4) = .982014: ln 2 - H(.982014) = .693147 - .090095
    assert [c.utility for c in chosen] == pytest.approx([0.603052, 0.603052], abs=1e-5)


def test_per_prompt_limits_and_unlimits() -> None:
    rng = np.random.default_rng(3)
    loud = [rng.normal(scale=8, size=(4, 5))]  # every pair of this prompt tells more than any other
    quiet = [0.01 * rng.normal(size=(4, 5)) for _ in range(4)]

    def of_loud(per_prompt: int | None) -> int:
        chosen = choose_pairs(loud + quiet, 5, "disagreement", random_share=0, per_prompt=per_prompt)
        return sum(c.prompt == 0 for c in chosen)

    assert (of_loud(None), of_loud(3)) == (1, 3)
    assert len(choose_pairs(loud + quiet, 50, "random", random_share=0, per_prompt=2)) == 10


def test_only_candidates_are_asked_and_a_large_budget_takes_all_of_them() -> None:
    allowed = [[(0, 1)], [], [(0, 2), (1, 2)]]
    for strategy in STRATEGIES:
        chosen = choose_pairs(
            scores(np.random.default_rng(0), 3, 3), 99, strategy, random_share=0, candidates=allowed
        )
        assert sorted((c.prompt, c.a, c.b) for c in chosen) == [(0, 0, 1), (2, 0, 2), (2, 1, 2)]


@settings(deadline=None)
@given(
    prompts=st.integers(1, 7), answers=st.integers(2, 4), budget=st.integers(1, 30),
    share=st.floats(0, 1), strategy=st.sampled_from(STRATEGIES), seed=st.integers(0, 5),
)  # fmt: skip
def test_whatever_is_asked_no_pair_is_asked_twice_and_the_budget_holds(
    prompts: int, answers: int, budget: int, share: float, strategy, seed: int
) -> None:  # type: ignore[no-untyped-def]
    given_scores = scores(np.random.default_rng(seed), prompts, answers)
    chosen = choose_pairs(given_scores, budget, strategy, random_share=share, seed=seed)
    assert chosen == choose_pairs(given_scores, budget, strategy, random_share=share, seed=seed)
    assert len(chosen) <= budget
    assert len({(c.prompt, frozenset((c.a, c.b))) for c in chosen}) == len(chosen)
    assert all(0 <= c.a < answers and 0 <= c.b < answers and c.a != c.b for c in chosen)


def test_another_round_asks_other_pairs() -> None:
    given_scores = scores(np.random.default_rng(0), 20)
    one, other = (choose_pairs(given_scores, 10, "random", round=r) for r in (0, 1))
    assert one != other
    assert isinstance(one[0], Choice)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.ones((2, 2))], 0, "random"), "the budget is 0 labels"),
        (([np.ones((2, 2))], 1, "best"), "no labelling strategy 'best': choose one of random"),
        (([np.ones((1, 2))], 1, "random"), "one member cannot disagree"),
        (([], 1, "random"), "scores of 0 prompts"),
        (([np.full((2, 2), np.nan)], 1, "random"), "NaN"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        choose_pairs(*arguments)


def test_informative_pairs_teach_more_than_random_ones_where_most_pairs_are_plain() -> None:
    """The comparison of docs/labelling-strategies.md at a fraction of its size, same world and code."""
    world = World(features=8, prompts=60, answers=5, scale=4.0)
    found = compare(world, seeds=range(6), start=40, step=40, rounds=2, members=6)
    gains = found["information_gain"]["accuracy_gain"]
    assert np.mean(gains) > 0
    assert set(found) == set(STRATEGIES)
    assert all(math.isfinite(v) for row in found.values() for v in row["accuracy"])
