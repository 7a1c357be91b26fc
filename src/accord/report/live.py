"""A run that is going on: which stage it is in, how far, how long still; and the page rebuilt as files
change.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accord.report.artefacts import Artefacts, clean, mapping, number, policy_stage
from accord.report.lineage import duration

State = Literal["done", "running", "waiting"]
SECONDS = 5.0  # between two looks at the files, and between two reloads of an open page
RECENT = 10  # steps that the speed is taken from
STAGES = {"sft": "fine-tuning", "pairs": "samples to compare", "reward": "reward model"}
STAGES |= dict.fromkeys(("online", "direct", "rejection"), "policy")
FOLDERS = {"sft": "sft", "pairs": "pairs", "reward": "reward"}
FOLDERS |= dict.fromkeys(("online", "direct", "rejection"), "policy")


@dataclass(frozen=True)
class Stage:
    """One stage of one round. ``share`` of its steps that are done is None where the number is not known."""

    name: str
    state: State
    share: float | None
    note: str


def is_running(run_dir: Path) -> bool:
    """Whether a process holds the run's lock (`accord run` does until it ends or is killed)."""
    try:
        with (run_dir / ".lock").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _planned(run: Artefacts) -> list[tuple[str, int]]:
    rounds = int(number(run.config.get("rounds")) or 1)
    judged = run.config.get("judge") is not None
    given = bool(mapping(run.config.get("data")).get("comparisons"))
    out = [("sft", 0)] if run.config.get("sft") is not None or (run.path / "sft").is_dir() else []
    for index in range(rounds):
        if judged and not (index == 0 and given):
            out.append(("pairs", index))
        out += [("reward", index), (policy_stage(run.config)[0], index)]
    return out


def _committed(run: Artefacts, stage: str, index: int) -> bool:
    folder = run.path / "sft" if stage == "sft" else run.path / f"round-{index}" / FOLDERS[stage]
    return (folder / "COMMIT.json").exists()


def _steps(run: Artefacts, stage: str, index: int) -> list[tuple[float, float]]:
    """(step, Unix time) of a stage's rows, in order."""
    rows = [
        (number(row.get("step")), number(row.get("time")))
        for row in run.metrics
        if clean(row.get("stage")) == stage and (number(row.get("round")) or 0) == index
    ]
    return sorted((step, at) for step, at in rows if step is not None and at is not None)


def _running(run: Artefacts, stage: str, index: int) -> tuple[float | None, str]:
    """(share done, how far it is and how long it still takes)."""
    rows = _steps(run, stage, index)
    if not rows:
        return None, "started"
    done = rows[-1][0] + 1
    total = number(mapping(run.config.get("online")).get("steps")) if stage == "online" else None
    if not total:
        return None, f"step {done:.0f}"
    recent = rows[-RECENT:]
    note = f"step {done:.0f} of {total:.0f}"
    if len(recent) > 1 and recent[-1][0] > recent[0][0]:
        each = (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])
        note += f", about {duration(each * max(total - done, 0))} left for the steps"
    return min(done / total, 1.0), note


def progress(run: Artefacts) -> list[Stage]:
    """Every planned stage: done where its artefact is whole, running where it is the first that is not."""
    out, found = [], False
    several = (number(run.config.get("rounds")) or 1) > 1
    for stage, index in _planned(run):
        name = STAGES[stage] + (f", round {index}" if several and stage != "sft" else "")
        if _committed(run, stage, index):
            out.append(Stage(name, "done", 1.0, "done"))
        elif not found:
            found = True
            share, note = _running(run, stage, index)
            out.append(Stage(name, "running", share, note))
        else:
            out.append(Stage(name, "waiting", 0.0, "to come"))
    return out


def changed_at(run_dir: Path) -> float:
    """When a file that the page is made of was last written; 0 where there is none."""
    names = ("config.yaml", "metrics.jsonl", "accord.lock.json", "events.jsonl", "labels.db")
    paths = [run_dir / name for name in names] + [run_dir / "sft"]
    for folder in run_dir.glob("round-*"):
        paths += [folder, *folder.glob("*.json"), *folder.glob("*.jsonl"), *folder.glob("*/COMMIT.json")]
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)


def watch(
    run_dir: Path,
    build: Callable[..., Path],
    *,
    every: float = SECONDS,
    told: Callable[[str], Any] = print,
    sleep: Callable[[float], Any] = time.sleep,
) -> Path:
    """Rebuilds the page whenever the run's files change, until the run ends; then once more as a finished
    page.

    A run that has not started yet (no folder, no files) is waited for. A page that cannot be built just now
    (files in the middle of a change) is tried again at the next look.
    """
    seen, started = -1.0, False
    if not run_dir.is_dir():
        told(f"waiting for {run_dir} to appear (Ctrl-C stops)")
    while True:
        running = is_running(run_dir)
        started = started or running
        changed = changed_at(run_dir) if run_dir.is_dir() else 0.0
        if changed and (changed != seen or not running):
            try:
                path = build(run_dir, reload=every if running else None)
            except OSError as error:
                told(f"not built just now ({error}), tried again in {every:g} s")
            else:
                if seen < 0:
                    told(
                        f"report: {path} (reloads itself every {every:g} s; Ctrl-C stops watching, not the"
                        " run)"
                    )
                seen = changed
                if not running:
                    told(f"the run has ended: {path}" if started else f"no run is going on: {path}")
                    return path
        sleep(every)
