"""The operator's page of people: links, pauses, roles, reassigning, retracting all that somebody said."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sql
from starlette.requests import Request
from starlette.responses import Response

from accord.records import BadInput
from accord.store import assigning, events, people
from accord.store import campaign as campaigns
from accord.store.schema import judgements
from accord.web import figures
from accord.web.levers import ago, lever, overview
from accord.web.pages import page
from accord.web.service import form_value, go, service, signed_in, token_of


async def team(request: Request) -> Response:
    who = await signed_in(request, "admin")
    return await _team(request, who)


async def _team(request: Request, who: Any, *, link: str = "", name: str = "", problem: str = "") -> Response:
    here = service(request)
    everybody = await here.read(people.everybody)
    workers = {worker.name: worker for worker in (await overview(here)).workers}
    return page(
        request, "team.html", 422 if problem else 200, who=who, everybody=everybody, workers=workers,
        link=link, name=name, problem=problem, csrf=token_of(request), f=figures,
        now=here.clock(), ago=ago,
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
                taken = assigning.withdraw(connection, name)
                if to:
                    assigning.assign(connection, to, taken, campaign, now)
                detail = {"from": name, "to": to, "items": len(taken)}
                campaigns.log(connection, who.name, "reassign", now, detail)
            case "retract":
                reason = form_value(form, "reason", 400)
                for event in _standing_events(connection, name):
                    events.retract(connection, who.name, event, str(uuid.uuid4()), reason, now)
            case _:
                raise events.Refused(422, "there is no such action")

    await lever(here, job)
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
