"""What is written in another program's format reads back as it was, or is refused with a reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from accord.formats import read_comparisons
from accord.formats_export import TARGETS, export_comparisons
from accord.records import BadInput, Comparison, Message, Pair, Prompt, Response, Verdict
from tests.unit.record_strategies import comparisons, pairs, some_text

SINGLE_TURN = ("trl-text", "ultrafeedback", "saferlhf")


def comparison(
    prompt: str = "Hi?", a: str = "x", b: str = "y", verdict: Verdict = "a", **more: Any
) -> Comparison:
    return Comparison(Pair(Prompt.from_text(prompt), Response(a), Response(b)), verdict, **more)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def said(one: Comparison) -> tuple[Any, ...]:
    """(prompt, winner, loser), the most that a format of chosen and rejected can say."""
    assert one.chosen is not None
    assert one.rejected is not None
    return one.prompt, one.chosen.text, one.rejected.text


# --- the layouts, written by hand ------------------------------------------------------------------------

TURNS = Prompt(
    (
        Message("system", "Be brief."),
        Message("user", "Hi?"),
        Message("assistant", "Yes?"),
        Message("user", "Why?"),
    )
)
BEFORE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Why?"},
]
X, Y = {"role": "assistant", "content": "x"}, {"role": "assistant", "content": "y"}


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("trl", [{"prompt": BEFORE, "chosen": [Y], "rejected": [X]}]),
        ("trl-implicit", [{"chosen": [*BEFORE, Y], "rejected": [*BEFORE, X]}]),
        (
            "kto",
            [
                {"prompt": BEFORE, "completion": [Y], "label": True},
                {"prompt": BEFORE, "completion": [X], "label": False},
            ],
        ),
        (
            "openai",
            [{"input": {"messages": BEFORE}, "preferred_output": [Y], "non_preferred_output": [X]}],
        ),
        (
            "alpaca",
            [
                {"instruction": "Why?", "input": "", "system": "Be brief.", "history": [["Hi?", "Yes?"]]}
                | {"chosen": "y", "rejected": "x"}
            ],
        ),
        (
            "sharegpt",
            [
                {
                    "conversations": [
                        {"from": "system", "value": "Be brief."},
                        {"from": "human", "value": "Hi?"},
                        {"from": "gpt", "value": "Yes?"},
                        {"from": "human", "value": "Why?"},
                    ],
                    "chosen": {"from": "gpt", "value": "y"},
                    "rejected": {"from": "gpt", "value": "x"},
                }
            ],
        ),
    ],
)
def test_layouts_of_a_conversation(tmp_path: Path, to: str, expected: Any) -> None:
    one = Comparison(Pair(TURNS, Response("x"), Response("y")), "b", "ann", strength=2.0)
    done = export_comparisons(tmp_path / "out.jsonl", [one], to)
    assert rows_of(tmp_path / "out.jsonl") == expected
    assert (done.comparisons, done.rows, done.rejects) == (1, len(expected), 0)


def test_layouts_of_one_question(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def written(to: str, *rows: Comparison) -> list[dict[str, Any]]:
        export_comparisons(out, rows, to)
        return rows_of(out)

    assert written("trl-text", comparison()) == [{"prompt": "Hi?", "chosen": "x", "rejected": "y"}]
    assert written("hh", comparison()) == [
        {
            "chosen": "\n\nHuman: Hi?\n\nAssistant: x",
            "rejected": "\n\nHuman: Hi?\n\nAssistant: y",
        }
    ]
    assert written("ultrainteract", comparison()) == [
        {"trajectory": [{"from": "user", "value": "Hi?"}], "chosen": "x", "rejected": "y"}
    ]
    assert written("ultrafeedback", comparison(strength=2.5), comparison(verdict="tie")) == [
        {
            "instruction": "Hi?",
            "completions": [
                {"model": "", "response": "x", "fine-grained_score": rating},
                {"model": "", "response": "y", "fine-grained_score": 0.0},
            ],
        }
        for rating in (2.5, 0.0)
    ]
    people = [comparison(annotator="ann"), comparison(verdict="tie", annotator="bob")]
    assert written("annotators", *people) == [
        {"prompt": [{"role": "user", "content": "Hi?"}], "response_a": "x", "response_b": "y"}
        | {"labels": {"ann": "a", "bob": "tie"}, "models": ["", ""], "source": ""}
    ]
    assert written("argilla", *people) == [
        {"id": people[0].pair.id, "status": "completed", "prompt": "Hi?", "response_a": "x"}
        | {
            "response_b": "y",
            "preference.responses": ["response_a", "tie"],
            "preference.responses.users": ["ann", "bob"],
            "preference.responses.status": ["submitted", "submitted"],
        }
    ]
    two = [comparison(criterion="helpful"), comparison(verdict="b", criterion="harmless")]
    assert written("saferlhf", *two) == [
        {"prompt": "Hi?", "response_0": "x", "response_1": "y"}
        | {"better_response_id": 0, "safer_response_id": 1}
    ]


# --- what a format cannot say ----------------------------------------------------------------------------


def test_ties_by_the_rule_that_was_chosen(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    rows = [comparison("q"), comparison("r", verdict="tie"), comparison(verdict="both_bad")]
    rows += [comparison(verdict="skip"), comparison("s", verdict="b")]
    done = export_comparisons(out, rows, "trl-text")
    assert (done.comparisons, done.rows, done.left_out) == (2, 2, {"tie": 1, "both_bad": 1, "skip": 1})
    done = export_comparisons(out, rows, "trl-text", ties="both_ways")
    assert done.left_out == {"both_bad": 1, "skip": 1}
    assert rows_of(out) == [
        {"prompt": "q", "chosen": "x", "rejected": "y"},
        {"prompt": "r", "chosen": "x", "rejected": "y"},
        {"prompt": "r", "chosen": "y", "rejected": "x"},
        {"prompt": "s", "chosen": "y", "rejected": "x"},
    ]
    before = out.read_bytes()
    with pytest.raises(BadInput, match="comparison 2 is a tie, which trl-text cannot hold"):
        export_comparisons(out, rows, "trl-text", ties="refuse")
    assert out.read_bytes() == before
    assert export_comparisons(out, rows, "annotators", ties="refuse").left_out == {}
    assert export_comparisons(out, rows, "argilla").left_out == {"skip": 1}


def test_rows_that_would_not_come_back_are_rejects(tmp_path: Path) -> None:
    out, listed = tmp_path / "out.jsonl", tmp_path / "rejects.jsonl"
    marker = comparison(a="x\n\nHuman: and?\n\nAssistant: z")
    with pytest.raises(BadInput) as error:
        export_comparisons(out, [comparison(), marker], "hh", rejects=listed)
    assert str(error.value) == (
        "what was to be written, comparison 2: chosen and rejected differ before the last Assistant turn: "
        "they answer different prompts; 1 row(s) cannot be used: mend them, or allow them with "
        f"max_rejects=1 (--max-rejects 1); they are listed in {listed}"
    )
    assert not out.exists()
    (reject,) = rows_of(listed)
    assert (reject["line"], reject["row"]) == (2, marker.to_json())
    done = export_comparisons(out, [comparison(), marker], "hh", max_rejects=1)
    assert (done.comparisons, done.rejects) == (1, 1)
    for to in SINGLE_TURN:
        with pytest.raises(BadInput, match=r"of one user turn only|needs a winner"):
            export_comparisons(out, [Comparison(Pair(TURNS, Response("x"), Response("y")), "a")], to)
    with pytest.raises(BadInput, match="turns of users and assistants only"):
        export_comparisons(out, [Comparison(Pair(TURNS, Response("x"), Response("y")), "a")], "hh")


def test_criteria_are_not_mixed_where_a_format_cannot_tell_them(tmp_path: Path) -> None:
    rows = [comparison(criterion="helpful"), comparison(verdict="b", criterion="harmless")]
    with pytest.raises(BadInput, match="comparison 2 is by the criterion 'harmless', those before by 'helpf"):
        export_comparisons(tmp_path / "out.jsonl", rows, "trl")
    done = export_comparisons(tmp_path / "out.jsonl", rows, "annotators")
    assert (done.comparisons, done.rows) == (2, 2)
    with pytest.raises(BadInput, match="needs a winner by both criteria"):
        export_comparisons(tmp_path / "out.jsonl", rows[:1], "saferlhf")


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(BadInput, match="'csv' is no format to write: known are trl"):
        export_comparisons(out, [comparison()], "csv")
    with pytest.raises(BadInput, match="ties is 'half'"):
        export_comparisons(out, [comparison()], "trl", ties="half")
    with pytest.raises(BadInput, match="kto cannot say a tie both ways"):
        export_comparisons(out, [comparison()], "kto", ties="both_ways")
    with pytest.raises(BadInput, match="nothing was written"):
        export_comparisons(out, [comparison(verdict="skip")], "trl")
    assert not out.exists()


# --- round trips -----------------------------------------------------------------------------------------

property_test = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
PAIRWISE = ["trl", "trl-implicit", "openai", "sharegpt", "hh", "alpaca", "ultrainteract", "trl-text", "kto"]


@pytest.mark.parametrize("to", PAIRWISE)
@property_test
@given(rows=st.lists(comparisons, min_size=1, max_size=4))
def test_winners_and_losers_come_back_or_are_refused(tmp_path: Path, to: str, rows: list[Comparison]) -> None:
    rows = [dataclasses.replace(row, criterion="") for row in rows]
    out, listed = tmp_path / "out.jsonl", tmp_path / "rejects.jsonl"
    decided = [row for row in rows if row.verdict in ("a", "b")]
    try:
        done = export_comparisons(out, rows, to, max_rejects=len(rows), rejects=listed)
    except BadInput:
        refused = {reject["line"] for reject in rows_of(listed)} if decided else set()
        assert len(refused) == len(decided)  # nothing was left that could be written
        return
    refused = {reject["line"] for reject in rows_of(listed)} if listed.exists() else set()
    kept = [row for n, row in enumerate(rows, 1) if row.verdict in ("a", "b") and n not in refused]
    got = read_comparisons(out).rows
    assert sorted(map(repr, map(said, got))) == sorted(map(repr, map(said, kept)))
    assert done.comparisons == len(kept)
    assert sum(done.left_out.values()) == len(rows) - len(decided)


plain = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20)
plain_rows = st.builds(
    lambda prompt, a, b, verdict: comparison(prompt, a, b, verdict),
    plain,
    plain,
    plain.map(lambda text: text + "!"),
    st.sampled_from(["a", "b"]),
)


@pytest.mark.parametrize("to", PAIRWISE)
@property_test
@given(rows=st.lists(plain_rows, min_size=1, max_size=4))
def test_ordinary_rows_are_never_refused(tmp_path: Path, to: str, rows: list[Comparison]) -> None:
    done = export_comparisons(tmp_path / "out.jsonl", rows, to)
    assert done.comparisons == len(rows)
    got = read_comparisons(tmp_path / "out.jsonl").rows
    assert sorted(map(repr, map(said, got))) == sorted(map(repr, map(said, rows)))


@property_test
@given(
    pair=pairs,
    voices=st.dictionaries(some_text, st.sampled_from(["a", "b", "tie", "both_bad"]), min_size=1, max_size=4),
    to=st.sampled_from(["annotators", "argilla"]),
)
def test_every_annotator_comes_back(tmp_path: Path, pair: Pair, voices: dict[str, Verdict], to: str) -> None:
    rows = [Comparison(pair, verdict, who) for who, verdict in voices.items()]
    try:
        done = export_comparisons(tmp_path / "out.jsonl", rows, to)
    except BadInput:  # two equal answers' texts, or a prompt that would be taken for a transcript
        assert not (tmp_path / "out.jsonl").exists()
        return
    assert (done.rows, done.comparisons) == (1, len(rows))
    got = read_comparisons(tmp_path / "out.jsonl").rows
    assert [(one.annotator, one.verdict) for one in got] == list(voices.items())
    assert {(one.prompt, one.pair.a.text, one.pair.b.text) for one in got} == {
        (pair.prompt, pair.a.text, pair.b.text)
    }


@property_test
@given(
    prompt=plain, a=plain, b=plain, verdict=st.sampled_from(["a", "b", "tie"]), strength=st.floats(0.01, 1e6)
)
def test_ratings_and_safety_come_back(
    tmp_path: Path, prompt: str, a: str, b: str, verdict: Verdict, strength: float
) -> None:
    assume(a != b)
    out = tmp_path / "out.jsonl"
    export_comparisons(out, [comparison(prompt, a, b, verdict, strength=strength)], "ultrafeedback")
    (got,) = read_comparisons(out).rows
    assert (got.pair.a.text, got.pair.b.text, got.verdict) == (a, b, verdict)
    assert got.strength == (0 if verdict == "tie" else strength)
    if verdict != "tie":
        two = [comparison(prompt, a, b, verdict, criterion=name) for name in ("helpful", "harmless")]
        export_comparisons(out, two, "saferlhf")
        back = read_comparisons(out, criterion="all").rows
        assert [(one.criterion, one.verdict, one.pair.a.text) for one in back] == [
            ("helpful", verdict, a),
            ("harmless", verdict, a),
        ]


def test_every_target_is_tried_here() -> None:
    assert {*PAIRWISE, "annotators", "argilla", "ultrafeedback", "saferlhf"} == set(TARGETS)
