"""The label store: nothing that was committed is lost, changed or counted twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sql

from accord.records import BadInput, Comparison, Pair, Prompt, Response, Side, Verdict
from accord.store import LabelStore


def pair(number: int, round_: int = 0, left: Side = "a") -> Pair:
    return Pair(
        Prompt.from_text(f"question {number}"),
        Response("yes", (1, 2), False, "p"),
        Response("no"),
        left,
        round_,
    )


def said(number: int, verdict: Verdict = "a", annotator: str = "ann", round_: int = 0) -> Comparison:
    return Comparison(pair(number, round_), verdict, annotator, 2.0, "people (file x)", {"note": "ü"})


def verdicts(store: LabelStore) -> list[tuple[str, str]]:
    return [(c.annotator, c.verdict) for c in store.comparisons()]


def test_a_comparison_comes_back_as_it_went_in(tmp_path: Path) -> None:
    odd = Comparison(
        Pair(Prompt.from_text("\ud800 \x00 'q"), Response("\udfff"), Response(""), "b", 3), "tie"
    )
    with LabelStore(tmp_path / "runs" / "labels.db") as store:
        store.add([said(1), odd])
    with LabelStore(str(tmp_path / "runs" / "labels.db")) as store:
        assert store.comparisons() == [said(1), odd]


def test_adds_are_idempotent_and_count_what_is_new(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        assert store.add_pairs([pair(1), pair(2), pair(1)]) == 2
        assert store.add_pairs([pair(2), pair(3)]) == 1
        assert store.add([said(1), said(2), said(1)]) == 2
        assert store.add([said(2), said(4)]) == 1  # pair 4 comes with its judgement
        assert store.add_pairs([pair(4)]) == 0
        assert store.add([]) == 0
        assert len(store.comparisons()) == 3


def test_more_pairs_than_one_query_can_bind(tmp_path: Path) -> None:
    rows = [said(n) for n in range(1203)]
    with LabelStore(tmp_path / "labels.db") as store:
        assert store.add(rows) == 1203
        assert store.add([*rows, said(5000)]) == 1
        assert [c.prompt.text for c in store.comparisons()] == [
            *(f"question {n}" for n in range(1203)),
            "question 5000",
        ]


def test_order_is_insertion_and_rounds_select(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(2), pair(9), pair(7, 1)])
        store.add([said(9), said(7, round_=1)])
        store.add([said(2), said(5, round_=2)])
        numbers = [c.prompt.text.split()[1] for c in store.comparisons()]
        assert numbers == ["9", "7", "2", "5"]
        assert [c.pair.round for c in store.comparisons([2, 1])] == [1, 2]
        assert store.comparisons([]) == []


def test_the_latest_word_of_a_named_annotator_counts(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        for verdict in ("a", "b", "a"):  # back to the first opinion: not mistaken for a repeat
            assert store.add([said(1, verdict)]) == 1
            assert verdicts(store) == [("ann", verdict)]
        assert store.add([said(1, "a")]) == 0
        store.add([said(1, "tie", "bob")])
        assert verdicts(store) == [("ann", "a"), ("bob", "tie")]
    history = sqlite3.connect(tmp_path / "labels.db")
    assert history.execute("SELECT count(*) FROM accord_judgements").fetchone() == (4,)
    history.close()


def test_unknown_annotators_are_not_one_person(tmp_path: Path) -> None:
    crowd = [said(1, "a", ""), said(1, "b", ""), said(1, "b", "")]
    with LabelStore(tmp_path / "labels.db") as store:
        assert store.add(crowd) == 2
        assert store.add(crowd) == 0
        assert verdicts(store) == [("", "a"), ("", "b")]


def test_each_label_keeps_the_side_that_was_shown(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add([Comparison(pair(1, left=left), "a", left) for left in ("a", "b")])
        assert [c.pair.shown_left for c in store.comparisons()] == ["a", "b"]


def test_pending_counts_different_annotators(tmp_path: Path) -> None:
    pairs = [pair(3), pair(1), pair(2), pair(1)]
    with LabelStore(tmp_path / "labels.db") as store:
        assert store.pending(pairs) == [pair(3), pair(1), pair(2)]
        store.add([said(1), said(1, "skip", "bob"), said(3, "a"), said(3, "b")])
        assert store.pending(pairs) == [pair(2)]
        assert store.pending(pairs, labels_per_pair=2) == [pair(3), pair(2)]


def test_an_unknown_verdict_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        with pytest.raises(BadInput, match="'left' is not one of a, b, tie, both_bad, skip"):
            store.add([said(1), said(2, "left")])  # type: ignore[arg-type]
        assert store.comparisons() == []


def test_rows_cannot_be_changed_or_removed(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add([said(1)])
    other = sqlite3.connect(tmp_path / "labels.db")
    for statement in (
        "DELETE FROM accord_judgements",
        "UPDATE accord_judgements SET body = ''",
        "DELETE FROM accord_items",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(statement)
    other.close()


def test_a_commit_is_forced_to_the_disk(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store, store._engine.connect() as connection:
        assert connection.execute(sql.text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert connection.execute(sql.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sql.text("PRAGMA foreign_keys")).scalar() == 1


CHILD = """
import sys, time
from accord.records import Comparison, Pair, Prompt, Response
from accord.store import LabelStore
from accord.store.labels import _add_items
def said(n):
    return Comparison(Pair(Prompt.from_text(f"question {n}"), Response("yes"), Response("no")), "a", "ann")
