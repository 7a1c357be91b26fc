"""From the columns of one row to a `Comparison`: what every comparison format shares.

Where a row names a chosen and a rejected answer, side a is the chosen one and the verdict is a; on which side
people saw it is not in such files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar, cast

from accord.formats_messages import BadRow, prompt_of, text_of, tools_of
from accord.records import VERDICTS, Comparison, Pair, Prompt, Response, Verdict

T_co = TypeVar("T_co", covariant=True)
Columns = Mapping[str, Any]
RATINGS = (  # columns that rate the two sides, as several data sets name them
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
)
QUESTION_COLUMNS = ("prompt", "instruction", "question")


def always(row: Columns) -> bool:
    return True


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used: its line (of a table: its row), from 1, why, and the row where it parsed."""

    line: int
    reason: str
    row: Columns | None = field(default=None, compare=False, repr=False)


Items: TypeAlias = Iterator[tuple[int, tuple[Any, ...]] | Reject]


@dataclass(frozen=True)
class Format(Generic[T_co]):
    """One format.

    Attributes:
        fits: looks at values where the columns alone do not tell.
        read: a row, and the name of its file (the source of labels that name none), to records; raises
            `BadRow`.
        gather: for formats whose rows mean something only together; takes what ``read`` gave for the whole
            file, and gives records and rejects.
        criteria: the questions that a row answers at once, of which the user must choose.
    """

    name: str
    mapping: str
    columns: tuple[str, ...]
    read: Callable[[Columns, str], list[Any]]
    fits: Callable[[Columns], bool] = always
    gather: Callable[[Items], Items] | None = None
    criteria: tuple[str, ...] = ()

    def matches(self, row: Columns) -> bool:
        return all(column in row for column in self.columns) and self.fits(row)

    def records(self, row: Columns, file: str) -> tuple[T_co, ...]:
        """What ``read`` gives, with the row's tools in the prompts."""
        found = self.read(row, file)
        tools = tools_of(row)
        return tuple(_with_tools(record, tools) for record in found) if tools else tuple(found)


def _with_tools(record: Any, tools: str) -> Any:
    if isinstance(record, Prompt):
        return replace(record, tools=record.tools or tools)
    if isinstance(record, Comparison):
        return replace(record, pair=replace(record.pair, prompt=_with_tools(record.prompt, tools)))
    return replace(record, prompt=_with_tools(record.prompt, tools))  # demonstrations, unpaired answers


def number_of(value: Any, field: str) -> float | None:
    """A finite number, also where CSV made it text; None where there is none."""
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str) else value
        usable = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    except (ValueError, OverflowError):  # not a number; a whole number beyond the range of floats
        usable = False
    if not usable:
        raise BadRow(f"{field} must be a finite number, not {repr(value)[:40]}")
    return cast(float, number)


def verdict_of(value: Any, field: str) -> Verdict:
    if value not in VERDICTS:
        raise BadRow(f"{field} is {str(value)[:40]!r}: it must be one of {', '.join(VERDICTS)}")
    return cast(Verdict, value)


def text_or_empty(value: Any, field: str) -> str:
    return "" if value is None else text_of(value, field)


def meta_of(row: Columns) -> dict[str, Any]:
    """What the row says besides: its meta object and its id. Plain JSON only, so that it can be written."""
    meta = row.get("meta")
    if meta is not None and not isinstance(meta, dict):
        raise BadRow(f"meta must be an object, not {type(meta).__name__}")
    out = dict(meta or {})
    if (
        isinstance(row.get("id"), str | int) and "verdict" not in row
    ):  # canonical ids are computed, not carried
        out.setdefault("id", row["id"])
    try:
        json.dumps(out, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        raise BadRow("meta is not plain JSON") from None
    return out


def question_of(row: Columns) -> Prompt:
    for column in QUESTION_COLUMNS:
        if column in row:
            return prompt_of(row[column], column)
    raise BadRow(f"there is no column {' or '.join(QUESTION_COLUMNS)}")


def has_question(row: Columns) -> bool:
    return any(column in row for column in QUESTION_COLUMNS)


def pair_of(prompt: Prompt, a: Response, b: Response) -> Pair:
    if a.text == b.text:
        raise BadRow("the two sides are equal: there is nothing to compare")
    return Pair(prompt, a, b)


def policies_of(row: Columns, first: str, second: str) -> tuple[str, str]:
    """Which models wrote the sides, where the row or its meta says so."""
    meta = row.get("meta")
    for place in (row, meta if isinstance(meta, dict) else {}):
        if isinstance(place.get(first), str) and isinstance(place.get(second), str):
            return text_of(place[first], first), text_of(place[second], second)
    models = row.get("models")
    if isinstance(models, list) and len(models) == 2 and all(isinstance(model, str) for model in models):
        return text_of(models[0], "models"), text_of(models[1], "models")
    return "", ""


def labelled(row: Columns, file: str, pair: Pair, verdict: Verdict, strength: float | None) -> Comparison:
    source = text_or_empty(row.get("source"), "source") or file
    annotator = text_or_empty(row.get("annotator"), "annotator")
    criterion = text_or_empty(row.get("criterion"), "criterion")
    return Comparison(pair, verdict, annotator, strength, source, meta_of(row), criterion)


def preferred(row: Columns, file: str, prompt: Prompt, chosen: str, rejected: str) -> list[Comparison]:
    """Chosen against rejected. Equal ratings are a tie, whatever the columns are called: somebody had to
    name one of the two "chosen", and UltraFeedback's binarised rows did so at random.
    """
    policies = policies_of(row, "chosen_model", "rejected_model")
    pair = pair_of(prompt, Response(chosen, policy=policies[0]), Response(rejected, policy=policies[1]))
    for better, worse in RATINGS:
        high, low = number_of(row.get(better), better), number_of(row.get(worse), worse)
        if high is not None and low is not None:
            if high < low:
                raise BadRow(f"{better} ({high:g}) is below {worse} ({low:g}): the row contradicts itself")
            margin = number_of(high - low, f"{better} - {worse}")
            return [labelled(row, file, pair, "tie" if high == low else "a", margin)]
    strength = number_of(row.get("strength", row.get("margin")), "strength")
    return [labelled(row, file, pair, "a", strength)]
