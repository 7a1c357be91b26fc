"""How far each algorithm ends from the known optimum, from several random policies (tests/exact).

    PYTHONPATH=. python scripts/known_optimum.py --seeds 6

Prints nats from the optimum, of the prompt where it is largest; exits with 1 where one is above the limit.
The tests do the same from one policy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from tests.exact import test_direct_optimum
from tests.exact.training import ALGORITHMS, LIMIT, train

DPO = "dpo"  # on enumerated preferences, through the direct trainer
DPO_STEPS = 120


def ended(folder: Path, seed: int, name: str) -> float:
    return train(folder, seed, **ALGORITHMS[name]).end


def dpo_end(folder: Path, seed: int) -> float:
    return test_direct_optimum.train(folder, seed, DPO_STEPS)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", choices=[*ALGORITHMS, DPO])
    options = parser.parse_args()
    torch.set_num_threads(1)
    worst = 0.0
    for name in [options.only] if options.only else [*ALGORITHMS, DPO]:
        ends = []
        print(f"{name:24}", end="", flush=True)
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                end = dpo_end(Path(folder), seed) if name == DPO else ended(Path(folder), seed, name)
            ends.append(end)
            print(f" {end:.4f}", end="", flush=True)
        print()
        worst = max(worst, *ends)
    print(f"largest {worst:.4f}, limit {LIMIT}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
