"""Runs that die by SIGKILL, each in a process of its own.

The processes are forked from one that has imported everything and done nothing: an import of torch and
transformers takes longer than a tiny run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from accord import (
    checkpoints,
    config,
    evidence,
    pipeline,
    policy_update,
    round_evidence,
    round_measured,
    workspace,
)
from accord.execution import local

torch.set_num_threads(1)

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(values: dict[str, Any], out: Path) -> None:
    pipeline.run(config.validate(config.Run, values), out, quiet=True)


def after_step(values: dict[str, Any], out: Path, stage: str, step: int) -> None:
    """Right after ``stage`` has kept what its step ``step`` made."""
    keep = workspace.Workspace.keep

    def killing(self: Any, done: int, make: Any) -> None:
        keep(self, done, make)
        if self.stage == stage and self.first_step + done == step:
            die()

    workspace.Workspace.keep = killing  # type: ignore[method-assign]
    run(values, out)


def at_moment(values: dict[str, Any], out: Path, moment: str, count: int) -> None:
    """At the moment's ``count``-th time."""
    seen = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == count:
                die()
            return function(*arguments, **options)

        return wrapped

    if moment == "step":  # gradients are there, weights are not changed yet
        local.Local.step = deadly(local.Local.step)  # type: ignore[method-assign]
    elif moment == "writing":  # the new folder is full, its COMMIT.json is not written
        checkpoints.os.fsync = deadly(checkpoints.os.fsync)
    else:  # between the renames that put a folder in place
        checkpoints.os.replace = deadly(checkpoints.os.replace)
    run(values, out)


def in_a_batch(values: dict[str, Any], out: Path) -> None:
    """After the first of the second PPO batch's two updates."""
    plain, seen = policy_update._one_step, []

    def dying(*arguments: Any, **options: Any) -> Any:
        figures = plain(*arguments, **options)
        seen.append(figures)
        if len(seen) == 3:
            die()
        return figures

    policy_update._one_step = dying
    run(values, out)


def in_the_evidence(values: dict[str, Any], out: Path, moment: str) -> None:
    """Where the evidence of a round is half done.

    "writing": what was measured with models is written in part; "labels": the fresh labels are in the store,
    nothing was said of them; "findings": the curve is written, the findings are not.
    """
    if moment == "writing":
        plain = round_evidence.np.savez
        round_evidence.np.savez = lambda *arrays, **named: (plain(*arrays, **named), die())
    elif moment == "labels":
        round_measured.counted_labels = lambda *_, **__: die()
    else:
        evidence.write_findings = lambda *_, **__: die()
    run(values, out)


def kill(moment: Callable[..., None], *arguments: Any) -> None:
    """Returns when the process is dead; that it was killed, and did not just end, is asserted."""
    process = SERVER.Process(target=moment, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()
