"""``accord label judge``: a language model or a Python function says its word beside the people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from accord.records import BadInput

if TYPE_CHECKING:
    from accord.label_judge import Judged

console = Console(soft_wrap=True)
Target = Annotated[
    Path, typer.Argument(help="a run directory, a file of pairs, a store file, or a database URL")
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", help="where the labels are, if not beside the target: a path, or a PostgreSQL URL"
    ),
]


def typed(target: Path) -> str:
    """The target as it was typed: a path swallows one slash of a URL."""
    text = str(target)
    for scheme in ("postgresql", "postgres", "sqlite", "postgresql+psycopg"):
        if text.startswith(f"{scheme}:/") and not text.startswith(f"{scheme}://"):
            return text.replace(":/", "://", 1)
    return text


def judge(
    target: Target,
    model: Annotated[str | None, typer.Option(help="a language model, by its name at the endpoint")] = None,
    url: Annotated[
        str | None, typer.Option(help="any OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="the environment variable that holds the key; '' for an endpoint without one")
    ] = "OPENAI_API_KEY",
    guidelines: Annotated[
        Path | None, typer.Option(help="a file that says what to judge by; sent with every pair")
    ] = None,
    price_in: Annotated[float, typer.Option(min=0, help="of a million tokens sent")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="of a million tokens received")] = 0.0,
    budget: Annotated[
        float | None, typer.Option(help="stop before it costs more, earlier calls included")
    ] = None,
    requests_per_minute: Annotated[
        float | None, typer.Option("--requests-per-minute", help="no more than so many")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="pairs asked about at the same time")] = 4,
    function: Annotated[
        str | None, typer.Option(help="a Python function instead: module.name:function or ./file.py:function")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="judge no more pairs than this, this time")] = None,
    store: Store = None,
) -> None:
    """Let a language model, or a Python function, judge the pairs too; it fills no place of a person.

    A model is asked about each pair in both orders: where its two answers disagree, the pair is a tie.

    Labels are kept as they arrive, so the same command goes on where it stopped.

    Example: accord label judge runs/demo --model llama-3 --url http://localhost:8000/v1 --key-variable ''
    """
    from accord import label_judge
    from accord.config import FunctionJudge, LlmJudge, validate

    settings: LlmJudge | FunctionJudge
    if (model is None) == (function is None):
        raise BadInput("nobody is to judge, or two are: give either --model (with --url) or --function")
    if function is not None:
        settings = validate(FunctionJudge, {"path": function}, "judge")
    elif url is None:
        raise BadInput(f"--model {model} has no endpoint: give --url, such as http://localhost:8000/v1")
    else:
        values: dict[str, Any] = {
            "model": model, "url": url, "key_variable": key_variable, "guidelines": _read(guidelines),
            "price_in": price_in, "price_out": price_out, "budget": budget,
            "requests_per_minute": requests_per_minute, "concurrency": concurrency,
        }  # fmt: skip
        settings = validate(LlmJudge, values, "judge")
    said: list[Judged] = []

    def tell(far: Judged) -> None:
        cost = "" if far.cost is None else f", cost {far.cost:.4g}"
        done = f"{far.judged:,} of {far.pairs:,} pairs judged{cost}"
        console.print(f"{far.annotator}: {done}", markup=False, highlight=False)
        said.append(far)

    try:
        label_judge.judge(typed(target), settings, store=store, limit=limit, tell=tell)
    finally:
        if said:
            _orders(said[-1])


def _orders(far: Judged) -> None:
    """Of a model: what it makes of the two orders, and how many tokens that took."""
    orders = far.orders
    if orders is None or not far.judged:
        return
    lines = [f"{far.tokens[0]:,} tokens sent, {far.tokens[1]:,} received"]
    if orders.pairs:
        same = f"the same answer in both orders for {orders.consistent:.0%} of {orders.pairs:,} pairs"
        if orders.first_wins == orders.first_wins:  # it decided at least once
            same += f"; where it chose one, {orders.first_wins:.0%} of the time the answer that it read first"
        lines.insert(0, same)
    if orders.skipped:
        lines.append(f"{orders.skipped:,} pairs skipped, because a reply named no verdict")
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the guidelines {path} cannot be read ({error}): give a text file in UTF-8") from None
