"""Hidden states of a frozen language model, computed once and kept in files: what heads and top layers read.

Reading the texts is nearly all of the work, and every seed, member and training size reads the same ones. A
part is written to accord's cache as soon as it is done, so that a stopped run goes on where it was, and runs
beside each other take what the other has done. About 1 GB for HH; delete `figure-states` there afterwards.
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
        self._read: set[Path] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._refresh()

    def _refresh(self) -> None:
        for part in sorted(set(self.folder.glob("part-*.pt")) - self._read):
            self._take(torch.load(part))
            self._read.add(part)

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
        done, began = 0, time.monotonic()
        while todo := self._missing(groups):
            deadline.check()
            lengths = [batches.stream_length(group) for group in todo]
            runs = batches.by_budget(lengths, TOKENS_PER_PART)
            # Not the first: a run beside this one would be at the same place.
            chosen = runs[os.getpid() % len(runs)]
            part = [todo[i] for i in chosen]
            packed = batches.pack(part, models.device())
            trunk_TH = self.tower.trunk(packed)
            last_BH = self.tower.hidden(packed, trunk_TH)[packed.last_B]
            found = {"groups": [(g.prompt, g.responses) for g in part], "last": last_BH, "trunk": trunk_TH}
            name = f"{len(self._read):05d}-{os.getpid()}"
            torch.save(found, self.folder / f"unfinished-{name}")
            os.replace(self.folder / f"unfinished-{name}", self.folder / f"part-{name}.pt")
            self._refresh()
            read = sum(lengths[i] for i in chosen)
            done += read
            seconds, rest = time.monotonic() - began, sum(lengths) - read
            left = seconds / done * rest / 60
            note = f"states: {rest} tokens left, {done / seconds:.0f} tokens/s, {left:.1f} min"
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


def states(model: Any, location: str, top_layers: int) -> States:
    """Kept in accord's cache, a folder for each model, number format and number of top layers."""
    key = checkpoints.key("figure states", location, str(model.dtype), top_layers)
    return States(model, top_layers, models.cache_folder() / "figure-states" / key[:12])
