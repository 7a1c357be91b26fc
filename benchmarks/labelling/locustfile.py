"""Fifty people who judge: each sends a verdict with the call that brings the next items, as the page does.

Run by `load.py`, which makes the store, the sessions and the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import uuid
from typing import Any

from locust import FastHttpUser, between, constant, task

SESSIONS = json.loads(os.environ["ACCORD_SESSIONS"])
THINK = float(os.environ["ACCORD_THINK"])
VERDICTS = ("left", "right", "left", "right", "tie", "both_bad", "skip")


class Annotator(FastHttpUser):
    wait_time = between(THINK * 0.5, THINK * 1.5) if THINK else constant(0)  # type: ignore[no-untyped-call]

    def on_start(self) -> None:
        token = SESSIONS.pop()
        csrf = hashlib.sha256(b"accord csrf\0" + token.encode()).hexdigest()
        self.heads = {
            "content-type": "application/json",
            "cookie": f"accord_session={token}",
            "origin": self.host,
            "x-csrf-token": csrf,
        }
        self.held: list[str] = []
        self.send([], "first items")

    def send(self, entries: list[dict[str, Any]], name: str) -> None:
        body = json.dumps({"entries": entries, "have": self.held})
        with self.client.post(
            "/api/sync", data=body, headers=self.heads, name=name, catch_response=True
        ) as reply:
            if reply.status_code != 200:
                reply.failure(f"status {reply.status_code}")
                return
            answer = reply.json()
            if any(result["status"] != 200 for result in answer["results"]):
                reply.failure(str(answer["results"]))
            self.held = answer["held"]

    @task
    def judge(self) -> None:
        if not self.held:
            self.send([], "next items")
            return
        body = {
            "id": str(uuid.uuid4()),
            "assignment": self.held.pop(0),
            "verdict": random.choice(VERDICTS),
            "milliseconds": 4000,
            "reason": "the second one answers the question" if random.random() < 0.2 else "",
            "ui": "1",
        }
        self.send([{"op": "judgement", "body": body}], "judgement")
