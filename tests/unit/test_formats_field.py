"""Other programs' formats, with rows as their own documentation or source writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord import formats
from accord.formats import Reject, read_comparisons, read_demonstrations, read_prompts, stream_comparisons
from accord.records import BadInput, Comparison, Message, Prompt

USER, ANSWER = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}
WORSE = {"role": "assistant", "content": "Go."}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(tmp_path: Path, *rows: Any, criterion: str | None = None) -> tuple[Comparison, ...]:
    return read_comparisons(lines(tmp_path / "rows.jsonl", *rows), criterion=criterion).rows


def rejects(tmp_path: Path, *rows: Any) -> list[tuple[int, str]]:
    stream = stream_comparisons(lines(tmp_path / "rows.jsonl", *rows))
    return [(item.line, item.reason) for item in stream.items if isinstance(item, Reject)]


def turns(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


# --- TRL -------------------------------------------------------------------------------------------------

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
CALLING = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Rain in Bonn?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": "rain"},
]


@pytest.mark.parametrize("text", [False, True])  # TRL takes the tools as a list, or as its JSON text
def test_trl_tools_and_system_messages_are_kept(tmp_path: Path, text: bool) -> None:
    row = {"prompt": CALLING, "chosen": [ANSWER], "rejected": [WORSE]}
    (one,) = read(tmp_path, row | {"tools": json.dumps(TOOLS) if text else TOOLS})
    assert one.prompt.tool_list == TOOLS
    assert one.prompt.messages_json() == [
        CALLING[0],
        CALLING[1],
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        CALLING[3],
    ]
    plain = read(tmp_path, row)[0].prompt
    assert plain.tools == ""
    assert plain.key != one.prompt.key  # other tools make another question
    assert plain.to_json() == plain.messages_json()
    assert Prompt.from_json(json.loads(json.dumps(one.prompt.to_json()))) == one.prompt


def test_trl_answers_that_call_tools_are_refused(tmp_path: Path) -> None:
    row = {"prompt": [USER], "chosen": [ANSWER], "rejected": [WORSE | {"tool_calls": [CALL]}]}
    assert rejects(tmp_path, row) == [(1, "rejected calls tools: accord compares answers by their text")]
    row |= {"rejected": [WORSE], "tools": "[weather"}
    assert rejects(tmp_path, row) == [(1, "tools is a text, but not JSON: give a list of functions")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        # TRL 1.16's extract_prompt gives "The sk", "y" and "y is blue" for the first
        ("The sky", "The sky is blue", None),
        ("The sky is blue", "The sky is green", ("The sky is", " blue", " green")),
        ("The sky is blue", "The sky is bluish", ("The sky is", " blue", " bluish")),
        ("Two  spaces here", "Two  spaces there", ("Two  spaces", " here", " there")),
    ],
)
def test_trl_implicit_prompts_never_end_inside_a_word(
    tmp_path: Path, chosen: str, rejected: str, expected: tuple[str, str, str] | None
) -> None:
    row = {"chosen": chosen, "rejected": rejected}
    if expected is None:
        assert rejects(tmp_path, row) == [
            (1, "chosen, without the beginning that both sides share, is empty")
        ]
        return
    (one,) = read(tmp_path, row)
    assert (one.prompt.text, one.pair.a.text, one.pair.b.text) == expected


def test_trl_hybrid_prompt_of_text_beside_conversations(tmp_path: Path) -> None:
    """TRL takes the messages and forgets the column; here the two must also agree."""
    system = {"role": "system", "content": "Be kind."}
    row = {"prompt": "Hi?", "chosen": [system, USER, ANSWER], "rejected": [system, USER, WORSE]}
    (one,) = read(tmp_path, row)
    assert turns(one.prompt) == [("system", "Be kind."), ("user", "Hi?")]
    assert "do not repeat the prompt" in rejects(tmp_path, row | {"prompt": "Ho?"})[0][1]


def test_unpaired_answers_meet_within_their_prompt(tmp_path: Path) -> None:
    def row(prompt: str, text: str, label: bool) -> dict[str, Any]:
        return {"prompt": prompt, "completion": text, "label": label}

    rows = [row("q", "g1", True), row("q", "b1", False), row("p", "lonely", True), row("q", "g2", True)]
    rows += [row("q", "b2", False), row("q", "b3", False), row("r", "same", True), row("r", "same", False)]
    path = lines(tmp_path / "kto.jsonl", *rows)
    got = read_comparisons(path, max_rejects=2)
    assert [(one.prompt.text, one.pair.a.text, one.pair.b.text, one.verdict) for one in got.rows] == [
        ("q", "g1", "b1", "a"),
        ("q", "g2", "b2", "a"),
        ("q", "g1", "b3", "a"),  # the third bad answer meets the first good one again
    ]
    assert [(one.line, one.reason) for one in got.rejects] == [
        (3, "no bad answer to its prompt is in the file: there is nothing to compare it with"),
        (7, "the same answer is called good here and bad in line 8"),
    ]
    assert formats.detect_kind(path) == "comparisons"


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (
            {"prompt": [USER], "completion": [ANSWER], "label": True},
            {"prompt": [USER], "completion": [WORSE], "label": False},
        ),
        (
            {"instruction": "Hi?", "input": "", "output": "Hello.", "kto_tag": True},
            {"instruction": "Hi?", "input": "", "output": "Go.", "kto_tag": False},
        ),
        ({"messages": [USER, ANSWER], "label": True}, {"messages": [USER, WORSE], "label": False}),
        (
            {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]}
            | {"kto_tag": True},
            {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Go."}]}
            | {"kto_tag": False},
        ),
    ],
)
def test_unpaired_rows_of_trl_and_llama_factory(tmp_path: Path, good: Any, bad: Any) -> None:
    (one,) = read(tmp_path, bad, good)
    assert (turns(one.prompt), one.pair.a.text, one.pair.b.text) == ([("user", "Hi?")], "Hello.", "Go.")
    assert read_demonstrations(lines(tmp_path / "good.jsonl", good)).rows[0].response == "Hello."
    with pytest.raises(BadInput, match="is false: this answer is not one to imitate"):
        read_demonstrations(lines(tmp_path / "bad.jsonl", bad))


# --- LLaMA-Factory ---------------------------------------------------------------------------------------


def test_alpaca_preference_keeps_input_system_and_history(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "1 2", "system": "Be brief.", "history": [["Hi?", "Hello."]]}
    (one,) = read(tmp_path, row | {"chosen": "3", "rejected": "4"})
    assert turns(one.prompt) == [
        ("system", "Be brief."),
        ("user", "Hi?"),
        ("assistant", "Hello."),
        ("user", "Add.\n1 2"),
    ]
    assert (one.pair.a.text, one.pair.b.text, one.verdict) == ("3", "4", "a")
    assert (
        "history[0] must be"
        in rejects(tmp_path, row | {"chosen": "3", "rejected": "4", "history": [["x"]]})[0][1]
    )


def test_sharegpt_preference_with_function_calls(tmp_path: Path) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Rain in Bonn?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bonn"}}'},
            {"from": "observation", "value": "rain"},
        ],
        "chosen": {"from": "gpt", "value": "Yes."},
        "rejected": {"from": "gpt", "value": "No."},
        "system": "Be brief.",
        "tools": '[{"name": "weather"}]',
    }
    (one,) = read(tmp_path, row)
    assert one.prompt.messages_json() == [
        *CALLING[:2],
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "rain"},
    ]
    assert one.prompt.tool_list == [{"name": "weather"}]
    assert (one.pair.a.text, one.pair.b.text) == ("Yes.", "No.")
    assert read_prompts(tmp_path / "rows.jsonl").rows == (one.prompt,)
    bad = row | {"conversations": [{"from": "cat", "value": "mew"}]}
    assert "is from 'cat'" in rejects(tmp_path, bad)[0][1]
    bad = row | {"conversations": [{"from": "function_call", "value": "weather()"}]}
    assert "not the JSON of name and arguments" in rejects(tmp_path, bad)[0][1]


def test_sharegpt_demonstrations(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": " Hello."}]}
    (one,) = read_demonstrations(lines(tmp_path / "d.jsonl", row)).rows
    assert (one.prompt, one.response) == (Prompt.from_text("Hi?"), " Hello.")


# --- UltraFeedback ---------------------------------------------------------------------------------------


def completion(text: str, overall: Any, **ratings: str) -> dict[str, Any]:
    """A completion as openbmb/UltraFeedback has it: ratings are texts."""
    annotations = {name: {"Rating": value, "Rationale": "…"} for name, value in ratings.items()}
    return {"model": text, "response": text, "annotations": annotations, "overall_score": overall}


def test_ultrafeedback_takes_aspect_means_over_the_wrong_overall_score(tmp_path: Path) -> None:
    row = {
        "source": "evol_instruct",
        "instruction": "Go",
        "completions": [
            # means: (1 + 2 + N/A) / 2 = 1.5, overall 10 though the worst; (4 + 5 + 3 + 4) / 4 = 4
            completion("w", 10, helpfulness="1", honesty="2", truthfulness="N/A"),
            completion("x", 7.5, helpfulness="4", honesty="5", truthfulness="3", instruction_following="4"),
            {"model": "y", "response": "y", "overall_score": 10},  # no aspects: a 10 says nothing
            {
                "model": "z",
                "response": "z",
                "annotations": {},
                "fine-grained_score": 4.0,
                "overall_score": 10,
            },
        ],
    }
    got = read(tmp_path, row)
    assert [(one.pair.a.text, one.pair.b.text, one.verdict, one.strength) for one in got] == [
        ("w", "x", "b", 2.5),
        ("w", "z", "b", 2.5),
        ("x", "z", "tie", 0.0),
    ]
    assert {one.source for one in got} == {"evol_instruct"}
    bad = row | {"completions": [completion("w", 1, helpfulness="good"), completion("x", 2)]}
    assert rejects(tmp_path, bad) == [(1, "the rating of helpfulness must be a finite number, not 'good'")]


# --- Argilla ---------------------------------------------------------------------------------------------

FIELDS = {"prompt": "Hi?", "response-1": "x", "response-2": "y"}


def test_argilla_flat_records_submitted_only(tmp_path: Path) -> None:
    """Columns as argilla 2.8's records.to_list(flatten=True) and to_datasets() name them."""
    row = FIELDS | {
        "id": "7",
        "status": "completed",
        "_server_id": "…",
        "preference.responses": ["response-1", "response-2", "tie", "response-2"],
        "preference.responses.users": ["u1", "u2", "u3", "u4"],
        "preference.responses.status": ["submitted", "draft", "submitted", "discarded"],
        "comment.responses": ["fine", None, None, None],
        "comment.responses.users": ["u1", "u2", "u3", "u4"],
        "comment.responses.status": ["submitted", "draft", "submitted", "discarded"],
    }
    got = read(tmp_path, row)
    assert [(one.annotator, one.verdict) for one in got] == [("u1", "a"), ("u3", "tie")]
    assert (got[0].pair.a.text, got[0].pair.b.text, got[0].meta) == ("x", "y", {"id": "7"})
    row["preference.responses.status"] = ["draft"] * 4
    assert "no submitted response" in rejects(tmp_path, row)[0][1]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ("A", "a"),
        ("2", "b"),
        ("response-2", "b"),
        ("both_bad", "both_bad"),
        ([{"value": "response-1", "rank": 2}, {"value": "response-2", "rank": 1}], "b"),
        ([{"value": "response-1", "rank": 1}, {"value": "response-2", "rank": 1}], "tie"),
    ],
)
def test_argilla_feedback_records_and_every_kind_of_answer(tmp_path: Path, value: Any, verdict: str) -> None:
    response = {"user_id": "u1", "values": {"preference": {"value": value}}, "status": "submitted"}
    row = {"fields": FIELDS, "metadata": {}, "responses": [response, response | {"status": "draft"}]}
    (one,) = read(tmp_path, row)
    assert (one.verdict, one.annotator) == (verdict, "u1")
    nested = {"preference": [{"value": value, "user_id": "u1", "status": "submitted"}]}
    assert read(tmp_path, row | {"responses": nested}) == (one,)
    # argilla 2's nested export does not say which responses were submitted
    silent = {"preference": [{"value": value, "user_id": "u1"}]}
    assert "no submitted response" in rejects(tmp_path, row | {"responses": silent})[0][1]


