"""An endpoint that speaks OpenAI's chat completions on loopback, for tests and for trying a recipe offline.

It judges by a Python function of the two answers, can be told to fail first, and keeps what it was asked.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWERS = re.compile(r"<answer [12] (\w+)>\n(.*?)\n</answer [12] \1>", re.DOTALL)


def longer(first: str, second: str) -> str:
    """A judge that prefers the longer answer."""
    return "[[1]]" if len(first) > len(second) else "[[2]]" if len(second) > len(first) else "[[tie]]"


class FakeEndpoint:
    """A context manager; ``url`` is its address.

    Args:
        judge: (first answer, second answer) to the reply's text.
        failures: what the first requests get, in their order: a status, ``(status, headers)``, ``"cut"``
            (the connection is closed), a text in place of a completion, or None (a good reply).
        usage: (prompt tokens, completion tokens) of each reply; None leaves them out.
        key: the only bearer token let in; None lets all in.
    """

    def __init__(
        self,
        judge: Callable[[str, str], str] = longer,
        failures: Iterable[Any] = (),
        usage: tuple[int, int] | None = (100, 10),
        key: str | None = None,
    ) -> None:
        self.judge, self.failures, self.usage, self.key = judge, list(failures), usage, key
        self.requests: list[dict[str, Any]] = []
        self.replied = 0
        self._lock = threading.Lock()

    def __enter__(self) -> FakeEndpoint:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet: else each reply waits for an acknowledgement

            def do_POST(self) -> None:
                fake._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: tests print enough."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        with self._lock:
            self.requests.append(body)
            failure = self.failures.pop(0) if self.failures else None
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            failure = 401
        if failure == "cut":
            request.close_connection = True
            request.connection.close()
            return
        if failure is None:
            answers = [text for _, text in ANSWERS.findall(body["messages"][-1]["content"])]
            message = {"role": "assistant", "content": self.judge(*answers)}
            out: dict[str, Any] = {"choices": [{"index": 0, "message": message}]}
            if self.usage is not None:
                out["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), self.usage, strict=True))
            with self._lock:
                self.replied += 1
            _send(request, 200, json.dumps(out))
        elif isinstance(failure, str):
            _send(request, 200, failure)
        else:
            status, headers = failure if isinstance(failure, tuple) else (failure, {})
            _send(request, status, json.dumps({"error": {"message": f"made to fail with {status}"}}), headers)


def _send(
    request: BaseHTTPRequestHandler, status: int, text: str, headers: dict[str, str] | None = None
) -> None:
    data = text.encode("utf-8")
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
