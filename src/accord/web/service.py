"""What the pages share: the store, its writer, the clock, and who is asking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sql
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from accord.store import LabelStore, campaign, people
from accord.store.campaign import Campaign
from accord.store.people import Person
from accord.store.queue import ORDINARY
from accord.store.schema import queue
from accord.store.writer import Writer
from accord.web.security import RateLimit, csrf_matches, csrf_token

T = TypeVar("T")
COOKIE = "accord_session"
GUEST = "accord_guest"
REMEMBERED_SECONDS = 2.0  # how long a look-up of a session or of the settings is believed


@dataclass
class Service:
    """One store being served. ``clock`` is Unix seconds; tests give their own."""

    store: LabelStore
    secure: bool = False
    clock: Callable[[], float] = time.time
    writer: Writer = field(init=False)
    password_tries: RateLimit = field(default_factory=lambda: RateLimit(5, 60))
    address_tries: RateLimit = field(default_factory=lambda: RateLimit(30, 60))
    _people: dict[str, tuple[float, Person | None]] = field(default_factory=dict)
    _campaign: tuple[float, Campaign] | None = None
    _totals: tuple[float, dict[str, int]] | None = None

    def __post_init__(self) -> None:
        self.writer = Writer(self.store)

    async def write(self, job: Callable[[sql.Connection], T]) -> T:
        """The result of ``job`` once it is on the disk."""
        return await asyncio.wrap_future(self.writer.submit(job))

    async def read(self, job: Callable[[sql.Connection], T]) -> T:
        return await run_in_threadpool(self.store.read, job)

    async def campaign(self) -> Campaign:
        now = time.monotonic()
        if self._campaign is None or self._campaign[0] < now:
            self._campaign = (now + REMEMBERED_SECONDS, await self.read(campaign.load))
        return self._campaign[1]

    async def person(self, token: str) -> Person | None:
        """Whose session this is; remembered for a moment, since every request asks."""
        now = time.monotonic()
        found = self._people.get(token)
        if found is None or found[0] < now:
            if len(self._people) > 5000:
                self._people.clear()
            who = await self.read(lambda c: people.session_person(c, token, self.clock()))
            found = self._people[token] = (now + REMEMBERED_SECONDS, who)
        return found[1]

    async def totals(self) -> dict[str, int]:
        """Slots of the whole queue, and how many are filled; a moment old.

        One request counts anew; whoever asks meanwhile is told the last count.
        """
        now = time.monotonic()
        if self._totals is None or self._totals[0] < now:
            if self._totals is not None:
                self._totals = (now + REMEMBERED_SECONDS, self._totals[1])
            slots = sql.select(sql.func.sum(queue.c.overlap), sql.func.sum(queue.c.done)).where(ORDINARY)
            total, done = await self.read(lambda c: tuple(c.execute(slots).one()))
            counts = {"done": int(done or 0), "total": int(total or 0)}
            self._totals = (now + REMEMBERED_SECONDS, counts)
        return self._totals[1]

    def forget(self) -> None:
        """Somebody's rights or the settings changed: look again."""
        self._people.clear()
        self._campaign = None


def service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


async def signed_in(request: Request, role: str | None = None) -> Person:
    """Who asks.

    Raises:
        HTTPException: 401, nobody is signed in; 403, not of this role, or a write without the page's token.
    """
    token = request.cookies.get(COOKIE, "")
    who = await service(request).person(token) if token else None
    if who is None:
        raise HTTPException(401, "Please sign in.")
    if role is not None and who.role != role:
        raise HTTPException(403, "This page is for the people who run the labelling.")
    if request.method not in ("GET", "HEAD"):
        given = request.headers.get("x-csrf-token")
        if given is None:
            given = str((await request.form()).get("csrf", ""))
        if not csrf_matches(token, given):
            raise HTTPException(403, "The page is out of date: load it again.")
    return who


def token_of(request: Request, cookie: str = COOKIE) -> str:
    return csrf_token(request.cookies.get(cookie, ""))


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: float) -> None:
    response.set_cookie(
        name,
        value,
        max_age=int(seconds),
        httponly=True,
        samesite="lax",
        secure=service(request).secure,
        path="/",
    )


def go(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303)


def wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def form_value(form: Any, name: str, limit: int = 4000) -> str:
    value = form.get(name, "")
    return value[:limit] if isinstance(value, str) else ""
