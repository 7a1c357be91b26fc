"""Commands: parse, call, print; nothing else. Exit codes: 0 done, 1 failed, 2 bad input, 3 waiting for
labels.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from accord.cli_average import average
from accord.cli_evaluate import evaluate_app
from accord.cli_lab import lab
from accord.cli_label import app as label_app
from accord.cli_label import watched
from accord.cli_report import report
from accord.records import BadInput, WaitingForLabels

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Learn what people prefer, optimise for it, and know whether it worked.\n\n"
    "Example: accord run recipes/demo.yaml",
)
data_app = typer.Typer(no_args_is_help=True, help="Check and convert preference data.")
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(label_app, name="label")
# Errors that one sentence says in full; by name, so that --help does not wait for torch.
SAID_IN_FULL = ("NumericalTrouble", "PolicyExploded", "RatioIsNotOne", "SelfTestFailed", "StaleRollouts")
INTERRUPTED = 130  # typer's code for Ctrl-C
out_console = Console(soft_wrap=True)

Recipe = Annotated[Path, typer.Argument(help="a YAML recipe, for example recipes/demo.yaml")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override one value: a.b=c (repeatable)")]
Seed = Annotated[int | None, typer.Option(help="random seed; the same seed gives the same bytes")]
Out = Annotated[Path | None, typer.Option(help="run directory (default: runs/NAME)")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="validate and estimate time and memory; touch nothing")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="start over: remove what an earlier run left in the run directory")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress bars")]


def _pipeline(
    recipe: Path,
    overrides: list[str] | None,
    seed: int | None,
    out: Path | None,
    dry: bool,
    fresh: bool,
    quiet: bool,
    until: Any,
) -> None:
    from accord import config

    settings = config.load(recipe, overrides or [], seed=seed)
    from accord import pipeline
    from accord.inputs import read_inputs

    inputs = read_inputs(settings)
    target = out or Path("runs") / settings.name
    out_console.print(f"[bold]{settings.name}[/]  " + "; ".join(inputs.notes))
    if dry:
        for line in pipeline.cost(settings, inputs).lines():
            out_console.print(line)
        out_console.print(f"dry run: the recipe is valid, nothing was written to {target}")
        return
    result = pipeline.run(settings, target, until=until, fresh=fresh, quiet=quiet)
    _show(result)


def _show(result: Any) -> None:
    if result.reward:
        _show_card(result.reward)
    if result.findings:
        table = Table(title="What the run shows", show_lines=False, expand=False)
        table.add_column("question")
        table.add_column("answer")
        table.add_column("")
        marks = {
            "good": "[green]good[/]",
            "warn": "[yellow]look[/]",
            "bad": "[red]bad[/]",
            "unknown": "[dim]unknown[/]",
        }
        for finding in result.findings:
            table.add_row(finding.question, finding.sentence, marks[finding.verdict])
        Console().print(table)
    out_console.print(f"report: {result.report}")


def _show_card(card: dict[str, Any]) -> None:
    table = Table(
        title=f"Reward model, {card.get('pairs_test')} held-out pairs,"
        f" labels from {card.get('label_source', 'the file')}"
    )
    table.add_column("scorer")
    table.add_column("accuracy", justify="right")
    table.add_column("95% interval", justify="right")
    rows = [("reward model", card["accuracy"], card["accuracy_interval"])]
    rows += [
        (name.replace("_", " "), f["accuracy"], f.get("interval"))
        for name, f in card.get("floors", {}).items()
    ]
    for name, accuracy, interval in rows:
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        table.add_row(name, f"{accuracy:.3f}", shown)
    Console().print(table)


@app.command()
def run(
    recipe: Recipe,
    set: Set = None,
    seed: Seed = None,
    out: Out = None,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="where labels are missing, wait for them and go on")
    ] = False,
) -> None:
    """The whole loop: SFT, samples, comparisons, reward model, RL, evidence.

    Example: accord run recipes/demo.yaml --set online.steps=40 --seed 1
    """
    if watch and not dry_run:
        from accord import config

        settings = config.load(recipe, set or [], seed=seed)
        started = iter([fresh])  # --fresh clears once, not after each wait
        watched(
            lambda: _pipeline(recipe, set, seed, out, False, next(started, False), quiet, "evidence"),
            settings,
            out or Path("runs") / settings.name,
        )
        return
    _pipeline(recipe, set, seed, out, dry_run, fresh, quiet, "evidence")


@app.command()
def sft(
    recipe: Recipe,
    set: Set = None,
    seed: Seed = None,
    out: Out = None,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Supervised fine-tuning only: the first stage of a recipe.

    Example: accord sft recipes/demo.yaml --set sft.epochs=1
    """
    _pipeline(recipe, set, seed, out, dry_run, fresh, quiet, "sft")


