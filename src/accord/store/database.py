"""One database: connecting, transactions, damage, migrations. What is stored is the other modules' affair.

SQLite by default, PostgreSQL by URL. A commit is on the disk before a call returns (WAL with synchronous
FULL), so that a kill or a power cut loses no label; labels are people's time, and the price is one fsync a
transaction. Writers take one lock before they read, on both databases, so that what they decide (is this new,
is a slot free) is still true when they write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

from accord.records import BadInput
from accord.store import schema

T = TypeVar("T")

BUSY_SECONDS = 30.0  # how long a writer waits for another process's transaction
HEAD = "002"  # the newest revision in migrations/versions
_WRITE_LOCK = 0x6163636F7264  # "accord": PostgreSQL's advisory lock that all writers of a store share
# SQLite's locks and its shared memory are not kept by these (https://sqlite.org/wal.html, "same host"; and
# https://sqlite.org/faq.html#q5), so a database there is damaged sooner or later.
NETWORK_FILE_SYSTEMS = [
    "nfs",
    "nfs4",
    "cifs",
    "smb",
    "smb2",
    "smb3",
    "smbfs",
    "sshfs",
    "fuse.sshfs",
    "afs",
    "afpfs",
    "webdav",
    "davfs",
    "fuse.davfs",
    "lustre",
    "ceph",
    "fuse.ceph",
    "glusterfs",
    "fuse.glusterfs",
    "beegfs",
    "gpfs",
    "orangefs",
    "pvfs2",
    "ocfs2",
    "gfs2",
    "ncpfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.gcsfuse",
    "fuse.goofys",
]


class Database:
    """A connection pool to one store.

    Args:
        location: a file path (SQLite; parent folders are made), or a database URL with ``://`` in it.

    Raises:
        BadInput: not a database, damaged, somebody else's database, on a network file system, unreachable,
            not writable, or (from any method) locked for longer than ``BUSY_SECONDS`` or out of disk.
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
            engine = self._connect_url()
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
            refuse_network_file_system(path)
            url = sql.URL.create("sqlite", database=str(path))
            engine = sql.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        if engine.dialect.name == "sqlite":
            sql.event.listen(engine, "connect", _configure_sqlite)
            sql.event.listen(engine, "begin", _begin_sqlite)
        else:
            sql.event.listen(engine, "begin", _begin_postgresql)
        return engine

    def _connect_url(self) -> sql.Engine:
        location, kind = self.location, self.location.partition("://")[0]
        if kind in ("postgres", "postgresql"):  # SQLAlchemy's own default is the older driver
            location = "postgresql+psycopg://" + location.partition("://")[2]
        elif kind.partition("+")[0] not in ("sqlite", "postgresql"):
            raise BadInput(
                f"the label store URL {kind}://… cannot be used: accord keeps labels in PostgreSQL "
                "(postgresql://…) or in a file"
            )
        try:
            return sql.create_engine(location)
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            # Neither the URL nor the cause is shown whole: a database URL may hold a password.
            raise BadInput(
                f"the label store URL {kind}://… cannot be used ({type(error).__name__}): check the URL and "
                "install its database driver (pip install 'accord-rlhf[postgresql]'), or give a file path"
            ) from None

    @property
    def sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _prepare(self) -> None:
        with self.transaction(write=True) as connection:
            if self.sqlite:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
                if found != "ok":
                    raise self._damaged(str(found))
            names = {n for n in sql.inspect(connection).get_table_names() if not n.startswith("sqlite_")}
            first = {"accord_pairs", "accord_labels"} <= names
            ours = first or {"accord_items", "accord_judgements"} <= names
            if self.sqlite and names and not ours:
                raise BadInput(
                    f"{self.location} is a database, but not a label store (it holds the table "
                    f"{min(names)!r}): give another path"
                )
            version = None
            if "accord_version" in names:
                version = connection.scalar(sql.text("SELECT version_num FROM accord_version"))
            if version != HEAD:
                self._migrate(connection, "001" if first and version is None else version)

    def _migrate(self, connection: sql.Connection, version: str | None) -> None:
        if version is not None and version > HEAD:
            raise BadInput(
                f"the label store {self.place} was made by a newer accord (revision {version}, this one "
                f"knows {HEAD}): upgrade accord"
            )
        from alembic import command  # slow to import, and hardly ever needed
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        if version == "001":
            command.stamp(config, "001")
        command.upgrade(config, "head")

    @property
    def place(self) -> str:
        """The location without a password."""
        return self.location if "://" not in self.location else self._engine.url.render_as_string()

    def _damaged(self, detail: str) -> BadInput:
        return BadInput(
            f"the label store {self.location} is damaged ({' '.join(detail.split())[:120]}): restore it from "
            "a copy, save what `sqlite3 FILE .recover` can read, or move it away to start with no labels"
        )

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[sql.Connection]:
        options: dict[str, Any] = {"accord_write": write}
        if not (self.sqlite or write):
            options["isolation_level"] = "REPEATABLE READ"  # a writer's snapshot comes after its lock instead
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except DatabaseError as error:
            detail = str(error.orig)
            if "not a database" in detail or "malformed" in detail:
                raise self._damaged(detail) from None
            if "append-only" in detail:
                raise
            raise BadInput(
                f"the label store {self.place} cannot be used ({' '.join(detail.split())[:200]}): check that "
                + (
                    "its folder is writable, has free space, and that no other program holds it"
                    if self.sqlite
                    else "the server runs and lets you in"
                )
            ) from None

    def read(self, job: Callable[[sql.Connection], T]) -> T:
        """``job`` in a transaction that sees one state of the database and waits for nobody."""
        with self.transaction(write=False) as connection:
            return job(connection)

    def write(self, job: Callable[[sql.Connection], T]) -> T:
        """``job`` in a transaction of its own; what it wrote is on the disk when this returns."""
        with self.transaction(write=True) as connection:
            return job(connection)

    def close(self) -> None:
        """Release the file. The last process to close folds the write-ahead log into it."""
        self._engine.dispose()


def refuse_network_file_system(path: Path) -> None:
    """Raises BadInput where ``path`` is on a file system that other hosts share."""
    target = path.resolve()
    best, kind = -1, ""
    for mount in psutil.disk_partitions(all=True):
        if target.is_relative_to(mount.mountpoint) and len(mount.mountpoint) >= best:
            best, kind = len(mount.mountpoint), mount.fstype.lower()
    if kind in NETWORK_FILE_SYSTEMS:
        raise BadInput(
            f"the label store {path} would be on a network file system ({kind}), where SQLite cannot keep "
            "labels safe: give a path on a local disk, or the URL of a PostgreSQL database"
        )


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us, below: the driver's own begin too late
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    # A writer takes its lock before it reads what is there, so that two processes never both add one label.
    write = connection.get_execution_options().get("accord_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgresql(connection: sql.Connection) -> None:
    # The same rule as above. Released by PostgreSQL itself at the end of the transaction, or of the process.
    if connection.get_execution_options().get("accord_write", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")


def everything_is_current(connection: sql.Connection) -> bool:
    """Whether the tables of the store are those of `schema` (for tests of the migrations)."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"version_table": "accord_version"})
    return not compare_metadata(context, schema.metadata)
