"""How often a judge prefers a checkpoint's samples to SFT's: labels for a stop rule, never learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accord.config import Run
from accord.judging import judge_from
from accord.records import Pair, Prompt, Response, content_hash
from accord.store import LabelStore

Row = dict[str, Any]
VALUE = {"a": 1.0, "tie": 0.5, "b": 0.0}


def labeller(
    run: Run, out: Path, folder: Path, round: int
) -> Callable[[Sequence[Row], Sequence[Row]], list[float]]:
    """A function of (rows, SFT's rows): the checkpoint's wins over SFT, ties one half, mean by prompt in the
    order of the prompts' keys. Prompts on which both say the same, or that nobody decided, count one half.

    The labels have a store of their own below ``folder``: nothing that trains reads it.
    """

    def labelled(rows: Sequence[Row], base: Sequence[Row]) -> list[float]:
        assert run.judge is not None
        theirs = {row["key"]: row for row in reversed(list(base))}
        pairs: dict[str, tuple[Pair, str]] = {}
        for row in reversed(list(rows)):
            other = theirs[row["key"]]
            if row["text"] != other["text"]:
                flip = int(content_hash(row["key"], row["text"], "side"), 16) % 2
                sides = [Response(one["text"]) for one in (row, other)]
                pair = Pair(Prompt.from_json(row["prompt"]), sides[0], sides[1], "b" if flip else "a", round)
                pairs[row["key"]] = (pair, row["key"])
        folder.mkdir(parents=True, exist_ok=True)
        wins: dict[str, list[float]] = {row["key"]: [] for row in rows}
        with LabelStore(folder / "labelled.db") as store:
            asked = [pair for pair, _ in pairs.values()]
            judge_from(run.judge, seed=run.seed, run_folder=out).label(asked, store)
            ids = {pair.id: key for pair, key in pairs.values()}
            for one in store.comparisons([round]):
                if one.pair.id in ids and one.verdict in VALUE:
                    wins[ids[one.pair.id]].append(VALUE[one.verdict])
        return [sum(found) / len(found) if found else 0.5 for _, found in sorted(wins.items())]

    return labelled
