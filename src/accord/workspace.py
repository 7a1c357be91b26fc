"""What a stage needs besides its data and its configuration: seed, round, log, states, progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord.metrics import MetricsLog
from accord.training_state import TrainingState


class Progress:
    """A line that says how far a stage is and how long it still takes; one line in place on a terminal.

    The estimate follows the machine: the mean time of the last steps times the steps left, and likewise for
    work that is done between steps (evaluations).

    Args:
        rest: estimated seconds of the stages that come after this one.
    """

    def __init__(
        self, label: str, total: int, done: int = 0, *, quiet: bool = False, rest: float = 0.0
    ) -> None:
        self.label, self.total, self.done, self.quiet, self.rest = label, total, done, quiet, rest
        self._began = time.monotonic()
        self._seconds: list[float] = []
        self._aside = self._asides_left = 0.0
        self._shown = 0.0

    @contextmanager
    def aside(self, left: int) -> Iterator[None]:
        """Work between two steps, of which ``left`` more follow; it does not count as a step's time."""
        began = time.monotonic()
        yield
        self._aside, self._asides_left = time.monotonic() - began, left
        self._began += self._aside

    def advance(self, note: str = "", steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        self._seconds = [*self._seconds[-9:], (now - self._began) / max(1, steps)]
        self._began = now
        terminal = sys.stderr.isatty()
        last = self.done >= self.total
        if self.quiet or (now - self._shown < (0.2 if terminal else 15) and not last):
            return
        self._shown = now
        filled = int(20 * self.done / max(1, self.total))
        bar = "━" * filled + "╌" * (20 - filled)
        line = f"  {self.label:<18} {bar} {self.done}/{self.total}  {self._left():<12} {note}"
        end = "\n" if last or not terminal else ""
        sys.stderr.write(("\r\x1b[K" if terminal else "") + line + end)
        sys.stderr.flush()

    def _left(self) -> str:
        seconds = sum(self._seconds) / len(self._seconds) * (self.total - self.done)
        seconds += self._aside * self._asides_left
        here = "done" if self.done >= self.total else f"{_clock(seconds)} left"
        return here + (f", {_clock(seconds + self.rest)} in all" if self.rest else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


@dataclass
class Workspace:
    """One stage of one round.

    Attributes:
        folder: where the stage keeps its unfinished state; removed when the stage is committed.
        key: content key of the stage; states of another key are not continued.
        rest: estimated seconds of the stages that follow, for the progress line.
        first_step: where this part's steps begin in the stage's log (a stage of several models).
    """

    stage: str
    seed: int = 0
    round: int = 0
    folder: Path | None = None
    key: str = ""
    checkpoint_seconds: float = 60.0
    log: MetricsLog | None = None
    quiet: bool = False
    rest: float = 0.0
    first_step: int = 0
    states: TrainingState | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.states = TrainingState(self.folder, self.key, self.checkpoint_seconds)

    def resume(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """(completed steps, tensors, extra) of the newest whole state; (0, {}, {}) at a fresh start."""
        found = self.states.latest() if self.states else None
        step, tensors, extra = found or (0, {}, {})
        if self.log is not None:
            self.log.rewind(self.stage, self.round, self.first_step + step)
        return step, tensors, extra

    def record(
        self, step: int, figures: Mapping[str, float], alerts: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        if self.log is not None:
            self.log.log(self.stage, self.round, self.first_step + step, figures, alerts)

    def keep(self, step: int, make: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]]) -> bool:
        """Save the state after ``step`` completed steps, if enough time has passed; whether it was saved."""
        return self.states is not None and self.states.maybe_save(step, make)

    def frozen_layers(self, tokens: int) -> Callable[[int], None]:
        """A progress line for ``towers.TrunkStates``, counted in tokens."""
        progress = self.progress(tokens, what="frozen layers")
        return lambda count: progress.advance(steps=count)

    def progress(self, total: int, done: int = 0, what: str = "") -> Progress:
        label = self.stage if not self.round else f"{self.stage} (round {self.round})"
        label = what or label
        return Progress(label, total, done, quiet=self.quiet, rest=self.rest)


class NumericalTrouble(RuntimeError):
    """Too many steps in a row gave NaN or infinity."""


def check_bad_steps(count: int, limit: int, stage: str, step: int) -> None:
    """Stop a stage whose updates have been skipped ``limit`` times in a row.

    Raises:
        NumericalTrouble: names the stage, the step and what to try.
    """
    if count >= limit:
        raise NumericalTrouble(
            f"{stage} stopped at step {step}: {count} updates in a row were NaN or infinite and were skipped;"
            " lower the learning rate or set model.dtype to float32, the last good state is kept"
        )
