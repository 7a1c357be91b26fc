"""SIGKILL in the middle of a stage, then the same call: the weights end as those of an uninterrupted run."""

from __future__ import annotations

import json
import shutil

import pytest

from accord import config, pipeline
from accord.checkpoints import read_commit
from accord.config import Run
from accord.workspace import NumericalTrouble

from . import killed
from .conftest import recipe
from .test_loop import bytes_of


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    """The folder of an uninterrupted run of the same settings, to read and to copy."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    pipeline.run(config.validate(Run, recipe(tiny_folder, folder)), folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def whole(finished):
    return bytes_of(finished)


@pytest.mark.parametrize(("stage", "step"), [("sft", 1), ("reward", 1), ("online", 2)])
def test_killed_and_resumed_equals_uninterrupted(settings, tmp_path, whole, stage, step):
    out = tmp_path / "killed"
    killed.kill(killed.after_step, settings, out, stage, step)
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
    killed.kill(killed.in_a_batch, settings, out)
    assert (out / "unfinished/round-0-online-rollouts/batch-000001.pt").is_file()
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert bytes_of(out) == bytes_of(whole)


@pytest.mark.parametrize(("moment", "counts"), [("step", (2, 8)), ("writing", (3, 50)), ("rename", (1, 9))])
def test_killed_at_any_moment_several_times(settings, tmp_path, whole, moment, counts):
    out = tmp_path / "killed"
    for count in counts:  # each time a little further
        killed.kill(killed.at_moment, settings, out, moment, count)
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert bytes_of(out) == whole


def test_a_damaged_checkpoint_is_set_aside_and_made_again(settings, tmp_path, finished, whole):
    out = tmp_path / "damaged"
    run = config.validate(Run, settings)
    shutil.copytree(finished, out)
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
    killed.kill(killed.after_step, settings, out, "reward", step)
    pipeline.run(config.validate(Run, settings), out, quiet=True, until="reward")
    assert bytes_of(out) == bytes_of(whole)
    cards = [json.loads((f / "round-0/reward/accord_reward.json").read_text()) for f in (out, whole)]
    assert cards[0]["members"] == cards[1]["members"]
