"""What an annotator says, takes back or corrects: each a new row, each said once.

The client makes the id of an event before it sends it, and sends it again until it is told that it was kept.
The same id with the same body changes nothing and gets the same answer; with another body it is refused.

A judgement that arrives when its lease has run out and others have filled all slots is kept as ``surplus``:
no typed judgement is lost, and an item never counts more than its ``overlap``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import sqlalchemy as sql
from pydantic import BaseModel, ConfigDict, Field, model_validator

from accord.records import Span, content_hash
from accord.store import queue
from accord.store.campaign import Campaign, log
from accord.store.schema import assignments, gold, judgements
from accord.store.schema import queue as queue_table

SOURCE = "people (labelling app)"
UNDO_DEPTH = 10
Choice = Literal["left", "right", "tie", "both_bad", "skip"]
Place = Annotated[int, Field(ge=0, lt=20)]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


# As in `queue`: the statements of the busiest path, built once.
_EVENT = sql.text("SELECT kind, content, item, purpose, body FROM accord_judgements WHERE event = :event")
_ASSIGNED = sql.text(
    "SELECT a.id, a.item, a.purpose, a.shown, a.state, i.kind, i.body FROM accord_assignments a "
    "JOIN accord_items i ON i.id = a.item WHERE a.id = :id AND a.annotator = :annotator"
)
_KEEP = sql.text(
    "INSERT INTO accord_judgements "
    "(event, kind, item, annotator, content, target, assignment, purpose, created, body) VALUES "
    "(:event, 'judgement', :item, :annotator, :content, :target, :assignment, :purpose, :created, :body)"
)
_FINISH = sql.text("UPDATE accord_assignments SET state = :state, finished = :now WHERE id = :id")
_FILL_SLOT = sql.text("UPDATE accord_queue SET done = done + 1 WHERE item = :item")


class Refused(Exception):
    """A request that cannot be done; raised before anything was written. ``status`` is that of HTTP."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Marked(_Body):
    """A marked passage, by the place of its answer on the page."""

    place: Place
    start: Annotated[int, Field(ge=0, le=10_000_000)]
    end: Annotated[int, Field(ge=1, le=10_000_000)]
    quote: Annotated[str, Field(min_length=1, max_length=2000)]
    mark: Literal["good", "bad"]


class Submission(_Body):
    """What the page sends: sides as they were seen. Which answer that was is known here only."""

    id: Uuid
    assignment: Uuid
    verdict: Choice | Literal["ranked"]
    ranks: tuple[Annotated[int, Field(ge=1, le=20)], ...] | None = Field(None, max_length=20)
    strength: Literal[1, 2, 3] | None = None
    criteria: dict[str, Choice] = Field({}, max_length=5)
    reason: str = Field("", max_length=4000)
    spans: tuple[Marked, ...] = Field((), max_length=50)
    milliseconds: Annotated[int, Field(ge=0, le=10**9)] = 0
    ui: str = Field("", max_length=40)

    @model_validator(mode="after")
    def _ranked(self) -> Submission:
        if (self.verdict == "ranked") != (self.ranks is not None):
            raise ValueError("ranks and the verdict 'ranked' go together")
        return self


class Taken(_Body):
    """What became of an event: kept, and counted or not; after practice and gold also what was expected."""

    event: str
    item: str
    purpose: str
    counted: bool
    repeated: bool = False  # the same id was there already
    expected: str | None = None
    right: bool | None = None
    note: str = ""


def submit(
    connection: sql.Connection, annotator: str, said: Submission, campaign: Campaign, now: float
) -> Taken:
    """Keep one judgement of one assignment.

    Raises:
        Refused: 409, the id is there with another body; 404, no such assignment of this annotator; 422, an
            answer that does not fit the item.
    """
    digest = content_hash(annotator, said.model_dump_json())
    earlier = connection.execute(_EVENT, {"event": said.id}).one_or_none()
    if earlier is not None:
        if earlier.kind != "judgement" or earlier.content != digest:
            raise Refused(409, f"the judgement {said.id} is there already with other contents")
        taken = _taken(connection, said.id, earlier.item, earlier.purpose, json.loads(earlier.body))
        return taken.model_copy(update={"repeated": True})
    row = connection.execute(_ASSIGNED, {"id": said.assignment, "annotator": annotator}).one_or_none()
    if row is None:
        raise Refused(404, "this item was not given to you")
    body = _translate(said, json.loads(row.shown), row.kind, json.loads(row.body), campaign)
    purpose, target = row.purpose, None
    if row.state == "done":  # judged already, in another tab or before a correction: the latest word counts
        target = _latest(connection, row.id)
    elif purpose == "label" and not _has_slot(connection, row):
        purpose = "surplus"
    values = {
        "event": said.id,
        "item": row.item,
        "annotator": annotator,
        "content": digest,
        "target": target,
        "assignment": row.id,
        "purpose": purpose,
        "created": now,
        "body": json.dumps(body, sort_keys=True),
    }
    connection.execute(_KEEP, values)
    state = "withdrawn" if purpose == "surplus" else "done"
    connection.execute(_FINISH, {"id": row.id, "state": state, "now": now})
    if row.purpose == "label":
        if row.state in ("leased", "assigned"):  # its slot was held: now it is filled
            connection.execute(_FILL_SLOT, {"item": row.item})
        else:
            queue.recount(connection, [row.item])
    return _taken(connection, said.id, row.item, purpose, body)


