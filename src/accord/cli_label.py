"""``accord label …``: serve pairs to people, bring labels in and out, say how far the work is."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from accord.cli_label_judge import Store, Target, judge, typed
from accord.records import BadInput, WaitingForLabels, is_person

if TYPE_CHECKING:
    from accord.config import Run

console = Console(soft_wrap=True)


class _ServeByDefault(TyperGroup):
    """``accord label runs/demo`` is short for ``accord label serve runs/demo``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ServeByDefault,
    no_args_is_help=True,
    help="People's comparisons: ask for them in the browser, bring them in and out.\n\n"
    "Example: accord label runs/demo",
)


@app.command()
def serve(
    target: Target,
    host: Annotated[
        str, typer.Option(help="where to listen; beyond this machine, people need accounts")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen; 0 takes any free one")] = 8400,
    annotators: Annotated[
        Path | None, typer.Option(help="a file of names, one a line; 'name, admin' makes an operator")
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=1, max=50, help="how many different people judge each item; left out: as before (1 at first)"
        ),
    ] = None,
    store: Store = None,
    public_url: Annotated[
        str | None, typer.Option(help="the address that browsers see, where a proxy with TLS stands in front")
    ] = None,
) -> None:
    """Start the labelling app and print its sign-in links; Ctrl-C stops it, nothing is lost.

    Example: accord label runs/demo --annotators names.txt --overlap 3
    """
    from accord import labelling
    from accord.store.people import read_names

    people = read_names(annotators) if annotators else []
    with labelling.serve(
        typed(target), host=host, port=port, annotators=people, store=store, overlap=overlap,
        public_url=public_url,
    ) as server:  # fmt: skip
        left = labelling.remaining(server.store)
        console.print(
            f"[bold]{left:,}[/] judgements to be made, kept in {server.store.place}", highlight=False
        )
        console.print("Each link signs one person in, once:", highlight=False)
        with contextlib.suppress(KeyboardInterrupt):  # also while the links are being printed
            for name, link in server.address.links:
                console.print(f"  {name}  {link}", markup=False, highlight=False)
            sys.stdout.flush()
            while server.running:
                time.sleep(0.5)
        left = labelling.remaining(server.store)
    console.print(f"\nstopped; {left:,} judgements are still missing" if left else "\nstopped; all is judged")


app.command()(judge)


@app.command("import")
def import_(
    target: Target,
    file: Annotated[Path, typer.Argument(help="comparisons in any format that accord reads")],
    serve_as: Annotated[
        str,
        typer.Option(
            "--as", help="what the rows are: labels, or gold or practice (pairs whose right answer is known)"
        ),
    ] = "labels",
    max_rejects: Annotated[
        int, typer.Option(min=0, help="go on although so many rows cannot be used; rejects.jsonl lists them")
    ] = 0,
    criterion: Annotated[
        str | None, typer.Option(help="where rows answer several questions: the one to take, or all")
    ] = None,
    store: Store = None,
) -> None:
    """Bring labels (or gold and practice items) from a file into a store; a second time changes nothing.

    Example: accord label import runs/demo labels.jsonl
    """
    from accord import label_import, labelling
    from accord.store import LabelStore

    if serve_as not in ("labels", "gold", "practice"):
        raise BadInput(f"--as is {serve_as!r}: use labels, gold or practice")
    with LabelStore(store or labelling.import_location(typed(target))) as opened:
        found = label_import.import_file(
            opened, file, max_rejects=max_rejects, serve_as=serve_as, criterion=criterion
        )
    for line in found.lines():
        console.print(line, markup=False, highlight=False)


