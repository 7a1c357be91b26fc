"""People's label files are read exactly or refused, and a run waits for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from accord.config import FileJudge
from accord.judging import LabelFile
from accord.records import BadInput, Comparison, Pair, Prompt, Response, Side, WaitingForLabels
from accord.store import LabelStore


def pair(number: int, a: str, b: str, left: Side = "a", round_: int = 0) -> Pair:
    return Pair(Prompt.from_text(f"question {number}"), Response(a), Response(b), left, round_)


PAIRS = [pair(n, f"answer {n}", "no answer", "b" if n % 2 else "a", 1) for n in range(4)]


def write(path: Path, *rows: Any) -> None:
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8"
    )


def test_a_run_waits_for_the_file_and_then_goes_on(tmp_path: Path) -> None:
    judge = LabelFile(FileJudge(path=str(tmp_path / "labels-{round}.jsonl")), tmp_path / "run")
    labels = tmp_path / "labels-1.jsonl"
    with LabelStore(tmp_path / "labels.db") as store:
        with pytest.raises(WaitingForLabels) as waiting:
            judge.label(PAIRS, store)
        sentence = str(waiting.value)
        assert sentence.startswith("4 of 4 pairs have no label yet")
        assert str(tmp_path / "run" / "round-1" / "pairs.jsonl") in sentence
        assert str(labels) in sentence
        assert f'"pair": "{PAIRS[0].id}"' in sentence

        write(labels, {"pair": PAIRS[2].id, "verdict": "b", "annotator": "ann", "strength": 2})
        with pytest.raises(WaitingForLabels, match="3 of 4 pairs"):
            judge.label(PAIRS, store)
        assert [c.verdict for c in store.comparisons()] == ["b"]  # kept while we wait

        write(
            labels,
            {"pair": PAIRS[2].id, "verdict": "b", "annotator": "ann", "strength": 2},
            "",
            Comparison(PAIRS[0], "tie", "bob").to_json(),
            PAIRS[1].to_json() | {"verdict": "both_bad"},
            {"id": PAIRS[3].id, "verdict": "skip"},
            PAIRS[3].to_json() | {"verdict": None},
        )
        for _ in range(2):  # the second time changes nothing
            judge.label(PAIRS, store)
            assert store.comparisons() == [
                Comparison(PAIRS[2], "b", "ann", 2.0, judge.name),
                Comparison(PAIRS[0], "tie", "bob", None, judge.name),
                Comparison(PAIRS[1], "both_bad", "unnamed", None, judge.name),
                Comparison(PAIRS[3], "skip", "unnamed", None, judge.name),
            ]


def test_labels_that_came_another_way_count(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add([Comparison(p, "a", "ann") for p in PAIRS])
        LabelFile(FileJudge(path=str(tmp_path / "none.jsonl"))).label(PAIRS, store)


def test_a_corrected_line_replaces_the_earlier_word(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    judge = LabelFile(FileJudge(path=str(path)))
    with LabelStore(tmp_path / "labels.db") as store:
        for verdict in ("a", "b", "a"):
            write(path, *({"pair": p.id, "verdict": verdict} for p in PAIRS))
            judge.label(PAIRS, store)
            assert {c.verdict for c in store.comparisons()} == {verdict}
            assert len(store.comparisons()) == 4


def test_lines_about_other_pairs_are_counted_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write(path, {"pair": "0123456789abcdef", "verdict": "a"})
    with LabelStore(tmp_path / "labels.db") as store:
        with pytest.raises(
            WaitingForLabels, match=r"\(1 line there is about a pair that this run did not ask for\)"
        ):
            LabelFile(FileJudge(path=str(path))).label(PAIRS, store)
        assert store.comparisons() == []


def test_the_side_that_a_row_states_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    write(
        path, PAIRS[0].to_json() | {"shown_left": "b", "verdict": "a"}, {"pair": PAIRS[1].id, "verdict": "a"}
    )
    with LabelStore(tmp_path / "labels.db") as store:
        LabelFile(FileJudge(path=str(path))).label(PAIRS[:2], store)
        assert [c.pair.shown_left for c in store.comparisons()] == ["b", "b"]


GOOD = {"pair": PAIRS[0].id, "verdict": "a"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"pair": "x", "verd', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "a list, not an object"),
        ({"verdict": "a"}, "it names no pair"),
        ({"pair": 7, "verdict": "a"}, "'pair' must be a pair's id"),
        ({"pair": {"prompt": "q", "a": "x"}, "verdict": "a"}, "its pair is incomplete"),
        (PAIRS[0].to_json() | {"a": "edited", "verdict": "a"}, "the texts of pair .* were changed"),
        (PAIRS[0].to_json() | {"shown_left": "middle", "verdict": "a"}, "shown_left is 'middle'"),
        ({"pair": PAIRS[0].id}, "no 'verdict': add one of a, b, tie, both_bad, skip"),
        (GOOD | {"verdict": "left"}, "verdict 'left' is not one of"),
        (GOOD | {"verdict": ["a"]}, "is not one of"),
        (GOOD | {"annotator": 3}, "annotator must be a name"),
        (GOOD | {"annotator": "\ud800"}, "annotator must be a name"),
        (GOOD | {"annotator": "simulated:0"}, "kept for simulated annotators"),
        (GOOD | {"annotator": "judge:wise-1"}, "kept for simulated annotators, models and functions"),
        (GOOD | {"annotator": "function:f"}, "kept for simulated annotators, models and functions"),
        (GOOD | {"strength": "much"}, "strength must be a finite number"),
        (GOOD | {"strength": math.nan}, "strength must be a finite number"),
        (GOOD | {"strength": True}, "strength must be a finite number"),
        (GOOD | {"verdict": "b"}, "'unnamed' says 'b' of pair .*, but line 1 says 'a'"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(tmp_path: Path, row: Any, reason: str) -> None:
    path = tmp_path / "labels.jsonl"
    write(path, GOOD, "", row)
    with LabelStore(tmp_path / "labels.db") as store:
        with pytest.raises(BadInput, match=rf"labels\.jsonl, line 3: .*{reason}"):
            LabelFile(FileJudge(path=str(path))).label(PAIRS, store)
        assert store.comparisons() == []


def test_files_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with LabelStore(tmp_path / "labels.db") as store:
        path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\xff\xfe\n")
        with pytest.raises(BadInput, match="line 2: not UTF-8"):
            LabelFile(FileJudge(path=str(path))).label(PAIRS, store)
        with pytest.raises(BadInput, match="cannot be read"):
            LabelFile(FileJudge(path=str(tmp_path))).label(PAIRS, store)
