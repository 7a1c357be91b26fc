"""A store that is served, people who are signed in, and a browser."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from accord.store import LabelStore, campaign, people
from accord.web.app import build
from accord.web.server import Server
from tests.stores import KINDS, filled, new_database, postgresql

CHROMIUM = "/usr/bin/chromium"
ORIGIN = "http://127.0.0.1"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "labels.db")
    return new_database(request.getfixturevalue("postgresql_server"))


class Clock:
    """Unix seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Person:
    """Somebody with a cookie and a page: requests as the browser sends them."""

    def __init__(self, client: TestClient, name: str) -> None:
        self.client, self.name = client, name

    @property
    def csrf(self) -> str:
        from accord.web.security import csrf_token

        return csrf_token(self.client.cookies["accord_session"])

    def sync(self, *entries: dict[str, Any], have: tuple[str, ...] = (), **headers: str) -> Any:
        heads = {"origin": ORIGIN, "x-csrf-token": self.csrf} | headers
        return self.client.post(
            "/api/sync", json={"entries": list(entries), "have": list(have)}, headers=heads
        )

    def post(self, path: str, **values: str) -> Any:
        return self.client.post(path, data={"csrf": self.csrf} | values, headers={"origin": ORIGIN})

    def say(self, item: dict[str, Any], verdict: str = "left", **more: Any) -> dict[str, Any]:
        body = {"id": str(uuid.uuid4()), "assignment": item["assignment"], "verdict": verdict} | more
        return {"op": "judgement", "body": body}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(location: str) -> Iterator[LabelStore]:
    with filled(location, 6) as store:
        yield store


@pytest.fixture
def visit(store: LabelStore, clock: Clock) -> Iterator[Callable[..., Person]]:
    """Call it with a name (and role) for somebody who has signed in with a link."""
    application = build(store, clock=clock)
    opened: list[TestClient] = []

    def enter(name: str, role: people.Role = "annotator", *, ready: bool = True) -> Person:
        def job(connection: Any) -> str:
            people.ensure(connection, [(name, role)], clock())
            if ready:
                people.set_ready(connection, name, clock())
            return people.new_link(connection, name, clock())

        token = store.write(job)
        client = TestClient(application, base_url=ORIGIN, follow_redirects=False)
        opened.append(client)
        reply = client.post("/enter", data={"token": token}, headers={"origin": ORIGIN})
        assert reply.json() == {"next": "/"}
        return Person(client, name)

    yield enter
    application.app.state.service.writer.close()  # type: ignore[attr-defined]
    for client in opened:
        client.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; no browser is downloaded."""
    if not os.path.exists(CHROMIUM):
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def until(page: Any, expression: str, arg: Any = None, seconds: float = 100.0) -> None:
    """Wait for a JavaScript condition. Playwright's own evaluates a string, which our policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"still not so after {seconds} s: {expression}"
        page.wait_for_timeout(25)


class Desk:
    """A browser page in which somebody judges."""

    def __init__(self, page: Any, server: Server, errors: list[str]) -> None:
        self.page, self.server, self.errors = page, server, errors

    @property
    def saved(self) -> str:
        return str(self.page.inner_text("#saved"))

    def wait_saved(self) -> None:
        until(self.page, "document.querySelector('#saved').textContent === 'Saved'")

    def wait_item(self) -> None:
        self.page.wait_for_selector("#item .answer", timeout=100_000)

    def question(self) -> str:
        return str(self.page.inner_text(".turn.last .text"))

    def texts(self) -> list[str]:
        return [str(text) for text in self.page.locator("#item .answer .text").all_inner_texts()]


@pytest.fixture(scope="session")
def tab(browser: Any) -> Any:
    """The page that most tests share: to open a window costs Chromium more than most tests do in it."""
    return browser.new_context().new_page()


@pytest.fixture
def desk(browser: Any, tab: Any, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Call it with a store for a page of its first operator, at the desk; a script error fails the test.

    The first page of a test is the shared one, without cookies; ``own`` for a new one, as all others are.
    """
    contexts: list[Any] = []
    servers: list[Server] = []
    errors: list[str] = []
    pages: list[Any] = []

    def script_error(error: Any) -> None:
        errors.append(f"script: {error}")

    def message(one: Any) -> None:
        if one.type == "error" and not re.search("Failed to load|ERR_", one.text):
            errors.append(one.text)

    def new_page(own: bool, viewport: Any, color_scheme: str) -> Any:
        if own or pages:
            contexts.append(browser.new_context(viewport=viewport, color_scheme=color_scheme))
            return contexts[-1].new_page()
        tab.context.clear_cookies()
        tab.set_viewport_size(viewport)
        tab.emulate_media(color_scheme=color_scheme)
        return tab

    def open_(
        store: LabelStore,
        *,
        name: str | None = None,
        begun: bool = True,
        server: Server | None = None,
        own: bool = False,
        width: int = 1280,
        height: int = 800,
        color_scheme: str = "light",
    ) -> Desk:
        if server is None:
            named: list[Any] = [(name, "annotator")] if name else []
            server = Server(store, people_=named).start()
            servers.append(server)
        links = dict(server.address.links)
        who = name or next(iter(links))
        if begun:
            store.write(lambda c: people.set_ready(c, who, time.time()))
        page = new_page(own, {"width": width, "height": height}, color_scheme)
        pages.append(page)
        page.set_default_timeout(100_000)
        page.on("pageerror", script_error)
        page.on("console", message)
        page.goto(links[who])
        page.wait_for_url(f"{server.address.url}/")
        found = Desk(page, server, errors)
        if begun:
            until(page, "document.querySelector('#news')?.textContent !== 'Fetching…'")
        return found

    yield open_
    if tab in pages:
        leave(tab, script_error, message)
    for context in contexts:
        context.close()
    for server in servers:
        server.stop()
    assert errors == []


def leave(tab: Any, script_error: Any, message: Any) -> None:
    """The shared page forgets the test."""
    origin = "/".join(tab.url.split("/")[:3])
    tab.remove_listener("pageerror", script_error)
    tab.remove_listener("console", message)
    for page in tab.context.pages:
        if page is not tab:
            page.close()
    tab.unroute_all()
    tab.context.set_offline(False)
    tab.goto("about:blank")
    tab.mouse.move(-1, -1)
    devtools = tab.context.new_cdp_session(tab)
    devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    devtools.detach()


def change(store: LabelStore, **values: Any) -> None:
    store.write(lambda c: campaign.save(c, "op", time.time(), **values))
