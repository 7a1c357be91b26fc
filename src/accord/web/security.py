"""What every request passes: host, origin, size; and what every response carries: the headers that forbid.

A plain ASGI layer around the application, so that errors and static files are covered as well.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Bytes. The longest judgement that is accepted has a reason of 4,000 characters and 50 marks of 2,000, which
# JSON writes with up to 6 bytes each: 630,000. The page sends no more at once than fits.
BODY_LIMIT = 1024 * 1024
SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def policy(nonce: str) -> str:
    """Scripts and styles by nonce only, nothing from elsewhere, no frames, no HTML but through one policy."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types accord"
    )


def csrf_token(cookie: str) -> str:
    """A token that only pages of this cookie's owner hold: the cookie itself is not readable by scripts."""
    return hashlib.sha256(b"accord csrf\0" + cookie.encode()).hexdigest()


def csrf_matches(cookie: str, token: str) -> bool:
    return hmac.compare_digest(
        csrf_token(cookie), token.encode("utf-8", "replace").decode("ascii", "replace")
    )


def is_loopback(host: str) -> bool:
    """Whether a server bound to ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Shield:
    """Refuses foreign hosts, cross-site writes and large bodies; adds the headers to every response.

    Args:
        hosts: the names that a Host header may have, without port; None: any (a server with accounts that is
            reachable under names we do not know; its cookies belong to one name each all the same).
        public_url: what browsers see, where a proxy stands before us; decides what an Origin must be.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None, public_url: str | None = None) -> None:
        self.app = app
        self.hosts = None if hosts is None else {host.lower().strip("[]") for host in hosts}
        self.origin = None
        if public_url is not None:
            parts = urlsplit(public_url)
            self.origin = f"{parts.scheme}://{parts.netloc}".lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websockets here
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["content-security-policy"] = policy(nonce)
                for name, value in HEADERS.items():
                    out[name] = value
                if "cache-control" not in out:
                    out["cache-control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope["method"], scope.get("scheme", "http"), headers)
        if refusal is not None:
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, send_with_headers)
            return
        await self.app(scope, _Limited(receive), send_with_headers)

    def _refusal(self, method: str, scheme: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if self.hosts is not None and urlsplit(f"//{host}").hostname not in self.hosts:
            return 421, "This server does not answer to that name."
        if method in SAFE:
            return None
        expected = self.origin or f"{scheme}://{host}"
        if headers.get("origin", "").lower() != expected:
            return 403, "This request came from another site."
        try:
            if int(headers.get("content-length", 0)) > BODY_LIMIT:
                return 413, TOO_LARGE
        except ValueError:
            return 400, "The length of the request is not a number."
        return None


TOO_LARGE = f"The request is larger than {BODY_LIMIT // 2**20} MiB."


class _Limited:
    """A ``receive`` that counts: a body may come without saying its length."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.size = receive, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.size += len(message.get("body", b""))
        if self.size > BODY_LIMIT:
            raise HTTPException(413, TOO_LARGE)  # the application answers it as any other refusal
        return message


class RateLimit:
    """At most ``count`` tries in ``seconds`` for each key. In memory: a restart forgets."""

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count, self.seconds, self.clock = count, seconds, clock
        self._tries: dict[Any, deque[float]] = {}

    def wait(self, key: Any) -> float:
        """Count a try. 0.0: go on; else how many seconds to wait (the try is then not counted)."""
        now = self.clock()
        if len(self._tries) > 10_000:  # somebody walks through addresses: forget the old ones
            self._tries = {k: t for k, t in self._tries.items() if t and t[-1] > now - self.seconds}
        tries = self._tries.setdefault(key, deque())
        while tries and tries[0] <= now - self.seconds:
            tries.popleft()
        if len(tries) >= self.count:
            return tries[0] + self.seconds - now
        tries.append(now)
        return 0.0
