"""Odd states of a run: five prompts in all, and a kill within the evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord import config, pipeline
from accord.config import Run
from accord.store import LabelStore

from . import killed
from .conftest import write_rows
from .test_loop import bytes_of
from .test_round_evidence import EVERYTHING, stages


@pytest.fixture
def asking(settings: dict[str, Any]) -> dict[str, Any]:
    """Every question is asked; the training before it is as short as it can be."""
    settings["evaluate"] |= EVERYTHING | {"best_of": 4, "best_of_prompts": 4}
    settings["collect"]["pairs"] = 40
    settings["online"] |= {"steps": 1, "evaluate_every": 1}
    return settings | {"sft": None}


def evidence_of(out: Path) -> dict[str, bytes]:
    """Everything that the evidence leaves, without the times in the commit's record."""
    round = out / "round-0"
    files = [round / name for name in ("findings.json", "curve.json", "samples.jsonl", "fresh_pairs.jsonl")]
    files.append(round / "evidence/measured.json")
    return {path.name: path.read_bytes() for path in files} | bytes_of(out)


def labels_of(out: Path) -> list[tuple[str, str, str]]:
    with LabelStore(out / "labels.db") as store:
        return [(one.pair.id, one.annotator, one.verdict) for one in store.comparisons()]


@pytest.fixture
def whole(asking: dict[str, Any], tmp_path: Path) -> Path:
    out = tmp_path / "whole"
    pipeline.run(config.validate(Run, asking), out, quiet=True)
    return out


def test_a_run_killed_within_the_evidence_goes_on_and_ends_the_same(
    asking: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    """One folder, killed at three moments one after another, each time further on."""
    out = tmp_path / "killed"
    for moment in ("writing", "labels", "findings"):
        killed.kill(killed.in_the_evidence, asking, out, moment)
        assert not (out / "round-0/findings.json").exists()
        measured = (out / "round-0/evidence/measured.json").is_file()
        assert measured == (moment != "writing"), moment
    pipeline.run(config.validate(Run, asking), out, quiet=True)
    assert evidence_of(out) == evidence_of(whole)
    assert sorted(labels_of(out)) == sorted(labels_of(whole))  # no label twice, none lost
    assert all(stages(out).values())  # nothing that was done before the kills was done again


def test_five_prompts_in_all(settings: dict[str, Any], tmp_path: Path) -> None:
    """One or two are left to measure on: the run ends, and what cannot be told from so few says so."""
    prompts = [{"prompt": [{"role": "user", "content": f"{word}?"}]} for word in ("a", "b", "c", "d", "e")]
    settings["data"] |= {"prompts": write_rows(tmp_path / "five.jsonl", prompts)}
    settings["online"] |= {"prompts_per_step": 2, "steps": 2}
    settings["evaluate"] |= EVERYTHING | {"fresh_pairs": 1}
    result = pipeline.run(config.validate(Run, settings), tmp_path / "run", quiet=True)
    lines = (tmp_path / "run/round-0/samples.jsonl").read_text().splitlines()
    held_out = {json.loads(line)["key"] for line in lines}
    assert 1 <= len(held_out) <= 2
    assert {f.name for f in result.findings} >= {
        "win_rate",
        "overoptimisation",
        "split_half",
        "mode_collapse",
    }
    for finding in result.findings:
        assert finding.sentence
        assert finding.verdict == "unknown" or finding.figure is not None
        if len(held_out) == 1:
            assert finding.interval is None, finding.name
    unknown = [finding.name for finding in result.findings if finding.verdict == "unknown"]
    assert "split_half" in unknown  # few labels of few prompts make no second model
    page = result.report.read_text()
    assert all(finding.sentence.split("“")[0][:40] in page for finding in result.findings if finding.figure)
