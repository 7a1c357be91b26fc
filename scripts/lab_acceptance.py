"""The acceptance list of `accord lab` at full size: 64 seeds in the reported world, 16 in each of 8 other
worlds.

    .venv/bin/python scripts/lab_acceptance.py --out runs/lab-acceptance.json

Prints the tables of docs/lab.md. The constants of the world were chosen with seeds 100 to 131 in world 0;
nothing here was looked at before they were fixed. Takes about 12 minutes of one core; the file is written
after each world.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from accord.config import validate
from accord.lab.acceptance import acceptance, needed
from accord.lab.settings import LabSettings
from accord.lab.study import run_study
from accord.records import Finding


def measure(world: int, seeds: int, workers: int) -> list[Finding]:
    settings = validate(LabSettings, {"seeds": seeds, "world": {"seed": world}}, "lab")
    started = time.perf_counter()
    findings = acceptance(run_study(settings, workers, recipes=needed(settings)))
    print(f"\nworld {world}, seeds 0 to {seeds - 1}, {time.perf_counter() - started:.0f} s", flush=True)
    for finding in findings:
        print(
            f"| {finding.name[-1]} | {'holds' if finding.verdict == 'good' else 'not shown'} |"
            f" {finding.sentence} |"
        )
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every figure")
    parser.add_argument("--seeds", type=int, default=64, help="in the reported world")
    parser.add_argument(
        "--worlds", type=int, nargs="*", default=list(range(9)), help="0: the reported one; others: 16 seeds"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    # Worlds of an earlier call stay: the list can be made in parts.
    document = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    for world in options.worlds:
        name, seeds = (f"world {world}", 16) if world else ("reported world", options.seeds)
        document[name] = [finding.to_json() for finding in measure(world, seeds, options.workers)]
        options.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
