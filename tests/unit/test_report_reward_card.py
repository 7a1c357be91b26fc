"""The reward-model card: what readers and programs find in it, also where a figure is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from accord.config import Gate
from accord.diagnostics.probe_figures import measure_probes, real_responses
from accord.diagnostics.reward_evaluation import ScoredPairs, evaluate
from accord.diagnostics.reward_gate import gate
from accord.report.reward_card import FILES, html, write_card
from accord.report.reward_card_markdown import cell, fenced
from tests.unit.comparisons import compared

EVIL = "<script>alert(1)</script> | pipe `tick` \x07 ```"


def made_card(scores=None, prompts: int = 20, probes: bool = True, text: str = "") -> dict[str, Any]:
    rows = [
        compared(f"prompt {i % prompts} {text}", f"good answer {i} {text}", f"bad {i}", "a", name)
        for i in range(40)
        for name in ("simulated:1", "simulated:2")
    ]
    rng = np.random.default_rng(0)
    if scores is None:
        scores = rng.normal(size=(80, 2)) + np.array([1.0, 0.0])
    card = evaluate(ScoredPairs(rows, scores), samples=100)
    items = real_responses(rows, 20, 0)
    if probes:
        card["probes"] = measure_probes(
            items,
            lambda p, r: [float(len(one.text)) for one in r],
            deviation=2.0,
            reads_end=False,
            samples=100,
        )
    thresholds = Gate()
    return card | {
        "name": f"reward {text}",
        "model": {"path": "runs/x/reward", "kind": "accord reward model"},
        "files": ["pairs.jsonl"],
        "training_files": [],
        "left_out": 3,
        "probed": len(items),
        "made_by": {"accord": "0.1.0", "seed": 0, "bootstrap": 100},
        "gate": gate(card, thresholds).to_json() | {"thresholds": thresholds.model_dump()},
    }


class Page(HTMLParser):
    """Tags that are opened and closed in order, links, scripts, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href") and value]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.append(tag)

    def handle_data(self, data) -> None:
        self.text += data


def test_three_files_that_say_the_same(tmp_path) -> None:
    card = made_card()
    paths = write_card(tmp_path, card)
    assert [path.name for path in paths] == list(FILES)
    found = json.loads((tmp_path / "card.json").read_text())
    assert found["accuracy"]["figure"] == card["accuracy"]["figure"]
    page = Page((tmp_path / "card.html").read_text())
    markdown = (tmp_path / "card.md").read_text()
    for text in (page.text, markdown):
        assert found["gate"]["decision"].capitalize() in text
        for reason in found["gate"]["reasons"]:
            plain = re.sub(r"\\(.)", r"\1", text)
            assert reason["sentence"] in plain
        assert "always longer" in text
        assert "stand-in for people" in text
    assert page.open == []


def test_the_same_card_gives_the_same_bytes(tmp_path) -> None:
    write_card(tmp_path, made_card())
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    write_card(tmp_path, json.loads(json.dumps(made_card())))
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_the_page_is_self_contained_and_texts_stay_texts() -> None:
    text = html(made_card(text=EVIL))
    page = Page(text)
    assert "script" not in page.tags
    assert all(source.startswith("#") for source in page.sources)
    assert "<script>alert" not in text
    assert "default-src &#39;none&#39;" in text
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert "style=" not in text  # the content policy forbids it


def test_markdown_cells_stay_cells(tmp_path) -> None:
    write_card(tmp_path, made_card(text=EVIL))
    lines = (tmp_path / "card.md").read_text().split("\n")
    columns: int | None = None
    for line in lines:
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else None
        if bars is not None and columns is not None:
            assert bars == columns
        columns = bars
    assert cell("a | b\n<c>") == r"a \| b \<c\>"
    assert fenced("x ```` y")[0] == "`````text"


def test_what_is_missing_is_said() -> None:
    page = Page(html(made_card(probes=False)))
    assert "Probes were not run, so this is not known." in page.text
    constant = Page(html(made_card(scores=np.full((80, 2), 3.0))))
    assert "Every response has the same score." in constant.text
    assert "Scores do not vary, so there is nothing to calibrate." in constant.text
    assert "Reject" in constant.text
    one = Page(html(made_card(prompts=1)))
    assert "one prompt shows nothing" in one.text
    assert all(page.open == [] for page in (page, constant, one))


def test_examples_are_one_a_probe_and_no_answer_twice() -> None:
    page = Page(html(made_card()))
    assert "What would a policy exploit?" in page.text
    assert "The largest rises" in page.text
    assert page.text.count("Real answer") == page.text.count("Edited, scores higher") >= 4


@pytest.mark.parametrize("name", list(Gate.model_fields))
def test_every_threshold_is_shown_with_its_meaning(name: str) -> None:
    text = Page(html(made_card())).text
    assert name.replace("_", " ") in text
    assert (Gate.model_fields[name].description or "?") in text


def test_annotators_stand_in_a_table_with_their_reading() -> None:
    rows = []
    for i in range(40):
        truth = "a" if i % 2 else "b"
        for name in ("ann", "bob", "upside down"):
            verdict = {"a": "b", "b": "a"}[truth] if name == "upside down" else truth
            rows.append(compared(f"p{i}", f"x{i}", f"y{i}", verdict, name))
    scores = np.tile([[1.0, 0.0]], (120, 1))
    card = made_card() | {"ceiling": evaluate(ScoredPairs(rows, scores), samples=100)["ceiling"]}
    assert card["ceiling"]["by_annotator"][0]["annotator"] == "upside down"
    text = Page(html(card)).text
    assert "against the others" in text
    assert text.index("upside down") < text.index("ann", text.index("upside down"))
