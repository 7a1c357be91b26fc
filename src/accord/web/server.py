"""Running the application: where it listens, who may come in, what is printed."""

from __future__ import annotations

import contextlib
import getpass
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvicorn

from accord.records import BadInput
from accord.store import LabelStore, campaign, people
from accord.store.people import Role
from accord.web.app import build
from accord.web.security import is_loopback

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """Where a server listens, and one sign-in link for each person that was named."""

    url: str
    links: tuple[tuple[str, str], ...]


class Server:
    """A labelling server in a thread of its own; a context manager that stops it.

    Args:
        store: an open store; it stays open, unless ``close_store``.
        people_: (name, role); none: this machine's user alone, as admin.
        public_url: what browsers see, where a proxy with TLS stands in front.

    Raises:
        BadInput: a port that is taken, an address that cannot be had, or a server that other machines could
            reach without anybody having an account.
    """

    def __init__(
        self,
        store: LabelStore,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        people_: Sequence[tuple[str, Role]] = (),
        public_url: str | None = None,
        close_store: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self._close_store = store, close_store
        self._check(host, people_, public_url)
        self._socket = _listen(host, port)
        port = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.address = self._invite(public_url or f"http://{shown}:{port}", people_, clock)
        hosts: tuple[str, ...] | None = LOOPBACK if is_loopback(host) else None
        if public_url is not None and hosts is not None:
            hosts = (*hosts, urlsplit(public_url).hostname or "")
        application = self.application = build(store, hosts=hosts, public_url=public_url, clock=clock)
        # Proxy headers are believed only where the operator said that there is a proxy.
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, server_header=False, date_header=False,
            proxy_headers=public_url is not None, timeout_keep_alive=75, timeout_graceful_shutdown=5,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="accord-label", daemon=True)

    def _check(self, host: str, people_: Sequence[tuple[str, Role]], public_url: str | None) -> None:
        if public_url is not None and urlsplit(public_url).scheme not in ("http", "https"):
            raise BadInput(
                f"--public-url is {public_url!r}: give what browsers see, such as https://label.example.org"
            )
        everybody = self.store.read(people.everybody)
        if not (is_loopback(host) and public_url is None) and not people_ and not everybody:
            raise BadInput(
                f"other machines could reach a server on {host}, and nobody has an account yet: name the "
                "people with --annotators names.txt, or leave --host out"
            )

    def _invite(self, url: str, people_: Sequence[tuple[str, Role]], clock: Callable[[], float]) -> Address:
        names = list(people_)
        if not any(role == "admin" for _, role in names):
            known = [p.name for p in self.store.read(people.everybody) if p.role == "admin"]
            names.insert(0, (known[0] if known else _me({name for name, _ in names}), "admin"))
        now = clock()

        def job(connection: object) -> list[tuple[str, str]]:
            people.ensure(connection, names, now)  # type: ignore[arg-type]
            campaign.save(connection, names[0][0], now)  # type: ignore[arg-type]
            return [(name, people.new_link(connection, name, now)) for name, _ in names]  # type: ignore[arg-type]

        tokens = self.store.write(job)
        return Address(url, tuple((name, f"{url.rstrip('/')}/enter#{token}") for name, token in tokens))

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def start(self) -> Server:
        """Returns when requests are answered."""
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise BadInput("the labelling server stopped while it was starting: see the lines above")
            time.sleep(0.01)
        return self

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish the requests that are on their way, then stop."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        if self._close_store:
            self.store.close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _me(taken: set[str]) -> str:
    name = "operator"
    with contextlib.suppress(OSError, KeyError, ImportError, BadInput):
        name = people.checked_name(getpass.getuser())
    return name if name not in taken else f"{name} (operator)"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadInput(f"{host!r} is no address ({error.strerror}): leave --host out") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"the server cannot listen on {host}, port {port} ({error.strerror}): choose another --port, or "
            "--port 0 for any free one"
        ) from None
    return listener
