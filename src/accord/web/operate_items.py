"""The operator's pages of items: what is open, what happened to one, and what can be done with it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import sqlalchemy as sql
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from accord.records import VERDICTS
from accord.store import assigning, events, measuring, people
from accord.store import campaign as campaigns
from accord.store.queue import ORDINARY
from accord.store.schema import assignments, gold, items, judgements
from accord.store.schema import queue as queue_table
from accord.web import conversation
from accord.web.levers import ago, lever
from accord.web.pages import page
from accord.web.rendering import render
from accord.web.service import form_value, go, service, signed_in, token_of

PAGE = 50  # rows of a list
UNSAID: dict[str, Any] = dict.fromkeys(
    ("verdict", "ranks", "strength", "criteria", "reason", "spans", "milliseconds")
)


async def item_list(request: Request) -> Response:
    """The queue, page by page; the filter shows what is open, finished, or serves as gold."""
    who = await signed_in(request, "admin")
    which = request.query_params.get("show", "all")
    try:
        start = max(0, int(request.query_params.get("from", "0")))
    except ValueError:
        start = 0

    def job(connection: sql.Connection) -> tuple[int, list[dict[str, Any]]]:
        query = (
            sql.select(items.c.id, items.c.kind, items.c.round, items.c.body, queue_table, gold.c.purpose)
            .join(queue_table, queue_table.c.item == items.c.id, isouter=True)
            .join(gold, gold.c.item == items.c.id, isouter=True)
        )
        match which:
            case "open":
                query = query.where(queue_table.c.done < queue_table.c.overlap, ORDINARY)
            case "done":
                query = query.where(queue_table.c.done >= queue_table.c.overlap, ORDINARY)
            case "gold":
                query = query.where(gold.c.purpose != "none")
        count = connection.scalar(sql.select(sql.func.count()).select_from(query.subquery())) or 0
        rows = connection.execute(query.order_by(items.c.sequence).offset(start).limit(PAGE))
        out = [
            {
                "id": row.id,
                "kind": row.kind,
                "round": row.round,
                "prompt": conversation.excerpt(json.loads(row.body)["prompt"]),
                "done": row.done or 0,
                "overlap": row.overlap or 0,
                "gold": row.purpose if row.purpose != "none" else None,
            }
            for row in rows
        ]
        return count, out

    count, rows = await service(request).read(job)
    return page(request, "items.html", who=who, rows=rows, count=count, start=start, size=PAGE, which=which)


async def item(request: Request) -> Response:
    """One item with everything that ever happened to it. The only page that says which model wrote what."""
    who = await signed_in(request, "admin")
    key = request.path_params["item"]
    here = service(request)

    def job(connection: sql.Connection) -> dict[str, Any] | None:
        row = connection.execute(sql.select(items).where(items.c.id == key)).one_or_none()
        if row is None:
            return None
        return {
            "row": row,
            "body": json.loads(row.body),
            "queue": connection.execute(
                sql.select(queue_table).where(queue_table.c.item == key)
            ).one_or_none(),
            "gold": connection.execute(sql.select(gold).where(gold.c.item == key)).one_or_none(),
            "history": connection.execute(
                sql.select(judgements).where(judgements.c.item == key).order_by(judgements.c.sequence)
            ).all(),
            "holders": connection.execute(
                sql.select(assignments).where(assignments.c.item == key).order_by(assignments.c.created)
            ).all(),
            "people": people.everybody(connection),
        }

    found = await here.read(job)
    if found is None:
        raise HTTPException(404, "There is no such item.")
    body = found["body"]
    answers = [body["a"], body["b"]] if found["row"].kind == "pair" else body["responses"]
    names = ["a", "b"] if found["row"].kind == "pair" else [str(n + 1) for n in range(len(answers))]
    gone = {row.target for row in found["history"] if row.kind != "judgement"}
    history = [
        {"row": row, "said": UNSAID | json.loads(row.body), "gone": row.event in gone}
        for row in found["history"]
    ]
    shown = await run_in_threadpool(_origins, names, answers)
    note = json.loads(found["gold"].note) if found["gold"] is not None else ""
    return page(
        request, "itemadmin.html", who=who, key=key, kind=found["row"].kind, round=found["row"].round,
        turns=conversation.turns(body["prompt"]), answers=shown, queue=found["queue"], gold=found["gold"],
        note=note, history=history,
        holders=found["holders"], everybody=found["people"], verdicts=VERDICTS, csrf=token_of(request),
        now=here.clock(), ago=ago,
    )  # fmt: skip


def _origins(names: list[str], answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers with what annotators never see: the policy, the model, the run."""
    return [
        {
            "name": name,
            "html": render(answer["text"]).html,
            "policy": answer.get("policy", ""),
            "lineage": answer.get("lineage") or {},
        }
        for name, answer in zip(names, answers, strict=True)
    ]


async def item_action(request: Request) -> Response:
    """Assign an item, retract a judgement of it, or make it gold or practice."""
    who = await signed_in(request, "admin")
    here, form = service(request), await request.form()
    key, action, now = request.path_params["item"], form_value(form, "action", 20), here.clock()
    campaign = await here.campaign()

    def job(connection: sql.Connection) -> None:
        if connection.scalar(sql.select(items.c.id).where(items.c.id == key)) is None:
            raise events.Refused(404, "there is no such item")
        match action:
            case "assign":
                to = form_value(form, "to", 80)
                if people.find(connection, to) is None:
                    raise events.Refused(404, f"there is no person named {to}")
                if not assigning.assign(connection, to, [key], campaign, now):
                    raise events.Refused(409, f"{to} has this item, or has judged it")
                campaigns.log(connection, who.name, "assign", now, {"item": key, "to": to})
            case "withdraw":
                assigning.withdraw(connection, form_value(form, "name", 80), [key])
                detail = {"item": key, "from": form_value(form, "name", 80)}
                campaigns.log(connection, who.name, "withdraw", now, detail)
            case "retract":
                event = form_value(form, "event", 36)
                reason = form_value(form, "reason", 400)
                if not events.retract(connection, who.name, event, str(uuid.uuid4()), reason, now):
                    raise events.Refused(409, "this judgement does not count any more")
            case "gold":
                purpose, verdict = form_value(form, "purpose", 10), form_value(form, "verdict", 10)
                measuring.set_gold(connection, who.name, key, purpose, verdict, form_value(form, "note"), now)
            case _:
                raise events.Refused(422, "there is no such action")

    await lever(here, job)
    return go(f"/admin/items/{key}")
