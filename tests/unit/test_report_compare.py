"""Several runs on one page: differences by hand, refused where they would compare unlike things."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from accord.cli_report import report
from accord.records import BadInput
from accord.report import compare
from accord.report.artefacts import read
from accord.report.differences import (
    accuracy_difference,
    changed_settings,
    compared,
    difference,
    differences,
    labels,
    matched_gold,
    seed_groups,
    sentence,
    signed,
)
from tests.unit.test_report import PAYLOADS, Page, dump, edit, fake_run, jsonl


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "round-0/samples.jsonl").read_text().splitlines()]


def with_gold(run: Path, gold: list[float], prefix: str = "prompt") -> Path:
    """One sample a prompt, the policy's gold as given, SFT's 0."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{prefix} {i}"}], "key": f"{prefix}-{i}",
            "sft": {"text": "so", "proxy": 0.0, "gold": 0.0, "tokens": 3, "finished": True},
            "policy": {
                "text": f"answer {i}", "proxy": 1.0, "gold": value, "tokens": 5 + i % 2, "finished": True,
            },
        }
        for i, value in enumerate(gold)
    ]  # fmt: skip
    jsonl(run / "round-0/samples.jsonl", rows)
    return run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    first = rng.normal(0.2, 0.3, 40)
    one = with_gold(fake_run(tmp_path / "one"), first.tolist())
    # every prompt is better by .1 or .2
    two = with_gold(fake_run(tmp_path / "two", seed=4), (first + 0.1 + 0.1 * (np.arange(40) % 2)).tolist())
    return one, two


def found(*runs: Path) -> Any:
    return compared([read(run) for run in runs])


def test_differences_are_paired_over_prompts(pair: tuple[Path, Path]) -> None:
    one, two = found(*pair)
    gold = difference(one, two, "gold")
    assert gold.value == pytest.approx(0.15)
    assert gold.paired
    assert gold.prompts == 40
    # deviation .05 over 40 prompts: error .0079; prompts themselves differ by .3, an unpaired error of .067
    assert gold.low is not None
    assert gold.high is not None
    assert (gold.low, gold.high) == pytest.approx((0.15 - 0.0163, 0.15 + 0.0163), abs=0.003)
    assert sentence([gold], "one") == [
        f"two is better than one by gold, +0.1500 (95% interval {gold.low:+.4f} to {gold.high:+.4f}), on 40"
        " prompts that both answered."
    ]
    wins = difference(one, two, "win")
    golds = [[row["policy"]["gold"] for row in rows_of(run)] for run in pair]
    assert wins.value == pytest.approx(np.mean(np.array(golds[1]) > 0) - np.mean(np.array(golds[0]) > 0))
    tokens = difference(one, two, "tokens")
    assert (tokens.value, tokens.low, tokens.note) == (0, None, "every prompt has the same difference")


def test_as_many_decimals_as_the_interval_makes_sense_of() -> None:
    assert signed(0.000807, 0.11) == "+0.001"
    assert signed(-0.0331, 0.15) == "−0.033"
    assert signed(-0.00001, 0.11) == "+0.000"
    assert signed(-12.345, 30.0) == "−12.3"
    assert signed(0.5, None) == "+0.500"


def test_prompts_that_are_not_shared_give_a_wider_interval(pair: tuple[Path, Path]) -> None:
    golds = [row["policy"]["gold"] for row in rows_of(pair[1])]
    other = with_gold(pair[1], golds, prefix="another")
    apart = difference(*found(pair[0], other), "gold")
    assert not apart.paired
    assert apart.value == pytest.approx(0.15)
    assert apart.low is not None
    assert apart.low < 0.15 - 0.1  # 1.96 · .3 · √(2/40) = .13
    assert "cannot be told apart" in sentence([apart], "one")[0] or apart.low > 0


def test_gold_at_the_same_kl_is_paired_over_the_prompts_of_both(pair: tuple[Path, Path]) -> None:
    """√KL is 0, 2 and 4 in one and 0, 3 in two: at 9 nats, one lies half-way between its last two."""
    for run, kl, gold in (
        (pair[0], [0, 4, 16], [[0, 0, 0], [1, 2, 3], [3, 2, 1]]),
        (pair[1], [0, 9], [[9, 0, 0], [7, 4, 4]]),  # its first prompt is one that the other has not
    ):
        curve = json.loads((run / "round-0/curve.json").read_text())
        keys = ["p", "q", "r"] if run is pair[0] else ["other", "q", "r"]
        curve["points"] = [{"step": i, "kl": value} for i, value in enumerate(kl)]
        curve["by_prompt"] = {"keys": keys, "gold": gold}
        (run / "round-0/curve.json").write_text(json.dumps(curve))
    found_at = matched_gold(*found(*pair))
    assert found_at.value == pytest.approx(((4 - 2) + (4 - 2)) / 2)
    assert (found_at.prompts, found_at.note) == (2, "at 9.0 nats")
    curve["by_prompt"] = {"keys": ["q"], "gold": [[1]]}  # damaged: fewer rows than points
    (pair[1] / "round-0/curve.json").write_text(json.dumps(curve))
    assert matched_gold(*found(*pair)).note == "their evaluations have no two prompts in common"


