"""`accord data convert`: a file's records in accord's canonical form, or comparisons in another program's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from accord.formats import Kind, Reject, Stream, detect_kind, stream_kind
from accord.formats_export import check_target, write_target
from accord.formats_write import RejectLog, write_comparisons, write_demonstrations, write_prompts
from accord.records import BadInput

CANONICAL = "accord"


@dataclass(frozen=True)
class Converted:
    """What was read as what, and what was written.

    Attributes:
        records: records written.
        rows: rows of the new file (a comparison can be two, several judgements one).
        left_out: verdicts that the format cannot say, by name.
        rejects: rows that could not be read or written.
    """

    path: str
    out: str
    kind: Kind
    format: str
    mapping: str
    to: str
    records: int
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)
    rejects: int = 0

    def lines(self) -> list[str]:
        """For a terminal."""
        out = [
            f"{self.path}: {self.kind}, format {self.format}",
            f"  read as: {self.mapping}",
            f"  {self.records} {self.kind} written to {self.out} as {self.rows} rows of format {self.to}",
        ]
        if self.left_out:
            said = ", ".join(f"{verdict} {count}" for verdict, count in self.left_out.items())
            out.append(f"  left out, because the format cannot say it: {said}")
        if self.rejects:
            out.append(f"  rows that cannot be used: {self.rejects}")
        return out


def convert(
    path: str | Path,
    out: str | Path,
    *,
    kind: Kind | Literal["auto"] = "auto",
    to: str = CANONICAL,
    ties: str = "drop",
    max_rejects: int = 0,
    rejects: str | Path | None = None,
    criterion: str | None = None,
) -> Converted:
    """Write a file's records as JSON Lines; ``out`` is made whole or not at all.

    Args:
        to: ``accord``, or for comparisons a format of `formats_export.TARGETS`.
        ties: what becomes of ties in formats that have none, see `formats_export.export_comparisons`.
        max_rejects: rows that may be unreadable, or unwritable in the format, together.
        rejects: a file to which those go, with line and reason.
        criterion: of comparisons that answer several questions, which one (`formats.stream_comparisons`).

    Raises:
        BadInput: the file cannot be read, has more unusable rows than allowed, ``out`` is the file itself, or
            ``out`` cannot be written as JSON Lines (its ending says something else).
    """
    _check_place(path, out)
    kind = detect_kind(path) if kind == "auto" else kind
    if to != CANONICAL:
        check_target(to, ties)
        if kind != "comparisons":
            raise BadInput(f"{path} holds {kind}, and {to} is a format of comparisons: leave out the format")
    stream = stream_kind(path, kind, criterion)
    with RejectLog(rejects) as log:
        if to != CANONICAL:
            done = write_target(out, _usable(stream, log), to, ties, max_rejects, log)
            written = (done.comparisons, done.rows, done.left_out)
        else:
            count = _write_canonical(out, kind, stream, log, max_rejects)
            written = (count, count, {})
    records, rows, left_out = written
    return Converted(
        str(path), str(out), kind, stream.format, stream.mapping, to, records, rows, left_out, log.count
    )


def _usable(stream: Stream[Any], log: RejectLog) -> Iterator[Any]:
    for item in stream.items:
        if isinstance(item, Reject):
            log.add(stream.path, stream.unit, item)
        else:
            yield from item[1]


def _write_canonical(
    out: str | Path, kind: Kind, stream: Stream[Any], log: RejectLog, max_rejects: int
) -> int:
    count = 0

    def records() -> Iterator[Any]:
        nonlocal count
        for record in _usable(stream, log):
            count += 1
            yield record
        log.refuse(max_rejects, count > 0)  # inside the writing: the file is then not put in its place

    match kind:
        case "comparisons":
            write_comparisons(out, records())
        case "demonstrations":
            write_demonstrations(out, records())
        case "prompts":
            write_prompts(out, records())
    return count


def _check_place(path: str | Path, out: str | Path) -> None:
    target = Path(out)
    if not target.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"{out} must end in .jsonl or .jsonl.gz: rows are written as JSON Lines")
    if target.exists() and Path(path).exists() and target.samefile(path):
        raise BadInput(f"{out} is the file to convert: name another file, so that the original stays")
