"""Lessons as token ids: what one optimiser step of a reward model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accord import models
from accord.annotators import Annotators
from accord.batches import Group, Tokens
from accord.config import Reward
from accord.records import BadInput, Comparison, Response
from accord.reward_annotators import fit_before
from accord.reward_lessons import Lesson, by_annotators, lessons, says_something, softened

OUTCOME = {"a": 0, "b": 1, "tie": 2}


@dataclass(frozen=True)
class Example:
    """One lesson as token ids: its answers with one prompt, and what is known about them.

    Attributes:
        outcome: what most labels say: 0 (a), 1 (b) or 2 (tie, or as many for a as for b).
        shares, margin, weight, criterion, ranks, scale: as in `Lesson`.
    """

    group: Group
    outcome: int
    shares: tuple[float, float, float]
    margin: float = 0.0
    weight: float = 1.0
    criterion: int = 0
    ranks: tuple[int, ...] = ()
    scale: float = 1.0

    @property
    def decided(self) -> bool:
        """A pair with a winner."""
        return not self.ranks and self.outcome != OUTCOME["tie"]


def encode(
    tokenizer: Any,
    comparisons: Sequence[Comparison],
    config: Reward,
    max_prompt: int = 512,
    max_response: int = 512,
    context: int | None = None,
) -> tuple[list[Example], list[Comparison]]:
    """What can be learned from, as token ids, and the first label of each (same order).

    Skips and "both bad" carry no preference and are left out; ties by the configured choice. A pair with a
    side beyond the limits is left out and counted by the caller (the lengths of the two lists tell).

    Args:
        context: tokens that prompt and answer together may have (the model's positions); None: no limit.
    """
    found, kept = encode_lessons(
        tokenizer, lessons(comparisons, config), max_prompt=max_prompt, max_response=max_response,
        context=context,
    )  # fmt: skip
    return found, [lesson.row for lesson in kept]


def encode_lessons(
    tokenizer: Any,
    taught: Sequence[Lesson],
    *,
    max_prompt: int = 512,
    max_response: int = 512,
    context: int | None = None,
) -> tuple[list[Example], list[Lesson]]:
    """As `encode`, for lessons."""
    examples, kept = [], []
    for lesson in taught:
        prompt = models.encode_prompt(tokenizer, lesson.row.prompt)
        answers = tuple(_tokens(tokenizer, response) for response in lesson.responses)
        longest = max(map(len, answers))
        if len(prompt) > max_prompt or longest > max_response or not all(answers):
            continue
        if len(answers) == 2 and answers[0] == answers[1]:
            continue
        if context is not None and len(prompt) + longest > context:
            continue
        a, b, _ = lesson.shares
        outcome = OUTCOME["a"] if a > b else OUTCOME["b"] if b > a else OUTCOME["tie"]
        if lesson.shares[2] > max(a, b):
            outcome = OUTCOME["tie"]
        examples.append(
            Example(
                Group(prompt, answers),
                outcome,
                lesson.shares,
                lesson.margin,
                lesson.weight,
                lesson.criterion,
                lesson.ranks,
                lesson.scale,
            )
        )
        kept.append(lesson)
    return examples, kept


@dataclass(frozen=True)
class Data:
    """What a reward model is trained on and measured with.

    Attributes:
        examples, kept: training lessons as token ids, and the lessons themselves, in the same order.
        held_out, held_rows: decided pairs for measuring, one for each label, and their comparisons.
        given, ties: training labels before anything was left out, and how many of them are ties.
        annotators: what was fitted to the labels, or to the scores in the end; None where annotators do not
            count.
    """

    examples: list[Example]
    kept: list[Lesson]
    held_out: list[Example]
    held_rows: list[Comparison]
    given: int
    ties: int
    annotators: Annotators | None = None

    @property
    def keys(self) -> list[str]:
        """Prompt key of each training example."""
        return [lesson.row.prompt.key for lesson in self.kept]

    @property
    def rows(self) -> list[Comparison]:
        """Every training label that is learned from."""
        return [row for lesson in self.kept for row in lesson.rows]

    @property
    def groups(self) -> list[Group]:
        return [example.group for example in (*self.examples, *self.held_out)]


def read(
    tokenizer: Any,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    config: Reward,
    *,
    context: int | None = None,
    **limits: int,
) -> Data:
    """Training lessons and held-out pairs as token ids.

    Raises:
        BadInput: too few usable pairs, a criterion without any, no usable held-out pair.
    """
    taught, annotators = lessons(training, config), None
    if config.annotators in ("soft", "fitted"):
        annotators = fit_before([row for lesson in taught for row in lesson.rows])
        taught = (
            softened(taught, annotators, config)
            if config.annotators == "soft"
            else by_annotators(taught, annotators)
        )
    examples, kept = encode_lessons(tokenizer, taught, context=context, **limits)
    plain = config.model_copy(
        update={"ties": "drop", "labels": "each", "rankings": "pairs", "annotators": "none"}
    )
    held_out, held_rows = encode(tokenizer, test, plain, context=context, **limits)
    used = sum(len(lesson.rows) for lesson in kept)
    judged = sum(row.verdict in OUTCOME for row in training)
    if not taught and judged:
        raise BadInput(
            f"all {judged} labels that were judged are ties: set reward.ties to half, rao_kupper or"
            " davidson to learn from ties, or collect labels that name a better side"
        )
    if len(examples) < config.minimum_pairs:
        unusable = max(0, sum(says_something(row, config) for row in training) - used)
        why = (
            f" ({unusable} have an empty side, equal sides, or more tokens than data.max_prompt_tokens or"
            " data.max_response_tokens or the model's context)"
        )
        raise BadInput(
            f"there are {len(examples)} usable pairs of {len(training)}{why if unusable else ''}, at least"
            f" {config.minimum_pairs} are needed: label more, or lower reward.minimum_pairs"
        )
    for number, name in enumerate(config.criteria):
        if not any(example.criterion == number for example in examples):
            raise BadInput(
                f"no usable pair is labelled for the criterion {name!r}: label some, or leave it out of"
                " reward.criteria"
            )
    if not held_out:
        raise BadInput("no usable held-out pair is left to measure the reward model: label more pairs")
    ties = sum(row.verdict == "tie" for row in training)
    return Data(examples, kept, held_out, held_rows, len(training), ties, annotators)


def _tokens(tokenizer: Any, response: Response) -> Tokens:
    """The sampled ids where there are any; written text is encoded once, with the end token.

    A file may hold the ids of a policy with another tokenizer, where they mean other words: ids count only if
    this tokenizer reads the text in them.
    """
    tokens = response.tokens
    if tokens is not None and _reads(tokenizer, tokens, response.text):
        return tokens
    return models.encode_response(tokenizer, response.text)


def _reads(tokenizer: Any, tokens: Tokens, text: str) -> bool:
    if any(not 0 <= token < len(tokenizer) for token in tokens):
        return False
    ends = frozenset(tokens[-1:])  # an end token that is not a special one is in the ids, not in the text
    return text in (models.decode(tokenizer, tokens, frozenset()), models.decode(tokenizer, tokens, ends))
