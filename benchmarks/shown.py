"""What over-optimisation looks like on language models, and what accord's tools make of it: docs/shown.md.

    python benchmarks/shown.py planted --out runs/shown           # 20 development runs, 40 that count
    python benchmarks/shown.py pairs --out runs/shown --seeds 0 1 2
    python benchmarks/shown.py pairs --out runs/shown --summary   # the table and the picture of what is there

Every experiment is a recipe of recipes/shown, run with a few settings (arms) and seeds by ``accord run``'s
own pipeline. One JSON line a finished run; a killed call goes on where it stopped. ``--tiny`` takes the
model of 210,000 weights in place of SmolLM2, which is quicker and shows less. Gold is read here, after
the run, and by the simulated annotators; nothing that trains sees it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks import shown_experiments, shown_tiny
from benchmarks.shown_experiments import EXPERIMENTS, Experiment, Job

from accord import config, pipeline
from accord.judging import gold

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "shown"
BULKY = ("policy", "reward", "sft", "unfinished")  # weights; the samples and the figures are kept


def settings_of(experiment: Experiment, job: Job, model: Path, tiny: bool) -> config.Run:
    overrides = [*experiment.arms[job.arm], *(experiment.tiny if tiny else ())]
    overrides += [f"model.path={model}", "sft=null", "logging.tensorboard=false"]
    return config.load(RECIPES / f"{experiment.recipe}.yaml", overrides, seed=job.seed)


def start_of(experiment: Experiment, out: Path, tiny: bool) -> Path:
    """The policy that all runs of an experiment start from: SFT once, shared by arms and seeds."""
    if tiny:
        return shown_tiny.make(out / "tiny")
    settings = config.load(RECIPES / f"{experiment.recipe}.yaml", ["logging.tensorboard=false"])
    folder = out / "start" / experiment.recipe
    pipeline.run(settings, folder, until="sft")
    return folder / "sft"


def evaluations_of(folder: Path) -> list[dict[str, Any]]:
    """All evaluations of a run's last round, with a second reward model's scores where it has some."""
    rounds = sorted(folder.glob("round-*"), key=lambda path: int(path.name.split("-")[1]))
    found = json.loads((rounds[-1] / "rollouts" / "evaluations.json").read_text(encoding="utf-8"))
    second = rounds[-1] / "evidence" / "measured.json"
    measured = json.loads(second.read_text(encoding="utf-8")) if second.is_file() else {}
    for one, scores in zip(found["evaluations"], measured.get("other_half", []), strict=False):
        for row, score in zip(one["rows"], scores, strict=True):
            row["other_half"] = score
    return found["evaluations"]


def with_gold(evaluations: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [
        one
        | {
            "rows": [
                row | {"gold": float(value)}
                for row, value in zip(
                    one["rows"], gold.utility(name, [row["text"] for row in one["rows"]]), strict=True
                )
            ]
        }
        for one in evaluations
    ]


def run_one(experiment: Experiment, job: Job, model: Path, out: Path, tiny: bool) -> dict[str, Any]:
    """One run of the pipeline and what is kept of it: a row of the results file."""
    settings = settings_of(experiment, job, model, tiny)
    folder = out / "runs" / f"{experiment.name}-{job.arm}-{job.seed}"
    began, processor = time.monotonic(), time.process_time()
    pipeline.run(settings, folder, quiet=True)
    row = {
        "arm": job.arm,
        "seed": job.seed,
        "development": job.development,
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "settings": settings.model_dump(mode="json"),
    }
    assert isinstance(settings.judge, config.Simulated)
    row |= experiment.measure(folder, with_gold(evaluations_of(folder), settings.judge.gold), settings)
    for place in (folder, *folder.glob("round-*")):
        for name in BULKY:
            shutil.rmtree(place / name, ignore_errors=True)
    return row


def finished(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["tiny", *EXPERIMENTS])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", help="else those of the documentation")
    parser.add_argument("--arms", nargs="*", help="else all")
    parser.add_argument("--tiny", action="store_true", help="the model of 210,000 weights")
    parser.add_argument("--summary", action="store_true", help="run nothing: table and picture of the rows")
    asked = parser.parse_args()
    if asked.name == "tiny":
        print(shown_tiny.make(asked.out / "tiny"))
        return
    experiment = EXPERIMENTS[asked.name]
    tiny = asked.tiny or experiment.always_tiny
    label = f"{experiment.name}-tiny" if tiny and not experiment.always_tiny else experiment.name
    file = asked.out / f"{label}.jsonl"
    if not asked.summary:
        asked.out.mkdir(parents=True, exist_ok=True)
        model = start_of(experiment, asked.out, tiny).resolve()
        done = {(row["arm"], row["seed"]) for row in finished(file)}
        jobs = shown_experiments.jobs(experiment, asked.seeds, asked.arms)
        for number, job in enumerate(jobs, 1):
            if (job.arm, job.seed) in done:
                continue
            row = run_one(experiment, job, model, asked.out / label, tiny)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            print(f"{number}/{len(jobs)} {job.arm} seed {job.seed}: {row['seconds']:.0f} s", flush=True)
    text, picture = experiment.summary(finished(file))
    print(text)
    (asked.out / f"{label}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
