"""What the figures of reward models share: the model's states of every answer, and lines of results."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figure_heads as heads
import numpy as np
import torch
from figure_states import Deadline, States, states

from accord import config, formats, models
from accord.batches import Group
from accord.diagnostics.statistics import FloatArray
from accord.records import Comparison

CONTEXT = 2048
ROUND = 5  # digits of a margin


class Log:
    """OUT/FIGURE.jsonl: one line a result, told by arm, seed and whatever else is given."""

    def __init__(self, out: Path, figure: str) -> None:
        self.path = out / f"{figure}.jsonl"
        self.lines = read_lines(self.path)

    def has(self, **which: Any) -> bool:
        return any(all(line.get(k) == v for k, v in which.items()) for line in self.lines)

    def write(self, **line: Any) -> None:
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        shown = {k: v for k, v in line.items() if not isinstance(v, list | dict)}
        print(json.dumps(shown), file=sys.stderr, flush=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    # A run that was killed while it wrote leaves half a line at the end.
    lines = [line for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line.endswith("}")]
    return [json.loads(line) for line in lines]


@dataclass
class Bench:
    """What every figure needs: the model's states, where results go, how long it may take."""

    data: Path
    deadline: Deadline
    top_layers: int
    pairs: int | None
    model: str = config.PACKAGED_MODEL

    def __post_init__(self) -> None:
        model = config.Model(path=self.model, chat_template="chatml")
        self.location = models.locate(model)
        self.tokenizer = models.load_tokenizer(model, self.location)
        self.dtype = models.resolve_dtype(model.dtype)
        trunk = models.load_policy(self.location, self.dtype)
        self.states: States = states(trunk, self.location, self.top_layers)

    def rows(self, name: str, max_rejects: int = 0) -> list[Comparison]:
        found = formats.read_comparisons(self.data / f"{name}.jsonl.gz", max_rejects=max_rejects)
        return list(found.rows)

    def groups(self, rows: Sequence[Comparison]) -> list[Group]:
        prompts = {row.prompt: models.encode_prompt(self.tokenizer, row.prompt) for row in rows}
        texts = {one.text for row in rows for one in (row.pair.a, row.pair.b)}
        tokens = {text: models.encode_response(self.tokenizer, text) for text in texts}
        return [
            Group(prompts[row.prompt], (tokens[row.pair.a.text], tokens[row.pair.b.text])) for row in rows
        ]

    def read(self, rows: Sequence[Comparison]) -> tuple[list[Comparison], list[Group], FloatArray]:
        """The rows that fit the context, their tokens, and states (N, 2, H), the order of the rows."""
        groups = self.groups(rows)
        fits = [len(g.prompt) + max(map(len, g.responses)) <= CONTEXT for g in groups]
        kept = [row for row, fit in zip(rows, fits, strict=True) if fit]
        groups = [group for group, fit in zip(groups, fits, strict=True) if fit]
        self.states.compute(groups, self.deadline)
        state_N2H = torch.stack(
            [torch.stack([self.states.last(g.prompt, r) for r in g.responses]) for g in groups]
        )
        return kept, groups, state_N2H.numpy()


def difference(state_N2H: FloatArray, spread_H: FloatArray) -> FloatArray:
    return (state_N2H[:, 0] - state_N2H[:, 1]) / spread_H


def spread(state_N2H: FloatArray) -> FloatArray:
    """Deviation of each feature over all answers, 1 where there is none; from training answers only."""
    found: FloatArray = state_N2H.reshape(-1, state_N2H.shape[-1]).std(0)
    return np.where(found > 0, found, 1.0)


def wins(rows: Sequence[Comparison]) -> FloatArray:
    """(N, 3): shares of a, b, tie, of one label each."""
    return np.array([[row.verdict == v for v in ("a", "b", "tie")] for row in rows], dtype=np.float64)


def keys_of(rows: Sequence[Comparison]) -> list[str]:
    return [row.prompt.key for row in rows]


def margins(head: heads.Head, x_NH: FloatArray, rows: Sequence[Comparison]) -> FloatArray:
    sign_N = np.array([1.0 if row.verdict == "a" else -1.0 for row in rows])
    return sign_N * (x_NH @ head.weight_H)


def rounded(values: FloatArray) -> list[float]:
    return [round(float(value), ROUND) for value in values]