def test_argilla_records_that_cannot_be_understood(tmp_path: Path) -> None:
    def row(fields: Any, **values: Any) -> dict[str, Any]:
        given = {name: {"value": value} for name, value in values.items()}
        return {"fields": fields, "responses": [{"user_id": "u", "values": given, "status": "submitted"}]}

    assert "2 answer fields" in rejects(tmp_path, row(FIELDS | {"response-3": "z"}, preference="A"))[0][1]
    assert "holds a prompt" in rejects(tmp_path, row({"response-1": "x", "response-2": "y"}, q="A"))[0][1]
    assert "both answered" in rejects(tmp_path, row(FIELDS, clearer="A", safer="B"))[0][1]


# --- SafeRLHF, UltraInteract, rankings -------------------------------------------------------------------

SAFE = {
    "prompt": "Hi?",
    "response_0": "x",
    "response_1": "y",
    "is_response_0_safe": False,
    "is_response_1_safe": True,
    "better_response_id": 0,
    "safer_response_id": 1,
}


def test_safe_rlhf_makes_the_user_choose(tmp_path: Path) -> None:
    path = lines(tmp_path / "safe.jsonl", SAFE)
    with pytest.raises(BadInput) as error:
        read_comparisons(path)
    assert str(error.value) == (
        f"{path} (SafeRLHF) answers several questions at once, and none was chosen: "
        "give the criterion as one of helpful, harmless, all"
    )
    with pytest.raises(BadInput, match="'safe' is none of them"):
        read_comparisons(path, criterion="safe")
    (helpful,) = read(tmp_path, SAFE, criterion="helpful")
    (harmless,) = read(tmp_path, SAFE, criterion="harmless")
    assert (helpful.verdict, helpful.criterion) == ("a", "helpful")
    assert (harmless.verdict, harmless.criterion) == ("b", "harmless")
    assert read(tmp_path, SAFE, criterion="all") == (helpful, harmless)
    with pytest.raises(BadInput, match="safer_response_id is '2': it must be 0 or 1"):
        read(tmp_path, SAFE | {"safer_response_id": 2}, criterion="all")


