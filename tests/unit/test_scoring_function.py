"""A Python function as a scorer: what it is given, and each way of failing with its outcome."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch

from accord.records import BadInput, Prompt
from accord.scoring.function import FunctionScorer


def asked(count: int) -> tuple[list[Prompt], list[str]]:
    return [Prompt.from_text(f"p{i}") for i in range(count)], [f"r{i}" for i in range(count)]


def lengths(prompts, responses):
    return [len(p.text) + 10 * int(r[1:]) for p, r in zip(prompts, responses, strict=True)]


def test_batches_cover_everything_in_order() -> None:
    sizes = []

    def watched(prompts, responses):
        sizes.append(len(responses))
        return lengths(prompts, responses)

    scorer = FunctionScorer(watched, batch_size=3)
    assert scorer.score(*asked(7)) == [2, 12, 22, 32, 42, 52, 62]
    assert sizes == [3, 3, 1]
    assert FunctionScorer(watched).score(*asked(7)) == scorer.score(*asked(7))
    assert scorer.score([], []) == []


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor, iter])
def test_any_sequence_of_numbers_will_do(kind) -> None:
    scorer = FunctionScorer(lambda p, r: kind([1.5, 2.0]))
    assert list(scorer.score(*asked(2))) == [1.5, 2.0]


@pytest.mark.parametrize("timeout", [None, 200.0])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite(value, timeout) -> None:
    scorer = FunctionScorer(lambda p, r: [1.0, value, 3.0], timeout_seconds=timeout)
    with pytest.raises(BadInput, match="for response 1: scores must be finite"):
        scorer.score(*asked(3))
    skipping = FunctionScorer(lambda p, r: [1.0, value, 3.0], skip_failures=True, timeout_seconds=timeout)
    scores = skipping.score(*asked(3))
    assert (scores[0], scores[2]) == (1.0, 3.0)
    assert math.isnan(scores[1])
    assert skipping.failed == 1


@pytest.mark.parametrize("timeout", [None, 200.0])
def test_a_function_that_raises(timeout) -> None:
    def fails(prompts, responses):
        if "r4" in responses:
            raise ZeroDivisionError("by nought")
        return lengths(prompts, responses)

    with pytest.raises(
        BadInput, match=r"raised ZeroDivisionError: by nought \(on responses 3 to 5\)"
    ) as caught:
        FunctionScorer(fails, batch_size=3, timeout_seconds=timeout).score(*asked(6))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    skipping = FunctionScorer(fails, batch_size=3, skip_failures=True, timeout_seconds=timeout)
    scores = skipping.score(*asked(6))
    assert [i for i, score in enumerate(scores) if math.isnan(score)] == [4]  # its neighbours are scored
    assert scores[3:6:2] == [32, 52]
    assert skipping.failed == 1


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "gave 1 scores for 2 responses"),
        ([1.0, 2.0, 3.0], "gave 3 scores for 2 responses"),
        (None, "must give a list of numbers"),
        (["good", "bad"], "must give a list of numbers"),
        (5.0, "must give a list of numbers"),
    ],
)
def test_a_wrong_answer_is_refused_in_any_case(value, message, skip) -> None:
    with pytest.raises(BadInput, match=message):
        FunctionScorer(lambda p, r: value, skip_failures=skip).score(*asked(2))


@pytest.mark.parametrize("skip", [False, True])
def test_a_function_that_hangs_is_left_behind(skip) -> None:
    release, done, calls = threading.Event(), threading.Event(), []

    def hangs(prompts, responses):
        calls.append(len(responses))
        release.wait(500)
        done.set()
        return lengths(prompts, responses)

    scorer = FunctionScorer(hangs, batch_size=2, timeout_seconds=0.05, skip_failures=skip)
    with pytest.raises(BadInput, match=r"no scores for 2 responses within 0\.05 s"):
        scorer.score(*asked(6))
    assert not done.is_set(), "nobody waited for it"
    with pytest.raises(BadInput, match="is not called again"):
        scorer.score(*asked(1))
    assert calls == [2]
    release.set()


def test_the_function_gets_copies() -> None:
    prompts, responses = asked(2)

    def spoils(p, r):
        r.clear()
        return [0.0, 0.0]

    FunctionScorer(spoils).score(prompts, responses)
    assert responses == ["r0", "r1"]


def test_keyboard_interrupts_are_not_swallowed() -> None:
    def interrupted(p, r):
        raise KeyboardInterrupt

    for timeout in (None, 200.0):
        with pytest.raises(KeyboardInterrupt):
            FunctionScorer(interrupted, skip_failures=True, timeout_seconds=timeout).score(*asked(1))


def test_nonsense_is_refused_at_once() -> None:
    with pytest.raises(BadInput, match="batch_size is 0"):
        FunctionScorer(lengths, batch_size=0)
    with pytest.raises(BadInput, match="timeout_seconds is nan"):
        FunctionScorer(lengths, timeout_seconds=math.nan)
    with pytest.raises(BadInput, match="1 prompts for 2 responses"):
        FunctionScorer(lengths).score(asked(1)[0], asked(2)[1])
