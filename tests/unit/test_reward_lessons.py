"""Labels as lessons: pooled shares, signed margins, weights, rankings put together again."""

from __future__ import annotations

import pytest

from accord.config import Reward
from accord.records import BadInput, Comparison, Pair, Prompt, Ranking, Response
from accord.reward_lessons import lessons


def label(a, b, verdict, **more):
    return Comparison(Pair(Prompt.from_text("p"), Response(a), Response(b)), verdict, **more)


def test_the_labels_of_one_pair_are_pooled_whichever_answer_stands_first():
    rows = [label("x", "y", "a"), label("y", "x", "a"), label("x", "y", "tie"), label("y", "x", "b")]
    each = lessons(rows, Reward(ties="half"))
    assert [lesson.shares for lesson in each] == [(1, 0, 0), (1, 0, 0), (0, 0, 1), (0, 1, 0)]
    [pooled] = lessons(rows, Reward(ties="half", labels="pooled"))
    # x was chosen twice, y once, one tie; x is side a
    assert pooled.shares == (0.5, 0.25, 0.25)
    assert pooled.weight == 1.0
    assert pooled.row.pair.a.text == "x"
    [decided] = lessons(rows, Reward(labels="pooled"))
    assert decided.shares == pytest.approx((2 / 3, 1 / 3, 0))


def test_other_criteria_and_prompts_are_other_pairs():
    other = Comparison(Pair(Prompt.from_text("q"), Response("x"), Response("y")), "b")
    rows = [label("x", "y", "a"), label("x", "y", "b", criterion="harmless"), other]
    assert len(lessons(rows, Reward(labels="pooled"))) == 3


def test_a_margin_is_the_strength_towards_the_winner():
    rows = [label("x", "y", "a", strength=2), label("y", "x", "a", strength=1), label("x", "y", "b")]
    each = lessons(rows, Reward(margin=0.5))
    assert [lesson.margin for lesson in each] == [1.0, 0.5, 0.0]
    # 2 towards x, 1 towards y, 0 of the unmarked one: a third of (2 − 1) · 0.5
    [pooled] = lessons(rows, Reward(margin=0.5, labels="pooled"))
    assert pooled.margin == pytest.approx(0.5 / 3)
    assert [lesson.margin for lesson in lessons(rows, Reward())] == [0.0, 0.0, 0.0]
    with pytest.raises(BadInput, match="strength -1"):
        lessons([label("x", "y", "a", strength=-1)], Reward(margin=1.0))


def test_given_weights_count_in_the_shares():
    rows = [label("x", "y", "a", meta={"weight": 3}), label("x", "y", "b", meta={"weight": 1.0})]
    assert [one.weight for one in lessons(rows, Reward())] == [1.0, 1.0]
    assert [one.weight for one in lessons(rows, Reward(pair_weights="given"))] == [3.0, 1.0]
    [pooled] = lessons(rows, Reward(pair_weights="given", labels="pooled"))
    assert pooled.shares == (0.75, 0.25, 0.0)
    assert pooled.weight == 2.0  # the mean: the pair counts once
    for bad in (0, -1, "3", True, float("inf"), float("nan")):
        with pytest.raises(BadInput, match="above 0"):
            lessons([label("x", "y", "a", meta={"weight": bad})], Reward(pair_weights="given"))


def test_a_whole_ranking_is_one_lesson_and_a_part_of_one_stays_pairs():
    answers = tuple(Response(text) for text in "wxyz")
    ranking = Ranking(Prompt.from_text("p"), answers, (2, 1, 2, 4))
    rows = [label("m", "n", "b"), *ranking.comparisons()]
    pair, whole = lessons(rows, Reward(rankings="plackett_luce"))
    assert pair.row is rows[0]
    assert [answer.text for answer in whole.answers] == list("wxyz")
    assert whole.ranks == (2, 1, 2, 4)
    assert len(lessons(rows, Reward())) == 6  # one of the six pairs is a tie and is dropped
    part = lessons(rows[:-1], Reward(rankings="plackett_luce"))
    assert all(not lesson.ranks for lesson in part)
    two = Ranking(Prompt.from_text("p"), answers[:2], (2, 1)).comparisons()
    assert [one.ranks for one in lessons(two, Reward(rankings="plackett_luce"))] == [()]


def test_criteria_choose_the_head_and_leave_the_rest_out():
    rows = [label("x", "y", "a", criterion=name) for name in ("harmless", "", "helpful")]
    config = Reward(criteria=("helpful", "harmless"))
    assert [one.criterion for one in lessons(rows, config)] == [1, 0]
