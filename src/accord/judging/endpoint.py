"""One endpoint that speaks OpenAI's chat completions: asked patiently, at a limited rate, with its cost kept.

Tried again: no connection, a time-out, and the statuses that mean *later* (408, 409, 425, 429 and 500
upwards), with waiting times that double and the endpoint's own ``Retry-After`` heeded. Not tried again: what
another try cannot mend, such as a wrong key or an unknown model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2 as httpx

from accord.config import LlmJudge as Config
from accord.records import BadInput

LATER = frozenset({408, 409, 425, 429})
LONGEST_WAIT = 60.0  # seconds between two tries


@dataclass(frozen=True)
class Reply:
    """What the model said, and what it took."""

    text: str
    tokens_in: int
    tokens_out: int
    counted: bool = True  # False: the endpoint did not say how many tokens


class Pace:
    """Requests spread evenly so that a minute has no more of them, nor of tokens, than allowed."""

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._gap = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._next = 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Take the next place and wait for it."""
        with self._lock:
            now = self._clock()
            mine = max(now, self._next)
            self._next = mine + self._gap
        if mine > now:
            self._sleep(mine - now)

    def charge(self, tokens: int) -> None:
        """Put later places off by the tokens that a reply took (known only after it)."""
        with self._lock:
            self._next = max(self._clock(), self._next) + tokens * self._per_token


class Spending:
    """What was spent, against a budget. Prices are per million tokens, in the recipe's own currency."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.spent = 0.0
        self._dearest = 0.0
        self.known = False

    def add(self, tokens: Iterable[tuple[int, int]]) -> None:
        """Count the (sent, received) tokens of pairs."""
        for sent, received in tokens:
            cost = (sent * self.config.price_in + received * self.config.price_out) / 1e6
            self.spent += cost
            self._dearest = max(self._dearest, cost)
            self.known = True

    def allows(self, pairs: int) -> bool:
        """Whether so many pairs, each at the price of the dearest so far, stay within the budget."""
        budget = self.config.budget
        return budget is None or self.spent + pairs * self._dearest <= budget

    def sentence(self, left: int) -> str:
        """Why the judge stopped."""
        return (
            f"the judge has spent {self.spent:.4g} of its budget of {self.config.budget:g}, and {left} pairs "
            "have no label yet: raise judge.budget (--budget) and run the same command again"
        )


class Stopped(Exception):
    """The endpoint was told to stop while a request waited for its turn or its next try."""


class Endpoint:
    """Requests to ``config.url`` with one connection pool; safe to use from several threads.

    A context manager, which closes the connections.

    Args:
        config: the recipe's ``judge`` section.
        key: sent as a bearer token; empty for none. It is never printed.
        sleep: waits so many seconds; in tests, something quicker.
    """

    def __init__(
        self,
        config: Config,
        key: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.config = config
        self._stop = threading.Event()
        self._sleep = sleep or self._stop.wait
        self.pace = Pace(config.requests_per_minute, config.tokens_per_minute, clock, self._sleep)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            base_url=config.url.rstrip("/") + "/", headers=headers, timeout=config.timeout_seconds
        )

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """No further try: requests that wait raise `Stopped`; those that are under way come to their end."""
        self._stop.set()

    def chat(self, messages: list[dict[str, str]]) -> Reply:
        """One reply.

        Raises:
            BadInput: the endpoint refuses the request, or none of ``config.tries`` tries gave a reply.
            Stopped: see `stop`.
        """
        body = {"model": self.config.model, "messages": messages} | self.config.request
        reason = ""
        for attempt in range(self.config.tries):
            self.pace.wait()
            if self._stop.is_set():
                raise Stopped
            delay = min(LONGEST_WAIT, 2.0**attempt)
            try:
                response = self._client.post("chat/completions", json=body)
            except httpx.TransportError as error:  # no connection, cut off, timed out
                reason = f"{type(error).__name__}: {error}".strip(": ")
            else:
                if response.status_code < 400:
                    return self._reply(response)
                reason = f"status {response.status_code}: {_message(response)}"
                if response.status_code not in LATER and response.status_code < 500:
                    raise BadInput(
                        f"the judge at {self.config.url} refuses ({reason}): check judge.model, judge.url, "
                        "judge.request and the key"
                    )
                asked = _retry_after(response)
                delay = delay if asked is None else asked
            if attempt + 1 < self.config.tries:
                self._sleep(delay)
        raise BadInput(
            f"the judge at {self.config.url} gave no reply in {self.config.tries} tries (the last: "
            f"{reason}): check that it runs, then run the same command again; labels so far are kept"
        )

    def _reply(self, response: httpx.Response) -> Reply:
        try:
            body: Any = response.json()
            message = body["choices"][0]["message"]
            text = message.get("content") or ""
            usage = body.get("usage") or {}
            sent, received = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise BadInput(
                f"the judge at {self.config.url} answers, but not with a chat completion "
                f"({response.text[:100]!r}): judge.url must be the part before /chat/completions, "
                "for example http://localhost:8000/v1"
            ) from None
        counted = isinstance(sent, int) and isinstance(received, int)
        if not counted and (self.config.budget is not None or self.config.tokens_per_minute):
            raise BadInput(
                f"the judge at {self.config.url} does not say how many tokens it used, so that a budget or a "
                "limit on tokens cannot be kept: leave out judge.budget and judge.tokens_per_minute"
            )
        reply = Reply(str(text), int(sent or 0), int(received or 0), counted)
        self.pace.charge(reply.tokens_in + reply.tokens_out)
        return reply


def _message(response: httpx.Response) -> str:
    """The endpoint's own words, short and on one line."""
    try:
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError):
        text = response.text
    return " ".join(str(text).split())[:200] or "no message"


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait as the endpoint asks for them, as a number or a date; at most `LONGEST_WAIT`."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT)
