"""What people are to label next, and who holds it: the one place that decides both.

Collection fills the queue (`enqueue`); `next_items` hands out its items. Each item has ``overlap`` slots. A
slot is held by a lease that its holder's browser keeps alive, or filled by a judgement, and never more than
``overlap`` are: every change happens under the writers' lock and ends in `recount`. A lease that ran out is
free at the very next request. A strategy that knows better than *first come, first served* sets ``priority``.

Functions take an open write transaction and the time; they keep no state and read no clock.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sql

from accord.records import content_hash, is_person
from accord.store.campaign import Campaign
from accord.store.schema import assignments, gold, items, queue
from accord.store.standing import chunks, standing

# The statements of the busiest path, built once: of a call that stores one judgement and hands out one item,
# building them anew took half the time. SQLite and PostgreSQL read the same words.
_LATE = sql.text("SELECT item FROM accord_assignments WHERE state = 'leased' AND expires <= :now")
_HELD = sql.text(
    "SELECT id, item, purpose, shown, state, expires FROM accord_assignments "
    "WHERE annotator = :annotator AND state IN ('assigned', 'leased') ORDER BY created, id LIMIT :count"
)
_NEXT = sql.text(
    "SELECT q.item FROM accord_queue q WHERE q.taken < q.overlap "
    "AND NOT EXISTS (SELECT 1 FROM accord_assignments a WHERE a.item = q.item AND a.annotator = :annotator "
    "AND a.purpose = 'label' AND a.state IN ('assigned', 'leased', 'done', 'withdrawn')) "
    "AND NOT EXISTS (SELECT 1 FROM accord_judgements j WHERE j.item = q.item AND j.annotator = :annotator "
    "AND j.assignment IS NULL) "
    "AND NOT EXISTS (SELECT 1 FROM accord_gold g WHERE g.item = q.item AND g.purpose <> 'none') "
    "ORDER BY q.priority DESC, q.sequence LIMIT 1"
)
_ITEM = sql.text("SELECT kind, body FROM accord_items WHERE id = :item")
_GIVE = sql.text(
    "INSERT INTO accord_assignments (id, item, annotator, purpose, shown, state, created, expires) "
    "VALUES (:id, :item, :annotator, :purpose, :shown, 'leased', :created, :expires) "
    "ON CONFLICT (item, annotator, purpose) DO UPDATE SET state = 'leased', created = excluded.created, "
    "expires = excluded.expires RETURNING id, shown"
)
_TAKE_SLOT = sql.text("UPDATE accord_queue SET taken = taken + 1 WHERE item = :item")
_PAUSED = sql.text("SELECT paused FROM accord_people WHERE name = :annotator")
_PRACTICE = sql.text("SELECT 1 FROM accord_gold WHERE purpose = 'practice' LIMIT 1")
# What people are asked for its own sake: gold and practice items measure people and are not waited for.
_measures = gold.alias()  # also beside a query that joins the gold table itself
ORDINARY = ~sql.exists().where(_measures.c.item == queue.c.item, _measures.c.purpose != "none")


class Held(NamedTuple):
    """An assignment that somebody holds. ``shown`` is the order of the answers on the page, as JSON."""

    id: str
    item: str
    purpose: str
    shown: str
    state: str
    expires: float


def enqueue(connection: sql.Connection, ids: Sequence[str], overlap: int, priority: float = 0.0) -> None:
    """Put items on the queue, in the order of ``ids``; one that is there gets the larger overlap."""
    known: set[str] = set()
    for part in chunks(ids):
        known |= set(connection.scalars(sql.select(queue.c.item).where(queue.c.item.in_(part))))
        connection.execute(
            sql.update(queue).where(queue.c.item.in_(part), queue.c.overlap < overlap).values(overlap=overlap)
        )
    last = connection.scalar(sql.select(sql.func.max(queue.c.sequence))) or 0
    fresh = [item for item in dict.fromkeys(ids) if item not in known]
    rows = [
        {
            "item": item,
            "sequence": last + n,
            "priority": priority,
            "overlap": overlap,
            "taken": 0,
            "done": 0,
            "elsewhere": 0,
        }
        for n, item in enumerate(fresh, start=1)
    ]
    if rows:
        connection.execute(sql.insert(queue), rows)
        recount_elsewhere(connection, fresh)


def enqueue_rest(connection: sql.Connection, overlap: int) -> int:
    """Put every stored item on the queue that is not there yet. Returns how many came."""
    missing = list(
        connection.scalars(
            sql.select(items.c.id)
            .where(~sql.exists().where(queue.c.item == items.c.id))
            .order_by(items.c.sequence)
        )
    )
    enqueue(connection, missing, overlap)
    return len(missing)


def recount(connection: sql.Connection, ids: Sequence[str]) -> None:
    """Set ``taken`` and ``done`` of these items to what the assignments say."""
    mine = sql.and_(assignments.c.item == queue.c.item, assignments.c.purpose == "label")
    count = sql.select(sql.func.count()).select_from(assignments)
    held = count.where(mine, assignments.c.state.in_(("assigned", "leased", "done")))
    filled = count.where(mine, assignments.c.state == "done")
    for part in chunks(ids):
        connection.execute(
            sql.update(queue)
            .where(queue.c.item.in_(part))
            .values(
                taken=held.scalar_subquery() + queue.c.elsewhere,
                done=filled.scalar_subquery() + queue.c.elsewhere,
            )
        )


def recount_elsewhere(connection: sql.Connection, ids: Sequence[str]) -> None:
    """Count what people said of these items outside the app: it fills slots as well.

    What models, functions and simulated annotators say fills none: the slots are for people.
    """
    on_queue: list[str] = []
    for part in chunks(ids):
        on_queue += connection.scalars(sql.select(queue.c.item).where(queue.c.item.in_(part)))
    if not on_queue:
        return
    voices: dict[str, set[tuple[str, str]]] = {item: set() for item in on_queue}
    for (item, annotator, _, said), row in standing(connection, on_queue).items():
        if row.assignment is None and is_person(annotator):
            voices[item].add((annotator, said))
    for item, found in voices.items():
        connection.execute(sql.update(queue).where(queue.c.item == item).values(elsewhere=len(found)))
    recount(connection, on_queue)


def expire(connection: sql.Connection, now: float) -> list[str]:
    """Free the leases that ran out; returns their items."""
    late = list(connection.scalars(_LATE, {"now": now}))
    if late:
        over = sql.and_(assignments.c.state == "leased", assignments.c.expires <= now)
        connection.execute(sql.update(assignments).where(over).values(state="free"))
        recount(connection, late)
    return late


def next_items(
    connection: sql.Connection, annotator: str, campaign: Campaign, now: float, count: int
) -> list[Held]:
    """Up to ``count`` assignments that ``annotator`` holds from now on: those held already come first.

    Nobody gets an item twice, save one that is repeated on purpose; nobody who is paused gets a new one.
    """
    expire(connection, now)
    if campaign.paused or connection.scalar(_PAUSED, {"annotator": annotator}):
        return []
    rows = connection.execute(_HELD, {"annotator": annotator, "count": count})
    held = [Held(*row) for row in rows]
    if any(row.expires < now + campaign.lease_seconds * 2 / 3 for row in held):
        until = now + campaign.lease_seconds
        _extend(connection, [row.id for row in held if row.state == "leased"], until)
    new = 0
    while len(held) < count:
        found = _choose(connection, annotator, campaign, new)
        if found is None:
            break
        held.append(lease(connection, annotator, *found, campaign, now, new))
        new += 1
    return held


def _choose(
    connection: sql.Connection, annotator: str, campaign: Campaign, ahead: int
) -> tuple[str, str] | None:
    """The next (item, purpose) for this person: practice first, then what was mixed in, then the queue."""
    if connection.scalar(_PRACTICE):
        practice = _measuring(connection, annotator, "practice")
        if practice is not None:
            return practice, "practice"
    place = ahead
    if campaign.gold_every or campaign.repeat_every:
        place += _count(connection, annotator)
    if campaign.gold_every and _lot(campaign.gold_every, "gold", annotator, place):
        item = _measuring(connection, annotator, "gold")
        if item is not None:
            return item, "gold"
    if campaign.repeat_every and _lot(campaign.repeat_every, "repeat", annotator, place):
        item = _repeatable(connection, annotator, campaign.repeat_after)
        if item is not None:
            return item, "repeat"
    item = from_queue(connection, annotator)
    return None if item is None else (item, "label")


def from_queue(connection: sql.Connection, annotator: str) -> str | None:
    """The item with the highest priority (among equals the oldest) that has a free slot for this person.

    Not one that the person holds, has judged (here or in a file) or had taken away, and no gold item.
    """
    item: str | None = connection.scalar(_NEXT, {"annotator": annotator})
    return item


def _measuring(connection: sql.Connection, annotator: str, purpose: str) -> str | None:
    """The next gold or practice item that this person has not seen."""
    seen = sql.exists().where(
        assignments.c.item == gold.c.item,
        assignments.c.annotator == annotator,
        assignments.c.purpose == purpose,
        assignments.c.state != "free",  # given up unseen, as when a page is closed
    )
    found: str | None = connection.scalar(
        sql.select(gold.c.item)
        .join(items, items.c.id == gold.c.item)
        .where(gold.c.purpose == purpose, ~seen)
        .order_by(items.c.sequence)
        .limit(1)
    )
    return found


def _repeatable(connection: sql.Connection, annotator: str, after: int) -> str | None:
    """An item that this person judged at least ``after`` judgements ago and was not asked about again."""
    again = assignments.alias()
    asked = sql.exists().where(
        again.c.item == assignments.c.item,
        again.c.annotator == annotator,
        again.c.purpose == "repeat",
        again.c.state != "free",
    )
    recent = (
        sql.select(assignments.c.id)
        .where(assignments.c.annotator == annotator, assignments.c.state == "done")
        .order_by(assignments.c.finished.desc())
        .limit(after)
    )
    found: str | None = connection.scalar(
        sql.select(assignments.c.item)
        .where(
            assignments.c.annotator == annotator,
            assignments.c.purpose == "label",
            assignments.c.state == "done",
            ~asked,
            assignments.c.id.not_in(recent),
        )
        .order_by(assignments.c.finished)
        .limit(1)
    )
    return found


def _count(connection: sql.Connection, annotator: str) -> int:
    """How many items this person has been given."""
    return (
        connection.scalar(
            sql.select(sql.func.count())
            .select_from(assignments)
            .where(assignments.c.annotator == annotator, assignments.c.state.in_(("leased", "done")))
        )
        or 0
    )


def _lot(every: int, what: str, annotator: str, place: int) -> bool:
    """One place in ``every``, at places that nobody can count out."""
    return int(content_hash(what, annotator, str(place)), 16) % every == 0


def shown_order(seed: str, annotator: str, item: str, answers: int, purpose: str) -> list[int]:
    """In which order the answers stand on the page: uniform over all orders, the same when asked again.

    Of a pair that is shown a second time, the sides are exchanged: who always takes the left is found out.
    """
    order = list(range(answers))
    for last in range(answers - 1, 0, -1):  # Fisher-Yates; 2^64 / n is so near to uniform that nobody sees it
        draw = int(content_hash("sides", seed, annotator, item, str(last)), 16) % (last + 1)
        order[last], order[draw] = order[draw], order[last]
    return order[::-1] if purpose == "repeat" else order


def lease(
    connection: sql.Connection,
    annotator: str,
    item: str,
    purpose: str,
    campaign: Campaign,
    now: float,
    place: int = 0,
) -> Held:
    """Give the item to the person: a row of its own, or the one that was given up before."""
    order = shown_order(campaign.seed, annotator, item, answer_count(connection, item), purpose)
    expires = now + campaign.lease_seconds
    values = {
        "id": str(uuid.uuid4()),
        "item": item,
        "annotator": annotator,
        "purpose": purpose,
        "shown": json.dumps(order),
        "created": now + place * 1e-6,  # what was handed out together keeps its order
        "expires": expires,
    }
    key, shown = connection.execute(_GIVE, values).one()
    if purpose == "label":
        connection.execute(_TAKE_SLOT, {"item": item})
    return Held(key, item, purpose, shown, "leased", expires)


def answer_count(connection: sql.Connection, item: str) -> int:
    row = connection.execute(_ITEM, {"item": item}).one()
    return 2 if row.kind == "pair" else len(json.loads(row.body)["responses"])


def _extend(connection: sql.Connection, ids: Sequence[str], until: float) -> None:
    if ids:
        connection.execute(sql.update(assignments).where(assignments.c.id.in_(ids)).values(expires=until))


def heartbeat(
    connection: sql.Connection, annotator: str, ids: Sequence[str], campaign: Campaign, now: float
) -> list[str]:
    """Keep these leases alive. Returns those that the person still holds; the rest went elsewhere."""
    expire(connection, now)
    held = list(
        connection.scalars(
            sql.select(assignments.c.id).where(
                assignments.c.id.in_(ids),
                assignments.c.annotator == annotator,
                assignments.c.state.in_(("leased", "assigned")),
            )
        )
    )
    connection.execute(
        sql.update(assignments)
        .where(assignments.c.id.in_(held), assignments.c.state == "leased")
        .values(expires=now + campaign.lease_seconds)
    )
    return held


def release(connection: sql.Connection, annotator: str, ids: Sequence[str] | None = None) -> None:
    """Give leases up at once (None: all of this person's)."""
    which = sql.and_(assignments.c.annotator == annotator, assignments.c.state == "leased")
    if ids is not None:
        which = sql.and_(which, assignments.c.id.in_(ids))
    found = list(connection.scalars(sql.select(assignments.c.item).where(which)))
    if found:
        connection.execute(sql.update(assignments).where(which).values(state="free"))
        recount(connection, found)