def test_few_shared_prompts_do_not_stand_for_all(pair: tuple[Path, Path]) -> None:
    rows = rows_of(pair[1])
    for row in rows[15:]:
        row["key"] = "other " + row["key"]
    jsonl(pair[1] / "round-0/samples.jsonl", rows)
    few = difference(*found(*pair), "gold")
    assert (few.paired, few.prompts) == (False, 40)
    for row in rows[15:25]:
        row["key"] = row["key"].removeprefix("other ")
    jsonl(pair[1] / "round-0/samples.jsonl", rows)
    most = difference(*found(*pair), "gold")
    assert (most.paired, most.prompts) == (True, 25)


def test_unlike_things_are_not_compared(pair: tuple[Path, Path]) -> None:
    edit(pair[1] / "round-0/curve.json", gold_name="brevity")
    gold = difference(*found(*pair), "gold")
    assert (gold.value, gold.note) == (None, "their golds differ (brevity and positivity)")
    proxy = difference(*found(*pair), "proxy")
    assert proxy.value is None
    assert "its own reward model" in proxy.note
    for run in pair:
        dump(run / "round-0/reward/COMMIT.json", {"key": "same"})
    assert difference(*found(*pair), "proxy").value == 0
    edit(pair[1] / "round-0/curve.json", gold_name=None)
    assert difference(*found(*pair), "win").note == "there is no gold in both"
    (pair[1] / "round-0/samples.jsonl").unlink()
    assert difference(*found(*pair), "tokens").note == "one of them has no held-out samples"


def test_reward_models_accuracy_from_both_intervals(pair: tuple[Path, Path]) -> None:
    edit(pair[0] / "round-0/reward/accord_reward.json", accuracy=0.7, accuracy_interval=[0.64, 0.76])
    edit(pair[1] / "round-0/reward/accord_reward.json", accuracy=0.8, accuracy_interval=[0.72, 0.88])
    gap = accuracy_difference(*found(*pair))
    assert gap.value == pytest.approx(0.1)
    assert (gap.low, gap.high) == pytest.approx((0.0, 0.2))  # √(.06² + .08²) = .1
    edit(pair[1] / "round-0/reward/accord_reward.json", accuracy=None)
    assert accuracy_difference(*found(*pair)).value is None


def test_labels_are_unique_and_as_short_as_can_be(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / folder / name) for folder, name in (("a", "x"), ("b", "x"), ("b", "y"))]
    config = yaml.safe_load((runs[2] / "config.yaml").read_text())
    assert labels([read(run) for run in runs]) == ["a/x", "b/x", "y"]
    (runs[2] / "config.yaml").write_text(yaml.safe_dump(config | {"name": "x"}))
    assert labels([read(run) for run in runs]) == ["a/x", "b/x", "y"]


def test_settings_that_differ_are_named_and_seeds_are_grouped(tmp_path: Path) -> None:
    runs = []
    for kind, level in (("plain", 0.2), ("rloo", 0.5)):
        for seed in range(3):
            run = with_gold(fake_run(tmp_path / f"{kind}-{seed}", seed=seed), [level + 0.01 * seed] * 4)
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["online"]["algorithm"] = "rloo" if kind == "rloo" else "ppo"
            (run / "config.yaml").write_text(yaml.safe_dump(config))
            runs.append(run)
    every = found(*runs)
    assert changed_settings(every) == [("online.algorithm", ["ppo"] * 3 + ["rloo"] * 3)]
    groups = [group for group in seed_groups(every) if group.figure.startswith("gold")]
    assert [group.members for group in groups] == [
        ("plain-0", "plain-1", "plain-2"), ("rloo-0", "rloo-1", "rloo-2"),
    ]  # fmt: skip
    assert groups[0].spread.figure == pytest.approx(0.21)
    assert groups[0].difference is None
    assert groups[1].difference is not None
    assert groups[1].difference.figure == pytest.approx(0.3)
    assert groups[1].difference.low > 0
    assert seed_groups(every[::3]) == []
    two = seed_groups(every[:2])
    assert np.isnan(two[0].spread.low)  # two seeds have no interval


