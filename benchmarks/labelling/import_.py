"""How long 100,000 comparisons take to come in (also a second time), and how much memory.

JSON on stdout, a table row on stderr.

python benchmarks/labelling/import_.py
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from accord import label_import
from accord.store import LabelStore

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "for",
    "on",
    "that",
    "as",
    "with",
    "was",
    "be",
    "are",
    "this",
    "from",
    "at",
    "or",
    "by",
    "an",
    "have",
    "not",
    "you",
    "they",
]


def main() -> None:
    chance = random.Random(0)
    path = Path(tempfile.mkdtemp(prefix="accord-import-")) / "comparisons.jsonl"

    def text(count: int) -> str:
        return " ".join(chance.choices(WORDS, k=count))

    with path.open("w") as out:
        for n in range(100_000):
            row = {"prompt": f"{n} {text(25)}", "chosen": text(60), "rejected": text(60)}
            out.write(json.dumps(row) + "\n")
    with LabelStore(path.with_suffix(".db")) as store:
        before = os.times()
        began = time.monotonic()
        found = label_import.import_file(store, path)
        took, used = time.monotonic() - began, os.times()
        again = time.monotonic()
        second = label_import.import_file(store, path)
        again = time.monotonic() - again
    figures = {
        "rows": found.rows,
        "new": found.new,
        "file_megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds": round(took, 1),
        "cpu_seconds": round(used.user + used.system - before.user - before.system, 1),
        "second_import_new": second.new,
        "second_import_seconds": round(again, 1),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load_average": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(figures, indent=1))
    sys.stderr.write(
        f"| {found.rows:,} rows ({figures['file_megabytes']} MB) | {figures['seconds']} s, "
        f"{figures['peak_megabytes']} MB at the peak; a second import adds {second.new} rows in "
        f"{figures['second_import_seconds']} s |\n"
    )


if __name__ == "__main__":
    main()
