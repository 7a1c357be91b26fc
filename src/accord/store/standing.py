"""Which judgements count: the latest word of each voice, unless it was undone or retracted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sql

from accord.store.schema import judgements

T = TypeVar("T")

_IDS_A_QUERY = 500  # SQLite once allowed 999 bound values; other databases have limits of their own


def chunks(values: Sequence[T], size: int = _IDS_A_QUERY) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def standing(
    connection: sql.Connection, item_ids: Sequence[str] | None
) -> dict[tuple[str, str, str, str], sql.Row[Any]]:
    """The judgement that counts for each voice on these items (None: on all).

    A judgement stands until the same voice says something later, or until it is undone or retracted.
    """
    gone = judgements.alias()
    taken_back = sql.exists().where(gone.c.target == judgements.c.event, gone.c.kind.in_(("undo", "retract")))
    query = (
        sql.select(judgements)
        .where(judgements.c.kind == "judgement", judgements.c.purpose == "label", ~taken_back)
        .order_by(judgements.c.sequence)
    )
    latest: dict[tuple[str, str, str, str], sql.Row[Any]] = {}
    for ids in [None] if item_ids is None else chunks(item_ids):
        for row in connection.execute(query if ids is None else query.where(judgements.c.item.in_(ids))):
            criterion = ""
            if '"criterion"' in row.body:  # sparing most rows a parse
                criterion = json.loads(row.body).get("criterion", "")
            latest[voice(row.item, row.annotator, criterion, row.content)] = row
    return latest


def voice(item: str, annotator: str, criterion: str, content: str) -> tuple[str, str, str, str]:
    """Who speaks about what: a later row of the same voice replaces the earlier one."""
    return (item, annotator, criterion, "" if annotator else content)
