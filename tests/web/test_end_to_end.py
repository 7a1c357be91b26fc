"""From a waiting run to a reward model that learned from labels made in the browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from accord import cli, labelling, pipeline
from accord.config import Run, validate
from accord.records import Comparison, Pair
from accord.store import LabelStore
from tests.integration.conftest import settings  # noqa: F401 (a fixture)
from tests.web.conftest import Desk, until

Open = Callable[..., Desk]


def judge_all(found: Desk, count: int) -> None:
    """Prefer the longer answer, by keyboard."""
    for _ in range(count):
        found.wait_item()
        left, right = found.texts()
        key = "ArrowLeft" if len(left) >= len(right) else "ArrowRight"
        place = found.page.evaluate("document.querySelector('#mine').textContent")
        found.page.keyboard.press(key)
        until(found.page, f"document.querySelector('#mine').textContent !== '{place}'")
    found.wait_saved()


def test_a_reward_model_is_trained_from_labels_made_in_the_browser(
    settings: dict[str, Any],  # noqa: F811
    tmp_path: Path,
    desk: Open,
    monkeypatch: Any,
) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    settings["judge"] = {"kind": "human"}
    settings["collect"]["pairs"] = 16
    recipe.write_text(yaml.safe_dump(settings))
    monkeypatch.setattr("sys.argv", ["accord", "run", str(recipe), "--quiet", "--out", str(out)])
    with pytest.raises(SystemExit) as waiting:
        cli.main()
    assert waiting.value.code == 3
    lines = (out / "round-0/pairs.jsonl").read_text().split("\n")
    assert json.loads(lines[0])["a"]["lineage"]["run"] == "tiny"
    with labelling.serve(out) as server:
        count = labelling.remaining(server.store)
        assert 8 <= count <= 16  # a tiny model sometimes says the same twice
        found = desk(server.store, server=server)
        judge_all(found, count)
        until(found.page, "document.querySelector('#news').textContent.startsWith('Nothing is left')")
        assert labelling.remaining(server.store) == 0
    assert labelling.wait(out, seconds=0)
    labels = labelling.to_dataset(out)
    assert len(labels) == count
    result = pipeline.run(validate(Run, settings), out, until="reward", quiet=True)
    assert result.reward["label_source"] == "people (labelling app)"
    assert result.reward["pairs_train"] + result.reward["pairs_test"] == count
    assert {label.verdict for label in labels} <= {"a", "b"}


def test_a_watching_run_goes_on_by_itself(settings: dict[str, Any], tmp_path: Path) -> None:  # noqa: F811
    from accord.cli_label import watched

    settings["judge"] = {"kind": "human"}
    settings["collect"]["pairs"] = 8
    run, out = validate(Run, settings), tmp_path / "run"

    def work() -> None:
        pipeline.run(run, out, until="reward", quiet=True)

    watching = threading.Thread(target=watched, args=(work, run, out), daemon=True)
    watching.start()
    queue_is_there = threading.Event()
    for _ in range(2000):
        if (out / "labels.db").exists() and (out / "round-0/pairs.jsonl").exists():
            with LabelStore(out / "labels.db") as store:
                if labelling.remaining(store):
                    queue_is_there.set()
                    break
        queue_is_there.wait(0.1)
    with LabelStore(out / "labels.db") as store:
        rows = [json.loads(line) for line in (out / "round-0/pairs.jsonl").read_text().split("\n") if line]
        store.add([Comparison(Pair.from_json(row), "a", "ann") for row in rows])
    watching.join(timeout=220)
    assert not watching.is_alive()
    assert (out / "round-0/reward/accord_reward.json").exists()
