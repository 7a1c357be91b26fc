"""Both databases for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import KINDS, new_database, postgresql


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store can be made: a file, then a PostgreSQL database."""
    if request.param == "sqlite":
        return str(tmp_path / "labels.db")
    return new_database(request.getfixturevalue("postgresql_server"))
