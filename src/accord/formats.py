"""The field's data formats, read and written.

The format of a file is detected from its first rows and said in `Read.mapping`; every row must then be of
that format. A row that cannot be used is a `Reject` with its line and reason, never silently dropped. The
canonical form that accord writes is JSON Lines: `records.Comparison.to_json()`, ``{"prompt", "response"}``
for demonstrations, ``{"prompt"}`` for prompts. Nothing here imports torch.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypeVar

from accord.formats_comparison import QUESTION_COLUMNS, Format
from accord.formats_files import Row, Source, open_rows
from accord.formats_messages import BadRow
from accord.formats_prompts import DEMONSTRATION_FORMATS, PROMPT_FORMATS
from accord.formats_rows import COMPARISON_FORMATS
from accord.records import BadInput, Comparison, Demonstration, Prompt, content_hash

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["comparisons", "demonstrations", "prompts"]
ROWS_LOOKED_AT = 20  # for detection: one odd first row must not decide for the whole file


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used: its line (of a table: its row), from 1, and why."""

    line: int
    reason: str


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


def read_comparisons(path: str | Path, *, max_rejects: int = 0) -> Read[Comparison]:
    """All comparisons of a file.

    Raises:
        BadInput: the file cannot be read, holds no usable row, or more than ``max_rejects`` unusable ones.
    """
    return _read(stream_comparisons(path), max_rejects)


def read_demonstrations(path: str | Path, *, max_rejects: int = 0) -> Read[Demonstration]:
    """All demonstrations of a file; of a file of comparisons, the preferred answers.

    Of a conversation, the last answer is the demonstration and everything before it the prompt. Raises as
    `read_comparisons`.
    """
    return _read(stream_demonstrations(path), max_rejects)


def read_prompts(path: str | Path, *, max_rejects: int = 0) -> Read[Prompt]:
    """All prompts of a file, repeated ones included; answers in it are not looked at.

    Raises as `read_comparisons`.
    """
    return _read(stream_prompts(path), max_rejects)


def stream_comparisons(path: str | Path) -> Stream[Comparison]:
    return _stream(path, COMPARISON_FORMATS, "comparisons")


def stream_demonstrations(path: str | Path) -> Stream[Demonstration]:
    return _stream(path, DEMONSTRATION_FORMATS, "demonstrations")


def stream_prompts(path: str | Path) -> Stream[Prompt]:
    return _stream(path, PROMPT_FORMATS, "prompts")


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
    known = "; ".join(dict.fromkeys("+".join(form.columns) for form in formats))
    return BadInput(
        f"{source.path}, {source.unit} {seen.line}: the columns ({columns}) are no {kind} format; "
        f"known are {known} (some with {', '.join(QUESTION_COLUMNS)}): rename the columns"
    )


def _stream(path: str | Path, formats: tuple[Format[T], ...], kind: Kind) -> Stream[T]:
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
    items = _items(chain(first, source.rows), form, formats, Path(source.path).name)
    return Stream(source.path, source.unit, form.name, mapping, items)


def _items(
    rows: Iterable[Row], form: Format[T], formats: tuple[Format[T], ...], file: str
) -> Iterator[tuple[int, tuple[T, ...]] | Reject]:
    for row in rows:
        if row.value is None:
            yield Reject(row.line, row.fault)
            continue
        try:
            if not form.matches(row.value):
                raise BadRow(_misfit(row.value, form, formats))
            records = tuple(form.read(row.value, file))
        except BadRow as error:
            yield Reject(row.line, str(error))
        else:
            yield row.line, records


def _misfit(row: Mapping[str, Any], form: Format[T], formats: tuple[Format[T], ...]) -> str:
    missing = [column for column in form.columns if column not in row]
    if missing:
        return f"{missing[0]} is missing"
    other = next((one.name for one in formats if one.matches(row)), None)
    looks = f"it looks like {other}" if other else "it fits no known format"
    return f"is not of the format of this file ({form.name}): {looks}"


def _read(stream: Stream[T], max_rejects: int) -> Read[T]:
    rows: list[T] = []
    rejects: list[Reject] = []
    for item in stream.items:
        if isinstance(item, Reject):
            rejects.append(item)
        else:
            rows.extend(item[1])
    if rejects and (len(rejects) > max_rejects or not rows):
        count = f"{len(rejects)} row(s) cannot be used"
        way_out = (
            f"mend them, or allow them with max_rejects={len(rejects)}"
            if rows
            else "and no other row is left"
        )
        first = rejects[0]
        raise BadInput(f"{stream.path}, {stream.unit} {first.line}: {first.reason}; {count}: {way_out}")
    return Read(tuple(rows), stream.format, stream.mapping, tuple(rejects), stream.path)


def write_comparisons(path: str | Path, rows: Iterable[Comparison]) -> None:
    """Canonical JSON Lines (gzipped where the path ends in .gz), atomically: the old file or the new one.

    Raises:
        BadInput: a value that JSON or UTF-8 cannot hold, or a place that cannot be written.
    """
    _write(path, (row.to_json() for row in rows))


def write_prompts(path: str | Path, rows: Iterable[Prompt]) -> None:
    """As `write_comparisons`, one ``{"prompt": messages}`` a line."""
    _write(path, ({"prompt": row.to_json()} for row in rows))


def write_demonstrations(path: str | Path, rows: Iterable[Demonstration]) -> None:
    """As `write_comparisons`, one ``{"prompt": messages, "response": text}`` a line."""
    _write(path, ({"prompt": row.prompt.to_json(), "response": row.response} for row in rows))


def _write(path: str | Path, values: Iterable[dict[str, Any]]) -> None:
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            if target.suffix == ".gz":
                # No time and no name in the header: the same rows give the same bytes.
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                    _write_lines(target, zipped, values)
            else:
                _write_lines(target, file, values)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # temporary files are made private
        temporary.replace(target)
    except OSError as error:
        raise BadInput(
            f"{target} cannot be written ({error.strerror or error}): free space, or choose another place"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _write_lines(target: Path, file: IO[bytes] | gzip.GzipFile, values: Iterable[dict[str, Any]]) -> None:
    for number, value in enumerate(values, start=1):
        try:
            line = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{target}: row {number} cannot be written as JSON ({error}): mend its values"
            ) from error
        file.write(line)


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
