"""Databases for tests: a SQLite file, and the Debian package's PostgreSQL server on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord.records import Pair, Prompt, Response
from accord.store import LabelStore

KINDS = ("sqlite", "postgresql")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgresql_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a new server's maintenance database; the server is gone afterwards.

    PostgreSQL refuses to run as root, so root starts it as the package's own user.
    """
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="accord-postgresql-"))
    become: list[str] = []
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    port, data = free_port(), folder / "data"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    try:
        initdb = [programs / "initdb", "-D", data, "-U", "accord", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*become, *initdb, "--locale=C.UTF-8"], **quiet)
        # Durability is measured on SQLite, and PostgreSQL's own is not ours to test: fsync off is quick.
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        control = [*become, str(programs / "pg_ctl"), "-D", str(data), "-w"]
        subprocess.run([*control, "-o", options, "-l", str(folder / "log"), "start"], **quiet)
        try:
            yield f"postgresql://accord@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(server: str) -> str:
    """The URL of a new, empty database on ``server``."""
    import psycopg

    name = "t" + uuid.uuid4().hex
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.rpartition("/")[0] + "/" + name


def pair(number: int, round_: int = 0, a: str = "yes", b: str = "no") -> Pair:
    return Pair(
        Prompt.from_text(f"question {number}"),
        Response(f"{a} {number}", policy="sft"),
        Response(f"{b} {number}", policy="round-0"),
        round=round_,
    )


def filled(location: str, count: int, overlap: int = 1) -> LabelStore:
    store = LabelStore(location)
    store.add_pairs([pair(n) for n in range(count)], overlap=overlap)
    return store