def test_a_criterion_selects_among_rows_that_name_theirs(tmp_path: Path) -> None:
    row = {"prompt": "Hi?", "a": "x", "b": "y", "verdict": "a"}
    path = lines(tmp_path / "c.jsonl", row | {"criterion": "helpful"}, row | {"criterion": "harmless"}, row)
    assert [one.criterion for one in read_comparisons(path).rows] == ["helpful", "harmless", ""]
    found = read_comparisons(path, criterion="harmless")
    assert [one.criterion for one in found.rows] == ["harmless"]
    assert found.mapping.endswith("of the criterion harmless only")


def test_ultrainteract_trajectories(tmp_path: Path) -> None:
    """Columns of openbmb/UltraInteract_pair."""
    row = {
        "task": "Math",
        "id": "7_1",
        "parent_id": "7_0",
        "trajectory": [
            {"from": "user", "value": "Solve."},
            {"from": "assistant", "value": "Step 1"},
            {"from": "user", "value": "Observation: wrong"},
        ],
        "chosen": "Step 2: 4",
        "rejected": "Step 2: 5",
    }
    (one,) = read(tmp_path, row)
    assert turns(one.prompt) == [("user", "Solve."), ("assistant", "Step 1"), ("user", "Observation: wrong")]
    assert (one.pair.a.text, one.pair.b.text) == ("Step 2: 4", "Step 2: 5")
    assert one.meta == {"id": "7_1"}


