"""Is a judgement that was shown as saved ever lost? Kills the server with SIGKILL under load, many times.

    python benchmarks/labelling/kill.py --kills 100

Twenty people send judgements without a pause. At a random moment the server is killed and started anew; the
people send again what was not acknowledged, with the same ids, as the page does. At the end: every
acknowledged judgement is there exactly once, nothing is there that nobody sent, no item has more than its
overlap, and SQLite's own integrity check is clean. JSON on stdout, a table row on
stderr; exit code 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

from accord.records import Pair, Prompt, Response
from accord.store import LabelStore, people

SERVER = """
import sys
from accord.store import LabelStore
from accord.web.server import Server
with Server(LabelStore(sys.argv[1]), port=int(sys.argv[2])):
    print("ready", flush=True)
    sys.stdin.read()
"""


class Annotator(threading.Thread):
    """Sends one judgement after the other; what was not acknowledged is sent again."""

    def __init__(self, token: str, port: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.stop = port, stop
        self.heads = {
            "content-type": "application/json",
            "cookie": f"accord_session={token}",
            "origin": f"http://127.0.0.1:{port}",
            "x-csrf-token": hashlib.sha256(b"accord csrf\0" + token.encode()).hexdigest(),
        }
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self.resent = 0

    def call(self, entries: list[dict[str, object]]) -> dict[str, object] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            body = json.dumps({"entries": entries, "have": []})
            connection.request("POST", "/api/sync", body, self.heads)
            reply = connection.getresponse()
            answer: dict[str, object] = json.loads(reply.read())
            return answer if reply.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None  # killed in the middle
        finally:
            connection.close()

    def run(self) -> None:
        outbox: list[dict[str, object]] = []
        while not self.stop.is_set() or outbox:
            answer = self.call(outbox)
            if answer is None:
                self.resent += bool(outbox)
                time.sleep(0.05)
                continue
            for result in answer["results"]:  # type: ignore[attr-defined]
                assert result["status"] == 200, result
                self.acknowledged.add(result["id"])
            outbox = []
            held: list[str] = answer["held"]  # type: ignore[assignment]
            if held and not self.stop.is_set():
                key = str(uuid.uuid4())
                self.sent.add(key)
                said = {"id": key, "assignment": held[0], "verdict": random.choice(("left", "right", "tie"))}
                outbox = [{"op": "judgement", "body": said}]
            elif not self.stop.is_set():
                time.sleep(0.05)


def start(location: str, port: int) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, location, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--people", type=int, default=20)
    options.add_argument("--overlap", type=int, default=3)
    options.add_argument("--pairs", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--port", type=int, default=8472)
    chosen = options.parse_args()
    chance = random.Random(chosen.seed)
    path = Path(tempfile.mkdtemp(prefix="accord-kill-")) / "labels.db"
    with LabelStore(path) as store:
        store.add_pairs(
            (
                Pair(Prompt.from_text(f"Question {n}?"), Response(f"yes {n}"), Response(f"no {n}"))
                for n in range(chosen.pairs)
            ),
            overlap=chosen.overlap,
        )
        names = [f"person {n}" for n in range(chosen.people)]
        now = time.time()
        tokens = store.write(
            lambda c: (
                people.ensure(c, [(n, "annotator") for n in names] + [("operator", "admin")], now),  # type: ignore[list-item]
                [people.start_session(c, n, now) for n in names],
            )[1]
        )
    began, stop = time.time(), threading.Event()
    server = start(str(path), chosen.port)
    crowd = [Annotator(token, chosen.port, stop) for token in tokens]
    for annotator in crowd:
        annotator.start()
    in_flight = 0
    for kill in range(chosen.kills):
        time.sleep(chance.uniform(0.05, 0.6))
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        in_flight += sum(len(a.sent) - len(a.acknowledged) for a in crowd)
        server = start(str(path), chosen.port)
        if (kill + 1) % 10 == 0:
            sys.stderr.write(f"{kill + 1} kills, {sum(len(a.acknowledged) for a in crowd)} acknowledged\n")
    time.sleep(0.5)
    stop.set()
    for annotator in crowd:
        annotator.join(timeout=60)
    server.send_signal(signal.SIGKILL)
    server.wait()
    acknowledged = set().union(*(a.acknowledged for a in crowd))
    sent = set().union(*(a.sent for a in crowd))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        rows = Counter(event for (event,) in connection.execute("SELECT event FROM accord_judgements"))
    with LabelStore(path) as store:
        voices = Counter(c.pair.id for c in store.comparisons())
    found = {
        "kills": chosen.kills,
        "people": chosen.people,
        "acknowledged": len(acknowledged),
        "acknowledged_and_lost": len(acknowledged - set(rows)),
        "doubled": sum(count - 1 for count in rows.values()),
        "stored_but_never_sent": len(set(rows) - sent),
        "sent_and_never_acknowledged": len(sent - acknowledged),
        "in_flight_at_a_kill": in_flight,
        "sent_again": sum(a.resent for a in crowd),
        "items_above_their_overlap": sum(count > chosen.overlap for count in voices.values()),
        "integrity_check": integrity,
        "seconds": round(time.time() - began),
        "seed": chosen.seed,
    }
    print(json.dumps(found, indent=1))
    sys.stderr.write(
        f"| {chosen.kills} kills, {chosen.people} people | {len(acknowledged):,} acknowledged, "
        f"{found['acknowledged_and_lost']} lost, {found['doubled']} doubled, "
        f"{found['items_above_their_overlap']} items above their overlap, integrity check {integrity} |\n"
    )
    broken = [
        found[k]
        for k in ("acknowledged_and_lost", "doubled", "stored_but_never_sent", "items_above_their_overlap")
    ]
    sys.exit(1 if any(broken) or integrity != "ok" else 0)


if __name__ == "__main__":
    main()
