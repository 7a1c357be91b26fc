"""What an operator gives to one person, or takes away."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sql

from accord.store import queue
from accord.store.campaign import Campaign
from accord.store.schema import assignments
from accord.store.schema import queue as slots

NEVER = 4e12  # Unix seconds: what an operator assigned does not run out


def assign(
    connection: sql.Connection, annotator: str, ids: Sequence[str], campaign: Campaign, now: float
) -> int:
    """Reserve items for one person until they are done; those that they judged already are left out.

    The reservation takes a slot like any other. Where none is free, somebody else's lease (not a judgement)
    gives way; where all are filled, the item gets one slot more, since the operator asked for one more voice.
    """
    given = 0
    for item in ids:
        state = connection.scalar(
            sql.select(assignments.c.state).where(
                assignments.c.item == item,
                assignments.c.annotator == annotator,
                assignments.c.purpose == "label",
            )
        )
        if state in ("done", "assigned"):
            continue
        row = connection.execute(sql.select(slots).where(slots.c.item == item)).one_or_none()
        if row is None:
            continue
        if row.taken >= row.overlap and state != "leased":
            other = connection.scalar(
                sql.select(assignments.c.id)
                .where(
                    assignments.c.item == item,
                    assignments.c.purpose == "label",
                    assignments.c.state == "leased",
                )
                .order_by(assignments.c.expires)
                .limit(1)
            )
            if other is not None:
                connection.execute(
                    sql.update(assignments).where(assignments.c.id == other).values(state="withdrawn")
                )
            else:
                connection.execute(
                    sql.update(slots).where(slots.c.item == item).values(overlap=row.taken + 1)
                )
        mine = queue.lease(connection, annotator, item, "label", campaign, now, given)
        connection.execute(
            sql.update(assignments).where(assignments.c.id == mine.id).values(state="assigned", expires=NEVER)
        )
        queue.recount(connection, [item])
        given += 1
    return given


def withdraw(connection: sql.Connection, annotator: str, ids: Sequence[str] | None = None) -> list[str]:
    """Take unfinished items away from one person (None: all); they go back to the queue. Returns them."""
    which = sql.and_(
        assignments.c.annotator == annotator,
        assignments.c.purpose == "label",
        assignments.c.state.in_(("leased", "assigned")),
    )
    if ids is not None:
        which = sql.and_(which, assignments.c.item.in_(ids))
    found = list(connection.scalars(sql.select(assignments.c.item).where(which)))
    if found:
        connection.execute(sql.update(assignments).where(which).values(state="withdrawn"))
        queue.recount(connection, found)
    return found
