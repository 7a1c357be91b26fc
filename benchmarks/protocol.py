"""JSON lines over pipes between ``bench.py`` and its two workers. Standard library only.

Two environments take part (accord's and TRL's), so this file imports nothing that only one of them has.

A worker obeys ``{"do": "open", ...}``, then any number of ``{"do": "step"}``, then ``{"do": "close"}``.
Between commands it is blocked in a read of its pipe and takes no processor time: two processes that both
use all threads at once would measure each other.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Closed(Exception):
    """The orchestrator wants no further step."""


class Channel:
    """A worker's end. Whatever libraries print goes to stderr: stdout carries messages and nothing else."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def send(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def receive(self) -> dict[str, Any]:
        """The next command; blocks without spinning. Raises Closed at ``close`` or when the pipe ends."""
        line = sys.stdin.readline()
        if not line:
            raise Closed
        message: dict[str, Any] = json.loads(line)
        if message["do"] == "close":
            raise Closed
        return message


class PhaseTimer:
    """Seconds by phase. An inner phase is taken out of the outer one, so that phases add up to the step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[float] = []  # time spent in inner phases, one entry an open phase

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._stack.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            inner = self._stack.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - inner
            if self._stack:
                self._stack[-1] += elapsed

    def wrap(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.phase(name):
                return function(*args, **kwargs)

        return timed

    def take(self, total: float) -> dict[str, float]:
        """The phases of one step that took ``total`` seconds; what no phase covers is ``other``. Resets."""
        out = dict(self.seconds)
        out["other"] = max(0.0, total - sum(out.values()))
        self.seconds.clear()
        return out


def step_message(seconds: float, timer: PhaseTimer, **figures: float | None) -> dict[str, Any]:
    """What a worker answers to ``step``: wall seconds, seconds by phase, and what was worked off."""
    return {"ok": True, "seconds": seconds, "phases": timer.take(seconds), **figures}
