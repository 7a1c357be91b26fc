"""Accounts, sign-in links, sessions. Secrets are kept as hashes only; a leaked store signs nobody in."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import argon2
import sqlalchemy as sql

from accord.records import NOT_PEOPLE, BadInput, is_person
from accord.store import queue
from accord.store.campaign import log
from accord.store.schema import links, people, sessions

Role = Literal["admin", "annotator"]
SESSION_SECONDS = 30 * 86400.0
LINK_SECONDS = 7 * 86400.0
PASSWORD_LENGTH = (10, 200)
_hasher = argon2.PasswordHasher()  # argon2id with the library's present defaults (RFC 9106, low memory)
_NOBODY = _hasher.hash("nobody has this password")  # so that unknown names take as long as known ones


class Person(NamedTuple):
    name: str
    role: Role
    paused: bool
    ready: bool
    password: bool


def checked_name(text: str) -> str:
    """A name as it will stand in exports.

    Raises:
        BadInput: empty, over 80 characters, not printable, or one that accord keeps for itself.
    """
    name = " ".join(text.split())
    if not name or len(name) > 80 or not name.isprintable() or not is_person(name):
        raise BadInput(
            f"{text[:90]!r} cannot be the name of a person: use 1 to 80 printable characters, and no "
            f"{' or '.join(NOT_PEOPLE)} in front"
        )
    return name


def read_names(path: str | Path) -> list[tuple[str, Role]]:
    """Names from a file, one a line; ``name, admin`` makes an operator; ``#`` starts a comment.

    Raises:
        BadInput: with the line, or that there is none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"the names in {path} cannot be read ({type(error).__name__}): give a UTF-8 file"
        ) from None
    found: dict[str, Role] = {}
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        match = re.fullmatch(r"(.*?)(?:,\s*(admin|annotator))?", text)
        assert match is not None
        try:
            name = checked_name(match[1])
        except BadInput as error:
            raise BadInput(f"{path}, line {number}: {error}") from None
        found[name] = "admin" if match[2] == "admin" else "annotator"
    if not found:
        raise BadInput(f"{path} names nobody: write one name a line")
    return list(found.items())


def ensure(connection: sql.Connection, names: Iterable[tuple[str, Role]], now: float) -> None:
    """Make the accounts that are not there; a role that is given anew is taken over."""
    for name, role in names:
        there = connection.scalar(sql.select(people.c.role).where(people.c.name == name))
        if there is None:
            row = {"name": name, "role": role, "password": None, "paused": False, "ready": None}
            connection.execute(sql.insert(people), row | {"created": now})
        elif there != role:
            connection.execute(sql.update(people).where(people.c.name == name).values(role=role))


def find(connection: sql.Connection, name: str) -> Person | None:
    row = connection.execute(sql.select(people).where(people.c.name == name)).one_or_none()
    return None if row is None else _person(row)


def everybody(connection: sql.Connection) -> list[Person]:
    return [_person(row) for row in connection.execute(sql.select(people).order_by(people.c.name))]


def _person(row: sql.Row[Any]) -> Person:
    return Person(row.name, row.role, row.paused, row.ready is not None, row.password is not None)


def set_password(connection: sql.Connection, name: str, password_hash: str) -> None:
    """Store a hash from `hash_password`; everybody who is signed in by that name has to sign in again."""
    connection.execute(sql.update(people).where(people.c.name == name).values(password=password_hash))
    connection.execute(sql.delete(sessions).where(sessions.c.person == name))


def hash_password(password: str) -> str:
    """argon2id; takes some 50 ms and 64 MiB on purpose.

    Raises:
        BadInput: shorter or longer than `PASSWORD_LENGTH`.
    """
    low, high = PASSWORD_LENGTH
    if not low <= len(password) <= high:
        raise BadInput(f"the password has {len(password)} characters: use {low} to {high}")
    return _hasher.hash(password)


def stored_password(connection: sql.Connection, name: str) -> str | None:
    found: str | None = connection.scalar(sql.select(people.c.password).where(people.c.name == name))
    return found


def check_password(stored: str | None, password: str) -> bool:
    """Takes the same time whether the account exists, has a password, or has another one."""
    try:
        _hasher.verify(stored or _NOBODY, password[: PASSWORD_LENGTH[1]])
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return stored is not None


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def new_link(connection: sql.Connection, name: str, now: float) -> str:
    """A token that signs this person in once, within a week; links made before stop working."""
    token = secrets.token_urlsafe(24)
    connection.execute(
        sql.update(links).where(links.c.person == name, links.c.used.is_(None)).values(used=now)
    )
    connection.execute(
        sql.insert(links),
        {"token": digest(token), "person": name, "expires": now + LINK_SECONDS, "used": None},
    )
    return token


def use_link(connection: sql.Connection, token: str, now: float) -> str | None:
    """Whom the link signs in; None where it was used, ran out or never was."""
    row = connection.execute(sql.select(links).where(links.c.token == digest(token))).one_or_none()
    if row is None or row.used is not None or row.expires <= now:
        return None
    connection.execute(sql.update(links).where(links.c.token == row.token).values(used=now))
    return str(row.person)


def start_session(connection: sql.Connection, name: str, now: float) -> str:
    token = secrets.token_urlsafe(32)
    connection.execute(sql.delete(sessions).where(sessions.c.expires <= now))
    connection.execute(
        sql.insert(sessions),
        {"token": digest(token), "person": name, "created": now, "expires": now + SESSION_SECONDS},
    )
    return token


def session_person(connection: sql.Connection, token: str, now: float) -> Person | None:
    row = connection.execute(
        sql.select(people)
        .join(sessions, sessions.c.person == people.c.name)
        .where(sessions.c.token == digest(token), sessions.c.expires > now)
    ).one_or_none()
    return None if row is None else _person(row)


def end_session(connection: sql.Connection, token: str) -> None:
    connection.execute(sql.delete(sessions).where(sessions.c.token == digest(token)))


def set_ready(connection: sql.Connection, name: str, now: float) -> None:
    """The person has read the guidelines."""
    connection.execute(sql.update(people).where(people.c.name == name).values(ready=now))


def set_paused(connection: sql.Connection, actor: str, name: str, paused: bool, now: float) -> None:
    """A paused person gets no new items; what they hold goes back to the queue."""
    connection.execute(sql.update(people).where(people.c.name == name).values(paused=paused))
    if paused:
        queue.release(connection, name)
    log(connection, actor, "pause" if paused else "resume", now, {"person": name})