def _has_slot(connection: sql.Connection, row: sql.Row[Any]) -> bool:
    """Whether this judgement still fits: the lease holds, or a slot is free, or one can be had from a lease.

    Somebody who has typed an answer goes before somebody who has not: the youngest lease gives way.
    """
    if row.state in ("assigned", "leased"):  # an expired one too, while nobody has taken its slot
        return True
    place = connection.execute(sql.select(queue_table).where(queue_table.c.item == row.item)).one_or_none()
    if place is None or place.taken < place.overlap:
        return True
    if row.state == "withdrawn":  # an operator took it away
        return False
    other = connection.scalar(
        sql.select(assignments.c.id)
        .where(
            assignments.c.item == row.item,
            assignments.c.purpose == "label",
            assignments.c.state == "leased",
        )
        .order_by(assignments.c.created.desc())
        .limit(1)
    )
    if other is None:
        return False
    connection.execute(sql.update(assignments).where(assignments.c.id == other).values(state="free"))
    return True


def _taken(connection: sql.Connection, event: str, item: str, purpose: str, body: dict[str, Any]) -> Taken:
    taken = Taken(event=event, item=item, purpose=purpose, counted=purpose == "label")
    if purpose != "practice":  # nobody is told about gold items while they work
        return taken
    row = connection.execute(sql.select(gold).where(gold.c.item == item)).one()
    left = body["shown_left"]
    sides = {"a": "left" if left == "a" else "right", "b": "right" if left == "a" else "left"}
    expected = sides.get(row.verdict, row.verdict)
    return taken.model_copy(
        update={
            "expected": expected,
            "right": body["verdict"] == row.verdict,
            "note": json.loads(row.note),
        }
    )


def _latest(connection: sql.Connection, assignment: str) -> str | None:
    found: str | None = connection.scalar(
        sql.select(judgements.c.event)
        .where(judgements.c.assignment == assignment, judgements.c.kind == "judgement")
        .order_by(judgements.c.sequence.desc())
        .limit(1)
    )
    return found


def _translate(
    said: Submission, shown: list[int], kind: str, item: dict[str, Any], campaign: Campaign
) -> dict[str, Any]:
    """From sides on the page to answers of the record; refuses what does not fit the item."""
    if kind == "pair" and said.verdict == "ranked":
        raise Refused(422, "a pair is compared, not ranked")
    if kind == "ranking" and said.verdict not in ("ranked", "skip"):
        raise Refused(422, "these answers are ranked: send ranks, or skip")
    unknown = set(said.criteria) - {criterion.name for criterion in campaign.criteria}
    if unknown:
        raise Refused(422, f"there is no question named {min(unknown)}")
    answers = [item["a"], item["b"]] if kind == "pair" else item["responses"]
    names = ["a", "b"] if kind == "pair" else [str(n) for n in range(len(answers))]
    sides = {"left": names[shown[0]], "right": names[shown[1]]}
    spans = []
    for span in said.spans:
        if span.place >= len(shown) or span.end <= span.start:
            raise Refused(422, "a marked passage lies outside the answers")
        answer = shown[span.place]
        source = _in_source(answers[answer]["text"], span.quote)
        marked = Span(names[answer], span.start, span.end, span.quote, span.mark, source)
        spans.append(marked.to_json())
    body: dict[str, Any] = {
        "verdict": sides.get(said.verdict, said.verdict),
        "strength": None if said.strength is None else float(said.strength),
        "shown_left": names[shown[0]],
        "source": SOURCE,
        "meta": {},
        "milliseconds": said.milliseconds,
        "ui": said.ui,
    }
    if kind == "ranking":
        body["shown"] = shown
        if said.ranks is not None:
            if len(said.ranks) != len(shown):
                raise Refused(422, f"{len(shown)} answers need {len(shown)} ranks, got {len(said.ranks)}")
            ranks = [0] * len(shown)
            for place, answer in enumerate(shown):
                ranks[answer] = said.ranks[place]
            body["ranks"] = ranks
    if said.criteria:
        body["criteria"] = {name: sides.get(choice, choice) for name, choice in said.criteria.items()}
    if said.reason.strip():
        body["reason"] = said.reason.strip()
    if spans:
        body["spans"] = spans
    return body


