"""The label store: pairs that wait for a judgement, and the judgements, append-only.

SQLite by default, another database by URL. Rows are never changed or removed: somebody who judges the same
pair again adds a row, and the latest row of each (pair, annotator) counts. A commit is on the disk before
the call returns (WAL with synchronous FULL), so that a kill or a power cut loses no label; labels are
people's time, and the price is one fsync a call. No torch here.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from accord.records import VERDICTS, BadInput, Comparison, Pair, content_hash

T = TypeVar("T")

BUSY_SECONDS = 30.0  # how long a writer waits for another process's transaction
_IDS_A_QUERY = 500  # SQLite once allowed 999 bound values; other databases have limits of their own

_metadata = sql.MetaData()
_pairs = sql.Table(
    "accord_pairs",
    _metadata,
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("id", sql.String(16), nullable=False, unique=True),
    sql.Column("round", sql.Integer, nullable=False, index=True),
    sql.Column("body", sql.Text, nullable=False),  # Pair.to_json, ASCII so that any string survives
)
_labels = sql.Table(
    "accord_labels",
    _metadata,
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("id", sql.String(16), nullable=False),  # of the content; not unique: a, then b, then a again
    sql.Column("pair", sql.String(16), sql.ForeignKey("accord_pairs.id"), nullable=False, index=True),
    sql.Column("annotator", sql.Text, nullable=False),
    sql.Column("created", sql.Float, nullable=False),  # Unix seconds, for people who audit; never read here
    sql.Column("body", sql.Text, nullable=False),  # verdict, strength, shown_left, source, meta
)


def _body(comparison: Comparison) -> str:
    """What the annotator said, canonical; the pair and the annotator are columns of their own."""
    if comparison.verdict not in VERDICTS:
        raise BadInput(f"verdict {comparison.verdict!r} is not one of {', '.join(VERDICTS)}")
    row = {
        "verdict": comparison.verdict,
        "strength": comparison.strength,
        "shown_left": comparison.pair.shown_left,
        "source": comparison.source,
        "meta": dict(comparison.meta),
    }
    return json.dumps(row, sort_keys=True, allow_nan=False)


def label_id(comparison: Comparison) -> str:
    """Content identity of one judgement: pair, annotator and everything that was said."""
    return content_hash(comparison.pair.id, comparison.annotator, _body(comparison))


def _chunks(values: Sequence[T], size: int = _IDS_A_QUERY) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


class LabelStore:
    """Pairs and judgements in one database; a context manager.

    Args:
        location: a file path (SQLite; parent folders are made), or a database URL with ``://`` in it.

    Raises:
        BadInput: not a database, damaged, somebody else's database, unreachable, not writable, or (from any
            method) locked for longer than ``BUSY_SECONDS`` or out of disk.
    """

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        self._engine = self._connect()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sql.Engine:
        if "://" in self.location:
            try:
                engine = sql.create_engine(self.location)
            except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
                # Neither the URL nor the cause is shown whole: a database URL may hold a password.
                kind = self.location.partition("://")[0]
                raise BadInput(
                    f"the label store URL {kind}://… cannot be used ({type(error).__name__}): "
                    "check the URL and install its database driver, or give a file path"
                ) from None
        else:
            path = Path(self.location)
            if path.is_dir():
                raise BadInput(
                    f"the label store {path} is a folder: give the path of a file, such as labels.db"
                )
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BadInput(
                    f"the folder {path.parent} of the label store cannot be made ({error.strerror}): "
                    "give another place"
                ) from None
            url = sql.URL.create("sqlite", database=str(path))
            engine = sql.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        if engine.dialect.name == "sqlite":
            sql.event.listen(engine, "connect", _configure_sqlite)
            sql.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _prepare(self) -> None:
        sqlite = self._engine.dialect.name == "sqlite"
        with self._transaction(write=True) as connection:
            if sqlite:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                if found != "ok":
                    raise self._damaged(str(found))
                names = set(sql.inspect(connection).get_table_names())
                if names and not {"accord_pairs", "accord_labels"} <= names:
                    raise BadInput(
                        f"{self.location} is a database, but not a label store (it holds the table "
                        f"{min(names)!r}): give another path"
                    )
            _metadata.create_all(connection)
            if sqlite:
                for table in ("accord_pairs", "accord_labels"):
                    for action in ("UPDATE", "DELETE"):
                        connection.exec_driver_sql(
                            f"CREATE TRIGGER IF NOT EXISTS {table}_no_{action.lower()} "
                            f"BEFORE {action} ON {table} "
                            "BEGIN SELECT RAISE(ABORT, 'the label store is append-only'); END"
                        )

    def _damaged(self, detail: str) -> BadInput:
        return BadInput(
            f"the label store {self.location} is damaged ({' '.join(detail.split())[:120]}): restore it from "
            "a copy, save what `sqlite3 FILE .recover` can read, or move it away to start with no labels"
        )

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sql.Connection]:
        try:
            with (
                self._engine.connect().execution_options(accord_write=write) as connection,
                connection.begin(),
            ):
                yield connection
        except DatabaseError as error:
            detail = str(error.orig)
            if "not a database" in detail or "malformed" in detail:
                raise self._damaged(detail) from None
            if "append-only" in detail:
                raise
            place = self.location if "://" not in self.location else self._engine.url.render_as_string()
            raise BadInput(
                f"the label store {place} cannot be used ({' '.join(detail.split())[:200]}): check that its "
                "folder is writable, has free space, and that no other program holds it"
            ) from None

    def add_pairs(self, pairs: Iterable[Pair]) -> int:
        """Store pairs that are new by ``Pair.id``, the first of equal ones. Returns how many were new."""
        with self._transaction(write=True) as connection:
            return self._add_pairs(connection, pairs)

    def _add_pairs(self, connection: sql.Connection, pairs: Iterable[Pair]) -> int:
        wanted: dict[str, Pair] = {}
        for pair in pairs:
            wanted.setdefault(pair.id, pair)
        for ids in _chunks(list(wanted)):
            for known in connection.scalars(sql.select(_pairs.c.id).where(_pairs.c.id.in_(ids))).all():
                del wanted[known]
        rows = [{"id": i, "round": p.round, "body": json.dumps(p.to_json())} for i, p in wanted.items()]
        if rows:
            connection.execute(sql.insert(_pairs), rows)
        return len(rows)

    def add(self, comparisons: Iterable[Comparison]) -> int:
        """Store judgements (and their pairs) in one transaction. Returns how many were new.

        Adding what is already there changes nothing. A named annotator who now says something else gets a new
        row, and the latest row counts (the last one, where a call holds several). An empty annotator means
        *unknown*, so such rows are never taken for a change of mind: only equal content is dropped.

        Raises:
            BadInput: a verdict that does not exist.
        """
        said: dict[tuple[str, str, str], Comparison] = {}
        for comparison in comparisons:
            said[_voice(comparison.pair.id, comparison.annotator, label_id(comparison))] = comparison
        now = time.time()
        with self._transaction(write=True) as connection:
            self._add_pairs(connection, (c.pair for c in said.values()))
            standing = {
                voice: row.id
                for voice, row in self._standing(connection, list({pair for pair, _, _ in said})).items()
            }
            rows = [
                {
                    "id": label_id(comparison),
                    "pair": comparison.pair.id,
                    "annotator": comparison.annotator,
                    "created": now,
                    "body": _body(comparison),
                }
                for voice, comparison in said.items()
                if standing.get(voice) != label_id(comparison)
            ]
            if rows:
                connection.execute(sql.insert(_labels), rows)
            return len(rows)

    def _standing(
        self, connection: sql.Connection, pair_ids: Sequence[str]
    ) -> dict[tuple[str, str, str], sql.Row[Any]]:
        """The judgement that counts for each voice on these pairs."""
        latest: dict[tuple[str, str, str], sql.Row[Any]] = {}
        for ids in _chunks(pair_ids):
            query = sql.select(_labels).where(_labels.c.pair.in_(ids)).order_by(_labels.c.sequence)
            for row in connection.execute(query):
                latest[_voice(row.pair, row.annotator, row.id)] = row
        return latest

    def comparisons(self, rounds: Collection[int] | None = None) -> list[Comparison]:
        """The judgements that count, in the order of their insertion; ``rounds`` None takes every round."""
        query = sql.select(_pairs.c.id, _pairs.c.body)
        if rounds is not None:
            query = query.where(_pairs.c.round.in_(sorted(set(rounds))))
        with self._transaction(write=False) as connection:
            pairs = {row.id: Pair.from_json(json.loads(row.body)) for row in connection.execute(query)}
            standing = self._standing(connection, list(pairs))
        return [
            _comparison(pairs[row.pair], row)
            for row in sorted(standing.values(), key=lambda row: int(row.sequence))
        ]

    def pending(self, pairs: Iterable[Pair], labels_per_pair: int = 1) -> list[Pair]:
        """Those of ``pairs`` with fewer than ``labels_per_pair`` judgements, each once, order kept.

        A skip counts: somebody looked and declined, and one person alone must be able to finish.
        """
        wanted: dict[str, Pair] = {}
        for pair in pairs:
            wanted.setdefault(pair.id, pair)
        with self._transaction(write=False) as connection:
            counts = Counter(pair for pair, _, _ in self._standing(connection, list(wanted)))
        return [pair for key, pair in wanted.items() if counts[key] < labels_per_pair]

    def close(self) -> None:
        """Release the file. The last process to close folds the write-ahead log into it."""
        self._engine.dispose()

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _voice(pair: str, annotator: str, content: str) -> tuple[str, str, str]:
    """Who speaks about what: a later row of the same voice replaces the earlier one."""
    return (pair, annotator, "" if annotator else content)


def _comparison(pair: Pair, row: sql.Row[Any]) -> Comparison:
    body = json.loads(row.body)
    # Sides are drawn for each showing, so the label's record of them outranks the pair's.
    pair = dataclasses.replace(pair, shown_left=body["shown_left"])
    return Comparison(pair, body["verdict"], row.annotator, body["strength"], body["source"], body["meta"])


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us, below: the driver's own begin too late
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    # A writer takes its lock before it reads what is there, so that two processes never both add one label.
    write = connection.get_execution_options().get("accord_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
