"""`accord average`: one policy from several, the mean of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def average(
    policies: Annotated[list[Path], typer.Argument(help="checkpoints, for example runs/NAME/round-0/policy")],
    out: Annotated[Path, typer.Option(help="folder of the new checkpoint")],
    weight: Annotated[
        list[float] | None, typer.Option("--weight", help="of each policy, in their order (repeatable)")
    ] = None,
) -> None:
    """The mean of the weights of policies that were optimised from one SFT model.

    Example: accord average runs/seed-0/round-0/policy runs/seed-1/round-0/policy --out runs/averaged
    """
    from accord.policy_average import average_policies
    from accord.records import BadInput

    if out.exists():
        raise BadInput(f"{out} is there already: give another --out")
    average_policies(policies, out, weight)
    Console(soft_wrap=True).print(f"policy: {out}", markup=False, highlight=False)