def test_the_page_holds_it_all_and_asks_the_network_for_nothing(pair: tuple[Path, Path]) -> None:
    path = compare(pair)
    assert path == pair[0].parent / "comparison.html"
    source = path.read_text(encoding="utf-8")
    assert len(source.encode()) < 5_000_000
    page = Page(source)
    for words in (
        "2 runs compared", "two is better than one by gold, +0.1500 (", "Differences to one",
        "72% (65 to 78%)",
        "Gold reward: what was wanted", "Nothing but the seed, the name and the threads.",
        "its own reward model", "Side by side", "simulated annotators (a stand-in for people)",
    ):  # fmt: skip
        assert words in page.text, words
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}, tag
        assert not {"src", "style", "action"} & set(attributes)
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in source
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "unsafe" not in policy
    saved = json.loads(path.with_suffix(".json").read_text())
    gold = next(row for row in saved["differences"] if row["figure"].startswith("gold"))
    assert gold["value"] == pytest.approx(0.15)
    with path.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    line = next(r for r in rows if r["part"] == "difference" and r["table"].startswith("gold"))
    assert (float(line["value"]), float(line["low"])) == (gold["value"], gold["low"])
    assert len([r for r in rows if r["part"] == "curves"]) == 2 * 11 * 2  # two charts, two runs, 11 points
    embedded = [json.loads(script) for script in page.scripts[:2]]
    win = next(r for r in rows if r["part"] == "run" and r["series"] == "win rate")
    assert [float(win[key]) for key in ("value", "low", "high")] == pytest.approx([0.72, 0.65, 0.78])
    assert embedded[0]["differences"] == saved["differences"]
    assert embedded[1] == path.with_suffix(".csv").read_text()
    assert compare(pair, pair[0].parent / "again.html").read_text() == source


def test_killed_empty_and_damaged_runs_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    whole = fake_run(tmp_path / "whole")
    early = tmp_path / "early"
    early.mkdir()
    (early / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    broken = fake_run(tmp_path / "broken")
    for name in ("curve.json", "findings.json", "samples.jsonl", "reward/accord_reward.json"):
        (broken / "round-0" / name).write_bytes(b"\xff[")
    text = Page(compare([whole, early, broken]).read_text()).text
    assert "3 runs compared" in text
    assert "cannot be compared by gold: there is no gold in both" in text
    assert "broken: round-0/curve.json is damaged" in text
    assert "No prompt was answered by all runs." in text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_stays_text(tmp_path: Path, payload: str) -> None:
    runs = [fake_run(tmp_path / name, count=6) for name in ("a", "b")]
    expected = [tag for tag, _ in Page(compare(runs).read_text()).elements]
    for run in runs:
        rows = rows_of(run)
        for row in rows:
            row["prompt"][0]["content"] += payload
            row["policy"]["text"] = payload
        (run / "round-0/samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        edit(run / "round-0/curve.json", gold_name=payload)
    page = Page(compare(runs).read_text())
    assert [tag for tag, _ in page.elements] == expected
    assert len(page.scripts) == 3


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / f"run-{i}", count=5) for i in range(9)]
    with pytest.raises(BadInput, match="1 runs are given: a comparison takes 2 to 8"):
        compare(runs[:1])
    with pytest.raises(BadInput, match="9 runs are given"):
        compare(runs)
    with pytest.raises(BadInput, match="is given twice"):
        compare([runs[0], runs[1], tmp_path / "run-0" / ".." / "run-0"])
    with pytest.raises(BadInput, match=r"no run directory at .*nowhere"):
        compare([runs[0], tmp_path / "nowhere"])


def test_eight_runs_are_told_apart_on_one_page(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / f"run-{i}", count=5) for i in range(8)]
    source = compare(runs).read_text()
    assert {f"run-{i}" for i in range(8)} <= set(re.findall(r"run-\d", source))
    assert "with 7 of them one is more easily wrong" in Page(source).text
    assert len(differences(found(*runs))) == 7 * 6


def test_the_command_compares_and_refuses(pair: tuple[Path, Path], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    runner, target = CliRunner(), tmp_path / "out" / "page.html"
    done = runner.invoke(app, [str(pair[0]), str(pair[1]), "--out", str(target)])
    assert done.exit_code == 0
    assert target.exists()
    assert target.with_suffix(".csv").exists()
    assert runner.invoke(app, [str(pair[0])]).exit_code == 0
    assert (pair[0] / "report.html").exists()
    watched = runner.invoke(app, [str(pair[0]), str(pair[1]), "--watch"])
    assert isinstance(watched.exception, BadInput)
    assert "--watch follows one run" in str(watched.exception)
    target.write_text("")
    assert runner.invoke(app, [str(pair[0]), "--out", str(target)]).exit_code == 0
    assert target.read_text() == (pair[0] / "report.html").read_text()
    followed = runner.invoke(app, [str(pair[0]), "--out", str(target), "--watch"])
    assert "leave --out" in str(followed.exception)


def test_a_dry_run_writes_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    said = CliRunner().invoke(app, [str(pair[0]), str(pair[1]), "--dry-run"])
    assert said.exit_code == 0
    assert "nothing was written" in said.output
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    refused = CliRunner().invoke(app, [str(tmp_path / "no-run"), "--dry-run"])
    assert isinstance(refused.exception, BadInput)
