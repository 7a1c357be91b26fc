"""metrics.jsonl: nothing lost to a kill, nothing doubled by a resume."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.disk import DiskFull
from accord.metrics import MetricsLog, read
from accord.records import BadInput


def steps(path: Path) -> list[tuple[str, int, int]]:
    return [(row["stage"], row["round"], row["step"]) for row in read(path)[0]]


def test_a_row_holds_its_place_the_time_and_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.log("online", 1, 3, {"kl": 0.1, "n": 4, "t": torch.tensor(0.5), "f": np.float32(0.25)})
        line = path.read_bytes()  # there at once, without close
    assert line.endswith(b"\n")
    row = json.loads(line)
    assert 1.6e9 < row.pop("time") < 1e11
    assert list(row.items()) == [
        ("stage", "online"),
        ("round", 1),
        ("step", 3),
        ("kl", 0.1),
        ("n", 4),
        ("t", 0.5),
        ("f", 0.25),
    ]


def test_not_a_number_and_infinity_become_null_and_keep_their_key(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.log("sft", 0, 0, {"loss": float("nan"), "grad_norm": float("inf"), "x": -float("inf")})
    row = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (row["loss"], row["grad_norm"], row["x"]) == (None, None, None)


def test_a_figure_cannot_take_the_name_of_a_column(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log, pytest.raises(ValueError, match="'step'"):
        log.log("sft", 0, 0, {"step": 1.0})


def test_rewind_drops_only_the_rows_that_come_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for stage, round_ in (("sft", 0), ("online", 0), ("online", 1)):
            for step in range(4):
                log.log(stage, round_, step, {"loss": 1.0})
        log.log("online", 0, 3, {"evaluation": 1.0})  # a second row of the same step goes too
        assert log.rewind("online", 0, 2) == 3
        assert log.rewind("online", 0, 2) == 0
        log.log("online", 0, 2, {"loss": 2.0})
    expected = [("sft", 0, s) for s in range(4)]
    expected += [("online", 0, s) for s in range(2)]
    expected += [("online", 1, s) for s in range(4)]
    assert steps(path) == [*expected, ("online", 0, 2)]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_rewind_of_no_file_and_of_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        assert log.rewind("sft", 0, 0) == 0
        path.write_bytes(b'{"stage": "sft", "round"\n[1]\n\xff\n')
        log.log("sft", 0, 0, {})
        log.log("sft", 0, 1, {})
        assert log.rewind("sft", 0, 1) == 1
    rows, skipped = read(path)
    assert (len(rows), skipped) == (1, 3)  # unreadable lines are kept: somebody may want to look


def test_read_counts_what_it_skips(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2\n\n\0\0\0\n{"step": 3}\n{"st')
    assert read(path) == ([{"step": 1}, {"step": 3}], 3)
    assert read(tmp_path / "absent") == ([], 0)


@pytest.mark.parametrize("cut", range(1, 90))
def test_a_last_line_cut_at_any_byte_is_repaired_on_open(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.log("sft", 0, 0, {"loss": 1.5})
        first = path.stat().st_size
        log.log("sft", 0, 1, {"loss": 1.25})
    size = path.stat().st_size
    keep = max(first, size - cut)
    os.truncate(path, keep)
    with MetricsLog(path) as log:
        whole_but_for_its_newline = keep == size - 1
        assert len(steps(path)) == (2 if whole_but_for_its_newline else 1)
        log.rewind("sft", 0, 1)
        log.log("sft", 0, 1, {"loss": 1.25})
    assert steps(path) == [("sft", 0, 0), ("sft", 0, 1)]
    assert read(path)[1] == 0


def test_rows_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    script = (
        "import os, signal, sys; from accord.metrics import MetricsLog\n"
        "log = MetricsLog(sys.argv[1])\n"
        "for step in range(5): log.log('sft', 0, step, {'loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert steps(path) == [("sft", 0, step) for step in range(5)]


class HalfFullFile:
    """Takes 10 bytes, then the disk is full. Without a buffer a write may be short; with one it is not."""

    def __init__(self, file, buffering: int = -1) -> None:
        self.file = file
        self.buffered = buffering != 0
        self.room = 10

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data) -> int:
        if not self.room or (self.buffered and len(data) > self.room):
            raise OSError(errno.ENOSPC, "No space left on device")
        took = self.file.write(data[: self.room])
        self.room -= took
        return took


def test_a_full_disk_is_named_and_leaves_no_half_row(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.log("sft", 0, 0, {"loss": 1.0})
        log.log("reward", 0, 0, {"loss": 1.0})
        before = path.read_bytes()
        real_open = Path.open

        def limited(self: Path, mode: str = "r", buffering: int = -1) -> HalfFullFile:
            return HalfFullFile(real_open(self, mode, buffering), buffering)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", limited)
            with pytest.raises(DiskFull, match=r"metrics\.jsonl"):
                log.log("sft", 0, 1, {"loss": 1.0})
            with pytest.raises(DiskFull):
                log.rewind("sft", 0, 0)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["metrics.jsonl"]
        log.log("sft", 0, 1, {"loss": 1.0})
    assert steps(path) == [("sft", 0, 0), ("reward", 0, 0), ("sft", 0, 1)]


class FakeTracker(types.ModuleType):
    """Stands in for wandb and trackio: both have init, log and finish."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, object]] = []

    def init(self, **arguments: object) -> None:
        self.calls.append(("init", arguments))

    def log(self, figures: dict[str, float]) -> None:
        self.calls.append(("log", figures))

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_trackers_get_the_figures(tmp_path: Path, monkeypatch, kind: str) -> None:
    fake = FakeTracker(kind)
    monkeypatch.setitem(sys.modules, kind, fake)
    with MetricsLog(tmp_path / "m.jsonl", name="demo", config={"seed": 0}, **{kind: "project"}) as log:
        log.log("online", 1, 2, {"kl": 0.5})
        log.close()
    assert fake.calls == [
        ("init", {"project": "project", "name": "demo", "config": {"seed": 0}}),
        ("log", {"round-1/online/kl": 0.5, "round-1/online/step": 2}),
        ("finish", None),
    ]


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.setitem(sys.modules, kind, None)  # import then raises ImportError
    with pytest.raises(BadInput, match=rf"pip install 'accord-rlhf\[{kind}\]'"):
        MetricsLog(tmp_path / "new" / "m.jsonl", **{kind: "project"})
    assert not (tmp_path / "new").exists()


def test_tensorboard_holds_the_figures_and_a_rewind_purges_one_stage(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    with MetricsLog(tmp_path / "m.jsonl", tensorboard_dir=board) as log:
        assert not board.exists()  # made when there is something to write
        for step in range(4):
            log.log("online", 0, step, {"kl": float(step)})
            log.log("sft", 0, step, {"loss": float(step)})
    with MetricsLog(tmp_path / "m.jsonl", tensorboard_dir=board) as log:  # resumed after step 1
        log.rewind("online", 0, 2)
        log.log("online", 0, 2, {"kl": 20.0})

    def scalars(run: str, tag: str) -> list[tuple[int, float]]:
        events = EventAccumulator(str(board / run)).Reload()
        return [(event.step, event.value) for event in events.Scalars(tag)]

    assert scalars("round-0-online", "online/kl") == [(0, 0.0), (1, 1.0), (2, 20.0)]
    assert scalars("round-0-sft", "sft/loss") == [(s, float(s)) for s in range(4)]