def test_a_ranking_is_a_comparison_of_every_two(tmp_path: Path) -> None:
    row = {"prompt": "Hi?", "responses": ["x", {"text": "y", "policy": "m"}, "z"], "ranks": [2, 1, 2]}
    got = read(tmp_path, row | {"annotator": "ann", "criterion": "helpful"})
    assert [(one.pair.a.text, one.pair.b.text, one.verdict) for one in got] == [
        ("x", "y", "b"),
        ("x", "z", "tie"),
        ("y", "z", "a"),
    ]
    assert {(one.annotator, one.criterion) for one in got} == {("ann", "helpful")}
    assert got[0].pair.b.policy == "m"
    assert "2 responses or more" in rejects(tmp_path, row | {"responses": ["x"], "ranks": [1]})[0][1]
    assert "one length" in rejects(tmp_path, row | {"ranks": [1]})[0][1]


def test_messages_keep_what_templates_read_and_nothing_else() -> None:
    value = {"role": "tool", "content": "rain", "name": "weather", "tool_call_id": "7", "weight": 1}
    message = Message.from_json(value)
    assert message.to_json() == {"role": "tool", "content": "rain", "name": "weather", "tool_call_id": "7"}
    assert Message.from_json({"role": "user", "content": "Hi?", "name": None}) == Message("user", "Hi?")
