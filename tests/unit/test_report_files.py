"""Everything on the page as JSON and CSV, unrounded and safe to open; cost by hand; the browser's orders."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from accord.report import build, cost
from accord.report.artefacts import read
from accord.report.samples import chosen_samples, disagreements
from accord.report.tables import COLUMNS, SAMPLE_COLUMNS, text_cell, written
from tests.unit.test_report import Page, edit, fake_run, jsonl


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "demo")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_holds_findings_curves_and_every_training_step_unrounded(run: Path) -> None:
    build(run)
    rows = table(run / "report.csv")
    assert tuple(rows[0]) == COLUMNS
    findings = json.loads((run / "round-0/findings.json").read_text())["findings"]
    for finding in findings:
        row = next(r for r in rows if r["part"] == "finding" and r["table"] == finding["name"])
        assert float(row["value"]) == finding["figure"]
        assert [float(row["low"]), float(row["high"])] == finding["interval"]
        assert (row["verdict"], row["text"]) == (finding["verdict"], finding["sentence"])
    gain = next(r for r in rows if r["part"] == "evidence" and r["series"] == "mean_gain")
    assert (gain["value"], gain["low"], gain["high"]) == ("0.31", "0.24", "0.38")
    points = json.loads((run / "round-0/curve.json").read_text())["points"]
    drawn = [r for r in rows if r["table"].startswith("Gold reward") and r["series"] == "RL policy"]
    assert [float(r["value"]) for r in drawn] == [p["gold"] for p in points]
    assert [float(r["x"]) ** 2 for r in drawn] == pytest.approx([p["kl"] for p in points])
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = sum(len(row) - 4 for row in metrics)
    assert len([r for r in rows if r["part"].startswith("training")]) == logged
    assert any(r["part"] == "answer" and r["table"] == "Is it better?" for r in rows)


def test_every_chart_of_the_page_is_in_json_and_csv(run: Path) -> None:
    page = Page(build(run).read_text())
    saved = json.loads((run / "report.json").read_text())
    charts = [chart for one in saved["rounds"] for panel in one["panels"] for chart in panel["charts"]]
    assert len(charts) >= 8
    assert all(chart["rows"] and chart["value"] for chart in charts)
    titles = {r["table"] for r in table(run / "report.csv")}
    assert {chart["title"] for chart in charts} <= titles
    embedded = json.loads(page.scripts[1])
    assert embedded.startswith(",".join(COLUMNS) + "\n")
    for chart in charts:
        assert chart["title"] in page.text
        assert chart["title"] in embedded


def test_samples_as_csv_keep_every_character_and_run_nothing(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "round-0/samples.jsonl").read_text().splitlines()]
    rows[0]["policy"]["text"] = '=HYPERLINK("x"),\n"quoted", line two'
    rows[1]["policy"]["text"] = "-1 is a number, +2 too"
    jsonl(run / "round-0/samples.jsonl", rows)
    build(run)
    found = table(run / "samples.csv")
    assert tuple(found[0]) == SAMPLE_COLUMNS
    assert len(found) == 2 * len(rows)
    assert found[1]["text"] == "'" + rows[0]["policy"]["text"]
    assert found[3]["text"] == "'" + rows[1]["policy"]["text"]
    assert found[0]["text"] == rows[0]["sft"]["text"]
    assert float(found[0]["gold"]) == rows[0]["sft"]["gold"]  # numbers below 0 stay numbers
    assert found[0]["finished"] in ("true", "false")


def test_cells_by_hand() -> None:
    assert text_cell("@cmd") == "'@cmd"
    assert text_cell("plain = fine") == "plain = fine"
    row: dict[str, Any] = {"a": -0.25, "b": None, "c": float("nan"), "d": True, "e": "x,y"}
    assert written("abcde", [row]) == 'a,b,c,d,e\n-0.25,,,true,"x,y"\n'


def test_cost_by_hand(run: Path) -> None:
    figures = {name: value for name, value, _ in cost.figures(read(run))}
    # stages not cached: 71.3 + 42.5 + 241 + 58 = 412.8 s on 2 threads
    assert figures["wall time"] == "6 min 53 s"
    assert figures["processor time"] == "13 min 46 s"
    assert figures["pairs compared"] == "40"
    assert figures["labels"] == "720"
    assert figures["samples for updates"] == "2,112"  # 33 steps of 16 prompts, 4 samples each
    chart = cost.phase_chart(read(run))
    assert chart is not None
    # 33 steps of 6, 1 and 4 s
    assert [one.value for one in chart.data] == pytest.approx([33 * 6 / 60, 33 / 60, 33 * 4 / 60])
    text = Page(build(run).read_text()).text
    assert "wall time 6 min 53 s" in text
    edit(run / "accord.lock.json", stages=[], threads=None)
    (run / "metrics.jsonl").write_text("")
    assert {name for name, _, _ in cost.figures(read(run))} == {"pairs compared", "labels"}


def test_disagreement_by_hand() -> None:
    def pair(proxy: float, gold: float | None) -> dict[str, Any]:
        return {
            "sft": {"proxy": 0.0, "gold": 0.0 if gold is not None else None},
            "policy": {"proxy": proxy, "gold": gold},
        }

    # gains: proxy 1, 1, 3, 3 (mean 2, deviation 1); gold 0, 4, 4, 0 (mean 2, deviation 2)
    rows = [pair(1, 0), pair(1, 4), pair(3, 4), pair(3, 0)]
    assert disagreements(rows) == pytest.approx([0, -2, 0, 2])
    assert disagreements([pair(1, None), pair(2, None)]) == [None, None]
    members = [{"policy": {"proxy_std": 0.3}}, {"policy": {}}]
    assert disagreements(members) == [0.3, None]
    assert disagreements([pair(1, 1), pair(1, 2)]) == [None, None]  # proxies that do not vary


def test_the_browser_offers_what_there_is(run: Path, tmp_path: Path) -> None:
    kind, rows = chosen_samples(read(run).rounds[0], 3)
    assert kind == "gold"
    top = min(rows, key=lambda row: row["dispute_rank"])
    every = [abs(v) for v in disagreements(read(run).rounds[0].samples) if v is not None]
    assert abs(top["dispute"]) == max(every)
    page = Page(build(run).read_text())
    browser = next(a for t, a in page.elements if a.get("class") == "samples")
    assert browser["data-disputed"] == "true"
    assert "proxy says more than gold" in page.text
    plain = Page(build(fake_run(tmp_path / "people", gold=False)).read_text())
    browser = next(a for t, a in plain.elements if a.get("class") == "samples")
    assert browser["data-disputed"] == "false"


def test_no_held_out_labels_and_five_prompts(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "few", count=5)
    edit(
        run / "round-0/reward/accord_reward.json",
        accuracy=None, accuracy_interval=None, pairs_test=0, reliability=[], floors={}, brier=None, ece=None,
    )  # fmt: skip
    text = Page(build(run).read_text()).text
    assert "Not shown: the reward model’s figures have not been written." in text
    assert "5 of 5 pairs are here" in text
    assert "Is it better?" in text
