"""Every format is tried with rows written by hand as its authors document it, and with broken ones."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord import formats
from accord.formats import (
    Reject,
    read_comparisons,
    read_demonstrations,
    read_prompts,
    split_by_prompt,
    stream_comparisons,
    write_comparisons,
    write_demonstrations,
    write_prompts,
)
from accord.records import BadInput, Comparison, Demonstration, Pair, Prompt, Response
from tests.unit.record_strategies import comparisons, demonstrations, some_text, texts, values

USER, ANSWER = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}
OTHER = {"role": "user", "content": "Ho?"}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(tmp_path: Path, row: Any) -> Comparison:
    (comparison,) = read_comparisons(lines(tmp_path / "one.jsonl", row)).rows
    return comparison


def reject(tmp_path: Path, row: Any) -> str:
    """The reason why a row is rejected, in a file whose other row is a good one of the same format."""
    (item,) = [i for i in stream_comparisons(lines(tmp_path / "r.jsonl", row)).items if isinstance(i, Reject)]
    return item.reason


def said(comparison: Comparison) -> tuple[list[tuple[str, str]], str, str, str]:
    prompt = [(message.role, message.content) for message in comparison.prompt.messages]
    return prompt, comparison.pair.a.text, comparison.pair.b.text, comparison.verdict


# --- the formats -----------------------------------------------------------------------------------------

SKY = ([("user", "The sky is")], " blue.", " green.", "a")


@pytest.mark.parametrize(
    ("row", "expected", "name"),
    [
        ({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}, SKY, "prompt/chosen/rejected"),
        (
            {
                "prompt": [USER],
                "chosen": [ANSWER],
                "rejected": [{"role": "assistant", "content": "Go."}],
            },
            ([("user", "Hi?")], "Hello.", "Go.", "a"),
            "prompt/chosen/rejected",
        ),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            SKY,
            "chosen/rejected (implicit prompt)",
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "Go."}]},
            ([("user", "Hi?")], "Hello.", "Go.", "a"),
            "chosen/rejected (implicit prompt)",
        ),
        (
            {
                "input": {"messages": [{"role": "developer", "content": "Be kind."}, USER]},
                "preferred_output": [ANSWER],
                "non_preferred_output": [{"role": "assistant", "content": [{"type": "text", "text": "Go."}]}],
            },
            ([("system", "Be kind."), ("user", "Hi?")], "Hello.", "Go.", "a"),
            "OpenAI preference",
        ),
        (
            {
                "prompt": "Hi?",
                "chosen": [USER, ANSWER],
                "rejected": [USER, {"role": "assistant", "content": "Go."}],
                "messages": [USER, ANSWER],
                "score_chosen": 8.5,
                "score_rejected": 6.0,
            },
            ([("user", "Hi?")], "Hello.", "Go.", "a"),
            "prompt/chosen/rejected",
        ),
        (
            {
                "prompt": "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant:",
                "chosen": " So.",
                "rejected": " No.",
            },
            ([("user", "Hi?"), ("assistant", "Yes?"), ("user", "Why?")], " So.", " No.", "a"),
            "prompt/chosen/rejected",
        ),
        (
            {"prompt": [USER], "response_a": "x", "response_b": "y", "label": "tie"},
            ([("user", "Hi?")], "x", "y", "tie"),
            "one label",
        ),
    ],
)
def test_one_row_of_each_format(tmp_path: Path, row: Any, expected: Any, name: str) -> None:
    read = read_comparisons(lines(tmp_path / "one.jsonl", row))
    assert said(read.rows[0]) == expected
    assert read.format == name
    assert ("plain text became one user turn" in read.mapping) == isinstance(row.get("prompt"), str)


def test_ratings_give_strength_tie_or_contradiction(tmp_path: Path) -> None:
    row = {"prompt": "Hi?", "chosen": "x", "rejected": "y", "score_rejected": 6.0}
    assert one(tmp_path, row | {"score_chosen": 8.5}).strength == 2.5
    assert one(tmp_path, row | {"score_chosen": 6.0}).verdict == "tie"
    assert "contradicts itself" in reject(tmp_path, row | {"score_chosen": 5.0})
    assert "finite number" in reject(tmp_path, row | {"score_chosen": True})
    assert one(tmp_path, {"prompt": "Hi?", "chosen": "x", "rejected": "y", "margin": 3}).strength == 3


def test_every_annotator_is_a_comparison_of_the_same_pair(tmp_path: Path) -> None:
    row = {"id": "q7", "source": "s", "prompt": [USER], "response_a": "x", "response_b": "y"}
    row |= {"labels": {"ann": "a", "bob": "tie", "cat": "b", "dan": None}, "models": ["m1", "m2"]}
    rows = read_comparisons(lines(tmp_path / "a.jsonl", row)).rows
    assert [(r.annotator, r.verdict) for r in rows] == [("ann", "a"), ("bob", "tie"), ("cat", "b")]
    assert len({r.pair.id for r in rows}) == 1
    assert (rows[0].pair.a.policy, rows[0].pair.b.policy) == ("m1", "m2")
    assert (rows[0].source, rows[0].meta) == ("s", {"id": "q7"})
    row["labels"] = {"ann": "a", "bob": "left"}
    assert reject(tmp_path, row) == "labels.bob is 'left': it must be one of a, b, tie, both_bad, skip"


def test_rated_completions_give_every_pair(tmp_path: Path) -> None:
    answers = [("w", 3.0), ("x", 4.5), ("y", 3.0), ("", 5.0), ("z", None)]
    completions = [
        {"model": text, "response": text, "fine-grained_score": score, "overall_score": None}
        for text, score in answers
    ]
    rows = read_comparisons(
        lines(tmp_path / "u.jsonl", {"instruction": "Go", "completions": completions})
    ).rows
    assert [(r.pair.a.text, r.pair.b.text, r.verdict, r.strength) for r in rows] == [
        ("w", "x", "b", 1.5),
        ("w", "y", "tie", 0.0),
        ("x", "y", "a", 1.5),
    ]
    assert rows[0].pair.a.policy == "w"
    other = {"instruction": "Go", "generations": ["w", "x"], "ratings": [5, 2], "model_names": ["m", "n"]}
    (row,) = read_comparisons(lines(tmp_path / "g.jsonl", other)).rows
    assert (row.verdict, row.strength, row.pair.b.policy) == ("a", 3, "n")
    assert "one length" in reject(tmp_path, other | {"ratings": [5]})


def test_implicit_text_prompt_never_splits_a_word(tmp_path: Path) -> None:
    row = {"chosen": "The sky is blue", "rejected": "The sky is blurred"}
    assert said(one(tmp_path, row)) == ([("user", "The sky is")], " blue", " blurred", "a")
    row = {"chosen": "The sky  \n falls", "rejected": "The sky  \t sings"}
    assert said(one(tmp_path, row))[0] == [("user", "The sky")]
    assert said(one(tmp_path, row))[1] == "  \n falls"
    row = {"chosen": "The sky is", "rejected": "The skyline is"}
    assert said(one(tmp_path, row)) == ([("user", "The")], " sky is", " skyline is", "a")
    row = {"chosen": "The sky", "rejected": "The sky is blue"}
    assert reject(tmp_path, row) == "chosen, without the beginning that both sides share, is empty"
    assert "share no beginning" in reject(tmp_path, {"chosen": "blue", "rejected": "blurred"})


# --- HH transcripts --------------------------------------------------------------------------------------


def transcripts(chosen: str, rejected: str) -> dict[str, str]:
    return {"chosen": chosen, "rejected": rejected}


def test_transcripts_split_at_the_last_assistant_turn_and_keep_white_space(tmp_path: Path) -> None:
    before = "\n\nHuman: One\n two\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant:"
    row = one(tmp_path, transcripts(f"{before}  So \n", f"{before} No"))
    assert said(row) == (
        [("user", "One\n two"), ("assistant", "Yes?"), ("user", "Why?")],
        " So \n",
        "No",
        "a",
    )


def test_two_turns_of_one_role_are_merged(tmp_path: Path) -> None:
    chosen = "\n\nHuman: One\n\nHuman: two\n\nHuman: \n\nAssistant: x\n\nAssistant: y"
    rejected = "\n\nHuman: One\n\nHuman: two\n\nHuman: \n\nAssistant: z"
    assert said(one(tmp_path, transcripts(chosen, rejected))) == (
        [("user", "One\n\ntwo")],
        "x\n\ny",
        "z",
        "a",
    )


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (
            "\n\nHuman: q\n\nAssistant: x",
            "\n\nHuman: Q!\n\nAssistant: y",
            "differ before the last Assistant turn",
        ),
        (
            "\n\nHuman: q\n\nAssistant: x\n\nHuman: and?",
            "\n\nHuman: q\n\nAssistant: y",
            "ends with a Human turn",
        ),
        (
            "\n\nHuman: q\n\nAssistant: \n",
            "\n\nHuman: q\n\nAssistant: y",
            "chosen is empty (white space only)",
        ),
        ("\n\nHuman: q\n\nAssistant: y", "\n\nHuman: q\n\nAssistant: y", "two sides are equal"),
        ("\n\nHuman: \n\nAssistant: x", "\n\nHuman: \n\nAssistant: y", "the last turn of prompt is empty"),
    ],
)
def test_unusable_transcripts(tmp_path: Path, chosen: str, rejected: str, reason: str) -> None:
    assert reason in reject(tmp_path, transcripts(chosen, rejected))


# --- rows that cannot be used ----------------------------------------------------------------------------

GOOD = {"prompt": "Hi?", "chosen": "x", "rejected": "y"}
GIVEN = {"prompt": [USER], "a": "x", "b": "y", "verdict": "a"}
RATED = {
    "instruction": "Go",
    "completions": [{"response": "x", "overall_score": 1}, {"response": "y", "overall_score": 2}],
}
OPENAI = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [ANSWER | {"content": "Go."}],
}
GENERATED = {"prompt": "Go", "generations": ["x", "y"], "ratings": [1, 2]}
ANNOTATED = {"prompt": "Hi?", "response_a": "x", "response_b": "y", "labels": {"ann": "a"}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (GOOD | {"rejected": "x"}, "the two sides are equal"),
        (GOOD | {"chosen": ""}, "chosen is empty"),
        (GOOD | {"chosen": " \n\t"}, "chosen is empty (white space only)"),
        (GOOD | {"chosen": None}, "chosen is missing"),
        (GOOD | {"chosen": 7}, "chosen must be text, not int"),
        (GOOD | {"chosen": "\ud800"}, "chosen is not valid Unicode"),
        (GOOD | {"prompt": " "}, "prompt is empty (white space only)"),
        (GOOD | {"prompt": []}, "prompt must be a list of messages, not empty"),
        (GOOD | {"prompt": [USER, ANSWER]}, "prompt ends with a turn of role assistant"),
        (GOOD | {"prompt": [{"role": "human", "content": "q"}]}, "unknown role 'human'"),
        (
            GOOD | {"prompt": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "parts that are not text",
        ),
        (GOOD | {"chosen": [USER, ANSWER], "rejected": [OTHER, ANSWER]}, "differ before their last message"),
        (GOOD | {"chosen": [OTHER, ANSWER], "rejected": [OTHER, ANSWER]}, "do not repeat the prompt"),
        (GOOD | {"chosen": [USER, ANSWER], "rejected": "y"}, "rejected must be a list of messages, not str"),
        (GOOD | {"meta": "x"}, "meta must be an object"),
        (GIVEN | {"verdict": "left"}, "verdict is 'left'"),
        (GIVEN | {"b": "x"}, "the two sides are equal"),
        (GIVEN | {"a": {"text": ""}}, "a.text is empty"),
        (GIVEN | {"a": {"text": "x", "tokens": [1.5]}}, "a.tokens must be a list of token ids"),
        (GIVEN | {"round": 1.5}, "round must be a whole number"),
        (GIVEN | {"shown_left": "left"}, "shown_left is 'left'"),
    ],
)
def test_reasons(tmp_path: Path, row: Any, reason: str) -> None:
    assert reason in reject(tmp_path, row)


WILD: list[Any] = [None, True, 5, 1.5, 10**400, 1e308, "", " ", "x", "\ud800", [], [5], ["x"], {}, {"x": 1}]
WILD += [
    [{}],
    [{"role": "user"}],
    [{"role": [], "content": 5}],
    {"text": 5},
    {"messages": 5},
    {"text": "x", "tokens": 5},
]
WILD += [
    {"role": "assistant", "content": "x"},
    [USER],
    [ANSWER],
    [USER, ANSWER],
    [{"response": 5, "overall_score": "x"}],
]
EXTRA = {
    "meta": {},
    "labels": {},
    "models": [],
    "strength": 1,
    "score_chosen": 1,
    "score_rejected": -1e308,
    "source": "",
}


SAFE = {"prompt": "Hi?", "response_0": "x", "response_1": "y"} | {
    "better_response_id": 0,
    "safer_response_id": 1,
}
ARGILLA = {"prompt": "Hi?", "response_a": "x", "response_b": "y", "preference.responses": ["A"]} | {
    "preference.responses.users": ["u"],
    "preference.responses.status": ["submitted"],
}
TURN = {"from": "human", "value": "Hi?"}
SHAREGPT = {
    "conversations": [TURN],
    "chosen": {"from": "gpt", "value": "x"},
    "rejected": {"from": "gpt", "value": "y"},
}
ULTRA = {"trajectory": [TURN], "chosen": "x", "rejected": "y"}
ALPACA = {"instruction": "Hi?", "input": "", "chosen": "x", "rejected": "y", "history": [["q", "r"]]}
RANKED = {"prompt": "Hi?", "responses": ["x", "y", "z"], "ranks": [1, 2, 2]}
OTHERS = [SAFE, ARGILLA, SHAREGPT, ULTRA, ALPACA, RANKED]


@pytest.mark.parametrize("like", [GOOD, GIVEN, RATED, OPENAI, ANNOTATED, GENERATED, *OTHERS], ids=str)
def test_a_wild_value_in_any_column_is_a_reject_or_a_row(tmp_path: Path, like: dict[str, Any]) -> None:
    extra = {
        key: value for key, value in EXTRA.items() if like in (GOOD, GIVEN, ANNOTATED) or key != "labels"
    }
    for column in {*like, *EXTRA, "round", "annotator", "id", "shown_left", "tools", "system", "criterion"}:
        path = lines(tmp_path / "w.jsonl", like, like, *[extra | like | {column: value} for value in WILD])
        for read in (partial(read_comparisons, criterion=formats.ALL), read_demonstrations, read_prompts):
            if read is read_demonstrations and like is SAFE:
                continue  # whose winner is to be imitated is not said
            got = read(path, max_rejects=len(WILD))
            assert len(got.rows) + len(got.rejects) >= len(WILD) + 2
            if isinstance(read, partial):  # what was accepted can be written
                write_comparisons(tmp_path / "again.jsonl", got.rows)
                assert read_comparisons(tmp_path / "again.jsonl").rows == got.rows


def test_a_sampled_empty_answer_is_an_answer_where_its_tokens_are_given(tmp_path: Path) -> None:
    assert one(tmp_path, GIVEN | {"a": {"text": "", "tokens": [2]}}).pair.a.tokens == (2,)


def test_rejects_name_file_line_reason_count_and_way_out(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", GOOD, GOOD | {"chosen": ""}, GOOD | {"chosen": "y"})
    with pytest.raises(BadInput) as error:
        read_comparisons(path, max_rejects=1)
    assert str(error.value) == (
        f"{path}, line 2: chosen is empty; 2 row(s) cannot be used: "
        "mend them, or allow them with max_rejects=2 (--max-rejects 2)"
    )
    read = read_comparisons(path, max_rejects=2)
    assert len(read.rows) == 1
    assert read.rejects == (
        Reject(2, "chosen is empty"),
        Reject(3, "the two sides are equal: there is nothing to compare"),
    )
    with pytest.raises(BadInput, match="no other row is left"):
        read_comparisons(lines(path, GOOD | {"chosen": ""}), max_rejects=9)


def test_one_odd_first_row_does_not_decide_the_format(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"chosen": "x", "rejected": "y"}, GOOD, GOOD)
    read = read_comparisons(path, max_rejects=1)
    assert read.format == "prompt/chosen/rejected"
    assert read.rejects[0].line == 1
    assert "looks like chosen/rejected (implicit prompt)" in read.rejects[0].reason


# --- files -----------------------------------------------------------------------------------------------


def write_parquet(path: Path, rows: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


ROWS = [
    {"prompt": "Hi?", "chosen": 'say "so",\nplease', "rejected": "y\u2028z"},
    {"prompt": "Ho?", "chosen": " x ", "rejected": "日本"},
]


@pytest.mark.parametrize(
    "name", ["f.jsonl", "f.jsonl.gz", "f.json", "f.csv", "f.csv.gz", "f.tsv", "f.parquet"]
)
def test_the_same_rows_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "f.parquet":
        write_parquet(path, ROWS)
    else:
        text = "\ufeff" if name in ("f.csv", "f.jsonl", "f.json") else ""  # Windows programs write this mark
        if ".csv" in name or ".tsv" in name:
            comma = "," if ".csv" in name else "\t"
            text += comma.join(ROWS[0]) + "\r\n"
            for row in ROWS:
                text += comma.join('"' + cell.replace('"', '""') + '"' for cell in row.values()) + "\r\n"
        elif name == "f.json":
            text += json.dumps(ROWS, indent=1)
        else:
            text += "".join(json.dumps(row, ensure_ascii=False) + "\r\n\n" for row in ROWS)
        data = text.encode("utf-8")
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    read = read_comparisons(path)
    assert [(r.prompt.text, r.pair.a.text, r.pair.b.text) for r in read.rows] == [
        tuple(row.values()) for row in ROWS
    ]
    assert read.rows[0].source == name


def test_messages_in_csv_cells(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    cell = json.dumps([USER]).replace('"', '""')
    path.write_text(f'prompt,chosen,rejected,margin\n"{cell}",x,[1],\n"{cell}",x,\n', encoding="utf-8")
    read = read_comparisons(path, max_rejects=1)
    assert said(read.rows[0]) == ([("user", "Hi?")], "x", "[1]", "a")
    assert read.rejects == (Reject(3, "has 3 cells where the header has 4"),)


def test_csv_rows_are_named_by_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text('prompt,chosen,rejected\nq,"a\n\nb",c\nq,,c\n', encoding="utf-8")
    assert read_comparisons(path, max_rejects=1).rejects == (Reject(5, "chosen is missing"),)


GOOD_LINE = json.dumps(GOOD).encode() + b"\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("f.jsonl", b"", "is empty"),
        ("f.jsonl", b"\n \n", "holds no row"),
        ("f.jsonl", GOOD_LINE + b'{"prompt": }\n', "line 2: not valid JSON (Expecting value at column 12)"),
        ("f.jsonl", GOOD_LINE + GOOD_LINE[:-9], "the file may be cut off here"),
        ("f.jsonl", GOOD_LINE + b"\xff{}\n", "line 2: not UTF-8 (byte 0xff at position 0)"),
        ("f.jsonl", GOOD_LINE + b"[1]\n", "line 2: must be a JSON object with named columns, not list"),
        ("f.jsonl", GOOD_LINE + b'{"x": NaN}\n', "line 2: NaN is not JSON: write null"),
        ("f.jsonl", GOOD_LINE + b"[" * 200_000 + b"\n", "line 2: not usable JSON (nested too deeply)"),
        ("f.jsonl", b'{"text": "x", "label": 1}\n', "the columns (label, text) are no comparisons format"),
        ("f.jsonl.gz", gzip.compress(GOOD_LINE * 50, mtime=0)[:-20], "cut off inside its gzip stream"),
        ("f.jsonl.gz", b"\x1f\x8b" + b"x" * 40, "is damaged gzip"),
        ("f.jsonl.gz", GOOD_LINE, "ends in .gz but is not gzip"),
        ("f.json", b'[{"a": 1}, ', "is not a JSON array"),
        ("f.csv", b'prompt,chosen,rejected\nq,"x,y\n', "line 2: not readable as CSV"),
        ("f.csv", b"prompt,prompt\nq,r\n", "two columns of one name"),
        ("f.parquet", b"PAR1 nonsense", "cannot be read as Parquet"),
        ("f.xlsx", b"x", "unknown ending"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as error:
        read_comparisons(tmp_path / name)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_comparisons(tmp_path / "no.jsonl")
    with pytest.raises(BadInput, match="is a folder"):
        read_comparisons(tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        read_comparisons("data/no.jsonl")  # has the shape of a hub id, but an ending that says file


def test_hub_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> Iterator[Any]:
        asked.append((name, config, split, streaming))
        if name == "org/gone":
            raise ConnectionError("offline\nmore")
        return iter([GOOD])

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert len(read_comparisons("org/name").rows) == 1
    read_comparisons("org/name/cfg:test")
    assert asked == [("org/name", None, "train", True), ("org/name", "cfg", "test", True)]
    with pytest.raises(BadInput, match=r"could not be read from the hub \(ConnectionError: offline\)"):
        read_comparisons("org/gone")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"accord-rlhf\[hub\]"):
        read_comparisons("org/name")


# --- demonstrations and prompts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ANSWER]},
        {"prompt": "Hi?", "completion": "Hello."},
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": [USER], "response": "Hello."},
        {"instruction": "Hi?", "input": "", "output": "Hello."},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": "Go."},
        {"chosen": "\n\nHuman: Hi?\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi?\n\nAssistant: Go."},
    ],
)
def test_demonstrations(tmp_path: Path, row: Any) -> None:
    read = read_demonstrations(lines(tmp_path / "d.jsonl", row))
    assert read.rows == (Demonstration(Prompt.from_text("Hi?"), "Hello."),)


def test_unusable_demonstrations(tmp_path: Path) -> None:
    for rows, reason in [
        ({"messages": [USER]}, "the last turn must be the answer"),
        ({"messages": [ANSWER]}, "has no turn"),
        ({"prompt": "q", "completion": "x", "label": False}, "not one to imitate"),
        ({"prompt": "q", "response_a": "x", "response_b": "y", "label": "tie"}, "no answer was preferred"),
    ]:
        with pytest.raises(BadInput, match=reason):
            read_demonstrations(lines(tmp_path / "d.jsonl", rows))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi?"},
        {"prompt": [USER], "source": "s"},
        {"prompt": [USER], "chosen": "", "rejected": ""},
        {"question": "Hi?"},
        {"instruction": "Hi?"},
        {"messages": [USER]},
        {"messages": [USER, ANSWER]},
        {"input": {"messages": [USER]}, "preferred_output": [], "non_preferred_output": []},
        {"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "Go."}]},
    ],
)
def test_prompts(tmp_path: Path, row: Any) -> None:
    assert read_prompts(lines(tmp_path / "p.jsonl", row)).rows == (Prompt.from_text("Hi?"),)


def test_instruction_with_input(tmp_path: Path) -> None:
    (prompt,) = read_prompts(lines(tmp_path / "p.jsonl", {"instruction": "Add.", "input": "1 2"})).rows
    assert prompt.text == "Add.\n1 2"  # as LLaMA-Factory joins them


# --- round trips -----------------------------------------------------------------------------------------

property_test = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@property_test
@given(rows=st.lists(comparisons, min_size=1, max_size=4), ending=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_comparisons_read_back_equal(tmp_path: Path, rows: list[Comparison], ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    write_comparisons(path, rows)
    assert read_comparisons(path).rows == tuple(rows)


@property_test
@given(rows=st.lists(demonstrations, min_size=1, max_size=4))
def test_demonstrations_and_prompts_read_back_equal(tmp_path: Path, rows: list[Demonstration]) -> None:
    write_demonstrations(tmp_path / "d.jsonl", rows)
    assert read_demonstrations(tmp_path / "d.jsonl").rows == tuple(rows)
    only = tuple(row.prompt for row in rows)
    write_prompts(tmp_path / "p.jsonl", only)
    assert read_prompts(tmp_path / "p.jsonl").rows == only


message_lists = st.lists(
    st.fixed_dictionaries({"role": texts | st.just("user"), "content": values}), max_size=3
)
COLUMNS = sorted(
    {
        "labels",
        "meta",
        "messages",
        "instruction",
        "output",
        "response",
        "completion",
        "models",
        "strength",
        "round",
    }
    | {"completions", "generations", "ratings", "response_a", "response_b", "label", "score_chosen", "input"}
    | {"score_rejected", "preferred_output", "non_preferred_output", "shown_left", "source", *GOOD, *GIVEN}
    | {"tools", "system", "criterion", "kto_tag"}.union(*OTHERS)
)


@property_test
@given(
    row=st.dictionaries(st.sampled_from(COLUMNS), values | message_lists, max_size=5),
    like=st.sampled_from([GOOD, GIVEN, RATED, OPENAI, ANNOTATED, ARGILLA, SHAREGPT, ULTRA, ALPACA, RANKED]),
)
def test_no_row_whatever_it_holds_breaks_the_reader(
    tmp_path: Path, row: dict[str, Any], like: dict[str, Any]
) -> None:
    path = lines(tmp_path / "wild.jsonl", like, like, like | row)
    for read in (read_comparisons, read_demonstrations, read_prompts):
        got = read(path, max_rejects=1)
        assert len(got.rejects) <= 1
        assert got.rows


@property_test
@given(prompt=some_text, a=some_text, b=some_text)
def test_implicit_prompts_cut_at_white_space_and_lose_nothing(prompt: str, a: str, b: str) -> None:
    from accord.formats_messages import BadRow, split_common_prompt

    try:
        found, chosen, rejected = split_common_prompt(f"{prompt} {a}", f"{prompt} {b}")
    except BadRow:
        return
    assert found.text + chosen == f"{prompt} {a}"
    assert found.text + rejected == f"{prompt} {b}"
    assert chosen[0].isspace()
    assert rejected[0].isspace()
    assert not found.text[-1].isspace()


def test_writing_is_atomic_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "d.jsonl"
    row = Comparison(Pair(Prompt.from_text("q"), Response("x"), Response("y")), "a", source="s")
    write_comparisons(path, [row])
    before = path.read_bytes()
    bad = Comparison(row.pair, "a", strength=float("nan"))
    with pytest.raises(BadInput, match="row 2 cannot be written as JSON"):
        write_comparisons(path, [row, bad])
    with pytest.raises(BadInput, match="row 1 cannot be written as JSON"):
        write_prompts(path, [Prompt.from_text("\ud800")])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["d.jsonl"]
    with pytest.raises(BadInput, match="cannot be written"):
        write_comparisons(path / "below-a-file.jsonl", [row])


def test_gzip_output_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    row = Prompt.from_text("q")
    write_prompts(tmp_path / "a.jsonl.gz", [row])
    write_prompts(tmp_path / "b.jsonl.gz", [row])
    data = (tmp_path / "a.jsonl.gz").read_bytes()
    assert data == (tmp_path / "b.jsonl.gz").read_bytes()
    assert data[4:8] == b"\0\0\0\0"  # no time stamp (RFC 1952, MTIME)


# --- splits ----------------------------------------------------------------------------------------------


def many(count: int) -> list[Demonstration]:
    return [Demonstration(Prompt.from_text(f"Prompt {i // 2}"), str(i)) for i in range(2 * count)]


def test_a_split_keeps_prompts_whole_and_order(tmp_path: Path) -> None:
    rows = many(1000)
    train, test = split_by_prompt(rows, 0.2, seed=3)
    assert not {row.prompt.key for row in train} & {row.prompt.key for row in test}
    assert sorted(train + test, key=lambda row: int(row.response)) == rows
    assert [int(row.response) for row in test] == sorted(int(row.response) for row in test)
    assert abs(len(test) / len(rows) - 0.2) < 4 * (0.2 * 0.8 / 1000) ** 0.5  # binomial: four standard errors
    assert split_by_prompt(rows, 0.2, seed=3) == (train, test)
    assert split_by_prompt(rows, 0.2, seed=4)[1] != test


def test_a_split_does_not_move_prompts_when_rows_come_or_case_changes() -> None:
    _, test = split_by_prompt(many(100), 0.2)
    _, more = split_by_prompt(many(200), 0.2)
    assert {row.response for row in test} <= {row.response for row in more}
    shouted = [Demonstration(Prompt.from_text(f" PROMPT  {i} "), "x") for i in range(100)]
    assert {r.prompt.key for r in split_by_prompt(shouted, 0.2)[1]} == {r.prompt.key for r in test}


@given(count=st.integers(2, 6), seed=st.integers(0, 50), fraction=st.sampled_from([1e-9, 0.5, 1 - 1e-9]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_neither_side_is_empty_from_two_prompts_on(count: int, seed: int, fraction: float) -> None:
    train, test = split_by_prompt([Prompt.from_text(str(i)) for i in range(count)], fraction, seed=seed)
    assert train
    assert test
    assert len(train) + len(test) == count


def test_split_of_one_prompt_or_none_and_bad_fractions() -> None:
    only = [Prompt.from_text("q")]
    assert split_by_prompt(only, 0.999999) == (tuple(only), ())
    assert split_by_prompt([], 0.5) == ((), ())
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(BadInput, match="test fraction"):
            split_by_prompt(only, fraction)


# --- the rest --------------------------------------------------------------------------------------------


def test_reading_data_does_not_import_torch() -> None:
    code = "import sys, accord.formats, accord.data_report; sys.exit('torch' in sys.modules)"
    assert importlib.util.find_spec("torch") is not None  # else the test would say nothing
    subprocess.run([sys.executable, "-c", code], check=True)


def shared(name: str) -> Path:
    folder = os.environ.get("ACCORD_DATA")
    if not folder:
        pytest.skip("ACCORD_DATA does not name the folder of research data, which is not shipped")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{name} is not in ACCORD_DATA")
    return path


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "kind", "records", "rejects"),
    [
        ("hh_harmless_train", "comparisons", 1489, 0),
        ("hh_harmless_dev", "comparisons", 296, 0),
        ("ukp_convarg_train", "comparisons", 9357, 0),
        ("alpacaeval_gpt4judge_train", "comparisons", 5525, 0),
        ("alpacaeval_gpt4judge_dev", "comparisons", 668, 0),
        ("pandalm_human_3annotators_sample", "comparisons", 3 * 228, 26),  # 26 of 254 rows have an empty side
        ("sft_seed_tasks", "demonstrations", 170, 0),
        ("rl_prompts", "prompts", 725, 0),
    ],
)
def test_research_data(name: str, kind: str, records: int, rejects: int) -> None:
    path = shared(f"{name}.jsonl.gz")
    assert formats.detect_kind(path) == kind
    read = getattr(formats, f"read_{kind}")(path, max_rejects=rejects)
    assert (len(read.rows), len(read.rejects)) == (records, rejects)
    assert all("is empty" in one.reason for one in read.rejects)
