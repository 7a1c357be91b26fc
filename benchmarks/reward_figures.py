"""Reward models on labels of people, measured: HH harmless, UKP arguments, PandaLM's annotators, the curve.

    ACCORD=.venv/bin/python
    $ACCORD benchmarks/reward_figures.py hh --data DIR --out OUT --seeds 5
    $ACCORD benchmarks/reward_figures.py curve --data DIR --out OUT --seeds 3
    $ACCORD benchmarks/reward_figures.py ukp --data DIR --out OUT --seeds 5
    $ACCORD benchmarks/reward_figures.py pandalm --data DIR --out OUT --seeds 10
    $ACCORD benchmarks/reward_figures.py --summary --out OUT    # tables and curve.svg from what is there

Every result is a line of OUT/FIGURE.jsonl with the margins of its held-out pairs; what is there is not done
again, so the same command goes on after a stop (``--minutes`` stops it). The frozen model reads every text
once (kept in accord's cache), for all seeds, sizes and figures. Two kinds of model stand on that:

- ``head``: a head fitted to the frozen states by accord's losses, its ridge by folds of prompts; what
  ``reward: {head_start: probe, epochs: 0}`` trains.
- ``top`` (``--top-layers K``): from that head one epoch of the top K layers with `RewardTrainer`, as
  recipes/hh.yaml.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from figure_bench import Bench, Log, read_lines
from figure_hh import curve, hh
from figure_pandalm import pandalm
from figure_states import Deadline, OutOfTime
from figure_summary import summary
from figure_ukp import ukp

from accord.config import PACKAGED_MODEL

FIGURES = {"hh": hh, "ukp": ukp, "pandalm": pandalm, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", nargs="?", choices=sorted(FIGURES))
    parser.add_argument("--data", type=Path, help="folder with the four files, see the docs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="stop then; the same command goes on")
    parser.add_argument(
        "--top-layers", type=int, default=2, help="trained in hh; 0: none (changes what is kept)"
    )
    parser.add_argument("--pairs", type=int, help="training pairs at most (for a quick look)")
    parser.add_argument("--model", default=PACKAGED_MODEL)
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.figure:
        if given.data is None:
            parser.error("--data is needed: the folder that holds the comparisons")
        bench = Bench(given.data, Deadline(given.minutes), given.top_layers, given.pairs, given.model)
        log = Log(given.out, given.figure)
        try:
            FIGURES[given.figure](bench, given.seeds, log)
        except OutOfTime:
            print(f"{given.minutes:g} minutes are over: the same command goes on", file=sys.stderr)
    if given.summary:
        print(summary({name: read_lines(given.out / f"{name}.jsonl") for name in FIGURES}, given.out))


if __name__ == "__main__":
    main()
