"""LLaMA-Factory's two families of rows: alpaca (instruction, input) and sharegpt (turns of from and value).

An instruction and its input are joined by a line break, as LLaMA-Factory does it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from accord.formats_comparison import Columns, preferred
from accord.formats_messages import (
    BadRow,
    checked_prompt,
    messages_of,
    not_blank,
    response_of,
    text_of,
)
from accord.records import Comparison, Message, Prompt

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
}


def alpaca_prompt(row: Columns) -> Prompt:
    """system, history (earlier question and answer pairs), then instruction and input as one user turn."""
    turns: list[Message] = _system(row)
    history = row.get("history") or []
    if not isinstance(history, list):
        raise BadRow(f"history must be a list of question and answer pairs, not {type(history).__name__}")
    for number, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadRow(f"history[{number}] must be a question and an answer")
        turns.append(Message("user", text_of(pair[0], f"history[{number}]")))
        turns.append(Message("assistant", text_of(pair[1], f"history[{number}]")))
    instruction = not_blank(text_of(row["instruction"], "instruction"), "instruction")
    given = row.get("input")
    text = "" if given is None else text_of(given, "input")
    turns.append(Message("user", f"{instruction}\n{text}" if text.strip() else instruction))
    return Prompt(tuple(turns))


def _system(row: Columns) -> list[Message]:
    system = row.get("system")
    return [] if system in (None, "") else [Message("system", text_of(system, "system"))]


def read_alpaca(row: Columns, file: str) -> list[Comparison]:
    """A preference row: instruction, input, system, history, chosen, rejected."""
    chosen, rejected = response_of(row["chosen"], "chosen"), response_of(row["rejected"], "rejected")
    return preferred(row, file, alpaca_prompt(row), chosen, rejected)


def turn_of(turn: Any, field: str) -> Any:
    """A ShareGPT turn ({from, value}) as a message; a message is left as it is."""
    if not isinstance(turn, Mapping) or "from" not in turn or "value" not in turn:
        return turn
    name = turn["from"]
    if name == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(turn["value"], field)}
    if name not in SHAREGPT_ROLES:
        known = ", ".join([*SHAREGPT_ROLES, "function_call"])
        raise BadRow(f"{field} is from {str(name)[:40]!r}: known are {known}")
    return {"role": SHAREGPT_ROLES[name], "content": turn["value"]}


def _calls(value: Any, field: str) -> list[dict[str, Any]]:
    """LLaMA-Factory writes a call as the JSON text of {name, arguments}, several as a list of them."""
    try:
        calls = json.loads(text_of(value, field))
    except (ValueError, RecursionError):
        calls = None
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) and "name" in call for call in calls):
        raise BadRow(f"{field} is a function call, but not the JSON of name and arguments")
    return [{"type": "function", "function": call} for call in calls]


def turns_of_row(row: Columns, field: str) -> tuple[Message, ...]:
    """The turns in a column, ShareGPT's or messages; in ShareGPT rows the system text is a column before."""
    value = row[field]
    if isinstance(value, list):
        value = [turn_of(turn, f"{field}[{i}]") for i, turn in enumerate(value)]
    turns = messages_of(value, field)
    return (*_system(row), *turns) if field == "conversations" else turns


def read_sharegpt(row: Columns, file: str) -> list[Comparison]:
    """A preference row: conversations up to the question, then chosen and rejected as one turn each."""
    prompt = checked_prompt(turns_of_row(row, "conversations"), "conversations")
    chosen, rejected = (response_of(turn_of(row[side], side), side) for side in ("chosen", "rejected"))
    return preferred(row, file, prompt, chosen, rejected)


def read_trajectory(row: Columns, file: str) -> list[Comparison]:
    """UltraInteract: a trajectory of several turns, then two next actions, one right and one wrong."""
    prompt = checked_prompt(turns_of_row(row, "trajectory"), "trajectory")
    chosen, rejected = response_of(row["chosen"], "chosen"), response_of(row["rejected"], "rejected")
    return preferred(row, file, prompt, chosen, rejected)
