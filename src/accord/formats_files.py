"""Rows out of files: JSON Lines, JSON, CSV, Parquet, Arrow, each also gzipped, and hub data sets, row by row.

Nothing here knows what a prompt is. A row that cannot be parsed is handed on with its fault, so that a report
can list all of them; a file that cannot be read at all is `BadInput`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from accord.records import BadInput

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
HUB_ID = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<config>[\w.-]+))?(?::(?P<split>.+))?")
CSV_CELL_LIMIT = 1 << 26  # characters; the csv module's own limit of 131,072 is less than a long conversation


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its place in the file (from 1) and its columns, or the reason why it has none."""

    line: int
    value: Mapping[str, Any] | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file. ``unit`` says whether a row's place is a line of text or a row of a table."""

    path: str
    unit: Literal["line", "row"]
    rows: Iterator[Row]


def open_rows(path: str | Path) -> Source:
    """Open a file or a hub data set (``owner/name``, ``owner/name:split``, ``owner/name/config:split``).

    Raises:
        BadInput: no such file, a folder, an empty file, an unknown ending; while the rows are drawn:
            damaged or truncated gzip or Parquet.
    """
    name = str(path)
    file = Path(path)
    if file.is_dir():
        raise BadInput(f"{name} is a folder: name one file in it, with one of the endings {_endings()}")
    if not file.exists():
        hub = HUB_ID.fullmatch(name)
        if hub and _kind(file) is None:
            return Source(name, "row", _hub_rows(name, hub["name"], hub["config"], hub["split"] or "train"))
        raise BadInput(f"{name} does not exist: check the path, or give a hub data set as owner/name")
    kind = _kind(file)
    if kind is None:
        raise BadInput(f"{name} has an unknown ending: known are {_endings()}, each also with .gz")
    if file.stat().st_size == 0:
        raise BadInput(f"{name} is empty: it must hold at least one row")
    if kind == ".parquet":
        return Source(name, "row", _parquet_rows(name, file))
    if kind == ".arrow":
        return Source(name, "row", _arrow_rows(name, file))
    if kind in (".csv", ".tsv"):
        return Source(name, "line", _csv_rows(name, file, "," if kind == ".csv" else "\t"))
    if kind == ".json" and _starts_with_bracket(name, file):
        return Source(name, "row", _json_array_rows(name, file))
    return Source(name, "line", _json_lines_rows(name, file))


def _kind(file: Path) -> str | None:
    suffix = (file.with_suffix("") if file.suffix.lower() == ".gz" else file).suffix.lower()
    return suffix if suffix in SUFFIXES else None


def _endings() -> str:
    return ", ".join(SUFFIXES)


def _open(file: Path) -> gzip.GzipFile | BufferedReader:
    """The file's bytes, unzipped where its first two bytes say gzip, whatever it is called."""
    with file.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    if file.suffix.lower() == ".gz" and not zipped:
        raise BadInput(f"{file} ends in .gz but is not gzip: rename it, or fetch it again")
    return gzip.open(file, "rb") if zipped else file.open("rb")


def _byte_lines(name: str, file: Path) -> Iterator[bytes]:
    # Lines end at \n alone: str.splitlines would also cut at U+2028 and the like, which JSON may contain.
    try:
        with _open(file) as data:
            yield from data
    except EOFError as error:
        raise BadInput(f"{name} is cut off inside its gzip stream: fetch or write it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{name} is damaged gzip ({error}): fetch or write it again") from error


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON: write null")


def _parse(text: str) -> Any:
    """Strict JSON; every failure is a ValueError with a short reason."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg} at column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("not usable JSON (nested too deeply)") from error


def _object_row(line: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(line, value)
    return Row(line, None, f"must be a JSON object with named columns, not {type(value).__name__}")


def _json_lines_rows(name: str, file: Path) -> Iterator[Row]:
    for line, data in enumerate(_byte_lines(name, file), start=1):
        try:
            text = data.decode("utf-8-sig" if line == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            yield Row(line, None, f"not UTF-8 (byte {data[error.start]:#04x} at position {error.start})")
            continue
        if not text:
            continue
        try:
            row = _object_row(line, _parse(text))
        except ValueError as error:
            # Only the last line can lack its newline: the trace of a download or a writer that was stopped.
            hint = "" if data.endswith(b"\n") else "; the file may be cut off here"
            row = Row(line, None, f"{error}{hint}")
        yield row


def _starts_with_bracket(name: str, file: Path) -> bool:
    for data in _byte_lines(name, file):
        text = data.removeprefix(b"\xef\xbb\xbf").strip()
        if text:
            return text.startswith(b"[")
    return False


def _json_array_rows(name: str, file: Path) -> Iterator[Row]:
    """A JSON array of objects. It is read whole: the format has no lines to stream."""
    data = b"".join(_byte_lines(name, file))
    try:
        values = _parse(data.decode("utf-8-sig"))
    except ValueError as error:
        raise BadInput(
            f"{name} is not a JSON array ({error}): mend it, or write one object a line"
        ) from error
    for number, value in enumerate(values, start=1):
        yield _object_row(number, value)


def _csv_rows(name: str, file: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(CSV_CELL_LIMIT)
    start = 1  # a quoted cell may span lines: a row is named by its first
    try:
        with _open(file) as data, io.TextIOWrapper(data, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            header = next(reader, [])
            if len(set(header)) != len(header):
                raise BadInput(f"{name} has two columns of one name in its header: rename one")
            start = reader.line_num + 1
            for cells in reader:
                if len(cells) == len(header):
                    yield Row(start, {key: _cell(key, cell) for key, cell in zip(header, cells, strict=True)})
                elif cells:
                    yield Row(start, None, f"has {len(cells)} cells where the header has {len(header)}")
                start = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(
            f"{name}, line {start}: not readable as CSV ({error}): mend it, or write JSON Lines"
        ) from error


def _cell(column: str, cell: str) -> Any:
    """A CSV cell: empty is None; JSON only where it is messages, or in a column that is never text."""
    if cell == "":
        return None
    if cell[0] in "[{":
        try:
            value = _parse(cell)
        except ValueError:
            return cell
        if isinstance(value, dict) and column in ("labels", "meta", "a", "b", "input"):
            return value
        if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
            return value
    return cell


def _parquet_rows(name: str, file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with _open(file) as data, pq.ParquetFile(data) as table:
            for batch in table.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(f"{name} cannot be read as Parquet ({reason}): fetch or write it again") from error


def _arrow_rows(name: str, file: Path) -> Iterator[Row]:
    """The stream format in which ``datasets`` saves to disk."""
    import pyarrow as pa

    number = 0
    try:
        with _open(file) as data, pa.ipc.open_stream(data) as stream:
            for batch in stream:
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(f"{name} cannot be read as Arrow ({reason}): fetch or write it again") from error


def _hub_rows(path: str, name: str, config: str | None, split: str) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f"{path} is no file here, and reading it from the hub needs the package datasets: "
            "pip install 'accord-rlhf[hub]', or give a file"
        ) from error
    number = 0
    try:
        for value in datasets.load_dataset(name, config, split=split, streaming=True):
            number += 1
            yield Row(number, value)
    except (
        Exception
    ) as error:  # the hub client raises a dozen kinds, from HTTP errors to its own; all mean this
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadInput(
            f"{path} is no file here and could not be read from the hub ({reason}): "
            "check the spelling and the network, or give a file"
        ) from error
