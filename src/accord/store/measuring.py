"""Items with a known right answer: gold (mixed in, unseen) and practice (at the start, explained)."""

from __future__ import annotations

import json

import sqlalchemy as sql

from accord.records import BadInput
from accord.store.campaign import log
from accord.store.schema import gold, items

PURPOSES = ("gold", "practice", "none")
VERDICTS = ("a", "b", "tie", "both_bad")


def set_gold(
    connection: sql.Connection, actor: str, item: str, purpose: str, verdict: str, note: str, now: float
) -> bool:
    """Make a pair gold or practice; ``none`` makes it an ordinary item again. Returns whether it changed.

    Such a pair gives no labels and no run waits for it.

    Raises:
        BadInput: no such purpose or verdict, or a ranking, which has no single right answer.
    """
    if purpose not in PURPOSES:
        raise BadInput(f"an item serves as gold or practice (none: an ordinary item), not as {purpose!r}")
    if purpose != "none" and verdict not in VERDICTS:
        raise BadInput(
            f"the right verdict of a {purpose} item is one of {', '.join(VERDICTS)}, not {verdict!r}"
        )
    kind = connection.scalar(sql.select(items.c.kind).where(items.c.id == item))
    if kind != "pair":
        raise BadInput(f"item {item} is no pair: only a pair can serve as {purpose}")
    values = {"purpose": purpose, "verdict": verdict or "none", "note": json.dumps(note)}
    before = connection.execute(sql.select(gold).where(gold.c.item == item)).one_or_none()
    if before is None:
        connection.execute(sql.insert(gold), {"item": item} | values)
    elif {name: getattr(before, name) for name in values} == values:
        return False
    else:
        connection.execute(sql.update(gold).where(gold.c.item == item).values(**values))
    log(connection, actor, "gold", now, {"item": item, "purpose": purpose, "verdict": verdict})
    return True
