"""Accounts, links, sessions: secrets are kept as hashes, links work once, names are checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql

from accord.records import BadInput
from accord.store import LabelStore, people
from accord.store.schema import links, sessions

NOW = 1_000_000.0


@pytest.fixture
def store(location: str) -> Iterator[LabelStore]:
    with LabelStore(location) as store:
        store.write(lambda c: people.ensure(c, [("ann", "annotator"), ("öp", "admin")], NOW))
        yield store


def test_a_link_works_once_and_for_a_week(store: LabelStore) -> None:
    token = store.write(lambda c: people.new_link(c, "ann", NOW))
    assert store.write(lambda c: people.use_link(c, token + "x", NOW)) is None
    assert store.write(lambda c: people.use_link(c, token, NOW + people.LINK_SECONDS)) is None
    assert store.write(lambda c: people.use_link(c, token, NOW + people.LINK_SECONDS - 1)) == "ann"
    assert store.write(lambda c: people.use_link(c, token, NOW)) is None
    first = store.write(lambda c: people.new_link(c, "ann", NOW))
    store.write(lambda c: people.new_link(c, "ann", NOW))
    assert store.write(lambda c: people.use_link(c, first, NOW)) is None  # a new link ends the old one


def test_sessions_end(store: LabelStore) -> None:
    token = store.write(lambda c: people.start_session(c, "ann", NOW))
    who = store.read(lambda c: people.session_person(c, token, NOW + 1))
    assert who == people.Person("ann", "annotator", paused=False, ready=False, password=False)
    assert store.read(lambda c: people.session_person(c, token, NOW + people.SESSION_SECONDS)) is None
    store.write(lambda c: people.end_session(c, token))
    assert store.read(lambda c: people.session_person(c, token, NOW + 1)) is None


def test_a_new_password_ends_all_sessions(store: LabelStore) -> None:
    token = store.write(lambda c: people.start_session(c, "ann", NOW))
    hashed = people.hash_password("a long password")
    store.write(lambda c: people.set_password(c, "ann", hashed))
    assert store.read(lambda c: people.session_person(c, token, NOW + 1)) is None
    stored = store.read(lambda c: people.stored_password(c, "ann"))
    assert people.check_password(stored, "a long password")
    assert not people.check_password(stored, "another password")
    assert not people.check_password(None, "nobody has this password")
    assert not people.check_password("not a hash", "x")


def test_the_store_holds_no_secret(store: LabelStore) -> None:
    link = store.write(lambda c: people.new_link(c, "ann", NOW))
    session = store.write(lambda c: people.start_session(c, "ann", NOW))
    hashed = people.hash_password("correct horse battery")
    store.write(lambda c: people.set_password(c, "öp", hashed))
    session = store.write(lambda c: people.start_session(c, "ann", NOW))
    kept = store.read(
        lambda c: (
            str([c.execute(sql.select(t)).all() for t in (links, sessions)])
            + str(c.execute(sql.text("SELECT * FROM accord_people")).all())
        )
    )
    assert hashed.startswith("$argon2id$")
    assert all(secret not in kept for secret in (link, session, "correct horse"))


@pytest.mark.parametrize("password", ["", "short", "x" * 201])
def test_passwords_have_limits(password: str) -> None:
    with pytest.raises(BadInput, match="use 10 to 200"):
        people.hash_password(password)


def test_names_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text(
        "# the team\nAnn  Öhm\nbob, admin\n\ncy , annotator  # new\nSmith, John\n", encoding="utf-8-sig"
    )
    assert people.read_names(path) == [
        ("Ann Öhm", "annotator"),
        ("bob", "admin"),
        ("cy", "annotator"),
        ("Smith, John", "annotator"),
    ]
    path.write_text("ann\nsimulated:1\n")
    with pytest.raises(BadInput, match="line 2: 'simulated:1' cannot be the name"):
        people.read_names(path)
    path.write_text("# nobody\n")
    with pytest.raises(BadInput, match="names nobody"):
        people.read_names(path)
    with pytest.raises(BadInput, match="cannot be read"):
        people.read_names(tmp_path / "none.txt")


def test_a_role_that_is_given_anew_is_taken_over(store: LabelStore) -> None:
    store.write(lambda c: people.ensure(c, [("ann", "admin"), ("dee", "annotator")], NOW))
    assert [(p.name, p.role) for p in store.read(people.everybody)] == [
        ("ann", "admin"),
        ("dee", "annotator"),
        ("öp", "admin"),
    ]
