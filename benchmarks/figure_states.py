"""Hidden states of a frozen language model, computed once and kept in files: what heads and top layers read.

Reading the texts is nearly all of the work, and every seed, member and training size reads the same ones. A
part is written as soon as it is done, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord import batches, checkpoints, models
from accord.batches import Group, Tokens
from accord.towers import Tower, base_of

TOKENS_PER_PART = 4096
RESPONSES_AT_ONCE = 32


class OutOfTime(Exception):
    """The minutes are used up; the same command goes on."""


class Deadline:
    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def check(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise OutOfTime


class States:
    """For every (prompt, response): the last hidden state at its last token; if asked, all states below the
    top layers, for training those.

    The states of a prompt do not depend on the response after it, nor those of a response on its siblings, so
    each is kept by itself and any group is put together from them.
    """

    def __init__(self, model: Any, top_layers: int, folder: Path) -> None:
        """``top_layers`` 0: nothing is kept for training layers."""
        layers = len(base_of(model).layers)
        self.tower = Tower(base_of(model), layers - top_layers) if top_layers else Tower(base_of(model))
        self.folder = folder
        self._last: dict[tuple[Tokens, Tokens], Tensor] = {}
        self._prompt: dict[Tokens, Tensor] = {}
        self._response: dict[tuple[Tokens, Tokens], Tensor] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for part in sorted(folder.glob("part-*.pt")):
            self._take(torch.load(part))

    def last(self, prompt: Tokens, response: Tokens) -> Tensor:
        """(H,) double, after the final norm, at the response's last token."""
        return self._last[prompt, response].double()

    def of(self, groups: Sequence[Group]) -> Tensor:
        """(T, H) below the top layers, for ``batches.pack(groups)``; as ``towers.TrunkStates.of``."""
        parts = []
        for group in groups:
            parts.append(self._prompt[group.prompt])
            parts += [self._response[group.prompt, response] for response in group.responses]
        return torch.cat(parts)

    @torch.no_grad()
    def compute(self, groups: Sequence[Group], deadline: Deadline) -> None:
        """Whatever is not there yet, in order; raises OutOfTime between two parts."""
        todo = self._missing(groups)
        total = sum(batches.stream_length(group) for group in todo)
        done, began = 0, time.monotonic()
        for run in batches.by_budget([batches.stream_length(group) for group in todo], TOKENS_PER_PART):
            deadline.check()
            part = [todo[i] for i in run]
            packed = batches.pack(part, models.device())
            trunk_TH = self.tower.trunk(packed)
            last_BH = self.tower.hidden(packed, trunk_TH)[packed.last_B]
            found = {"groups": [(g.prompt, g.responses) for g in part], "last": last_BH, "trunk": trunk_TH}
            number = len(list(self.folder.glob("part-*.pt")))
            torch.save(found, self.folder / "unfinished")
            os.replace(self.folder / "unfinished", self.folder / f"part-{number:05d}.pt")
            self._take(found)
            done += sum(batches.stream_length(group) for group in part)
            seconds = time.monotonic() - began
            left = seconds / done * (total - done) / 60
            note = f"states {done}/{total} tokens, {done / seconds:.0f} tokens/s, {left:.1f} min left"
            print(note, file=sys.stderr, flush=True)

    def _missing(self, groups: Sequence[Group]) -> list[Group]:
        wanted: dict[Tokens, dict[Tokens, None]] = {}
        for group in groups:
            new = [r for r in group.responses if (group.prompt, r) not in self._last]
            wanted.setdefault(group.prompt, {}).update(dict.fromkeys(new))
        out = []
        for prompt, responses in wanted.items():
            every = list(responses)
            for start in range(0, len(every), RESPONSES_AT_ONCE):
                out.append(Group(prompt, tuple(every[start : start + RESPONSES_AT_ONCE])))
        return out

    def _take(self, found: dict[str, Any]) -> None:
        responses = [(prompt, response) for prompt, every in found["groups"] for response in every]
        self._last.update(zip(responses, found["last"], strict=True))
        if found["trunk"] is None:
            return
        lengths = [n for p, every in found["groups"] for n in (len(p), *map(len, every))]
        split: Any = found["trunk"].split
        parts = iter(split(lengths))
        for prompt, every in found["groups"]:
            self._prompt[prompt] = next(parts)
            for response in every:
                self._response[prompt, response] = next(parts)


def states(model: Any, location: str, top_layers: int, out: Path) -> States:
    """Kept under ``out/states``, a folder for each model, number format and number of top layers."""
    key = checkpoints.key("figure states", location, str(model.dtype), top_layers)
    return States(model, top_layers, out / "states" / key[:12])
