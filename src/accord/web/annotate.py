"""The annotator's side: the page, and the one call with which it sends what was said and gets what is next.

What leaves here about an item is its conversation and its answers, in the order in which this person is to
see them. Never: which model, which stored side, the round, whether it is a gold item.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sql
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from accord.records import content_hash
from accord.store import events, people, queue
from accord.store.campaign import Campaign
from accord.store.events import Refused, Submission, Uuid
from accord.store.queue import Held
from accord.store.schema import assignments, items
from accord.web import identity
from accord.web.conversation import turns
from accord.web.pages import fragment, page
from accord.web.rendering import guidelines, render
from accord.web.service import go, service, signed_in, token_of

UI_VERSION = "1"
_ITEM = sql.text("SELECT kind, body FROM accord_items WHERE id = :item")
_MINE = sql.text("SELECT count(*) FROM accord_assignments WHERE annotator = :annotator AND state = 'done'")
ENTRIES = 20  # in one call; the page sends the rest in the next


class Said(BaseModel):
    model_config = ConfigDict(extra="forbid")
    op: Literal["judgement"]
    body: Submission


class Undo(BaseModel):
    model_config = ConfigDict(extra="forbid")
    op: Literal["undo"]
    id: Uuid
    event: Uuid


class Sync(BaseModel):
    """What the page sends: what was said since the last call (oldest first), and what it holds."""

    model_config = ConfigDict(extra="forbid")
    entries: list[dict[str, Any]] = Field([], max_length=ENTRIES)
    have: list[Uuid] = Field([], max_length=40)


_ENTRY: TypeAdapter[Said | Undo] = TypeAdapter(Said | Undo)


async def home(request: Request) -> Response:
    """The page; people who are new read the guidelines first."""
    who = await signed_in(request)
    campaign = await service(request).campaign()
    store = content_hash("which store", campaign.seed)  # keeps the drafts of two stores apart in one browser
    values: dict[str, Any] = {
        "who": who,
        "campaign": campaign,
        "csrf": token_of(request),
        "ui": UI_VERSION,
        "store": store,
    }
    text = guidelines(campaign.guidelines)
    if not who.ready:
        return page(request, "welcome.html", guidelines=text, **values)
    return page(request, "annotate.html", guidelines=text, beat=_beat(campaign), **values)


def _beat(campaign: Campaign) -> float:
    """Seconds between two signs of life: three fit into a lease."""
    return min(60.0, campaign.lease_seconds / 3)


async def show_guidelines(request: Request) -> Response:
    who = await signed_in(request)
    campaign = await service(request).campaign()
    return page(
        request, "guidelines.html", who=who, campaign=campaign, guidelines=guidelines(campaign.guidelines)
    )


async def ready(request: Request) -> Response:
    who = await signed_in(request)
    here = service(request)
    await here.write(lambda c: people.set_ready(c, who.name, here.clock()))
    here.forget()
    return go("/")


async def sync(request: Request) -> Response:
    """Keep what was said, extend the leases, hand out what is next. Answers only after the commit."""
    who = await signed_in(request)
    here = service(request)
    try:
        asked = Sync.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, _first(error)) from None
    entries: list[Said | Undo | str] = []
    for entry in asked.entries:
        try:
            entries.append(_ENTRY.validate_python(entry))
        except ValidationError as error:
            entries.append(_first(error))
    campaign, now = await here.campaign(), here.clock()
    results, rows, mine, texts = await here.write(
        lambda c: _sync(c, who.name, entries, asked.have, campaign, now)
    )
    shown = await _payloads([(row, texts[row.item]) for row in rows if row.id not in asked.have])
    answer = {
        "results": results,
        "items": shown,
        "held": [row.id for row in rows],
        "progress": {"mine": mine} | await here.totals(),
        "paused": campaign.paused or who.paused,
    }
    return JSONResponse(answer)


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if part not in ("Said", "Undo", "body"))
    return f"{where}: {fault['msg']}"


def _sync(
    connection: sql.Connection,
    name: str,
    entries: list[Said | Undo | str],
    have: list[str],
    campaign: Campaign,
    now: float,
) -> tuple[list[dict[str, Any]], list[Held], int, dict[str, tuple[str, str]]]:
    results: list[dict[str, Any]] = []
    for entry in entries:
        try:
            if isinstance(entry, str):
                raise Refused(422, entry)
            if isinstance(entry, Said):
                taken = events.submit(connection, name, entry.body, campaign, now)
                told = taken.model_dump(include={"counted", "expected", "right", "note"})
                if taken.purpose != "practice":  # gold and repeated items look like any other
                    told = {"counted": taken.purpose != "surplus"}
                results.append({"id": entry.body.id, "status": 200} | told)
            else:
                back = events.undo(connection, name, entry.event, entry.id, campaign, now)
                results.append({"id": entry.id, "status": 200, "assignment": back})
        except Refused as refusal:
            results.append({"status": refusal.status, "problem": str(refusal)})
    rows = queue.next_items(connection, name, campaign, now, max(campaign.ahead + 1, len(have)))
    texts = {row.item: ("", "") for row in rows}
    for row in rows:
        if row.id not in have:
            kind, body = connection.execute(_ITEM, {"item": row.item}).one()
            texts[row.item] = (kind, body)
    mine = connection.scalar(_MINE, {"annotator": name}) or 0
    return results, rows, mine, texts


async def _payloads(rows: Sequence[tuple[Held | sql.Row[Any], tuple[str, str]]]) -> list[dict[str, Any]]:
    out = []
    for row, (kind, body) in rows:
        if len(body) > 8000:  # Markdown of long answers takes milliseconds: not in the way of other requests
            out.append(await run_in_threadpool(_payload, row, kind, body))
        else:
            out.append(_payload(row, kind, body))
    return out


def _payload(row: Held | sql.Row[Any], kind: str, body: str) -> dict[str, Any]:
    """One assignment as the page shows it."""
    item, order = json.loads(body), json.loads(row.shown)
    answers = [item["a"], item["b"]] if kind == "pair" else item["responses"]
    shown = []
    for answer in (answers[n] for n in order):
        names = [answer.get("policy", ""), str((answer.get("lineage") or {}).get("model", ""))]
        rendered = render(answer["text"])
        shown.append(
            {
                "html": rendered.html,
                "cut": rendered.cut,
                "named": identity.names_itself(answer["text"], names),
                "empty": not answer["text"].strip(),
            }
        )
    html = fragment("item.html", turns=turns(item["prompt"]), answers=shown, ranking=kind == "ranking")
    return {
        "assignment": row.id,
        "kind": kind,
        "answers": len(answers),
        "practice": row.purpose == "practice",
        "html": html,
    }


async def recent(request: Request) -> Response:
    """The last ten judgements with their items, newest first, so that undo works after a reload."""
    who = await signed_in(request)
    here = service(request)

    def job(connection: sql.Connection) -> list[tuple[sql.Row[Any], tuple[str, str], sql.Row[Any]]]:
        out = []
        for event in events.recent(connection, who.name):
            row = connection.execute(
                sql.select(assignments).where(assignments.c.id == event.assignment)
            ).one_or_none()
            item = connection.execute(sql.select(items).where(items.c.id == event.item)).one()
            if row is not None:
                out.append((row, (item.kind, item.body), event))
        return out

    found = await here.read(job)
    shown = await _payloads([(row, text) for row, text, _ in found])
    return JSONResponse(
        [
            {"event": event.event, "item": payload, "said": _as_shown(event.body, row.shown)}
            for payload, (row, _, event) in zip(shown, found, strict=True)
        ]
    )


def _as_shown(body: str, shown: str) -> dict[str, Any]:
    """A stored judgement in the terms of the page it was made on, to fill the page again."""
    said, order = json.loads(body), json.loads(shown)
    names = {"a": order.index(0), "b": order.index(1)} if "ranks" not in said else {}
    sides = {name: ("left", "right")[place] for name, place in names.items() if place < 2}
    out = {
        "verdict": "ranked" if "ranks" in said else sides.get(said["verdict"], said["verdict"]),
        "strength": None if said["strength"] is None else int(said["strength"]),
        "criteria": {k: sides.get(v, v) for k, v in (said.get("criteria") or {}).items()},
        "reason": said.get("reason", ""),
        "milliseconds": said.get("milliseconds", 0),
        "spans": [],
    }
    if "ranks" in said:
        out["ranks"] = [said["ranks"][answer] for answer in order]
    for span in said.get("spans", []):
        answer = {"a": 0, "b": 1}.get(span["side"])
        place = order.index(int(span["side"]) if answer is None else answer)
        out["spans"].append({key: span[key] for key in ("start", "end", "quote", "mark")} | {"place": place})
    return out


async def whole(request: Request) -> Response:
    """The whole text of one answer that was too long to be shown; only of an assignment of one's own."""
    who = await signed_in(request)
    place = int(request.path_params["place"])

    def job(connection: sql.Connection) -> str | None:
        row = connection.execute(
            sql.select(assignments.c.shown, items.c.kind, items.c.body)
            .join(items, items.c.id == assignments.c.item)
            .where(assignments.c.id == request.path_params["assignment"], assignments.c.annotator == who.name)
        ).one_or_none()
        if row is None:
            return None
        order, item = json.loads(row.shown), json.loads(row.body)
        answers = [item["a"], item["b"]] if row.kind == "pair" else item["responses"]
        return answers[order[place]]["text"] if place < len(order) else None

    text = await service(request).read(job)
    if text is None:
        raise HTTPException(404, "This item was not given to you.")
    return PlainTextResponse(text.encode("utf-8", "replace"))


async def release(request: Request) -> Response:
    """The page is closed: what it holds goes back to the queue. Nobody reads the reply."""
    who = await signed_in(request)
    form = await request.form()
    held = str(form.get("held", "")).split(",")[:40]
    await service(request).write(lambda c: queue.release(c, who.name, held))
    return Response(status_code=204)
