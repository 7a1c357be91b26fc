"""What a direct method trains on, as token ids: pairs with the preferred answer first, or judged answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accord import models, reward_examples
from accord.batches import Group
from accord.config import Direct, Reward
from accord.formats_unpaired import Unpaired
from accord.records import BadInput, Comparison
from accord.streams import permutation

TIE = 2
MINIMUM = 2  # examples: with one there is nothing to learn a preference from that is not that one


@dataclass(frozen=True)
class Example:
    """A prompt with its answers.

    Attributes:
        group: of a pair the preferred answer is the first.
        good: of each answer, whether it is the preferred one, or was judged good (KTO).
        tie: the two answers were judged equal; ``good`` then says nothing.
        mismatched: the same prompt with answers to another prompt (KTO's baseline), else None.
    """

    group: Group
    good: tuple[bool, ...]
    tie: bool = False
    mismatched: Group | None = None


def pairs(
    tokenizer: Any,
    comparisons: Sequence[Comparison],
    ties: str = "drop",
    *,
    context: int | None = None,
    **limits: int,
) -> tuple[list[Example], list[Comparison]]:
    """Comparisons as pairs, and the records they came from; what says nothing or is too long is left out.

    Args:
        ties: ``drop`` leaves ties out.
        context: tokens that prompt and answer together may have; limits: max_prompt, max_response.
    """
    choice = Reward(ties="drop" if ties == "drop" else "half")
    encoded, rows = reward_examples.encode(tokenizer, comparisons, choice, context=context, **limits)
    found = []
    for example in encoded:
        first, second = example.group.responses
        group = Group(example.group.prompt, (second, first)) if example.outcome == 1 else example.group
        found.append(Example(group, (True, False), tie=example.outcome == TIE))
    return found, rows


def judged(
    tokenizer: Any,
    answers: Sequence[Unpaired],
    *,
    context: int | None = None,
    max_prompt: int = 512,
    max_response: int = 512,
) -> list[Example]:
    """Answers that were judged alone; one that is empty or too long is left out."""
    found = []
    for one in answers:
        prompt = models.encode_prompt(tokenizer, one.prompt)
        response = models.encode_response(tokenizer, one.text)
        fits = len(prompt) <= max_prompt and 1 < len(response) <= max_response
        if fits and (context is None or len(prompt) + len(response) <= context):
            found.append(Example(Group(prompt, (response,)), (one.good,)))
    return found


def require(examples: Sequence[Example], given: int, ties: int, config: Direct) -> None:
    """Raises BadInput where nothing can be learned: too few, all ties, or answers of one kind only."""
    if not given:
        raise BadInput(
            f"there are no comparisons, and {config.algorithm} learns from nothing else: give"
            " data.comparisons or a judge (prompts alone are enough for online algorithms only)"
        )
    if ties == given and config.ties == "drop":
        raise BadInput(
            f"all {given} comparisons are ties and direct.ties is drop, which leaves none: set direct.ties to"
            " rao_kupper or davidson with algorithm: dpo, or label more pairs"
        )
    if len(examples) < MINIMUM:
        raise BadInput(
            f"{len(examples)} of {given} comparisons can be learned from, at least {MINIMUM} are needed: the"
            " others have no winner, an empty side, or more tokens than data.max_prompt_tokens or"
            " data.max_response_tokens or the model's context"
        )
    kinds = {good for example in examples for good in example.good}
    if config.algorithm == "kto" and len(kinds) == 1:
        kind, other = ("good", "bad") if True in kinds else ("bad", "good")
        raise BadInput(
            f"all {len(examples)} answers are {kind} ones, and kto learns from the difference between good"
            f" and bad: give {other} ones too, or use sft to imitate good ones"
        )


def mismatched(examples: Sequence[Example], seed: int, context: int | None = None) -> list[Example]:
    """Each example with answers to another prompt under its own: what KTO's baseline is computed from.

    The partner is the next one in a fixed random order whose prompt differs and whose answers fit. TRL shifts
    the answers by one inside a batch; fixed partners let the reference be computed once.

    Raises:
        BadInput: there is one prompt only.
    """
    order = permutation(len(examples), seed, "mismatched")
    place = {example: position for position, example in enumerate(order)}
    out = []
    for index, example in enumerate(examples):
        prompt = example.group.prompt
        for step in range(1, len(order)):
            other = examples[order[(place[index] + step) % len(order)]].group
            longest = len(prompt) + max(map(len, other.responses))
            if other.prompt != prompt and (context is None or longest <= context):
                group = Group(prompt, other.responses)
                out.append(dataclasses.replace(example, mismatched=group))
                break
        else:
            raise BadInput(
                f"the {len(examples)} answers are all to one prompt, and kto's baseline needs answers to"
                " another: give answers to at least 2 prompts, or use algorithm: dpo"
            )
    return out
