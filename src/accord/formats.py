"""The field's data formats, read and written.

The format of a file is detected from its first rows and said in `Read.mapping`; every row must then be of
that format. A row that cannot be used is a `Reject` with its line and reason, never silently dropped. The
canonical form that accord writes is JSON Lines: `records.Comparison.to_json()`, ``{"prompt", "response"}``
for demonstrations, ``{"prompt"}`` for prompts. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from accord.formats_comparison import QUESTION_COLUMNS, Format, Items, Reject
from accord.formats_files import Row, Source, open_rows
from accord.formats_messages import BadRow
from accord.formats_prompts import DEMONSTRATION_FORMATS, PROMPT_FORMATS
from accord.formats_rows import COMPARISON_FORMATS
from accord.formats_split import prompt_key, split_by_prompt
from accord.formats_write import RejectLog, write_comparisons, write_demonstrations, write_prompts
from accord.records import BadInput, Comparison, Demonstration, Prompt

__all__ = [
    "ALL",
    "Imported",
    "Kind",
    "Read",
    "Reject",
    "Stream",
    "detect_kind",
    "import_comparisons",
    "prompt_key",
    "read_comparisons",
    "read_demonstrations",
    "read_prompts",
    "split_by_prompt",
    "stream_comparisons",
    "stream_demonstrations",
    "stream_kind",
    "stream_prompts",
    "write_comparisons",
    "write_demonstrations",
    "write_prompts",
]

T = TypeVar("T")
Kind = Literal["comparisons", "demonstrations", "prompts"]
ROWS_LOOKED_AT = 20  # for detection: one odd first row must not decide for the whole file
ALL = "all"  # a criterion: every one of a file that answers several questions at once


@dataclass(frozen=True)
class Read(Generic[T]):
    """What a file held. ``mapping`` says in one line which column became what."""

    rows: tuple[T, ...]
    format: str
    mapping: str
    rejects: tuple[Reject, ...]
    path: str


@dataclass(frozen=True)
class Stream(Generic[T]):
    """A file read row by row: an item is a row's line with its records (a row may hold several), or a reject.

    ``unit`` is what a line number counts: lines of a text file, rows of a table. Drawn once only.
    """

    path: str
    unit: str
    format: str
    mapping: str
    items: Iterator[tuple[int, tuple[T, ...]] | Reject]


def read_comparisons(
    path: str | Path,
    *,
    max_rejects: int = 0,
    rejects: str | Path | None = None,
    criterion: str | None = None,
) -> Read[Comparison]:
    """All comparisons of a file.

    Args:
        rejects: a file to which unusable rows go with line and reason; None: they are only in the result.
        criterion: as in `stream_comparisons`.

    Raises:
        BadInput: the file cannot be read, holds no usable row, or more than ``max_rejects`` unusable ones; it
            answers several questions at once, and ``criterion`` does not say which is meant.
    """
    return _read(stream_comparisons(path, criterion=criterion), max_rejects, rejects)


def read_demonstrations(
    path: str | Path, *, max_rejects: int = 0, rejects: str | Path | None = None
) -> Read[Demonstration]:
    """All demonstrations of a file; of a file of comparisons, the preferred answers.

    Of a conversation, the last answer is the demonstration and everything before it the prompt. Raises as
    `read_comparisons`.
    """
    return _read(stream_demonstrations(path), max_rejects, rejects)


def read_prompts(
    path: str | Path, *, max_rejects: int = 0, rejects: str | Path | None = None
) -> Read[Prompt]:
    """All prompts of a file, repeated ones included; answers in it are not looked at.

    Raises as `read_comparisons`.
    """
    return _read(stream_prompts(path), max_rejects, rejects)


def stream_comparisons(path: str | Path, *, criterion: str | None = None) -> Stream[Comparison]:
    """The comparisons of a file row by row.

    Args:
        criterion: keep the comparisons of this criterion only; ``all`` keeps every one. Must be given for
            formats whose rows answer several questions at once (SafeRLHF: helpful, harmless).

    Raises:
        BadInput: as `read_comparisons`, but for rejects, which are items here.
    """
    return _stream(path, COMPARISON_FORMATS, "comparisons", criterion)


def stream_demonstrations(path: str | Path) -> Stream[Demonstration]:
    return _stream(path, DEMONSTRATION_FORMATS, "demonstrations")


def stream_prompts(path: str | Path) -> Stream[Prompt]:
    return _stream(path, PROMPT_FORMATS, "prompts")


def stream_kind(path: str | Path, kind: Kind, criterion: str | None = None) -> Stream[Any]:
    """The stream of a kind; ``criterion`` is of comparisons."""
    match kind:
        case "comparisons":
            return stream_comparisons(path, criterion=criterion)
        case "demonstrations":
            return stream_demonstrations(path)
        case "prompts":
            return stream_prompts(path)


def detect_kind(path: str | Path) -> Kind:
    """The most that the first rows of a file can be: comparisons, else demonstrations, else prompts."""
    source = open_rows(path)
    first = list(islice(source.rows, ROWS_LOOKED_AT))
    if _best(first, COMPARISON_FORMATS):
        return "comparisons"
    if _best(first, DEMONSTRATION_FORMATS):
        return "demonstrations"
    if _best(first, PROMPT_FORMATS):
        return "prompts"
    raise _unknown(source, first, COMPARISON_FORMATS + DEMONSTRATION_FORMATS + PROMPT_FORMATS, "known")


def _best(rows: list[Row], formats: tuple[Format[T], ...]) -> Format[T] | None:
    """The format that most rows could be of; among equals the earlier in the table. None: no row fits any."""
    fitting = [sum(row.value is not None and form.matches(row.value) for row in rows) for form in formats]
    most = max(fitting)
    return formats[fitting.index(most)] if most else None


def _unknown(source: Source, rows: list[Row], formats: tuple[Format[Any], ...], kind: str) -> BadInput:
    if not rows:
        return BadInput(f"{source.path} holds no row: it must hold at least one")
    seen = next((row for row in rows if row.value is not None), None)
    if seen is None or seen.value is None:
        return BadInput(f"{source.path}, {source.unit} {rows[0].line}: {rows[0].fault}")
    columns = ", ".join(sorted(map(str, seen.value))[:12]) or "none"
    known = "; ".join(dict.fromkeys("+".join(form.columns) or form.name for form in formats))
    return BadInput(
        f"{source.path}, {source.unit} {seen.line}: the columns ({columns}) are no {kind} format; "
        f"known are {known} (some with {', '.join(QUESTION_COLUMNS)}): rename the columns"
    )


def _stream(
    path: str | Path, formats: tuple[Format[T], ...], kind: Kind, criterion: str | None = None
) -> Stream[T]:
    source = open_rows(path)
    first = list(islice(source.rows, ROWS_LOOKED_AT))
    form = _best(first, formats)
    if form is None:
        raise _unknown(source, first, formats, kind)
    mapping = form.mapping
    sample = next(row.value for row in first if row.value is not None and form.matches(row.value))
    if any(isinstance(sample.get(column), str) for column in QUESTION_COLUMNS):
        mapping += (
            "; a prompt of plain text became one user turn (a transcript ending in Assistant: its turns)"
        )
    if form.criteria and criterion not in (*form.criteria, ALL):
        known = ", ".join([*form.criteria, ALL])
        asked = "none was chosen" if criterion is None else f"{criterion!r} is none of them"
        raise BadInput(
            f"{source.path} ({form.name}) answers several questions at once, and {asked}: "
            f"give the criterion as one of {known}"
        )
    items = _items(chain(first, source.rows), form, formats, Path(source.path).name)
    if form.gather is not None:
        items = form.gather(items)
    if criterion not in (None, ALL):
        items = _of_criterion(items, str(criterion))
        mapping += f"; of the criterion {criterion} only"
    return Stream(source.path, source.unit, form.name, mapping, items)


def _items(rows: Iterable[Row], form: Format[T], formats: tuple[Format[T], ...], file: str) -> Items:
    for row in rows:
        if row.value is None:
            yield Reject(row.line, row.fault)
            continue
        try:
            if not form.matches(row.value):
                raise BadRow(_misfit(row.value, form, formats))
            records = form.records(row.value, file)
        except BadRow as error:
            yield Reject(row.line, str(error), row.value)
        else:
            yield row.line, records


def _of_criterion(items: Items, criterion: str) -> Items:
    for item in items:
        if isinstance(item, Reject):
            yield item
        else:
            yield item[0], tuple(record for record in item[1] if record.criterion == criterion)


def _misfit(row: Mapping[str, Any], form: Format[T], formats: tuple[Format[T], ...]) -> str:
    missing = [column for column in form.columns if column not in row]
    if missing:
        return f"{missing[0]} is missing"
    other = next((one.name for one in formats if one.matches(row)), None)
    looks = f"it looks like {other}" if other else "it fits no known format"
    return f"is not of the format of this file ({form.name}): {looks}"


def _read(stream: Stream[T], max_rejects: int, rejects_path: str | Path | None) -> Read[T]:
    rows: list[T] = []
    rejects: list[Reject] = []
    with RejectLog(rejects_path) as log:
        for item in stream.items:
            if isinstance(item, Reject):
                log.add(stream.path, stream.unit, item)
                rejects.append(replace(item, row=None))
            else:
                rows.extend(item[1])
    log.refuse(max_rejects, bool(rows))
    return Read(tuple(rows), stream.format, stream.mapping, tuple(rejects), stream.path)


@dataclass(frozen=True)
class Imported:
    """What `import_comparisons` did: usable rows, comparisons in them, how many were new, rejects."""

    path: str
    format: str
    mapping: str
    rows: int
    comparisons: int
    new: int
    rejects: int


def import_comparisons(
    path: str | Path,
    add: Callable[[Sequence[Comparison]], int],
    *,
    max_rejects: int = 0,
    rejects: str | Path | None = "rejects.jsonl",
    criterion: str | None = None,
    batch: int = 1000,
) -> Imported:
    """Hand all comparisons of a file to ``add``, in batches, and say how many were new.

    The file is read twice, so that nothing of it is imported where it has too many rejects, and no more than
    a batch is held in memory. Importing twice changes nothing if ``add`` knows judgements by their content,
    as `store.LabelStore.add` does.

    Args:
        add: takes a batch, returns how many of it were not there before.
        rejects: where unusable rows are listed with line and reason; None: nowhere.
        criterion: of a file that answers several questions at once, which one; ``all`` for all of them.

    Raises:
        BadInput: as `read_comparisons`; nothing was imported then. Also where the file changes meanwhile.
    """
    first = stream_comparisons(path, criterion=criterion)
    count = 0
    with RejectLog(rejects) as log:
        for item in first.items:
            if isinstance(item, Reject):
                log.add(first.path, first.unit, item)
            else:
                count += 1
    log.refuse(max_rejects, count > 0)
    rows = comparisons = new = 0
    waiting: list[Comparison] = []
    for item in stream_comparisons(path, criterion=criterion).items:
        if isinstance(item, Reject):
            continue
        rows += 1
        waiting.extend(item[1])
        if len(waiting) >= batch:
            comparisons, new, waiting = comparisons + len(waiting), new + add(waiting), []
    if waiting:
        comparisons, new = comparisons + len(waiting), new + add(waiting)
    if rows != count:
        raise BadInput(f"{path} changed while it was read ({count} rows, then {rows}): import it again")
    return Imported(first.path, first.format, first.mapping, rows, comparisons, new, log.count)
