"""``accord report``: one run, several compared, or one that is going on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from accord.records import BadInput

console = Console(soft_wrap=True)
Runs = Annotated[
    list[Path], typer.Argument(help="run directories, for example runs/demo; several are compared")
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="the page (default: report.html in the run, comparison.html in the folder that holds all runs)"
    ),
]
Watch = Annotated[bool, typer.Option("--watch", help="rebuild the page while the run is going on")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say which runs are read; write nothing")]
Every = Annotated[float, typer.Option(min=0.5, help="seconds between two looks, with --watch")]


def report(
    runs: Runs, out: Out = None, watch: Watch = False, every: Every = 5.0, dry_run: DryRun = False
) -> None:
    """Build the HTML report of a run again, also of one that was killed; with several runs, compare them.

    Beside the page are the same figures as JSON and as CSV.

    Example: accord report runs/demo

    Example: accord report runs/seed-0 runs/seed-1 runs/rloo --out comparison.html

    Example: accord report runs/demo --watch
    """
    from accord import report as reports

    if dry_run:
        for run in runs:
            reports.checked(run)
            say(f"{run}: a run")
        say("dry run: nothing was written")
        return
    if len(runs) > 1:
        if watch:
            raise BadInput(
                f"--watch follows one run, but {len(runs)} are given: leave --watch out to compare them"
            )
        say(f"report: {reports.compare(runs, out)}")
        return
    if watch:
        if out is not None:
            raise BadInput(f"--watch follows {runs[0]} in its own folder: leave --out {out} out")
        reports.watch(runs[0], reports.build, every=every, told=say)
        return
    page = reports.build(runs[0])
    if out is not None:  # one file holds everything, so a copy is whole
        shutil.copyfile(page, out)
    say(f"report: {out or page}")


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False)
