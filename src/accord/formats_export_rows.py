"""One comparison with a winner (or the judgements of one pair) as a row of each of the field's formats.

A function here only lays out the row. Whether the format can really hold what is in it (a transcript whose
text has a marker in it cannot) is found by reading the row again, in `formats_export`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from accord.formats_messages import BadRow
from accord.records import Comparison, Message, Prompt, Response

Row = dict[str, Any]


def _assistant(response: Response) -> Row:
    return {"role": "assistant", "content": response.text}


def _sides(one: Comparison) -> tuple[Response, Response]:
    chosen, rejected = one.chosen, one.rejected
    assert chosen is not None  # `formats_export` gives only comparisons with a winner
    assert rejected is not None
    return chosen, rejected


def _tools(prompt: Prompt) -> Row:
    return {"tools": prompt.tool_list} if prompt.tools else {}


def single_turn(prompt: Prompt, name: str) -> str:
    """The prompt as one text; refused where it is more than one user turn."""
    if len(prompt.messages) != 1 or prompt.messages[0].role != "user" or prompt.tools:
        raise BadRow(f"{name} holds a prompt of one user turn only")
    return prompt.messages[0].content


def trl(one: Comparison) -> list[Row]:
    chosen, rejected = _sides(one)
    row = {"prompt": one.prompt.messages_json(), "chosen": [_assistant(chosen)]}
    return [row | {"rejected": [_assistant(rejected)]} | _tools(one.prompt)]


def trl_implicit(one: Comparison) -> list[Row]:
    before = one.prompt.messages_json()
    chosen, rejected = ([*before, _assistant(side)] for side in _sides(one))
    return [{"chosen": chosen, "rejected": rejected} | _tools(one.prompt)]


def trl_text(one: Comparison) -> list[Row]:
    chosen, rejected = _sides(one)
    prompt = single_turn(one.prompt, "TRL's standard format")
    return [{"prompt": prompt, "chosen": chosen.text, "rejected": rejected.text}]


def kto(one: Comparison) -> list[Row]:
    prompt = {"prompt": one.prompt.messages_json()} | _tools(one.prompt)
    return [
        prompt | {"completion": [_assistant(side)], "label": good}
        for side, good in zip(_sides(one), (True, False), strict=True)
    ]


def hh(one: Comparison) -> list[Row]:
    names = {"user": "Human", "assistant": "Assistant"}
    other = [message.role for message in one.prompt.messages if message.role not in names]
    if other or one.prompt.tools or any(message.extra for message in one.prompt.messages):
        raise BadRow("HH transcripts hold turns of users and assistants only, and no tools")
    before = "".join(f"\n\n{names[m.role]}: {m.content}" for m in one.prompt.messages)
    chosen, rejected = (f"{before}\n\nAssistant: {side.text}" for side in _sides(one))
    return [{"chosen": chosen, "rejected": rejected}]


def openai(one: Comparison) -> list[Row]:
    chosen, rejected = _sides(one)
    given = {"messages": one.prompt.messages_json()} | _tools(one.prompt)
    row: Row = {"input": given, "preferred_output": [_assistant(chosen)]}
    return [row | {"non_preferred_output": [_assistant(rejected)]}]


def alpaca(one: Comparison) -> list[Row]:
    turns = list(one.prompt.messages)
    row: Row = {"instruction": "", "input": ""}
    if turns[0].role == "system":
        row["system"] = turns.pop(0).content
    roles = [turn.role for turn in turns]
    extra = one.prompt.tools or any(turn.extra for turn in turns)
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"] or extra:
        raise BadRow("alpaca rows hold a system text and turns of user and assistant by turns, and no tools")
    row["instruction"] = turns[-1].content
    if len(turns) > 1:
        row["history"] = [[turns[i].content, turns[i + 1].content] for i in range(0, len(turns) - 1, 2)]
    chosen, rejected = _sides(one)
    return [row | {"chosen": chosen.text, "rejected": rejected.text}]


SHAREGPT_NAMES = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}


def _turn(message: Message) -> Row:
    extra = json.loads(message.extra) if message.extra else {}
    calls = extra.pop("tool_calls", None)
    if extra or (calls and message.content):
        raise BadRow("sharegpt turns hold a text, or function calls, and nothing else")
    if calls:
        functions = [call.get("function") if isinstance(call, dict) else None for call in calls]
        said = functions[0] if len(functions) == 1 else functions
        return {"from": "function_call", "value": json.dumps(said, ensure_ascii=False)}
    return {"from": SHAREGPT_NAMES[message.role], "value": message.content}


def sharegpt(one: Comparison) -> list[Row]:
    chosen, rejected = ({"from": "gpt", "value": side.text} for side in _sides(one))
    row: Row = {"conversations": [_turn(message) for message in one.prompt.messages]}
    if one.prompt.tools:  # LLaMA-Factory wants them as text
        row["tools"] = json.dumps(one.prompt.tool_list, ensure_ascii=False)
    return [row | {"chosen": chosen, "rejected": rejected}]


def ultrainteract(one: Comparison) -> list[Row]:
    if one.prompt.tools or any(m.extra or m.role not in ("user", "assistant") for m in one.prompt.messages):
        raise BadRow("UltraInteract's trajectory holds turns of user and assistant only, and no tools")
    chosen, rejected = _sides(one)
    turns = [{"from": message.role, "value": message.content} for message in one.prompt.messages]
    return [{"trajectory": turns, "chosen": chosen.text, "rejected": rejected.text}]


def ultrafeedback(one: Comparison) -> list[Row]:
    """Two rated completions: the winner's rating is above the loser's by the strength, or by 1."""
    prompt = single_turn(one.prompt, "UltraFeedback")
    gap = one.strength if one.strength is not None and one.strength > 0 else 1.0
    ratings = {"a": (gap, 0.0), "b": (0.0, gap), "tie": (0.0, 0.0)}[one.verdict]
    completions = [
        {"model": side.policy, "response": side.text, "fine-grained_score": rating}
        for side, rating in zip((one.pair.a, one.pair.b), ratings, strict=True)
    ]
    return [{"instruction": prompt, "completions": completions}]


# Rows of one pair


def annotators(judgements: Sequence[Comparison]) -> Row:
    """Every annotator's verdict of one pair."""
    first = judgements[0]
    row: Row = {
        "prompt": first.prompt.to_json(),
        "response_a": first.pair.a.text,
        "response_b": first.pair.b.text,
        "labels": {one.annotator: one.verdict for one in judgements},
        "models": [first.pair.a.policy, first.pair.b.policy],
        "source": first.source,
    }
    if first.strength is not None:
        row["strength"] = first.strength
    return row | ({"criterion": first.criterion} if first.criterion else {})


