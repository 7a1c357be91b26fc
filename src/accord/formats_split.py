"""Train and test sides of a set of rows, split by prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from accord.records import BadInput, Prompt, content_hash

R = TypeVar("R")


def prompt_key(row: Any) -> str:
    """The identity of a row's prompt; a row is a `Prompt` or has one."""
    key: str = (row if isinstance(row, Prompt) else row.prompt).key
    return key


def split_by_prompt(
    rows: Iterable[R], fraction: float, key: Callable[[R], str] = prompt_key, seed: int = 0
) -> tuple[tuple[R, ...], tuple[R, ...]]:
    """(train, test): all rows of one prompt on one side, order kept.

    A prompt's side is a pure function of its key and the seed, so it stays where it is when other rows come
    or go. ``fraction`` is the expected share of prompts in test. With two prompts or more neither side is
    empty: the prompt whose hash is nearest to the threshold changes sides, if it must.

    Raises:
        BadInput: ``fraction`` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise BadInput(f"the test fraction is {fraction:g}: it must lie between 0 and 1, for example 0.1")
    keyed = [(key(row), row) for row in rows]
    place = {one: int(content_hash(one, str(seed)), 16) / 2**64 for one, _ in keyed}
    test = {one for one in place if place[one] < fraction}
    if len(place) >= 2 and not test:
        test = {min(place, key=lambda one: place[one])}
    elif test and len(test) == len(place):
        test = test - {max(place, key=lambda one: place[one])}  # of a single prompt, training has the use
    train_rows = tuple(row for one, row in keyed if one not in test)
    return train_rows, tuple(row for one, row in keyed if one in test)
