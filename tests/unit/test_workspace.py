"""The progress line: its estimate by hand, with work between steps and stages that follow."""

from __future__ import annotations

import pytest

from accord import workspace
from accord.workspace import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(workspace, "time", made)
    return made


def test_steps_left_times_the_mean_of_the_last_steps(clock, capsys):
    progress = Progress("sft", 10)
    for seconds in (20.0, 40.0):
        clock.now += seconds
        progress.advance("loss 1.0")
    # (20 + 40) / 2 = 30 seconds a step, 8 left: 4 minutes
    assert "2/10  4:00 left" in capsys.readouterr().err
    for _ in range(8):
        clock.now += 1
        progress.advance()
    assert "10/10  done" in capsys.readouterr().err


def test_work_between_steps_is_counted_apart(clock, capsys):
    progress = Progress("online", 4, rest=120.0)
    with progress.aside(left=2):  # an evaluation of 50 seconds, two more to come
        clock.now += 50
    clock.now += 20
    progress.advance()
    # 3 × 20 + 2 × 50 = 160 seconds here, 120 more for what follows
    assert "1/4  2:40 left, 4:40 in all" in capsys.readouterr().err


def test_several_steps_at_once_and_a_resumed_stage(clock, capsys):
    progress = Progress("collect", 100, done=40)
    clock.now += 30
    progress.advance(steps=10)  # 3 seconds each, 50 left
    assert "50/100  2:30 left" in capsys.readouterr().err


def test_quiet_says_nothing(clock, capsys):
    progress = Progress("sft", 1, quiet=True)
    clock.now += 60
    progress.advance()
    assert capsys.readouterr().err == ""