def _in_source(text: str, quote: str) -> tuple[int, int] | None:
    """Where a quote stands in the answer's own text, if it stands there once and unbroken by formatting."""
    place = text.find(quote)
    if place < 0 or text.find(quote, place + 1) >= 0:
        return None
    return place, place + len(quote)


def undo(
    connection: sql.Connection, annotator: str, event: str, undo_id: str, campaign: Campaign, now: float
) -> str:
    """Take one of the last ten judgements back; its item returns to the annotator. Returns the assignment.

    Raises:
        Refused: 404, not a judgement of this annotator; 409, the id is there with another meaning, or the
            judgement is further back than ten.
    """
    earlier = connection.execute(sql.select(judgements).where(judgements.c.event == undo_id)).one_or_none()
    if earlier is not None:
        if earlier.kind != "undo" or earlier.target != event or earlier.annotator != annotator:
            raise Refused(409, f"the event {undo_id} is there already with other contents")
        return str(earlier.assignment)
    row = connection.execute(
        sql.select(judgements).where(
            judgements.c.event == event,
            judgements.c.annotator == annotator,
            judgements.c.kind == "judgement",
            judgements.c.assignment.is_not(None),
        )
    ).one_or_none()
    if row is None:
        raise Refused(404, "there is no such judgement of yours")
    if event not in {one.event for one in recent(connection, annotator)}:
        raise Refused(409, f"only your last {UNDO_DEPTH} judgements can be undone, each once")
    _event(connection, undo_id, "undo", row, annotator, now)
    if row.purpose != "surplus":
        connection.execute(
            sql.update(assignments)
            .where(assignments.c.id == row.assignment)
            .values(state="leased", expires=now + campaign.lease_seconds, finished=None)
        )
        queue.recount(connection, [row.item])
    return str(row.assignment)


def recent(connection: sql.Connection, annotator: str, depth: int = UNDO_DEPTH) -> Sequence[sql.Row[Any]]:
    """The annotator's last judgements that stand, the newest first."""
    gone = judgements.alias()
    taken_back = sql.exists().where(gone.c.target == judgements.c.event, gone.c.kind != "judgement")
    query = (
        sql.select(judgements)
        .where(
            judgements.c.annotator == annotator,
            judgements.c.kind == "judgement",
            judgements.c.assignment.is_not(None),
            ~taken_back,
        )
        .order_by(judgements.c.sequence.desc())
        .limit(depth)
    )
    return connection.execute(query).all()


def retract(connection: sql.Connection, actor: str, event: str, new_id: str, reason: str, now: float) -> bool:
    """An operator takes a judgement out of the count; it stays in the history, and its slot is free again.

    Returns False where it does not stand any more.
    """
    gone = judgements.alias()
    taken_back = sql.exists().where(gone.c.target == judgements.c.event, gone.c.kind != "judgement")
    row = connection.execute(
        sql.select(judgements).where(
            judgements.c.event == event, judgements.c.kind == "judgement", ~taken_back
        )
    ).one_or_none()
    if row is None:
        return False
    _event(connection, new_id, "retract", row, actor, now, {"reason": reason, "by": actor})
    if row.assignment is not None and row.purpose == "label":
        connection.execute(
            sql.update(assignments).where(assignments.c.id == row.assignment).values(state="withdrawn")
        )
    queue.recount_elsewhere(connection, [row.item])
    log(connection, actor, "retract", now, {"event": event, "annotator": row.annotator, "reason": reason})
    return True


def _event(
    connection: sql.Connection,
    new_id: str,
    kind: str,
    row: sql.Row[Any],
    who: str,
    now: float,
    body: dict[str, Any] | None = None,
) -> None:
    connection.execute(
        sql.insert(judgements),
        {
            "event": new_id,
            "kind": kind,
            "item": row.item,
            "annotator": row.annotator if kind == "undo" else who,
            "content": content_hash(kind, row.event),
            "target": row.event,
            "assignment": row.assignment,
            "purpose": row.purpose,
            "created": now,
            "body": json.dumps(body or {}),
        },
    )