store = LabelStore(sys.argv[1])
match sys.argv[2]:
    case "hang in a transaction":
        store.add([said(n) for n in range(5)])
        with store.transaction(write=True) as connection:
            _add_items(connection, {said(n).pair.id: ("pair", 0, "{}") for n in range(5, 9)})
            print("ready", flush=True)
            time.sleep(3600)
    case "add the same":
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(40):
            store.add([said(n)])
        store.close()
"""


def child(path: Path, what: str) -> subprocess.Popen[str]:
    command: Sequence[str] = [sys.executable, "-c", CHILD, str(path), what]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_kill_9_keeps_what_was_committed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    with child(path, "hang in a transaction") as process:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as reader:  # while the writer is in the middle
            assert reader.execute("SELECT count(*) FROM accord_judgements").fetchone() == (5,)
            assert reader.execute("SELECT count(*) FROM accord_items").fetchone() == (5,)
        reader.close()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with LabelStore(path) as store:
        assert len(store.comparisons()) == 5
        assert store.add_pairs([pair(n) for n in range(9)]) == 4
        assert store.add([said(7)]) == 1


def test_two_processes_that_add_the_same_store_it_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    processes = [child(path, "add the same") for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=220)
        assert process.returncode == 0
    history = sqlite3.connect(path)
    assert history.execute("SELECT count(*), count(DISTINCT item) FROM accord_judgements").fetchone() == (
        40,
        40,
    )
    history.close()


def test_a_second_store_sees_rows_at_once(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as first, LabelStore(tmp_path / "labels.db") as second:
        first.add([said(1)])
        assert second.comparisons() == [said(1)]


def damaged(path: Path, kind: str) -> None:
    with LabelStore(path) as store:
        store.add([said(n) for n in range(400)])
    data = path.read_bytes()
    assert len(data) > 20 * 4096
    match kind:
        case "other bytes":
            data = b"these are not labels\n" * 300
        case "header":
            data = b"\0" * 100 + data[100:]
        case "half":
            data = data[: len(data) // 2]
        case "page":
            data = data[: 6 * 4096] + b"\xff" * 4096 + data[7 * 4096 :]
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["other bytes", "header", "half", "page"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "labels.db"
    damaged(path, kind)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"labels\.db is damaged .* restore it from a copy"):
        LabelStore(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "mail.db")
    other.execute("CREATE TABLE mail (body)")
    other.close()
    with pytest.raises(BadInput, match=r"not a label store .*'mail'"):
        LabelStore(tmp_path / "mail.db")


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a folder"):
        LabelStore(tmp_path)
    with pytest.raises(BadInput, match="cannot be made"):
        LabelStore(tmp_path / "file" / "labels.db")
    with pytest.raises(BadInput, match="nonsense://… cannot be used") as caught:
        LabelStore("nonsense://ann:secret@host/labels")
    assert "secret" not in str(caught.value)


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add([said(1)])

        def limit(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute("PRAGMA max_page_count=1")  # SQLite clamps it to the present size

        sql.event.listen(store._engine, "checkout", limit)
        with pytest.raises(BadInput, match=r"database or disk is full.*free space"):
            store.add([said(n) for n in range(2, 500)])
        sql.event.remove(store._engine, "checkout", limit)
        assert store.comparisons() == [said(1)]


def test_a_url_works_as_well() -> None:
    with LabelStore("sqlite://") as store:  # in memory
        assert store.add([said(1)]) == 1
        assert store.comparisons() == [said(1)]


def test_the_store_imports_no_torch() -> None:
    code = "import sys, accord.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
