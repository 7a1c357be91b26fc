"""Judgements a second and latency of the labelling app under 50 people.

JSON on stdout, a table row on stderr.

    pip install 'accord-rlhf[load]'                    # locust
    python benchmarks/labelling/load.py                # throughput: nobody thinks
    python benchmarks/labelling/load.py --think 2      # latency: each thinks 1 to 3 seconds

SQLite in WAL with synchronous FULL on the disk of --folder. Server and locust share the machine's cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sql

from accord.records import Pair, Prompt, Response
from accord.store import LabelStore, people
from accord.store.schema import judgements

HERE = Path(__file__).parent
SERVER = """
import sys, time
from accord.store import LabelStore
from accord.web.server import Server
with Server(LabelStore(sys.argv[1]), port=int(sys.argv[2])) as server:
    print("ready", flush=True)
    sys.stdin.readline()
    writer = server.application.app.state.service.writer
    print(writer.done / max(1, writer.commits), flush=True)
"""


def text(number: int, side: str) -> str:
    return (
        f"Answer {side} to question {number}. " + "It has **some** words, `code` and a second sentence. " * 6
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--users", type=int, default=50)
    options.add_argument("--seconds", type=int, default=40)
    options.add_argument("--think", type=float, default=0.0, help="mean seconds between two judgements")
    options.add_argument("--pairs", type=int, default=20_000)
    options.add_argument("--overlap", type=int, default=1)
    options.add_argument("--store", default=None, help="a database URL instead of a new SQLite file")
    options.add_argument("--folder", default=None)
    chosen = options.parse_args()
    if importlib.util.find_spec("locust") is None:
        sys.exit("locust is not installed: pip install 'accord-rlhf[load]'")
    folder = Path(tempfile.mkdtemp(prefix="accord-load-", dir=chosen.folder))
    location = chosen.store or str(folder / "labels.db")
    with LabelStore(location) as store:
        pairs = (
            Pair(
                Prompt.from_text(f"Question number {n}?"), Response(text(n, "one")), Response(text(n, "two"))
            )
            for n in range(chosen.pairs)
        )
        store.add_pairs(pairs, overlap=chosen.overlap)
        names = [(f"person {n}", "annotator") for n in range(chosen.users)]
        now = time.time()

        def sessions(connection: sql.Connection) -> list[str]:
            people.ensure(connection, [*names, ("operator", "admin")], now)  # type: ignore[arg-type]
            return [people.start_session(connection, name, now) for name, _ in names]

        tokens = store.write(sessions)
    port = 8471
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, location, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    load_before = os.getloadavg()[0]
    environment = os.environ | {"ACCORD_SESSIONS": json.dumps(tokens), "ACCORD_THINK": str(chosen.think)}
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(HERE / "locustfile.py"),
        "--headless",
        "--host",
        f"http://127.0.0.1:{port}",
    ]
    command += [
        "-u",
        str(chosen.users),
        "-r",
        "50",
        "-t",
        f"{chosen.seconds}s",
        "--reset-stats",
        "--only-summary",
        "--csv",
        str(folder / "out"),
        "--stop-timeout",
        "10",
    ]
    began = time.time()
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = time.time() - began
    group, _ = server.communicate("stop\n", timeout=60)
    if not (folder / "out_stats.csv").exists():
        sys.exit(run.stdout[-3000:] + run.stderr[-3000:])
    rows = (folder / "out_stats.csv").read_text().splitlines()
    header = rows[0].split(",")
    if not any(",judgement," in line for line in rows):
        sys.exit(run.stdout[-3000:] + run.stderr[-3000:])
    row = next(dict(zip(header, line.split(","), strict=True)) for line in rows if ",judgement," in line)
    with LabelStore(location) as store:
        kept = store.read(lambda c: c.scalar(sql.select(sql.func.count()).select_from(judgements)))
        counted = len(store.comparisons())
    found = {
        "users": chosen.users,
        "think_seconds": chosen.think,
        "database": "sqlite, WAL, synchronous FULL"
        if chosen.store is None
        else chosen.store.partition(":")[0],
        "judgements_per_second": round(float(row["Requests/s"]), 1),
        "requests": int(row["Request Count"]),
        "errors": int(row["Failure Count"]),
        "median_ms": float(row["50%"]),
        "p95_ms": float(row["95%"]),
        "p99_ms": float(row["99%"]),
        "judgements_to_a_commit": round(float(group), 1),
        "rows_in_the_store": kept,
        "counted": counted,
        "seconds": round(took, 1),
        "load_average_before": round(load_before, 2),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(found, indent=1))
    thinks = f"{chosen.think:g} s think time" if chosen.think else "no think time"
    sys.stderr.write(
        f"| {chosen.users} people, {thinks} | {found['judgements_per_second']}/s, "
        f"{found['requests']:,} requests, "
        f"{found['errors']} errors, median {found['median_ms']:.0f} ms, p95 {found['p95_ms']:.0f} ms, "
        f"p99 {found['p99_ms']:.0f} ms |\n"
    )
    if run.returncode not in (0, 1):
        sys.stderr.write(run.stderr[-2000:])
    sys.exit(1 if found["errors"] else 0)


if __name__ == "__main__":
    main()
