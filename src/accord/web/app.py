"""The ASGI application of one store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from accord.store import LabelStore
from accord.web import account, annotate, operate, pages
from accord.web.security import Shield
from accord.web.service import Service, go, wants_json


def build(
    store: LabelStore,
    *,
    hosts: Iterable[str] | None = ("127.0.0.1", "localhost", "::1"),
    public_url: str | None = None,
    clock: Callable[[], float] = time.time,
) -> ASGIApp:
    """The application. It closes its writer, not the store, when it is shut down.

    Args:
        hosts: names under which the server may be asked; None: any.
        public_url: what browsers see, where a proxy with TLS stands before this server.
    """
    here = Service(store, secure=bool(public_url and public_url.startswith("https:")), clock=clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        here.writer.close()

    application = Starlette(
        routes=[
            Route("/", annotate.home),
            Route("/ready", annotate.ready, methods=["POST"]),
            Route("/guidelines", annotate.show_guidelines),
            Route("/api/sync", annotate.sync, methods=["POST"]),
            Route("/api/recent", annotate.recent),
            Route("/api/whole/{assignment}/{place:int}", annotate.whole),
            Route("/api/release", annotate.release, methods=["POST"]),
            Route("/signin", account.show_sign_in),
            Route("/signin", account.sign_in, methods=["POST"]),
            Route("/enter", account.enter_page),
            Route("/enter", account.enter, methods=["POST"]),
            Route("/signout", account.sign_out, methods=["POST"]),
            Route("/account", account.account),
            Route("/account", account.set_password, methods=["POST"]),
            Route("/static/{version}/{name}", pages.static),
            Route("/health", _health),
            *operate.ROUTES,
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
        lifespan=lifespan,
    )
    application.state.service = here
    return Shield(application, hosts, public_url)


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if wants_json(request):
        return JSONResponse({"problem": error.detail}, error.status_code)
    if error.status_code == 401:
        return go("/signin")
    return pages.page(request, "problem.html", error.status_code, sentence=error.detail)


async def _failed(request: Request, _: Exception) -> Response:
    """Starlette logs the traceback; the page says nothing about our insides."""
    sentence = "Something went wrong on our side. Nothing that was shown as saved is lost."
    if wants_json(request):
        return JSONResponse({"problem": sentence}, 500)
    return PlainTextResponse(sentence, 500)
