"""``accord evaluate``: what is known about a model, measured. Parse, call, print; nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

MARKS = {"good": "[green]✓[/]", "warn": "[yellow]![/]", "bad": "[red]✕[/]"}
REJECTED = 1


class RewardByDefault(TyperGroup):
    """``accord evaluate MODEL DATA`` is ``accord evaluate reward MODEL DATA``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["reward", *args]
        return list(super().parse_args(ctx, args))


evaluate_app = typer.Typer(
    cls=RewardByDefault,
    no_args_is_help=True,
    help="Measure a model; without a command, a reward model.\n\n"
    "Example: accord evaluate reward runs/demo/round-0/reward pairs.jsonl",
)


@evaluate_app.callback()
def _group() -> None:
    """Keeps the group a group while it has a single command."""


@evaluate_app.command()
def reward(
    model: Annotated[str, typer.Argument(help="a folder, a hub id, or file.py:function")],
    data: Annotated[list[Path], typer.Argument(help="held-out comparisons in any format that accord reads")],
    train: Annotated[
        list[Path] | None,
        typer.Option(help="training comparisons (repeatable): what the floors learn from; shows leakage"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the card (default: the model's own)")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the bootstrap and of what is probed")] = 0,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="a threshold of the verdict: name=value (repeatable)")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="of a classifier with several labels, the one that is the score")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(help="of a foreign model: chat, pair or plain (default: by its tokenizer)")
    ] = None,
    probes: Annotated[
        int, typer.Option(min=0, help="answers that each probe edits; 0 leaves probes out")
    ] = 200,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="the data are RewardBench (1, 2), RM-Bench or LLMBar")
    ] = False,
    max_rejects: Annotated[int, typer.Option(min=0, help="unusable rows that a file may hold")] = 0,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="read the data and the thresholds, load no weights, write nothing"),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bars")] = False,
) -> None:
    """Can this reward model be trusted? Accuracy beside its floors, calibration, length, probes, a verdict,
    and a card (card.html, card.md, card.json). Exit code 1 where the verdict is reject.

    Example: accord evaluate reward runs/demo/round-0/reward pairs.jsonl --set minimum_pairs=200
    """
    from accord import reward_evaluation
    from accord.config import Gate, apply_overrides, validate

    thresholds = validate(Gate, apply_overrides({}, set or []), "--set")
    if dry_run:
        folder = reward_evaluation.target(model, out)
        rows = reward_evaluation.read(data, max_rejects, benchmark=benchmark)
        decided = sum(row.chosen is not None for row in rows)
        Console(soft_wrap=True).print(
            f"dry run: {len(rows)} comparisons, {decided} of them with a winner: {2 * len(rows)} answers to"
            f" score, at most {probes} to probe; nothing was written to {folder}",
            markup=False,
        )
        return
    found = reward_evaluation.evaluate_reward(
        model,
        data,
        train=train or [],
        out=out,
        thresholds=thresholds,
        seed=seed,
        probed=probes,
        label=label,
        inputs=inputs,  # type: ignore[arg-type]  # checked where it is used
        max_rejects=max_rejects,
        benchmark=benchmark,
        quiet=quiet,
    )
    _show(found)
    if found.verdict.decision == "reject":
        raise typer.Exit(REJECTED)


def _show(found: Any) -> None:
    console, card = Console(), found.card
    table = Table(title=f"{card['data']['pairs']} held-out pairs, labels from {card['data']['label_source']}")
    for column in ("scorer", "accuracy", "95% interval", "gain over it", "95% interval"):
        table.add_column(column, justify="left" if column == "scorer" else "right")
    figure, interval = card["accuracy"]["figure"], card["accuracy"]["interval"]
    table.add_row("reward model", f"{figure:.3f}", _between(interval), "", "")
    for name, row in card["floors"].items():
        gain = f"{row['gain']:+.3f}"
        ends = "" if name == "chance" else _between(row["interval"])
        table.add_row(
            name.replace("_", " "),
            f"{row['accuracy']:.3f}",
            ends,
            gain,
            _between(row["gain_interval"], "+.3f"),
        )
    console.print(table)
    for one in card["benchmarks"]:
        console.print(_benchmark(one))
    for reason in found.verdict.reasons:
        console.print(MARKS[reason.level], reason.sentence, highlight=False)
    console.print(f"[bold]{found.verdict.decision}[/]")
    for path in found.paths:
        Console(soft_wrap=True).print(f"card: {path}", markup=False, highlight=False)


def _benchmark(found: Any) -> Table:
    table = Table(title=found["name"], caption="; ".join(found["notes"]) or None)
    for column in ("", "score", "95% interval", "items"):
        table.add_column(column, justify="left" if not column else "right")
    for line in found["lines"]:
        name = line["name"] if line["group"] == "subset" else f"[bold]{line['name']}[/]"
        table.add_row(name, f"{line['score']:.3f}", _between(line["interval"]), str(line["items"]))
    return table


def _between(interval: Any, form: str = ".3f") -> str:
    return f"{interval[0]:{form}} to {interval[1]:{form}}" if interval else ""
