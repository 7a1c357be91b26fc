"""SIGKILL in the middle of a stage, then the same call: the weights end as those of an uninterrupted run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from accord import config, pipeline
from accord.checkpoints import read_commit
from accord.config import Run
from accord.workspace import NumericalTrouble

from .test_loop import bytes_of

DRIVER = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from accord import config, pipeline, workspace
stage, step, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
keep = workspace.Workspace.keep
def killing(self, done, make):
    keep(self, done, make)
    if self.stage == stage and self.first_step + done == step:
        os.kill(os.getpid(), signal.SIGKILL)
workspace.Workspace.keep = killing
pipeline.run(config.validate(config.Run, json.load(sys.stdin)), out, quiet=True)
"""


MOMENTS = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from accord import checkpoints, config, pipeline
from accord.execution import local
moment, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
seen = 0
def die_at(function):
    def wrapped(*arguments, **options):
        global seen
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return wrapped
if moment == "step":  # gradients are there, weights are not changed yet
    local.Local.step = die_at(local.Local.step)
elif moment == "writing":  # the new folder is full, its COMMIT.json is not written
    checkpoints.os.fsync = die_at(checkpoints.os.fsync)
else:  # between the renames that put a folder in place
    checkpoints.os.replace = die_at(checkpoints.os.replace)
pipeline.run(config.validate(config.Run, json.load(sys.stdin)), out, quiet=True)
"""


IN_A_BATCH = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from accord import config, pipeline, policy_update
out, plain, seen = sys.argv[1], policy_update._one_step, []
def dying(*arguments, **options):
    figures = plain(*arguments, **options)
    seen.append(figures)
    if len(seen) == 3:  # after the first of the second batch's two updates
        os.kill(os.getpid(), signal.SIGKILL)
    return figures
policy_update._one_step = dying
pipeline.run(config.validate(config.Run, json.load(sys.stdin)), out, quiet=True)
"""


@pytest.fixture
def whole(settings, tmp_path):
    out = tmp_path / "whole"
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    return bytes_of(out)


@pytest.mark.parametrize(("stage", "step"), [("sft", 1), ("reward", 1), ("online", 2)])
def test_killed_and_resumed_equals_uninterrupted(settings, tmp_path, whole, stage, step):
    out = tmp_path / "killed"
    child = subprocess.run(
        [sys.executable, "-c", DRIVER, stage, str(step), str(out)],
        input=json.dumps(settings),
        text=True,
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    unfinished = list((out / "unfinished").iterdir())
    assert unfinished  # it really stopped in the middle
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert bytes_of(out) == whole
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["stage"] == stage]
    assert steps == sorted(set(steps))  # no doubled rows


def test_killed_between_two_updates_of_a_ppo_batch(settings, tmp_path):
    """The batch's rollouts were on disk before its first update; they are read back, and the bits are the
    same.
    """
    settings["online"] |= {"minibatches": 2, "checkpoint_seconds": 0}
    whole, out = tmp_path / "whole", tmp_path / "killed"
    pipeline.run(config.validate(Run, settings), whole, quiet=True)
    child = subprocess.run(
        [sys.executable, "-c", IN_A_BATCH, str(out)],
        input=json.dumps(settings),
        text=True,
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (out / "unfinished/round-0-online-rollouts/batch-000001.pt").is_file()
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert bytes_of(out) == bytes_of(whole)


@pytest.mark.parametrize(("moment", "counts"), [("step", (2, 8)), ("writing", (3, 50)), ("rename", (1, 9))])
def test_killed_at_any_moment_several_times(settings, tmp_path, whole, moment, counts):
    out, killed = tmp_path / "killed", 0
    for count in counts:  # each time a little further
        child = subprocess.run(
            [sys.executable, "-c", MOMENTS, moment, str(count), str(out)],
            input=json.dumps(settings),
            text=True,
            capture_output=True,
            check=False,
        )
        killed += child.returncode == -signal.SIGKILL
    assert killed == len(counts), child.stderr
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert bytes_of(out) == whole


def test_a_damaged_checkpoint_is_set_aside_and_made_again(settings, tmp_path, whole):
    out = tmp_path / "damaged"
    run = config.validate(Run, settings)
    pipeline.run(run, out, quiet=True)
    weights = out / "round-0/reward/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    pipeline.run(run, out, quiet=True)
    assert bytes_of(out / "round-0/reward") == {
        "model.safetensors": whole["round-0/reward/model.safetensors"]
    }
    assert list((out / "round-0").glob("reward.damaged-*"))


def test_repeated_nan_stops_with_a_sentence_and_keeps_what_is_done(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "accord.reward_loss.losses.bradley_terry", lambda a, b, **_: (a - b).sum() * float("nan")
    )
    out = tmp_path / "nan"
    with pytest.raises(NumericalTrouble, match="lower the learning rate"):
        pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert read_commit(out / "sft") is not None
    assert not (out / "round-0/reward").exists()


@pytest.mark.parametrize(("kind", "step"), [("heads", 1), ("full", 4)])
def test_an_ensemble_killed_and_resumed_equals_uninterrupted(settings, tmp_path, kind, step):
    settings["reward"] |= {"ensemble": {"members": 2, "kind": kind}}  # a step of the second member
    whole = tmp_path / "whole"
    pipeline.run(config.validate(Run, settings), whole, quiet=True, until="reward")
    out = tmp_path / "killed"
    child = subprocess.run(
        [sys.executable, "-c", DRIVER, "reward", str(step), str(out)],
        input=json.dumps(settings),
        text=True,
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    pipeline.run(config.validate(Run, settings), out, quiet=True, until="reward")
    assert bytes_of(out) == bytes_of(whole)
    cards = [json.loads((f / "round-0/reward/accord_reward.json").read_text()) for f in (out, whole)]
    assert cards[0]["members"] == cards[1]["members"]
