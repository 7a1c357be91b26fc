"""The state of a stage that is still running: enough to go on after a kill with the same bits.

Each state is a committed folder step-NNNNNN (see `accord.checkpoints`) with one file, state.pt. The last
two are kept, so that a damaged one costs the steps since the one before and not the run.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from accord import checkpoints
from accord.checkpoints import DamagedCheckpoint

KEEP = 2
_STATE = "state.pt"
_STEP = re.compile(r"step-(\d{6,})")
_PLAIN = (type(None), bool, int, float, str, bytes)
logger = logging.getLogger("accord")

State = tuple[Mapping[str, Any], Mapping[str, Any]]


class TrainingState:
    """Saves and finds the training states of one stage.

    Args:
        folder: holds the states and nothing else.
        key: content key of the stage (`accord.checkpoints.key`); states of another key are not used, and
            are deleted at the first save.
        every_seconds: least time between two saves of `maybe_save`; 0 saves at every step.
    """

    def __init__(self, folder: Path, key: str, every_seconds: float) -> None:
        self.folder = Path(folder)
        self.key = key
        self.every_seconds = every_seconds
        self._saved_at = time.monotonic()

    def save(self, step: int, tensors: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        """Commits the state after ``step`` completed steps.

        Args:
            tensors: nested mappings, lists and tuples of tensors and plain values; an optimiser's
                state_dict as it is. Every dtype keeps its bits.
            extra: plain values and tensors (for example the state of a random generator).

        Raises:
            DiskFull: the states saved before are untouched.
            TypeError: a value that could not be read back, named by its place.
        """
        state = {"tensors": _checked(tensors, "tensors"), "extra": _checked(extra, "extra")}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(state)}

        def write(folder: Path) -> None:
            # Through a Python file: a full disk is then an OSError and not torch's "unexpected pos".
            with (folder / _STATE).open("wb") as file:
                torch.save(state, file)

        checkpoints.commit(
            self._path(step),
            write,
            manifest={"key": self.key, "step": step},
            need_bytes=sum(storages.values()) + 1_000_000,
        )
        self._prune(step)
        self._saved_at = time.monotonic()

    def maybe_save(self, step: int, make: Callable[[], State]) -> bool:
        """Saves what ``make`` returns, (tensors, extra), if the last save is long enough ago."""
        if time.monotonic() - self._saved_at < self.every_seconds:
            return False
        self.save(step, *make())
        return True

    def latest(self) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """(step, tensors, extra) of the newest whole state, tensors on the CPU; None where there is none.

        A damaged state is set aside with a warning, and the one before it is used.
        """
        for name in {path.name.partition(".")[0] for path in self._leftovers()}:
            checkpoints.recover(self.folder / name)
        for step in sorted(self._steps(), reverse=True):
            path = self._path(step)
            if checkpoints.cached(path, self.key) is None:
                continue  # another key, or damaged and now set aside
            state = torch.load(path / _STATE, map_location="cpu", weights_only=True)
            return step, state["tensors"], state["extra"]
        return None

    def back_to(self, step: int) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Deletes the states after ``step`` completed steps and more; what `latest` then gives."""
        for later in self._steps():
            if later > step:
                checkpoints.discard(self._path(later))
        return self.latest()

    def clear(self) -> None:
        """Deletes all states, the damaged ones too: the stage is done and its result committed."""
        for step in self._steps():
            checkpoints.discard(self._path(step))
        for path in self._leftovers():
            checkpoints.discard(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def _leftovers(self) -> list[Path]:
        """step-NNNNNN.writing and the like: what a killed process, or setting aside, left behind."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if re.match(_STEP.pattern + r"\.", p.name))

    def _prune(self, newest: int) -> None:
        """Keeps the last `KEEP` states of this key up to the one just saved.

        A later step can only come from a run that was started over; it must not win on the next resume.
        """
        ours = []
        for step in self._steps():
            try:
                document = checkpoints.read_commit(self._path(step))
            except DamagedCheckpoint as error:
                logger.warning("%s; it is kept as %s", error, checkpoints.set_aside(self._path(step)))
                continue
            if document is not None and document["manifest"].get("key") == self.key and step <= newest:
                ours.append(step)
            else:
                checkpoints.discard(self._path(step))
        for step in ours[:-KEEP]:
            checkpoints.discard(self._path(step))


def _checked(value: Any, place: str) -> Any:
    """``value`` with tensors detached; refuses now what torch.load(weights_only=True) would refuse later."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        for name in value:
            if type(name) not in _PLAIN:
                raise TypeError(f"{place} has a key of type {type(name).__name__}: use text or whole numbers")
        return {name: _checked(item, f"{place}[{name!r}]") for name, item in value.items()}
    if type(value) is list:
        return [_checked(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if type(value) is tuple:
        return tuple(_checked(item, f"{place}[{i}]") for i, item in enumerate(value))
    if type(value) in _PLAIN:
        return value
    raise TypeError(
        f"{place} is a {type(value).__name__}, which a training state cannot hold:"
        " make it a tensor, a number, text, bytes, or a list or mapping of these"
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
