"""Stores that earlier versions made open, with every label; a migration that fails changes nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from accord.records import BadInput, Comparison, content_hash
from accord.store import LabelStore, database, label_id, queue
from accord.store.migrations.versions import v002_people
from tests.stores import pair

# The tables as the first version of the store made them, before there were migrations.
FIRST = """
CREATE TABLE accord_pairs (sequence INTEGER NOT NULL, id VARCHAR(16) NOT NULL, round INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (sequence), UNIQUE (id));
CREATE INDEX ix_accord_pairs_round ON accord_pairs (round);
CREATE TABLE accord_labels (sequence INTEGER NOT NULL, id VARCHAR(16) NOT NULL, pair VARCHAR(16) NOT NULL,
    annotator TEXT NOT NULL, created FLOAT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (sequence),
    FOREIGN KEY(pair) REFERENCES accord_pairs (id));
CREATE INDEX ix_accord_labels_pair ON accord_labels (pair);
CREATE TRIGGER accord_pairs_no_update BEFORE UPDATE ON accord_pairs
    BEGIN SELECT RAISE(ABORT, 'the label store is append-only'); END;
CREATE TRIGGER accord_labels_no_delete BEFORE DELETE ON accord_labels
    BEGIN SELECT RAISE(ABORT, 'the label store is append-only'); END;
"""


def said(number: int, verdict: Any, annotator: str) -> Comparison:
    return Comparison(pair(number), verdict, annotator, 2.0, "people (file x)", {"note": "ü"})


def first_store(path: Path) -> list[Comparison]:
    rows = [said(0, "a", "ann"), said(1, "b", "ann"), said(1, "tie", "ann"), said(1, "a", "")]
    with sqlite3.connect(path) as connection:
        connection.executescript(FIRST)
        for n in range(3):
            connection.execute(
                "INSERT INTO accord_pairs (id, round, body) VALUES (?, 0, ?)",
                (pair(n).id, json.dumps(pair(n).to_json())),
            )
        for row in rows:
            body = {
                "verdict": row.verdict,
                "strength": 2.0,
                "shown_left": "a",
                "source": row.source,
                "meta": row.meta,
            }
            text = json.dumps(body, sort_keys=True)
            connection.execute(
                "INSERT INTO accord_labels (id, pair, annotator, created, body) VALUES (?, ?, ?, 5.0, ?)",
                (content_hash(row.pair.id, row.annotator, text), row.pair.id, row.annotator, text),
            )
            assert content_hash(row.pair.id, row.annotator, text) == label_id(row)  # ids are those of then
    connection.close()
    return rows


def test_a_store_of_the_first_version_opens_with_every_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    rows = first_store(path)
    for _ in range(2):
        with LabelStore(path) as store:
            assert store.comparisons() == [rows[0], rows[2], rows[3]]
            assert store.add(rows[2:]) == 0  # known by their old ids
            assert store.pending([pair(n) for n in range(4)]) == [pair(2), pair(3)]
            assert store.read(database.everything_is_current)
    history = sqlite3.connect(path)
    assert history.execute("SELECT count(*), count(DISTINCT event) FROM accord_judgements").fetchone() == (
        4,
        4,
    )
    assert history.execute("SELECT version_num FROM accord_version").fetchone() == (database.HEAD,)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        history.execute("DELETE FROM accord_judgements")
    history.close()


def test_old_labels_fill_slots_of_the_queue(tmp_path: Path) -> None:
    first_store(tmp_path / "labels.db")
    with LabelStore(tmp_path / "labels.db") as store:
        store.write(lambda c: queue.enqueue_rest(c, 1))
        assert store.write(lambda c: queue.from_queue(c, "new")) == pair(2).id


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.db"
    rows = first_store(path)

    def broken(dialect: str, *_: Any) -> list[str]:
        return ["CREATE NONSENSE"]

    with monkeypatch.context() as patch:
        patch.setattr(v002_people.schema, "append_only_statements", broken)
        with pytest.raises(BadInput):
            LabelStore(path)
    before = sqlite3.connect(path)
    tables = {name for (name,) in before.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"accord_pairs", "accord_labels"}
    before.close()
    with LabelStore(path) as store:
        assert len(store.comparisons()) == len(rows) - 1


def test_both_databases_end_with_the_tables_of_the_schema(location: str) -> None:
    with LabelStore(location) as store:
        assert store.read(database.everything_is_current)
    with LabelStore(location) as store:
        store.add([said(0, "a", "ann")])
        assert store.comparisons() == [said(0, "a", "ann")]


def test_postgresql_continues_the_numbers_of_the_old_rows(postgresql_server: str) -> None:
    from tests.stores import new_database

    url = new_database(postgresql_server)
    engine = sql.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for statement in FIRST.replace("sequence INTEGER NOT NULL", "sequence SERIAL").split(";")[:4]:
            connection.execute(sql.text(statement))
        body = json.dumps(pair(0).to_json())
        connection.execute(
            sql.text("INSERT INTO accord_pairs (id, round, body) VALUES (:i, 0, :b)"),
            {"i": pair(0).id, "b": body},
        )
    engine.dispose()
    with LabelStore(url) as store:
        assert store.add_pairs([pair(0), pair(1)]) == 1
        assert store.add([said(1, "a", "ann")]) == 1


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store, store.transaction(write=True) as connection:
        connection.execute(sql.text("UPDATE accord_version SET version_num = '999'"))
    with pytest.raises(BadInput, match=r"newer accord \(revision 999.*upgrade"):
        LabelStore(tmp_path / "labels.db")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from collections import namedtuple

    mount = namedtuple("mount", "mountpoint fstype")
    mounts = [mount("/", "ext4"), mount(str(tmp_path), kind), mount("/elsewhere", "nfs")]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    with pytest.raises(BadInput, match=rf"network file system \({kind}\).*PostgreSQL"):
        LabelStore(tmp_path / "deep" / "labels.db")
    mounts[1] = mount(str(tmp_path), "ext4")
    LabelStore(tmp_path / "deep" / "labels.db").close()


def test_other_databases_and_passwords_in_urls() -> None:
    with pytest.raises(BadInput, match=r"mysql\+pymysql://… cannot be used.*PostgreSQL") as caught:
        LabelStore("mysql+pymysql://ann:secret@host/labels")
    assert "secret" not in str(caught.value)
    with pytest.raises(BadInput, match="server runs") as caught:
        LabelStore("postgresql://ann:secret@127.0.0.1:1/labels")
    assert "secret" not in str(caught.value)
