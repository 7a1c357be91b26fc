"""Records into files: canonical JSON Lines, whole or not at all, and the rows that could not be read."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from accord.formats_comparison import Reject
from accord.records import BadInput, Comparison, Demonstration, Prompt


def write_comparisons(path: str | Path, rows: Iterable[Comparison]) -> None:
    """Canonical JSON Lines (gzipped where the path ends in .gz), atomically: the old file or the new one.

    Raises:
        BadInput: a value that JSON or UTF-8 cannot hold, or a place that cannot be written.
    """
    write_rows(path, (row.to_json() for row in rows))


def write_prompts(path: str | Path, rows: Iterable[Prompt]) -> None:
    """As `write_comparisons`, one ``{"prompt": messages}`` a line."""
    write_rows(path, ({"prompt": row.to_json()} for row in rows))


def write_demonstrations(path: str | Path, rows: Iterable[Demonstration]) -> None:
    """As `write_comparisons`, one ``{"prompt": messages, "response": text}`` a line."""
    write_rows(path, ({"prompt": row.prompt.to_json(), "response": row.response} for row in rows))


def write_rows(path: str | Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Any JSON objects, one a line; else as `write_comparisons`."""
    target = Path(path)
    with _replacing(target) as file:
        if target.suffix == ".gz":
            # No time and no name in the header: the same rows give the same bytes.
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                _write_lines(target, zipped, values)
        else:
            _write_lines(target, file, values)


@contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A temporary file that takes the place of ``target`` when the block ends well."""
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield file
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


def _write_lines(target: Path, file: IO[bytes] | gzip.GzipFile, values: Iterable[Mapping[str, Any]]) -> None:
    for number, value in enumerate(values, start=1):
        try:
            line = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{target}: row {number} cannot be written as JSON ({error}): mend its values"
            ) from error
        file.write(line)


class RejectLog:
    """Rows that cannot be used, written to a file as they come: ``{"file", "line", "reason", "row"}`` a line.

    A context manager. The file appears when the block ends, also where it ends with an error, because then
    it is needed most. Where there was no reject, no file is made, and an older one is emptied.

    Args:
        path: of the file; None counts only.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self.count = 0
        self._first = ""
        # On the disk beyond a megabyte: a large file may be of another format from the first row to the last.
        self._kept = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 (closed in __exit__)

    def add(self, file: str, unit: str, reject: Reject) -> None:
        """Count one reject and keep it as text. ``unit``: what its line counts (lines, rows, comparisons)."""
        self.count += 1
        self._first = self._first or f"{file}, {unit} {reject.line}: {reject.reason}"
        if self.path is not None:
            said = {"file": file, "line": reject.line, "reason": reject.reason, "row": reject.row}
            self._kept.write(_json_line(said))

    def refuse(self, max_rejects: int, any_rows: bool) -> None:
        """Raises BadInput where there are more rejects than allowed, or rejects and no other row."""
        if self.count and (self.count > max_rejects or not any_rows):
            way_out = (
                f"mend them, or allow them with max_rejects={self.count} (--max-rejects {self.count})"
                if any_rows
                else "and no other row is left"
            )
            listed = f"; they are listed in {self.path}" if self.path is not None else ""
            raise BadInput(f"{self._first}; {self.count} row(s) cannot be used: {way_out}{listed}")

    def __enter__(self) -> RejectLog:
        return self

    def __exit__(self, *_: object) -> None:
        with self._kept:
            if self.path is not None and (self.count or self.path.exists()):
                self._kept.seek(0)
                with _replacing(self.path) as file:
                    shutil.copyfileobj(self._kept, file)


def _json_line(said: dict[str, Any]) -> bytes:
    """ASCII, so that any text survives; a value that JSON cannot hold (a table's dates) goes as text."""
    return json.dumps(said, default=str).encode("ascii") + b"\n"
