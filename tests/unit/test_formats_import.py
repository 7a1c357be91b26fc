"""Importing labels: all or nothing, in batches, twice without effect; unusable rows are listed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.formats import import_comparisons, read_comparisons
from accord.formats_comparison import Reject
from accord.formats_write import RejectLog
from accord.records import BadInput, Comparison
from accord.store import LabelStore


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"q{number}", "chosen": "x", "rejected": "y"} | more


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", *[row(n) for n in range(7)])
    with LabelStore(tmp_path / "labels.db") as store:
        first = import_comparisons(path, store.add, rejects=None, batch=3)
        again = import_comparisons(path, store.add, rejects=None, batch=2)
        more = import_comparisons(lines(path, row(3), row(8), row(8)), store.add, rejects=None)
        assert len(store.comparisons()) == 8
    assert (first.rows, first.comparisons, first.new, first.rejects) == (7, 7, 7, 0)
    assert (again.comparisons, again.new) == (7, 0)
    assert (more.comparisons, more.new) == (3, 1)
    assert first.format == "prompt/chosen/rejected"


def test_batches_are_no_larger_than_asked_for(tmp_path: Path) -> None:
    batches: list[int] = []

    def add(batch: Sequence[Comparison]) -> int:
        batches.append(len(batch))
        return len(batch)

    path = lines(tmp_path / "d.jsonl", *[row(n) for n in range(7)])
    assert import_comparisons(path, add, rejects=None, batch=3).new == 7
    assert batches == [3, 3, 1]


def test_nothing_is_imported_where_there_are_too_many_rejects(tmp_path: Path) -> None:
    rows = [row(n) for n in range(5)] + [row(5, chosen=""), {"prompt": "q6"}]
    path, listed = lines(tmp_path / "d.jsonl", *rows), tmp_path / "rejects.jsonl"
    added: list[Comparison] = []

    def add(batch: Sequence[Comparison]) -> int:
        added.extend(batch)
        return len(batch)

    with pytest.raises(BadInput) as error:
        import_comparisons(path, add, max_rejects=1, rejects=listed, batch=2)
    assert str(error.value) == (
        f"{path}, line 6: chosen is empty; 2 row(s) cannot be used: mend them, or allow them with "
        f"max_rejects=2 (--max-rejects 2); they are listed in {listed}"
    )
    assert added == []
    assert [json.loads(line) for line in listed.read_text().splitlines()] == [
        {"file": str(path), "line": 6, "reason": "chosen is empty", "row": rows[5]},
        {"file": str(path), "line": 7, "reason": "chosen is missing", "row": rows[6]},
    ]
    done = import_comparisons(path, add, max_rejects=2, rejects=listed)
    assert (done.new, done.rejects, len(added)) == (5, 2, 5)
    import_comparisons(lines(path, row(1)), add, rejects=listed)
    assert listed.read_text() == ""  # no reject is left over from the last time


def test_no_list_without_rejects(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", row(1))
    import_comparisons(path, len, rejects=tmp_path / "rejects.jsonl")
    read_comparisons(path, rejects=tmp_path / "rejects.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["d.jsonl"]


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", *[row(n) for n in range(20_000)])  # more than is read ahead

    def add(batch: Sequence[Comparison]) -> int:
        lines(path, row(1))
        return len(batch)

    with pytest.raises(
        BadInput, match=r"changed while it was read \(20000 rows, then \d+\): import it again"
    ):
        import_comparisons(path, add, rejects=None, batch=1)


def test_rejects_of_tables_and_of_lines_that_do_not_parse(tmp_path: Path) -> None:
    """A table's row may hold what JSON cannot (a date); a line that is no JSON has no row at all."""
    with RejectLog(tmp_path / "rejects.jsonl") as log:
        log.add("t.parquet", "row", Reject(3, "why", {"when": datetime.date(2024, 2, 29), "t": "\ud800"}))
        log.add("f.jsonl", "line", Reject(1, "not valid JSON"))
    got = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text("ascii").splitlines()]
    assert got == [
        {"file": "t.parquet", "line": 3, "reason": "why", "row": {"when": "2024-02-29", "t": "\ud800"}},
        {"file": "f.jsonl", "line": 1, "reason": "not valid JSON", "row": None},
    ]


def test_the_list_is_there_also_where_the_reading_broke(tmp_path: Path) -> None:
    def broken() -> None:
        with RejectLog(tmp_path / "rejects.jsonl") as log:
            log.add("f.jsonl", "line", Reject(1, "why"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert "why" in (tmp_path / "rejects.jsonl").read_text()
