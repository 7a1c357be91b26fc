"""How long it takes to import a file of comparisons into a label store, and how much memory: JSON on stdout.

    .venv/bin/python benchmarks/import_labels.py
    .venv/bin/python benchmarks/import_labels.py --rows 10000 --format hh

The rows are generated (seed 0): a prompt of one to three turns, answers of 20 to 200 words. Import runs in a
process of its own, twice; the second time nothing may be new. The memory is that process's greatest resident
set, the interpreter and its libraries included.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TEXT = "the of a to answer question you can say what is good and not why so it more than other in"
WORDS = TEXT.split()
LIMITS = {"seconds": 30.0, "megabytes": 500.0}  # for 100,000 rows


def rows(count: int, layout: str, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Generated rows in one of three layouts: trl (messages), hh (transcripts), annotators (three labels)."""
    rng = np.random.default_rng(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(low, high)))

    for number in range(count):
        turns = [("user", f"{text(5, 40)} {number}?")]
        for _ in range(int(rng.integers(0, 3))):
            turns += [("assistant", text(20, 100)), ("user", text(5, 40))]
        a, b = f"{text(20, 200)} a", f"{text(20, 200)} b"
        messages = [{"role": role, "content": content} for role, content in turns]
        if layout == "trl":
            answers = [[{"role": "assistant", "content": side}] for side in (a, b)]
            yield {"prompt": messages, "chosen": answers[0], "rejected": answers[1]}
        elif layout == "hh":
            names = {"user": "Human", "assistant": "Assistant"}
            before = "".join(f"\n\n{names[role]}: {content}" for role, content in turns)
            yield {"chosen": f"{before}\n\nAssistant: {a}", "rejected": f"{before}\n\nAssistant: {b}"}
        else:
            labels = {f"person {n}": ("a", "b", "tie")[int(rng.integers(3))] for n in range(3)}
            yield {"prompt": messages, "response_a": a, "response_b": b, "labels": labels}


def work(path: str, database: str) -> None:
    """The measured process: one import, its figures on stdout."""
    from accord.formats import import_comparisons
    from accord.store import LabelStore

    start, processor = time.perf_counter(), time.process_time()
    with LabelStore(database) as store:
        done = import_comparisons(path, store.add, rejects=None)
    figures = {
        "seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(time.process_time() - processor, 2),  # less than that on a busy machine
        "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "rows": done.rows,
        "comparisons": done.comparisons,
        "new": done.new,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--format", choices=["trl", "hh", "annotators"], default="trl")
    parser.add_argument("--work", nargs=2, metavar=("FILE", "DATABASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        path, database = Path(folder) / "rows.jsonl", Path(folder) / "labels.db"
        with path.open("w", encoding="utf-8") as file:
            for row in rows(options.rows, options.format):
                file.write(json.dumps(row) + "\n")
        command = [sys.executable, __file__, "--work", str(path), str(database)]
        first, second = (
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(2)
        )
        report = {
            "format": options.format,
            "file_megabytes": round(path.stat().st_size / 1e6, 1),
            "first": first,
            "second": second,
            "limits_for_100000_rows": LIMITS,
            "within": options.rows < 100_000
            or all(first[name] < limit and second[name] < limit for name, limit in LIMITS.items()),
            "no_op": second["new"] == 0,
            "python": platform.python_version(),
            "machine": platform.processor() or platform.machine(),
        }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
