"""The operator's side: how the work goes, the settings, the exports. All of it needs the role *admin*."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sql
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from accord.records import BadInput
from accord.store import campaign as campaigns
from accord.store.schema import actions, judgements
from accord.web import figures, operate_items, operate_people
from accord.web.levers import ago, overview
from accord.web.pages import fragment, page
from accord.web.service import Service, form_value, go, service, signed_in, token_of


def _figures(found: figures.Overview, campaign: campaigns.Campaign, now: float, csrf: str) -> str:
    return fragment("figures.html", o=found, f=figures, campaign=campaign, now=now, ago=ago, csrf=csrf)


async def dashboard(request: Request) -> Response:
    who = await signed_in(request, "admin")
    here = service(request)
    campaign, csrf = await here.campaign(), token_of(request)
    html = _figures(await overview(here), campaign, here.clock(), csrf)
    return page(request, "dashboard.html", who=who, campaign=campaign, figures=html, csrf=csrf)


async def live(request: Request) -> Response:
    """The part of the dashboard that changes; the page asks for it every few seconds."""
    await signed_in(request, "admin")
    here = service(request)
    found = await overview(here)
    return HTMLResponse(_figures(found, await here.campaign(), here.clock(), token_of(request)))


async def pause(request: Request) -> Response:
    """Stop handing out items, or go on. What people have on their screens they may still send."""
    who = await signed_in(request, "admin")
    here, form = service(request), await request.form()
    paused = form_value(form, "paused") == "yes"
    await here.write(lambda c: campaigns.save(c, who.name, here.clock(), paused=paused))
    here.forget()
    return go("/admin")


async def settings(request: Request) -> Response:
    who = await signed_in(request, "admin")
    campaign = await service(request).campaign()
    return page(
        request, "settings.html", who=who, campaign=campaign, problem="", saved=False, csrf=token_of(request),
        log=await _log(service(request)), now=service(request).clock(), ago=ago,
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
        saved=not problem, csrf=token_of(request), log=await _log(here), now=here.clock(), ago=ago,
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
    Route("/admin/team", operate_people.team),
    Route("/admin/team", operate_people.add_person, methods=["POST"]),
    Route("/admin/person", operate_people.person_action, methods=["POST"]),
    Route("/admin/items", operate_items.item_list),
    Route("/admin/items/{item}", operate_items.item),
    Route("/admin/items/{item}", operate_items.item_action, methods=["POST"]),
    Route("/admin/settings", settings),
    Route("/admin/settings", save_settings, methods=["POST"]),
    Route("/admin/export/{what}.jsonl", export),
]
