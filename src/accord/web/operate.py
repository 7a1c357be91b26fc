"""The operator's side: how the work goes, and the levers. All of it needs the role *admin*."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sql
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from accord.records import VERDICTS, BadInput
from accord.store import campaign as campaigns
from accord.store import events, measuring, people, queue
from accord.store.schema import actions, assignments, gold, items, judgements
from accord.store.schema import queue as queue_table
from accord.web import conversation, figures
from accord.web.pages import fragment, page
from accord.web.rendering import render
from accord.web.service import Service, form_value, go, service, signed_in, token_of

PAGE = 50  # rows of a list
UNSAID: dict[str, Any] = dict.fromkeys(
    ("verdict", "ranks", "strength", "criteria", "reason", "spans", "milliseconds")
)

_known: dict[int, tuple[float, figures.Overview]] = {}


async def _overview(here: Service) -> figures.Overview:
    """The figures; on a large store they take a moment, so they are then counted less often."""
    found = _known.get(id(here))
    now = time.monotonic()
    if found is None or found[0] < now:
        counted = await here.read(lambda c: figures.overview(c, here.clock()))
        took = time.monotonic() - now
        _known.clear()
        _known[id(here)] = found = (now + 10 * took, counted)
    return found[1]


def _figures(overview: figures.Overview, campaign: campaigns.Campaign, now: float, csrf: str) -> str:
    return fragment("figures.html", o=overview, f=figures, campaign=campaign, now=now, ago=_ago, csrf=csrf)


def _ago(now: float, then: float | None) -> str:
    if then is None:
        return "never"
    seconds = max(0, now - then)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


async def dashboard(request: Request) -> Response:
    who = await signed_in(request, "admin")
    here = service(request)
    campaign, csrf = await here.campaign(), token_of(request)
    html = _figures(await _overview(here), campaign, here.clock(), csrf)
    return page(request, "dashboard.html", who=who, campaign=campaign, figures=html, csrf=csrf)


async def live(request: Request) -> Response:
    """The part of the dashboard that changes; the page asks for it every few seconds."""
    await signed_in(request, "admin")
    here = service(request)
    overview = await _overview(here)
    return HTMLResponse(_figures(overview, await here.campaign(), here.clock(), token_of(request)))


async def pause(request: Request) -> Response:
    """Stop handing out items, or go on. What people have on their screens they may still send."""
    who = await signed_in(request, "admin")
    here, form = service(request), await request.form()
    paused = form_value(form, "paused") == "yes"
    await here.write(lambda c: campaigns.save(c, who.name, here.clock(), paused=paused))
    here.forget()
    return go("/admin")


async def team(request: Request) -> Response:
    who = await signed_in(request, "admin")
    return await _team(request, who)


async def _team(request: Request, who: Any, *, link: str = "", name: str = "", problem: str = "") -> Response:
    here = service(request)
    everybody = await here.read(people.everybody)
    workers = {worker.name: worker for worker in (await _overview(here)).workers}
    return page(
        request, "team.html", 422 if problem else 200, who=who, everybody=everybody, workers=workers,
        link=link, name=name, problem=problem, csrf=token_of(request), f=figures,
        now=here.clock(), ago=_ago,
    )  # fmt: skip


async def add_person(request: Request) -> Response:
    """Make an account, or a new sign-in link for one; the link is shown once."""
    who = await signed_in(request, "admin")
    here, form = service(request), await request.form()
    role: people.Role = "admin" if form_value(form, "role") == "admin" else "annotator"
    try:
        name = people.checked_name(form_value(form, "name", 200))
    except BadInput as error:
        return await _team(request, who, problem=str(error))

    def job(connection: sql.Connection) -> str:
        there = people.find(connection, name)
        people.ensure(connection, [(name, there.role if there else role)], here.clock())
        campaigns.log(connection, who.name, "link", here.clock(), {"person": name})
        return people.new_link(connection, name, here.clock())

    token = await here.write(job)
    base = str(request.base_url).rstrip("/")
    shield_origin = request.headers.get("origin")
    return await _team(request, who, link=f"{shield_origin or base}/enter#{token}", name=name)


async def person_action(request: Request) -> Response:
    """Pause or resume a person, change a role, give their open items to somebody else, retract their work."""
    who = await signed_in(request, "admin")
    here, form = service(request), await request.form()
    name, action = form_value(form, "name", 80), form_value(form, "action", 20)
    now = here.clock()
    campaign = await here.campaign()

    def job(connection: sql.Connection) -> None:
        if people.find(connection, name) is None:
            raise events.Refused(404, f"there is no person named {name}")
        match action:
            case "pause" | "resume":
                people.set_paused(connection, who.name, name, action == "pause", now)
            case "admin" | "annotator":
                if name == who.name:
                    raise events.Refused(409, "you cannot change your own role")
                people.ensure(connection, [(name, "admin" if action == "admin" else "annotator")], now)
                campaigns.log(connection, who.name, "role", now, {"person": name, "role": action})
            case "reassign":
                to = form_value(form, "to", 80)
                if to and people.find(connection, to) is None:
                    raise events.Refused(404, f"there is no person named {to}")
                taken = queue.withdraw(connection, name)
                if to:
                    queue.assign(connection, to, taken, campaign, now)
                detail = {"from": name, "to": to, "items": len(taken)}
                campaigns.log(connection, who.name, "reassign", now, detail)
            case "retract":
                reason = form_value(form, "reason", 400)
                for event in _standing_events(connection, name):
                    events.retract(connection, who.name, event, str(uuid.uuid4()), reason, now)
            case _:
                raise events.Refused(422, "there is no such action")

    await _lever(here, job)
    return go("/admin/team")


def _standing_events(connection: sql.Connection, name: str) -> list[str]:
    gone = judgements.alias()
    taken_back = sql.exists().where(gone.c.target == judgements.c.event, gone.c.kind != "judgement")
    return list(
        connection.scalars(
            sql.select(judgements.c.event).where(
                judgements.c.annotator == name, judgements.c.kind == "judgement", ~taken_back
            )
        )
    )


async def _lever(here: Service, job: Any) -> None:
    try:
        await here.write(job)
    except events.Refused as refusal:
        raise HTTPException(refusal.status, str(refusal)[0].upper() + str(refusal)[1:] + ".") from None
    here.forget()
    _known.clear()


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
                query = query.where(queue_table.c.done < queue_table.c.overlap)
            case "done":
                query = query.where(queue_table.c.done >= queue_table.c.overlap)
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
        now=here.clock(), ago=_ago,
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
                if not queue.assign(connection, to, [key], campaign, now):
                    raise events.Refused(409, f"{to} has this item, or has judged it")
                campaigns.log(connection, who.name, "assign", now, {"item": key, "to": to})
            case "withdraw":
                queue.withdraw(connection, form_value(form, "name", 80), [key])
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

    await _lever(here, job)
    return go(f"/admin/items/{key}")


async def settings(request: Request) -> Response:
    who = await signed_in(request, "admin")
    campaign = await service(request).campaign()
    return page(
        request, "settings.html", who=who, campaign=campaign, problem="", saved=False, csrf=token_of(request),
        log=await _log(service(request)), now=service(request).clock(), ago=_ago,
    )  # fmt: skip


async def _log(here: Service) -> list[Any]:
    newest = sql.select(actions).order_by(actions.c.sequence.desc()).limit(30)
    return await here.read(lambda c: list(c.execute(newest)))


async def save_settings(request: Request) -> Response:
    who = await signed_in(request, "admin")
    here, form = service(request), await request.form()
    changes: dict[str, Any] = {
        "title": form_value(form, "title", 200).strip(),
        "question": form_value(form, "question", 300).strip(),
        "guidelines": form_value(form, "guidelines", 50_000),
        "strength": form_value(form, "strength") == "yes",
        "reasons": form_value(form, "reasons") == "yes",
        "marks": form_value(form, "marks") == "yes",
        "criteria": [
            {"name": name.strip(), "question": question.strip()}
            for name, _, question in (
                line.partition(":") for line in form_value(form, "criteria").splitlines() if line.strip()
            )
        ],
    }
    for field in ("overlap", "lease_seconds", "gold_every", "repeat_every", "repeat_after"):
        changes[field] = form_value(form, field, 20).strip() or None
    problem = ""
    try:
        await here.write(lambda c: campaigns.save(c, who.name, here.clock(), **changes))
    except BadInput as error:
        problem = str(error).removeprefix("campaign: ")
    here.forget()
    campaign = await here.campaign()
    return page(
        request, "settings.html", 422 if problem else 200, who=who, campaign=campaign, problem=problem,
        saved=not problem, csrf=token_of(request), log=await _log(here), now=here.clock(), ago=_ago,
    )  # fmt: skip


async def export(request: Request) -> Response:
    """The labels that count as JSON Lines, or the whole history. ASCII, so that no reader is led astray."""
    await signed_in(request, "admin")
    here, what = service(request), request.path_params["what"]
    if what == "labels":
        rows = await run_in_threadpool(_label_rows, here)
    elif what == "history":
        rows = await here.read(_history_rows)
    else:
        raise HTTPException(404, "There is labels.jsonl and history.jsonl.")

    async def lines() -> AsyncIterator[bytes]:
        for row in rows:
            yield json.dumps(row).encode() + b"\n"

    name = f'attachment; filename="{what}.jsonl"'
    return StreamingResponse(
        lines(), media_type="application/x-ndjson", headers={"content-disposition": name}
    )


def _label_rows(here: Service) -> list[dict[str, Any]]:
    found = [row.to_json() for row in here.store.comparisons(criterion=None)]
    return found + [row.to_json() for row in here.store.rankings()]


def _history_rows(connection: sql.Connection) -> list[dict[str, Any]]:
    query = sql.select(judgements).order_by(judgements.c.sequence)
    return [dict(row._mapping) | {"body": json.loads(row.body)} for row in connection.execute(query)]


ROUTES = [
    Route("/admin", dashboard),
    Route("/admin/live", live),
    Route("/admin/pause", pause, methods=["POST"]),
    Route("/admin/team", team),
    Route("/admin/team", add_person, methods=["POST"]),
    Route("/admin/person", person_action, methods=["POST"]),
    Route("/admin/items", item_list),
    Route("/admin/items/{item}", item),
    Route("/admin/items/{item}", item_action, methods=["POST"]),
    Route("/admin/settings", settings),
    Route("/admin/settings", save_settings, methods=["POST"]),
    Route("/admin/export/{what}.jsonl", export),
]
