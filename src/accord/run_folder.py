"""A run's folder: one process at a time, cleared only of what accord wrote, with what it was made by."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

import accord
from accord import models
from accord.config import Run
from accord.records import BadInput

logger = logging.getLogger("accord")


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Two processes on one run directory would overwrite each other."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{out} is a file, a run needs a directory: give another --out") from None
    except OSError as error:
        raise BadInput(f"{out} cannot be made ({error.strerror}): give another --out") from None
    with open(out / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"another accord process is working in {out}: wait for it, or give another --out"
            ) from None
        yield


def clear(out: Path) -> None:
    """Remove what an earlier run left, only names that accord writes; labels are people's time and stay."""
    labels = out / "labels.db"
    if labels.exists():
        number = next(n for n in range(1, 10**6) if not (out / f"labels.before-{n}.db").exists())
        for end in ("", "-wal", "-shm"):  # what SQLite keeps beside the file belongs to it
            beside = out / f"labels.db{end}"
            if beside.exists():
                beside.rename(out / f"labels.before-{number}.db{end}")
        logger.warning("the labels of the earlier run are kept in %s", out / f"labels.before-{number}.db")
    for name in ("sft", "reference", "unfinished", "tensorboard", "control"):
        shutil.rmtree(out / name, ignore_errors=True)
    for path in out.glob("round-*"):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in ("metrics.jsonl", "report.*", "accord.lock.json", "events.jsonl", "config.yaml"):
        for path in out.glob(pattern):
            path.unlink()


def write_lock(out: Path, run: Run, stages: list[dict[str, Any]], began: float) -> None:
    """Versions, seed, git commit, command and the time of each stage, in ``accord.lock.json``."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    values = {
        "accord": accord.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "dtype": str(models.resolve_dtype(run.model.dtype)).removeprefix("torch."),
        "seed": run.seed,
        "git": commit or None,
        "command": " ".join(["accord", *sys.argv[1:]]),
        "started": began,
        "finished": time.time(),
        "stages": stages,
    }
    path = out / "accord.lock.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    os.replace(temporary, path)
