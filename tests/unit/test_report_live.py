"""A run that is going on: which stage, how far, and a page that follows the files until the run ends."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from accord.report import build, watch
from accord.report.artefacts import read
from accord.report.live import Stage, changed_at, is_running, progress
from tests.unit.test_report import Page, dump, edit, fake_run, jsonl


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in the middle of its policy optimisation: 12 of 33 steps, two seconds each."""
    run = fake_run(tmp_path / "going")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["online"]["steps"] = 33
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for name in ("curve.json", "findings.json", "samples.jsonl"):
        (run / "round-0" / name).unlink()
    shutil.rmtree(run / "round-0/policy")
    (run / "accord.lock.json").unlink()
    for folder in ("sft", "round-0/pairs", "round-0/reward"):
        dump(run / folder / "COMMIT.json", {"key": folder})
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["stage"] != "online" or row["step"] < 12]
    for place, row in enumerate(rows):
        row["time"] = 1000 + 2.0 * place
    jsonl(run / "metrics.jsonl", rows)
    return run


class Held:
    """The run's lock, as `accord run` holds it."""

    def __init__(self, run: Path) -> None:
        self.file = (run / ".lock").open("w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def end(self) -> None:
        self.file.close()


def test_a_lock_that_is_held_is_a_run_that_goes_on(run: Path) -> None:
    assert not is_running(run)
    held = Held(run)
    assert is_running(run)
    held.end()
    assert not is_running(run)
    assert not is_running(run / "nowhere")


def test_stages_and_the_time_left_by_hand(run: Path) -> None:
    assert progress(read(run)) == [
        Stage("fine-tuning", "done", 1.0, "done"),
        Stage("samples to compare", "done", 1.0, "done"),
        Stage("reward model", "done", 1.0, "done"),
        # 21 steps of 2 s are left
        Stage("policy", "running", 12 / 33, "step 12 of 33, about 42 s left for the steps"),
    ]
    (run / "round-0/reward/COMMIT.json").unlink()
    states = [(stage.state, stage.note) for stage in progress(read(run))]
    assert states[2:] == [("running", "step 36"), ("waiting", "to come")]


def test_given_labels_need_no_samples_and_rounds_are_numbered(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["rounds"], config["data"]["comparisons"] = 2, "pairs.jsonl"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert [stage.name for stage in progress(read(run))] == [
        "fine-tuning", "reward model, round 0", "policy, round 0",
        "samples to compare, round 1", "reward model, round 1", "policy, round 1",
    ]  # fmt: skip


def test_the_live_page_reloads_itself_and_the_finished_one_does_not(run: Path) -> None:
    source = build(run, reload=5.0).read_text()
    page = Page(source)
    assert ("body", {"data-reload": "5.0"}) in page.elements
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in page.elements
    assert "running, as of" in page.text
    assert "How far it is" in page.text
    assert "step 12 of 33, about 42 s left" in page.text
    assert "What is not there yet" in page.text
    assert "Policy optimisation" in page.text
    killed = Page(build(run).read_text())
    assert "data-reload" not in dict(next(a for t, a in killed.elements if t == "body"))
    assert "How far it came" in killed.text
    assert "stopped here, step 12 of 33" in killed.text
    whole = Page(build(fake_run(run.parent / "whole")).read_text()).text
    assert "How far it" not in whole


def test_curve_points_written_on_the_way_are_drawn(run: Path) -> None:
    points = [{"step": s, "kl": s / 4, "proxy": 0.1 * s, "gold": None, "length": 12.0} for s in (0, 4, 8)]
    dump(run / "round-0/curve.json", {"points": points, "best_of_n": [], "gold_name": None})
    assert "the proxy has gone from 0 to 0.8" in Page(build(run, reload=5.0).read_text()).text


def test_watching_builds_when_files_change_and_ends_with_the_run(run: Path) -> None:
    held = Held(run)
    built: list[float | None] = []
    told: list[str] = []
    looks = 0

    def make(path: Path, reload: float | None = None) -> Path:
        built.append(reload)
        return build(path, reload=reload)

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert seconds == 0.5
        if looks == 3:  # a step was written
            os.utime(run / "metrics.jsonl", (2e9, 2e9))
        if looks == 5:
            held.end()

    page = watch(run, make, every=0.5, told=told.append, sleep=sleep)
    assert page == run / "report.html"
    assert built == [0.5, 0.5, None]  # at first, after the step, after the end
    assert told[0].startswith(f"report: {page} (reloads itself every 0.5 s")
    assert told[-1] == f"the run has ended: {page}"
    assert "data-reload" not in page.read_text().split("<body")[1][:40]


def test_watching_waits_for_the_folder_and_survives_files_in_change(tmp_path: Path) -> None:
    target = tmp_path / "later"
    told: list[str] = []
    state: dict[str, Any] = {"looks": 0, "fail": True}

    def sleep(_: float) -> None:
        state["looks"] += 1
        if state["looks"] == 2:
            fake_run(target)

    def make(path: Path, reload: float | None = None) -> Path:
        if state.pop("fail", False):
            raise OSError("gone")
        return build(path, reload=reload)

    page = watch(target, make, told=told.append, sleep=sleep)
    assert page == target / "report.html"
    assert told[0] == f"waiting for {target} to appear (Ctrl-C stops)"
    assert any("not built just now (gone)" in line for line in told)
    assert told[-1] == f"no run is going on: {page}"


def test_a_run_that_waits_for_people_says_what_to_label(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["judge"] = {"kind": "file", "path": "labels/{round}.jsonl"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(run / "round-0/reward")
    text = Page(build(run).read_text()).text
    assert (
        "Label the 40 pairs in round-0/pairs.jsonl into labels/{round}.jsonl: the run waits for them" in text
    )
    assert "Finish the run" not in text


def test_what_counts_as_a_change(run: Path) -> None:
    before = changed_at(run)
    os.utime(run / "metrics.jsonl", (before + 50, before + 50))
    assert changed_at(run) == before + 50
    assert changed_at(run / "nowhere") == 0
    edit(run / "round-0/reward/accord_reward.json", accuracy=0.5)
