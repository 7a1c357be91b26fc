"""The report on a file small enough to count by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord import data_tally
from accord.data_report import check
from accord.data_tally import Problem
from accord.records import BadInput


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(prompt: str, a: str, b: str, **labels: str) -> dict[str, Any]:
    return {"prompt": prompt, "response_a": a, "response_b": b, "labels": labels}


def test_counts_by_hand(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "d.jsonl",
        row("one two", "a b c", "d", ann="a", bob="tie"),  # chosen longer; a tie
        row("One  TWO", "d", "a b c", ann="a"),  # the same pair turned round: a duplicate that contradicts
        row("three", "e f", "g h", bob="b"),  # equally long
        row("three", "e f", "g h", cat="b", dan="skip"),  # another annotator is no duplicate
        row("four", "i", "j k", ann="both_bad"),
        row("four", "i", "j k", ann="b"),  # the same annotator again; chosen longer
        row("five", "", "x", ann="a"),  # a problem
    )
    report = check(path)
    assert (report.rows, report.records, report.prompts) == (6, 8, 3)
    assert report.verdicts == {"b": 3, "a": 2, "tie": 1, "skip": 1, "both_bad": 1}
    assert report.ties == 1
    assert report.annotators == {"ann": 4, "bob": 2, "cat": 1, "dan": 1}
    # decided: 3>1, 1<3, 2=2, 2=2, 2>1
    assert report.chosen_longer == 2 / 5
    assert report.equal_length == 2 / 5
    assert (report.duplicates, report.contradictions) == (2, 1)
    assert report.warnings == (
        Problem(str(path), 2, "contradicts line 1: same prompt and sides, opposite verdict"),
        Problem(str(path), 6, "repeats line 5"),
    )
    assert report.problems == (Problem(str(path), 7, "response_a is empty"),)
    assert (report.warning_count, report.problem_count) == (2, 1)
    chosen, rejected = report.lengths["chosen"], report.lengths["rejected"]  # 3 1 2 2 2 and 1 3 2 2 1
    assert (chosen.minimum, chosen.median, chosen.maximum) == (1, 2, 3)
    assert chosen.p95 == pytest.approx(np.percentile([3, 1, 2, 2, 2], 95))
    assert (rejected.minimum, rejected.median, rejected.maximum) == (1, 2, 3)
    assert report.lengths["prompt"].maximum == 2
    assert report.length_unit.startswith("words")


def test_a_tokenizer_counts_every_message_of_a_prompt(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "abc"}, {"role": "user", "content": "de"}]
    path = lines(tmp_path / "p.jsonl", {"prompt": messages})
    report = check(path, tokenizer=lambda text: list(text.encode()))
    assert report.kind == "prompts"
    assert report.lengths["prompt"].maximum == 5
    assert report.length_unit.startswith("tokens")
    assert report.chosen_longer is None


def test_prompts_in_both_splits_are_problems(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", {"prompt": "x"}, {"prompt": " a  b"}, {"prompt": ""})
    test = lines(tmp_path / "test.jsonl", row("A B", "x", "y", ann="a"), row("c", "x", "y", ann="a"))
    report = check(test, against=train)
    assert report.shared_prompts == 1
    assert report.problems == (
        Problem(str(train), 3, "prompt is empty"),
        Problem(str(test), 1, f"its prompt is also in {train}, line 2: take it out of one"),
    )
    assert check(test).shared_prompts is None


def test_demonstrations_and_prompts_repeat(tmp_path: Path) -> None:
    demonstrations = [{"prompt": "q", "response": text} for text in ("x", "x ", "x")]
    assert check(lines(tmp_path / "d.jsonl", *demonstrations)).duplicates == 1
    assert check(lines(tmp_path / "d.jsonl", *demonstrations), kind="prompts").duplicates == 2


def test_more_problems_than_are_kept_are_still_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_tally, "KEPT", 3)
    bad = row("five", "", "x", ann="a")
    report = check(lines(tmp_path / "d.jsonl", row("one", "x", "y", ann="a"), *[bad] * 5))
    assert [problem.line for problem in report.problems] == [2, 3, 4]
    assert report.problem_count == 5


def test_rejects_that_are_allowed_are_listed_and_acceptable(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", row("one", "x", "y", ann="a"), row("five", "", "x", ann="a"))
    listed = tmp_path / "rejects.jsonl"
    assert not check(path).acceptable
    report = check(path, max_rejects=1, rejects=listed)
    assert report.acceptable
    assert (report.rejects, report.problem_count) == (1, 1)
    assert json.loads(listed.read_text()) == {
        "file": str(path),
        "line": 2,
        "reason": "response_a is empty",
        "row": row("five", "", "x", ann="a"),
    }
    assert "rows that cannot be used: 1, allowed 1" in "\n".join(report.lines())
    leaked = check(path, max_rejects=1, against=lines(tmp_path / "train.jsonl", {"prompt": "ONE"}))
    assert not leaked.acceptable  # leakage is no reject


def test_two_criteria_are_neither_repeated_nor_contradicted(tmp_path: Path) -> None:
    one = {"prompt": "q", "response_0": "x", "response_1": "y", "better_response_id": 0}
    report = check(lines(tmp_path / "d.jsonl", one | {"safer_response_id": 1}), criterion="all")
    assert (report.records, report.duplicates, report.contradictions) == (2, 0, 0)


def test_a_file_of_rejects_only_is_reported_not_raised(tmp_path: Path) -> None:
    report = check(lines(tmp_path / "d.jsonl", row("five", "", "x", ann="a")))
    assert (report.rows, report.problem_count, report.lengths) == (0, 1, {})
    assert report.lines()
    (tmp_path / "no.jsonl").write_text("")
    with pytest.raises(BadInput, match="is empty"):
        check(tmp_path / "no.jsonl")


def test_the_report_is_json_and_lines(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "d.jsonl", row("one", "a b", "c", ann="a", bob="tie"), *[row("x", "", "y", ann="a")] * 12
    )
    report = check(path)
    assert json.loads(json.dumps(report.to_json()))["lengths"]["chosen"]["median"] == 2
    text = "\n".join(report.lines())
    for part in (
        "1 usable rows, 2 comparisons, 1 different prompts",
        "chosen is longer in 100.0%, equally long in 0.0%",
        "verdicts: a 1, tie 1",
        "annotators: ann 1, bob 1",
        "problems: 12",
        f"{path}, line 2: response_a is empty",
        "and 2 more",
    ):
        assert part in text


@pytest.mark.shared
def test_research_data() -> None:
    folder = os.environ.get("ACCORD_DATA")
    if not folder:
        pytest.skip("ACCORD_DATA does not name the folder of research data, which is not shipped")
    train, dev = (Path(folder) / f"hh_harmless_{split}.jsonl.gz" for split in ("train", "dev"))
    if not train.exists() or not dev.exists():
        pytest.skip("hh_harmless is not in ACCORD_DATA")
    report = check(dev, against=train, tokenizer=lambda text: list(map(ord, text)))
    assert (report.records, report.problem_count, report.shared_prompts) == (296, 0, 0)
    assert report.chosen_longer == pytest.approx(
        0.402, abs=5e-4
    )  # as the data's own notes have it, in characters