@app.command()
def export(
    target: Target,
    out: Annotated[Path, typer.Argument(help="JSON Lines; gzipped where it ends in .gz")],
    criterion: Annotated[
        str | None, typer.Option(help="only this question; '' for the overall one; left out: all of them")
    ] = None,
    people_only: Annotated[
        bool,
        typer.Option("--people-only", help="leave out what models, functions and simulated annotators said"),
    ] = False,
    store: Store = None,
) -> None:
    """Write the judgements that count in accord's own form; `accord data convert` makes others of it.

    Example: accord label export runs/demo labels.jsonl
    """
    from accord import formats, labelling

    rows = labelling.to_dataset(typed(target), store=store, criterion=criterion, people_only=people_only)
    if not rows:
        raise BadInput(f"{target} holds no judgement that counts yet: nothing was written")
    formats.write_comparisons(out, rows)
    people = sum(is_person(row.annotator) for row in rows)
    who = "" if people == len(rows) else f" ({people:,} of them by people)"
    console.print(f"{len(rows):,} comparisons{who} written to {out}", markup=False, highlight=False)


@app.command()
def status(
    target: Target,
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """How far the labelling is, and who did what. Exit code 3 while judgements are missing.

    Example: accord label status runs/demo
    """
    from accord import labelling

    found = labelling.progress(typed(target), store=store)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    else:
        console.print(
            f"{found['done']:,} of {found['total']:,} judgements, {found['finished']:,} of "
            f"{found['items']:,} items finished, {found['held']} on somebody's screen",
            highlight=False,
        )
        table = Table()
        for column in ("name", "judged", "seconds", "left", "ties", "gold", "repeats"):
            table.add_column(
                column, justify="left" if column == "name" else "right", no_wrap=column == "name"
            )
        for row in found["people"]:
            table.add_row(
                *(
                    "–" if row[column] in (None, "0/0") else str(row[column])
                    for column in ("name", "judged", "seconds", "left", "ties", "gold", "repeats")
                )
            )
        Console().print(table)
        _judges(found["judges"])
    if found["done"] < found["total"]:
        raise typer.Exit(3)


@app.command()
def agreement(
    target: Target,
    store: Store = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Do people agree: Krippendorff's α, Cohen's κ of every two people, the items on which they differ.

    Models, functions and simulated annotators count in none of it; each is compared with what most say.

    Example: accord label agreement runs/demo
    """
    from accord import labelling

    found = labelling.agreement(typed(target), store=store)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        return
    console.print(
        f"Krippendorff's α (nominal): {_number(found['alpha'])}; "
        f"{found['shared']} items have two voices or more"
    )
    table = Table()
    for column in ("two people", "items in common", "Cohen's κ"):
        table.add_column(
            column, justify="left" if column == "two people" else "right", no_wrap=column == "two people"
        )
    for row in found["pairs"]:
        table.add_row(f"{row['a']} and {row['b']}", str(row["items"]), _number(row["kappa"]))
    for row in found["judges"]:
        table.add_row(f"most people and {row['name']}", str(row["items"]), _number(row["kappa"]))
    Console().print(table)
    for row in found["disagreements"]:
        said = ", ".join(f"{name}: {verdict}" for name, verdict in row["said"])
        console.print(f"{row['item']}  {row['prompt']}\n    {said}", markup=False, highlight=False)


def _judges(rows: list[dict[str, Any]]) -> None:
    """Judges that are no people, in a table of their own."""
    if not rows:
        return
    table = Table(title="No people: they fill no place and count in no figure above", title_justify="left")
    for column in ("name", "judged", "with people", "κ", "both orders", "first", "ties"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=column == "name")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['labels']:,}",
            _of(row["agree"], row["compared"]),
            "–" if row["kappa"] is None else f"{row['kappa']:.2f}",
            _of(row["consistent"], row["both_orders"]),
            _of(row["first"], row["decided"]),
            f"{row['ties']:,}",
        )
    Console().print(table)


def _of(count: int, total: int) -> str:
    return f"{count:,}/{total:,}" if total else "–"


def _number(value: float | None) -> str:
    return "not defined yet" if value is None else f"{value:.3f}"


def watched(work: Callable[[], None], settings: Run, out: Path) -> None:
    """``accord run --watch``: where the run waits for labels, wait with it, then go on."""
    from accord import labelling

    while True:
        try:
            return work()
        except WaitingForLabels as waiting:
            console.print(f"\nwaiting: {waiting}", markup=False, highlight=False)
            before = labelling.label_files(settings.judge)
            time.sleep(2)
            while not labelling.wait(out, seconds=2) and labelling.label_files(settings.judge) == before:
                pass
