"""metrics.jsonl: one line a step, always; TensorBoard, Weights & Biases and trackio beside it when asked for.

The file is the record. A resumed run drops the rows that it is going to write again (`MetricsLog.rewind`),
so that it ends with the rows of an uninterrupted one.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.disk import disk_full_is_clear
from accord.records import BadInput

RESERVED = ("stage", "round", "step", "time", "alerts")


def read(path: str | Path) -> tuple[list[dict[str, Any]], int]:
    """(rows, number of damaged lines skipped); no file: no rows. A null figure was NaN or infinite."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    rows = [_row(line) for line in lines if line.strip()]
    good = [row for row in rows if row is not None]
    return good, len(rows) - len(good)


class MetricsLog:
    """Appends rows ``{"stage", "round", "step", "time", figure: number or null, …}``.

    Args:
        path: the file; a last line that a kill cut short is removed.
        tensorboard_dir: one TensorBoard run per stage and round below it; None: off.
        wandb: project name; needs ``accord-rlhf[wandb]``. None: off.
        trackio: project name; needs ``accord-rlhf[trackio]``. None: off.
        name: name of the run there.
        config: configuration shown there.

    Raises:
        BadInput: a tracker was asked for that is not installed (now, and not after the first step).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        tensorboard_dir: str | Path | None = None,
        wandb: str | None = None,
        trackio: str | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._tensorboard_dir = Path(tensorboard_dir) if tensorboard_dir is not None else None
        self._boards: dict[tuple[str, int], Any] = {}
        self._purge: dict[tuple[str, int], int] = {}
        self._trackers: list[Any] = []
        asked = [("wandb", wandb), ("trackio", trackio)]
        modules = [(_tracker(kind), project) for kind, project in asked if project is not None]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _repair(self.path)
        for module, project in modules:
            module.init(project=project, name=name, config=dict(config or {}))
            self._trackers.append(module)

    def log(
        self,
        stage: str,
        round: int,
        step: int,
        figures: Mapping[str, float],
        alerts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Appends one row; it is with the operating system when this returns, so a kill cannot lose it.

        Args:
            alerts: what is wrong in this step, as a list beside the figures; a row without any has no list.

        Raises:
            DiskFull: nothing of the row is left in the file.
            ValueError: a figure has the name of a fixed column.
        """
        if clash := [figure for figure in figures if figure in RESERVED]:
            raise ValueError(f"a figure cannot be called {clash[0]!r}: {', '.join(RESERVED)} are columns")
        numbers = {figure: _number(value) for figure, value in figures.items()}
        row = {"stage": stage, "round": round, "step": step, "time": _unix_time()}
        row |= {f: v if math.isfinite(v) else None for f, v in numbers.items()}
        if alerts:
            row["alerts"] = [dict(alert) for alert in alerts]
        _append(self.path, json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        if self._tensorboard_dir is not None:
            board = self._board(stage, round)
            for figure, number in numbers.items():
                board.add_scalar(f"{stage}/{figure}", number, step)
        prefix = f"round-{round}/{stage}"
        for tracker in self._trackers:
            # The step is a figure of its own: these services want one counter that never goes back, and
            # every stage starts at 0.
            tracker.log({f"{prefix}/{f}": v for f, v in numbers.items()} | {f"{prefix}/step": step})

    def rewind(self, stage: str, round: int, step: int) -> int:
        """Drops the rows of ``stage`` and ``round`` from ``step`` on, before they are written again.

        Returns the number of rows dropped. Lines that cannot be read are kept as they are.
        """
        self._purge[stage, round] = step
        if (board := self._boards.pop((stage, round), None)) is not None:
            board.close()
        if not self.path.exists():
            return 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _is_from(_row(line), stage, round, step)]
        if len(kept) < len(lines):
            writing = self.path.with_name(self.path.name + ".writing")
            try:
                with disk_full_is_clear(self.path), writing.open("wb") as file:
                    file.write(b"".join(kept))
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                writing.unlink(missing_ok=True)
                raise
            os.replace(writing, self.path)
        return len(lines) - len(kept)

    def close(self) -> None:
        """Flushes TensorBoard and ends the runs of the trackers; can be called twice."""
        while self._boards:
            self._boards.popitem()[1].close()
        while self._trackers:
            self._trackers.pop().finish()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _board(self, stage: str, round: int) -> Any:
        """One TensorBoard run per stage and round, so that a rewind of one purges only its own steps."""
        if (stage, round) not in self._boards:
            assert self._tensorboard_dir is not None
            from torch.utils.tensorboard import SummaryWriter  # seconds to import

            folder = self._tensorboard_dir / f"round-{round}-{stage.replace('/', '-')}"
            purge = self._purge.get((stage, round))
            self._boards[stage, round] = SummaryWriter(str(folder), purge_step=purge)
        return self._boards[stage, round]


def _unix_time() -> float:
    """Unix time in seconds, to the millisecond."""
    return round(time.time(), 3)


def _tracker(kind: str) -> Any:
    try:
        return importlib.import_module(kind)
    except ImportError as error:
        raise BadInput(
            f"logging.{kind} is set, but {kind} cannot be imported ({error}):"
            f" pip install 'accord-rlhf[{kind}]', or leave logging.{kind} out"
        ) from None


def _number(value: Any) -> float:
    """A Python number from a number, a NumPy scalar or a tensor of one element; whole numbers stay whole."""
    return value if type(value) is int else float(value)


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _is_from(row: Mapping[str, Any] | None, stage: str, round: int, step: int) -> bool:
    if row is None or row.get("stage") != stage or row.get("round") != round:
        return False
    at = row.get("step")
    return isinstance(at, int) and at >= step


def _append(path: Path, line: bytes) -> None:
    """One write to the end of the file; a part of the line that a full disk took is taken back."""
    with disk_full_is_clear(path), path.open("ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(start)
            raise


def _repair(path: Path) -> None:
    """Ends the file with a whole line: a kill can only have cut the last one short."""
    if not path.exists():
        return
    data = path.read_bytes()
    if not data or data.endswith(b"\n"):
        return
    start = data.rfind(b"\n") + 1
    if _row(data[start:]) is not None:
        _append(path, b"\n")
    else:
        os.truncate(path, start)