ARGILLA_VALUES = {"a": "response_a", "b": "response_b", "tie": "tie", "both_bad": "both_bad"}


def argilla(judgements: Sequence[Comparison]) -> Row:
    """As Argilla 2 exports a record of two text fields and a label question named preference."""
    first = judgements[0]
    messages = first.prompt.messages
    text = len(messages) == 1 and messages[0].role == "user" and not first.prompt.tools
    return {
        "id": first.pair.id,
        "status": "completed",
        "prompt": messages[0].content if text else first.prompt.to_json(),
        "response_a": first.pair.a.text,
        "response_b": first.pair.b.text,
        "preference.responses": [ARGILLA_VALUES[one.verdict] for one in judgements],
        "preference.responses.users": [one.annotator for one in judgements],
        "preference.responses.status": ["submitted"] * len(judgements),
    }


def saferlhf(judgements: Sequence[Comparison]) -> Row:
    """One annotator's two verdicts of one pair: helpful and harmless."""
    said = {one.criterion: one.verdict for one in judgements}
    if set(said) != {"helpful", "harmless"} or set(said.values()) - {"a", "b"}:
        raise BadRow("SafeRLHF needs a winner by both criteria, helpful and harmless, of one annotator")
    first = judgements[0]
    return {
        "prompt": single_turn(first.prompt, "SafeRLHF"),
        "response_0": first.pair.a.text,
        "response_1": first.pair.b.text,
        "better_response_id": 0 if said["helpful"] == "a" else 1,
        "safer_response_id": 0 if said["harmless"] == "a" else 1,
    }
