"""`accord lab`: the exact small world, its six claims, and a page to play with."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def lab(
    out: Annotated[Path, typer.Option(help="folder for lab.html, lab.json and lab.csv")] = Path("runs/lab"),
    seed: Annotated[int | None, typer.Option(help="of the first reward model; the others follow it")] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="override one value: a.b=c (repeatable)")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="validate and estimate time and memory; touch nothing")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar")] = False,
) -> None:
    """The exact small world: reward hacking, variance and circularity computed, and a page to play with.

    Example: accord lab --set seeds=8 --out runs/lab
    """
    from accord import config
    from accord.lab import page, study
    from accord.lab.settings import LabSettings
    from accord.records import BadInput

    values = config.apply_overrides({}, set or [])
    if seed is not None:
        values["seed"] = seed
    settings = config.validate(LabSettings, values, "lab")
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out} is a file: name a folder, for example runs/lab")
    workers = min(settings.seeds, os.cpu_count() or 1)
    console = Console(soft_wrap=True)
    console.print(study.cost(settings, workers))
    if dry_run:
        console.print(f"dry run: the settings are valid, nothing was written to {out}")
        return
    started = time.perf_counter()
    with Progress(console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task("reward-model seeds", total=settings.seeds)
        found = study.run_study(settings, workers, lambda _: progress.advance(task))
    command = " ".join(["accord", *sys.argv[1:]])
    path, findings = page.write(found, out, command, time.perf_counter() - started)
    for number, finding in enumerate(findings, 1):
        mark = "[green]holds[/]" if finding.verdict == "good" else "[yellow]not shown[/]"
        console.print(f"{number}. {finding.question} {mark}", highlight=False)
        console.print(f"   {finding.sentence}", markup=False, highlight=False)
    console.print(f"page: {path}")
