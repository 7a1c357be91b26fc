"""The further questions in a run: asked, kept, and waited for where people have to answer."""

from __future__ import annotations

import json

import pytest

from accord import config, pipeline
from accord.config import Run
from accord.records import WaitingForLabels
from accord.store import LabelStore

EVERYTHING = {"split_half": True, "probed_answers": 4, "fresh_pairs": 4}


def findings(out, round=0):
    rows = json.loads((out / f"round-{round}/findings.json").read_text())["findings"]
    return {row["name"]: row for row in rows}


def stages(out):
    return {s["stage"]: s["cached"] for s in json.loads((out / "accord.lock.json").read_text())["stages"]}


def test_every_question_is_asked_and_the_answers_are_kept(settings, tmp_path):
    settings["evaluate"] |= EVERYTHING | {"best_of": 4, "best_of_prompts": 4}
    settings["collect"]["pairs"] = 40
    run, out = config.validate(Run, settings), tmp_path / "run"
    pipeline.run(run, out, quiet=True)
    found = findings(out)
    assert set(found) >= {
        "split_half", "on_policy_accuracy", "latent_outliers", "entropy_shift", "policy_probes",
    }  # fmt: skip
    assert found["on_policy_accuracy"]["evidence"]["fresh"]["pairs"] >= 1
    pairs = [json.loads(line) for line in (out / "round-0/fresh_pairs.jsonl").read_text().splitlines()]
    assert {pair["a"]["policy"] for pair in pairs} == {"round-0"}
    with LabelStore(out / "labels.db") as store:
        judged = {one.pair.id for one in store.comparisons()}
    assert {pair["id"] for pair in pairs} <= judged
    before = (out / "round-0/findings.json").read_bytes()
    # Another answer to these questions needs no other policy, and none of them needs a model a second time.
    settings["evaluate"] |= {"fresh_pairs": 0}
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert stages(out)["round-0/policy"]
    assert "on_policy_accuracy" not in findings(out)
    settings["evaluate"] |= {"fresh_pairs": 4}
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert all(stages(out).values())
    assert (out / "round-0/findings.json").read_bytes() == before


def test_a_run_waits_for_peoples_fresh_labels_and_never_learns_from_them(settings, tmp_path):
    labels = tmp_path / "labels-{round}.jsonl"
    settings["judge"] = {"kind": "file", "path": str(labels)}
    settings["evaluate"] |= {"fresh_pairs": 4}
    settings["rounds"] = 2
    run, out = config.validate(Run, settings), tmp_path / "run"

    def label(file, round):
        with (tmp_path / f"labels-{round}.jsonl").open("a") as handle:
            for line in (out / f"round-{round}/{file}").read_text().splitlines():
                row = {"pair": json.loads(line)["id"], "verdict": "a", "annotator": "ann"}
                handle.write(json.dumps(row) + "\n")

    with pytest.raises(WaitingForLabels, match=r"round-0/pairs\.jsonl"):
        pipeline.run(run, out, quiet=True)
    label("pairs.jsonl", 0)
    with pytest.raises(WaitingForLabels, match=r"round-0/fresh_pairs\.jsonl"):
        pipeline.run(run, out, quiet=True)
    assert "on_policy_accuracy" not in findings(out)  # what can be said without them is there
    label("fresh_pairs.jsonl", 0)
    with pytest.raises(WaitingForLabels, match=r"round-1/pairs\.jsonl"):
        pipeline.run(run, out, quiet=True)
    assert "on_policy_accuracy" in findings(out)
    label("pairs.jsonl", 1)
    with pytest.raises(WaitingForLabels, match=r"round-1/fresh_pairs\.jsonl"):
        pipeline.run(run, out, quiet=True)
    card = json.loads((out / "round-1/reward/accord_reward.json").read_text())
    asked = sum(len((out / f"round-{r}/pairs.jsonl").read_text().splitlines()) for r in (0, 1))
    # All that was asked for training and nothing of the fresh labels, although people gave them.
    assert card["pairs_train"] + card["pairs_left_out"] + card["pairs_test"] == asked
