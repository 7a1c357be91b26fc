"""Labels from files into a store: all of a file or nothing, and a second time nothing new."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sql

from accord import formats
from accord.formats_write import RejectLog
from accord.records import Comparison
from accord.store import LabelStore, measuring

IMPORT_ROWS = 2000  # in one transaction: others can write between two of them


def import_labels(store: LabelStore, rows: Iterable[Comparison]) -> tuple[int, int]:
    """Put comparisons into the store, some thousand to a transaction. Returns (rows, how many were new)."""
    seen = new = 0
    part: list[Comparison] = []
    for row in rows:
        part.append(row)
        if len(part) == IMPORT_ROWS:
            seen, new, part = seen + len(part), new + store.add(part), []
    return seen + len(part), new + (store.add(part) if part else 0)


@dataclass(frozen=True)
class Imported:
    """What became of a file: rows found, rows that were new, rows that cannot be used."""

    file: str
    mapping: str
    rows: int
    new: int
    rejects: int
    rejected_to: str

    def lines(self) -> list[str]:
        out = [f"{self.file}: {self.mapping}", f"{self.rows:,} comparisons, {self.new:,} of them new"]
        if self.rejects:
            out.append(f"{self.rejects:,} rows cannot be used, with line and reason in {self.rejected_to}")
        return out


def import_file(
    store: LabelStore,
    file: str | Path,
    *,
    max_rejects: int = 0,
    serve_as: str = "labels",
    criterion: str | None = None,
) -> Imported:
    """Labels from a file, in any format of comparisons. Equal rows are stored once, also in a second import.

    The file is read twice: once to see whether it can be used, so that nothing of a bad file is stored, and
    once to store it. Rows that cannot be used go to ``rejects.jsonl`` beside the file.

    Args:
        serve_as: ``labels``; or ``gold`` or ``practice``: the verdicts are then what people are measured by,
            ``meta.note`` the explanation, and nothing becomes a label.
        criterion: as in `formats.stream_comparisons`.

    Raises:
        BadInput: the file cannot be read, or has more than ``max_rejects`` rows that cannot be used.
    """
    path = Path(file)
    target = path.with_name("rejects.jsonl")
    with RejectLog(target) as log:
        first = formats.stream_comparisons(path, criterion=criterion)
        usable = 0
        for item in first.items:
            if isinstance(item, formats.Reject):
                log.add(path.name, first.unit, item)
            else:
                usable += 1
        log.refuse(max_rejects, usable > 0)
    stream = formats.stream_comparisons(path, criterion=criterion)
    found = (row for item in stream.items if not isinstance(item, formats.Reject) for row in item[1])
    if serve_as == "labels":
        seen, new = import_labels(store, found)
    else:
        seen, new = _import_gold(store, found, serve_as)
    return Imported(path.name, f"{first.format}: {first.mapping}", seen, new, log.count, str(target))


def _import_gold(store: LabelStore, rows: Iterable[Comparison], purpose: str) -> tuple[int, int]:
    known = list(rows)
    store.add_pairs([row.pair for row in known])

    def job(connection: sql.Connection) -> int:
        changed = 0
        for row in known:
            note = str(row.meta.get("note", "") or row.reason)
            now = time.time()
            changed += measuring.set_gold(
                connection, "command line", row.pair.id, purpose, row.verdict, note, now
            )
        return changed

    return len(known), store.write(job)
