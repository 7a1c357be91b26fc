"""Texts, messages and transcripts out of one row's values, refused with a reason where they cannot be used.

The white space of responses is kept as it is, because it decides their tokens. Of a transcript, only the
markers and the one space after each colon are taken away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from accord.records import MESSAGE_EXTRAS, ROLES, Message, Prompt, extra_json

TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
TRANSCRIPT_ROLES = {"Human": "user", "Assistant": "assistant"}


class BadRow(ValueError):
    """Why one row cannot be used. The reader turns it into a reject with the row's line."""


def text_of(value: Any, field: str) -> str:
    """A text that can be written as UTF-8 (a lone surrogate, which JSON can smuggle in, cannot)."""
    if value is None:
        raise BadRow(f"{field} is missing")
    if not isinstance(value, str):
        raise BadRow(f"{field} must be text, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(f"{field} is not valid Unicode (a lone surrogate)") from None
    return value


def not_blank(text: str, field: str) -> str:
    if not text:
        raise BadRow(f"{field} is empty")
    if not text.strip():
        raise BadRow(f"{field} is empty (white space only)")
    return text


def messages_of(value: Any, field: str) -> tuple[Message, ...]:
    """Chat messages; content may be text or a list of text parts, as in the OpenAI API."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadRow(
            f"{field} must be a list of messages, not {'empty' if value == [] else type(value).__name__}"
        )
    return tuple(_message(item, f"{field}[{index}]") for index, item in enumerate(value))


def _message(value: Any, field: str) -> Message:
    if not isinstance(value, dict) or "role" not in value or "content" not in value:
        raise BadRow(f"{field} must be a message with role and content")
    role = (
        "system" if value["role"] == "developer" else value["role"]
    )  # OpenAI's newer name for the same turn
    if role not in ROLES:
        raise BadRow(f"{field} has the unknown role {str(role)[:40]!r}: known are {', '.join(ROLES)}")
    content = value["content"]
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise BadRow(f"{field} has parts that are not text: accord reads text only")
        content = "".join(text_of(part.get("text"), f"{field}.content") for part in content)
    if content is None and value.get("tool_calls"):
        content = ""  # a turn that only calls tools says nothing
    extra = plain_json({k: value.get(k) for k in MESSAGE_EXTRAS}, field) if len(value) > 2 else ""
    return Message(role, text_of(content, f"{field}.content"), extra)


def plain_json(value: Any, field: str) -> str:
    """The value as canonical JSON text (nulls left out), empty where there is nothing in it."""
    try:
        text = extra_json(value)
        text.encode("utf-8")
    except (TypeError, ValueError):
        raise BadRow(f"{field} holds something that is not plain JSON") from None
    return text


def tools_of(row: Mapping[str, Any]) -> str:
    """The functions that a row offers its assistant, as JSON text: a list, or (as in TRL and LLaMA-Factory)
    the text of one; OpenAI keeps them beside the messages.
    """
    given = row.get("input")
    tools = row.get("tools") or (given.get("tools") if isinstance(given, dict) else None)
    if not tools:
        return ""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise BadRow("tools is a text, but not JSON: give a list of functions") from None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(f"tools must be a list of functions, not {type(tools).__name__}")
    return plain_json(tools, "tools")


def checked_prompt(messages: tuple[Message, ...], field: str = "prompt") -> Prompt:
    """A prompt that asks for an answer: it ends with a user or tool turn that is not blank.

    Earlier turns may be empty: an empty system message switches off a template's default one.
    """
    if not messages:
        raise BadRow(f"{field} has no turn")
    if messages[-1].role not in ("user", "tool"):
        raise BadRow(
            f"{field} ends with a turn of role {messages[-1].role}: the last turn must be the user's"
        )
    not_blank(messages[-1].content, f"the last turn of {field}")
    return Prompt(messages)


def prompt_of(value: Any, field: str = "prompt") -> Prompt:
    """A prompt out of messages, of text (one user turn), or of a transcript that ends with "Assistant:".

    An object of messages and tools is how accord writes a prompt with tools.
    """
    if isinstance(value, dict) and "messages" in value:
        prompt = checked_prompt(messages_of(value["messages"], f"{field}.messages"), field)
        return Prompt(prompt.messages, tools_of(value))
    if not isinstance(value, str):
        if value is None:
            raise BadRow(f"{field} is missing")
        return checked_prompt(messages_of(value, field), field)
    text = not_blank(text_of(value, field), field)
    if is_transcript(text):
        turns = turns_of(text)
        if turns[-1].role == "assistant" and not turns[-1].content.strip():
            return checked_prompt(turns[:-1], field)
    return Prompt.from_text(text)


def response_of(value: Any, field: str) -> str:
    """One answer: text, or one assistant message."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return not_blank(text_of(value, field), field)
    messages = messages_of(value, field)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise BadRow(f"{field} must be exactly one assistant message, not {len(messages)} message(s)")
    return answer_of(messages[0], field)


def answer_of(message: Message, field: str) -> str:
    """The text of an answer. One that calls tools is refused: what would be compared is not its text."""
    if message.extra and "tool_calls" in json.loads(message.extra):
        raise BadRow(f"{field} calls tools: accord compares answers by their text")
    return not_blank(message.content, field)


def conversation_of(value: Any, field: str) -> tuple[tuple[Message, ...], str]:
    """A conversation that ends with the answer, as (turns before it, answer)."""
    return split_answer(messages_of(value, field), field)


def split_answer(messages: tuple[Message, ...], field: str) -> tuple[tuple[Message, ...], str]:
    """(turns before the last, text of the last, which must be the assistant's)."""
    if messages[-1].role != "assistant":
        raise BadRow(
            f"{field} ends with a turn of role {messages[-1].role}: the last turn must be the answer"
        )
    return messages[:-1], answer_of(messages[-1], field)


def is_transcript(text: str) -> bool:
    """Whether a text is an HH transcript: it begins with "Human:" and has an "Assistant:" turn."""
    first = TURN.match(text)
    return first is not None and first[1] == "Human" and "\n\nAssistant:" in text


def turns_of(transcript: str) -> tuple[Message, ...]:
    """The turns of an HH transcript.

    Two turns of one role in a row are merged, with a blank line between them: that is the text which stood
    there without the second marker, and chat templates want roles that alternate. An empty one is dropped.
    """
    if not is_transcript(transcript):
        raise BadRow("the transcript must begin with 'Human:' and hold an 'Assistant:' turn")
    markers = list(TURN.finditer(transcript))
    ends = [marker.start() for marker in markers[1:]] + [len(transcript)]
    turns: list[Message] = []
    for marker, end in zip(markers, ends, strict=True):
        role = TRANSCRIPT_ROLES[marker[1]]
        content = transcript[marker.end() : end].removeprefix(" ")
        if turns and turns[-1].role == role:
            both = [part for part in (turns.pop().content, content) if part.strip()]
            content = "\n\n".join(both)
        turns.append(Message(role, content))
    return tuple(turns)


def split_transcript(transcript: str, field: str) -> tuple[tuple[Message, ...], str]:
    """An HH transcript, split at its last assistant turn."""
    turns = turns_of(text_of(transcript, field))
    if turns[-1].role != "assistant":
        raise BadRow(f"{field} ends with a Human turn: there is no answer to compare")
    return turns[:-1], not_blank(turns[-1].content, field)


def split_common_prompt(chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """The prompt that two whole texts share (TRL's implicit prompt), never ending inside a word.

    "The sky is blue." and "The sky is blurred." share "The sky is"; the white space goes to the answers.
    """
    differs = (place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    shared = next(differs, min(len(chosen), len(rejected)))
    ends_word = all(text[shared : shared + 1].strip() == "" for text in (chosen, rejected))
    prefix = chosen[:shared]
    if not ends_word or prefix != prefix.rstrip():
        # Back over the word that the texts share only a part of, and over the white space before it.
        prefix = re.sub(r"\s+\S*\Z", "", prefix) if re.search(r"\s", prefix) else ""
    if not prefix.strip():
        raise BadRow("chosen and rejected share no beginning: give the prompt in a column of its own")
    answers = chosen[len(prefix) :], rejected[len(prefix) :]
    for field, answer in zip(("chosen", "rejected"), answers, strict=True):
        not_blank(answer, f"{field}, without the beginning that both sides share,")
    return Prompt.from_text(prefix), *answers