@app.command()
def reward(
    recipe: Recipe,
    set: Set = None,
    seed: Seed = None,
    out: Out = None,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Everything up to the reward model: SFT, samples, comparisons, Bradley-Terry.

    Example: accord reward recipes/hh.yaml --set data.comparisons=my_pairs.jsonl
    """
    _pipeline(recipe, set, seed, out, dry_run, fresh, quiet, "reward")


@app.command()
def optimize(
    recipe: Recipe,
    set: Set = None,
    seed: Seed = None,
    out: Out = None,
    dry_run: DryRun = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """RL against the recipe's reward model; earlier stages are taken from the run directory where they are
    done.

    Example: accord optimize recipes/demo.yaml --set online.algorithm=rloo
    """
    _pipeline(recipe, set, seed, out, dry_run, fresh, quiet, "evidence")


app.command()(report)
app.command()(lab)
app.command()(average)


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="folder, hub id or .gguf file")],
    prompt: Annotated[str, typer.Argument(help="what the user says")],
    count: Annotated[int, typer.Option("-n", min=1, help="samples")] = 3,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="a sampling setting, for example temperature=0.7")
    ] = None,
    seed: Annotated[int, typer.Option(help="random seed; the same seed gives the same answers")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write prompt and answers here, JSON Lines")] = None,
    chat_template: Annotated[str | None, typer.Option(help="chatml, plain or a Jinja file")] = None,
    dry_run: DryRun = False,
) -> None:
    """Answers of a model to one prompt. Settings: temperature, max_new_tokens, top_p, top_k, batch_size.

    Example: accord sample runs/demo/round-0/policy "My train was late again." --set temperature=0.7
    """
    from accord import collect, config
    from accord.records import Prompt

    sampling = config.validate(
        config.Sampling, config.apply_overrides({"max_new_tokens": 48}, set or []), "sampling"
    )
    _require_folder(out)
    settings, asked = config.Model(path=model, chat_template=chat_template), Prompt.from_text(prompt)
    if dry_run:
        tokens = collect.check_prompt(settings, asked, sampling)
        out_console.print(
            f"dry run: {tokens} prompt tokens, up to {count} × {sampling.max_new_tokens} new ones;"
            " nothing was sampled or written"
        )
        return
    for response in collect.answer(settings, asked, count, sampling, seed, out):
        out_console.print("• " + response.text, markup=False)


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option(help="also test this model (folder, hub id, .gguf)")] = None,
    chat_template: Annotated[str | None, typer.Option(help="chatml, plain or a Jinja file")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="a setting of the model, for example dtype=float32")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the fresh reward head that is tested")] = 0,
    out: Annotated[Path | None, typer.Option(help="also write the results here, JSON")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="this machine only; load no weights, write nothing")
    ] = False,
) -> None:
    """Self-tests of this machine and of a model.

    Example: accord doctor --model smollm2-135m-instruct --set dtype=float32
    """
    from accord import config, models
    from accord import doctor as checks

    if settings and not model:
        raise BadInput(f"--set {settings[0]} is a setting of a model: name one with --model")
    _require_folder(out)
    found = checks.machine()
    if model:
        named = {"path": model, "chat_template": chat_template}
        chosen = config.validate(config.Model, config.apply_overrides(named, settings or []), "--set")
        if dry_run:
            models.load_tokenizer(chosen)
        else:
            found += checks.model_checks(chosen, seed)
    table = Table()
    table.add_column("check")
    table.add_column("result")
    table.add_column("")
    for check in found:
        table.add_row(check.name, check.result, "[green]ok[/]" if check.ok else "[red]wrong[/]")
    Console().print(table)
    if out is not None and not dry_run:
        out.write_text(json.dumps([vars(check) for check in found], indent=1), encoding="utf-8")
    if not all(check.ok for check in found):
        raise typer.Exit(1)


MaxRejects = Annotated[int, typer.Option(min=0, help="rows that may be unusable; one more is a failure")]
Criterion = Annotated[
    str | None,
    typer.Option(help="where rows answer several questions (SafeRLHF: helpful, harmless): which one, or all"),
]


@data_app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="JSONL, gzip, Parquet, CSV")],
    against: Annotated[Path | None, typer.Option(help="another split: prompts in both are leakage")] = None,
    model: Annotated[str | None, typer.Option(help="count tokens with this model's tokenizer")] = None,
    criterion: Criterion = None,
    max_rejects: MaxRejects = 0,
    rejects: Annotated[Path | None, typer.Option(help="list unusable rows in this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    out: Annotated[Path | None, typer.Option(help="also write the report here, JSON")] = None,
) -> None:
    """Counts, lengths, duplicates, leakage, contradictions; exit code 2 with file, line and reason for what
    is wrong.

    Example: accord data check train.jsonl --against test.jsonl
    """
    from accord import data_report

    _require_folder(out)
    tokenizer = None
    if model:
        from accord import config, models

        loaded = models.load_tokenizer(config.Model(path=model))

        def tokenizer(text: str) -> list[int]:
            ids: list[int] = loaded(text, add_special_tokens=False)["input_ids"]
            return ids

    found = data_report.check(
        file,
        tokenizer=tokenizer,
        against=against,
        criterion=criterion,
        max_rejects=max_rejects,
        rejects=rejects,
    )
    document = json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n"
    if out is not None:
        out.write_text(document, encoding="utf-8")
    if as_json:
        sys.stdout.write(document)
    else:
        for line in found.lines():
            out_console.print(line, markup=False, highlight=False)
    if not found.acceptable:
        raise typer.Exit(2)


@data_app.command("convert")
def data_convert(
    file: Annotated[Path, typer.Argument(help="any format that accord reads")],
    out: Annotated[Path, typer.Argument(help="where the JSON Lines go")],
    to: Annotated[str, typer.Option(help="accord's own form, or a format of docs/data.md")] = "accord",
    ties: Annotated[
        str, typer.Option(help="where the format has no ties: drop, both_ways or refuse them")
    ] = "drop",
    criterion: Criterion = None,
    max_rejects: MaxRejects = 0,
    rejects: Annotated[
        Path | None, typer.Option(help="where unusable rows are listed (default: rejects.jsonl beside OUT)")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="convert and count, but write nothing")] = False,
) -> None:
    """Write a preference file in accord's canonical form, or in another program's.

    Example: accord data convert hh.jsonl.gz pairs.jsonl

    Example: accord data convert pairs.jsonl trl.jsonl --to trl
    """
    from accord import data_convert

    with tempfile.TemporaryDirectory() if dry_run else contextlib.nullcontext() as elsewhere:
        target = Path(elsewhere) / out.name if elsewhere else out
        place = rejects if rejects and not elsewhere else target.parent / "rejects.jsonl"
        done = data_convert.convert(
            file, target, to=to, ties=ties, criterion=criterion, max_rejects=max_rejects, rejects=place
        )
    if dry_run:
        out_console.print("dry run: nothing is written", markup=False, highlight=False)
    for line in done.lines():
        out_console.print(line, markup=False, highlight=False)


def _require_folder(out: Path | None) -> None:
    """Raises BadInput before the work where the file that ends it could not be written."""
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        why = "is a folder" if out.is_dir() else f"lies in {out.parent}, which is no folder"
        raise BadInput(f"{out} {why}: --out takes the path of a file in a folder that is there")


def main() -> None:
    """Entry point: turns known errors into one sentence and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="accord: %(message)s")
    try:
        code = app(standalone_mode=False)  # typer.Exit comes back as a number here
    except BadInput as error:
        _fail(str(error), 2)
    except WaitingForLabels as error:
        _fail(str(error), 3, "waiting")
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # click's usage errors
            error.show()
            sys.exit(error.exit_code)
        if type(error).__name__ in SAID_IN_FULL:
            _fail(str(error), 1)
        raise
    if code == INTERRUPTED:
        _fail("interrupted; the same command goes on from the last saved step", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, code: int, word: str = "error") -> None:
    sys.stderr.write(f"\n{word}: {sentence}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
