"""The control spends as many labels on the older policy's samples, and nothing of it reaches the run."""

from __future__ import annotations

import json

from accord import config, pipeline
from accord.config import Run
from accord.store import LabelStore


def test_the_control_is_the_round_with_older_samples_in_its_own_folder(settings, tmp_path):
    settings["rounds"] = 2
    settings["evaluate"] |= {"fresh_pairs": 4}
    plain, out = tmp_path / "plain", tmp_path / "run"
    pipeline.run(config.validate(Run, settings), plain, quiet=True)
    settings["equal_label_control"] = True
    run = config.validate(Run, settings)
    result = pipeline.run(run, out, quiet=True)
    found = {finding.name: finding for finding in result.findings}
    assert found["fresh_labels_value"].evidence["pairs"] >= 1
    assert found["matched_kl"].evidence["prompts"] == 4
    written = json.loads((out / "round-1/findings.json").read_text())["findings"]
    assert {"fresh_labels_value", "matched_kl"} <= {row["name"] for row in written}
    theirs = [json.loads(line) for line in (out / "control/round-1/pairs.jsonl").read_text().splitlines()]
    own = [json.loads(line) for line in (out / "round-1/pairs.jsonl").read_text().splitlines()]
    assert len(theirs) == len(own)
    assert {pair["a"]["policy"] for pair in theirs} == {"sft"}  # round 0 compared SFT's samples
    assert {pair["a"]["policy"] for pair in own} == {"round-0"}
    cards = [
        json.loads((folder / "round-1/reward/accord_reward.json").read_text())
        for folder in (out, out / "control")
    ]
    assert sum(cards[0][key] for key in ("pairs_train", "pairs_test", "pairs_left_out")) == sum(
        cards[1][key] for key in ("pairs_train", "pairs_test", "pairs_left_out")
    )
    with LabelStore(out / "labels.db") as store:
        assert not {pair["id"] for pair in theirs} & {one.pair.id for one in store.comparisons()}
    # The run itself is what it is without a control, and a second call computes nothing.
    for name in ("round-1/policy/model.safetensors", "round-1/reward/model.safetensors"):
        assert (plain / name).read_bytes() == (out / name).read_bytes()
    pipeline.run(run, out, quiet=True)
    stages = json.loads((out / "accord.lock.json").read_text())["stages"]
    assert any(stage["stage"].startswith("control/round-1/") for stage in stages)
    assert all(stage["cached"] for stage in stages)
    assert "What the fresh labels bought" in (out / "report.html").read_text()
