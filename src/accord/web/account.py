"""Signing in and out: a one-time link, or a name and a password."""

from __future__ import annotations

import math
import secrets

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from accord.records import BadInput
from accord.store import people
from accord.web.pages import page
from accord.web.security import csrf_matches
from accord.web.service import (
    COOKIE,
    GUEST,
    form_value,
    go,
    service,
    set_cookie,
    signed_in,
    token_of,
)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def sign_in_page(request: Request, status: int = 200, problem: str = "", name: str = "") -> Response:
    """The form, with a token that belongs to a cookie of its own: there is no session yet."""
    guest = request.cookies.get(GUEST) or secrets.token_urlsafe(24)
    request.cookies[GUEST] = guest
    response = page(request, "signin.html", status, csrf=token_of(request, GUEST), problem=problem, name=name)
    set_cookie(request, response, GUEST, guest, 86400)
    return response


async def show_sign_in(request: Request) -> Response:
    return sign_in_page(request)


async def sign_in(request: Request) -> Response:
    """Name and password. One sentence for every kind of failure, after the same time."""
    here, form = service(request), await request.form()
    if not csrf_matches(request.cookies.get(GUEST, ""), form_value(form, "csrf")):
        return sign_in_page(request, 403, "The page was out of date. Please try again.")
    name = " ".join(form_value(form, "name", 80).split())
    wait = here.address_tries.wait(_address(request)) or here.password_tries.wait(name.casefold())
    if wait:
        return _too_many(request, wait)
    stored = await here.read(lambda c: people.stored_password(c, name))
    good = await run_in_threadpool(people.check_password, stored, form_value(form, "password", 400))
    if not good:
        return sign_in_page(request, 403, "Name and password do not fit together.", name)
    return await _start(request, name)


async def _start(request: Request, name: str) -> Response:
    here = service(request)
    token = await here.write(lambda c: people.start_session(c, name, here.clock()))
    response = go("/")
    set_cookie(request, response, COOKIE, token, people.SESSION_SECONDS)
    response.delete_cookie(GUEST, path="/")
    return response


def _too_many(request: Request, wait: float) -> Response:
    seconds = math.ceil(wait)
    response = sign_in_page(request, 429, f"Too many tries. Please wait {seconds} seconds.")
    response.headers["retry-after"] = str(seconds)
    return response


async def enter_page(request: Request) -> Response:
    """Where a sign-in link leads. The secret stands behind the #: it is in no log and survives a preview."""
    return page(request, "enter.html")


async def enter(request: Request) -> Response:
    """Exchange the secret of a link for a session. No session exists yet, so Origin alone guards it."""
    here = service(request)
    wait = here.address_tries.wait(_address(request))
    if wait:
        return JSONResponse({"problem": f"Too many tries. Please wait {math.ceil(wait)} seconds."}, 429)
    form = await request.form()
    secret = form_value(form, "token", 200)
    name = await here.write(lambda c: people.use_link(c, secret, here.clock()))
    if name is None:
        problem = (
            "This link was used already, or is too old. Ask for a new one, or sign in with your password."
        )
        return JSONResponse({"problem": problem}, 403)
    token = await here.write(lambda c: people.start_session(c, name, here.clock()))
    response = JSONResponse({"next": "/"})
    set_cookie(request, response, COOKIE, token, people.SESSION_SECONDS)
    return response


async def sign_out(request: Request) -> Response:
    await signed_in(request)
    here, token = service(request), request.cookies[COOKIE]
    await here.write(lambda c: people.end_session(c, token))
    here.forget()
    response = go("/signin")
    response.delete_cookie(COOKIE, path="/")
    return response


async def account(request: Request) -> Response:
    who = await signed_in(request)
    return page(request, "account.html", csrf=token_of(request), who=who, problem="", saved=False)


async def set_password(request: Request) -> Response:
    """Set or change one's own password. The present one is asked for where there is one."""
    who = await signed_in(request)
    here, form = service(request), await request.form()
    problem = ""
    if here.password_tries.wait(("change", who.name)):
        raise HTTPException(429, "Too many tries. Please wait a minute.")
    stored = await here.read(lambda c: people.stored_password(c, who.name))
    if stored is not None:
        present = form_value(form, "present", 400)
        if not await run_in_threadpool(people.check_password, stored, present):
            problem = "The present password is not right."
    new = form_value(form, "password", 400)
    if not problem and new != form_value(form, "again", 400):
        problem = "The two new passwords differ."
    if not problem:
        try:
            hashed = await run_in_threadpool(people.hash_password, new)
        except BadInput as error:
            problem = str(error)
    if problem:
        return page(
            request, "account.html", 422, csrf=token_of(request), who=who, problem=problem, saved=False
        )
    await here.write(lambda c: people.set_password(c, who.name, hashed))
    here.forget()
    return await _start(request, who.name)
