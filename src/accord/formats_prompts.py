"""The field's formats of demonstrations (a prompt and the answer to imitate) and of prompts alone."""

from __future__ import annotations

from typing import Any

from accord.formats_comparison import Columns, Format, has_question
from accord.formats_messages import (
    BadRow,
    checked_prompt,
    conversation_of,
    messages_of,
    not_blank,
    prompt_of,
    response_of,
    text_of,
)
from accord.formats_rows import COMPARISON_FORMATS
from accord.records import Comparison, Demonstration, Prompt


def _read_response(row: Columns, file: str) -> list[Demonstration]:
    return [Demonstration(prompt_of(row["prompt"]), response_of(row["response"], "response"))]


def _read_completion(row: Columns, file: str) -> list[Demonstration]:
    if row.get("label") is False:  # an unpaired preference row (KTO) that says: not this answer
        raise BadRow("label is false: this completion is not one to imitate")
    return [Demonstration(prompt_of(row["prompt"]), response_of(row["completion"], "completion"))]


def _read_messages(row: Columns, file: str) -> list[Demonstration]:
    before, response = conversation_of(row["messages"], "messages")
    return [Demonstration(checked_prompt(before, "messages without the answer"), response)]


def _instruction(row: Columns) -> Prompt:
    """Alpaca's instruction; its input, where there is one, follows after a blank line."""
    instruction = not_blank(text_of(row["instruction"], "instruction"), "instruction")
    given = row.get("input")
    text = "" if given is None else text_of(given, "input")
    return Prompt.from_text(f"{instruction}\n\n{text}" if text.strip() else instruction)


def _read_instruction(row: Columns, file: str) -> list[Demonstration]:
    return [Demonstration(_instruction(row), response_of(row["output"], "output"))]


def _of_winners(form: Format[Comparison]) -> Format[Demonstration]:
    def read(row: Columns, file: str) -> list[Demonstration]:
        winners = [(one.prompt, one.chosen) for one in form.read(row, file)]
        out = [Demonstration(prompt, chosen.text) for prompt, chosen in winners if chosen is not None]
        if not out:
            raise BadRow("no answer was preferred: there is nothing to imitate")
        return out

    mapping = f"{form.mapping}; then the preferred answer became the one to imitate"
    return Format(form.name, mapping, form.columns, read, form.fits)


DEMONSTRATION_FORMATS: tuple[Format[Demonstration], ...] = (
    Format("prompt/response", "prompt and response as they are", ("prompt", "response"), _read_response),
    Format("prompt/completion", "completion became the response", ("prompt", "completion"), _read_completion),
    *(_of_winners(form) for form in COMPARISON_FORMATS),  # before messages: UltraFeedback binarised has both
    Format(
        "messages",
        "the last message, an assistant's, became the response, those before it the prompt",
        ("messages",),
        _read_messages,
    ),
    Format(
        "instruction/output",
        "instruction and input became the prompt, output the response",
        ("instruction", "output"),
        _read_instruction,
    ),
)


def _prompt_of_column(column: str) -> Any:
    def read(row: Columns, file: str) -> list[Prompt]:
        return [prompt_of(row[column], column)]

    return read


def _prompt_of_messages(row: Columns, file: str) -> list[Prompt]:
    messages = messages_of(row["messages"], "messages")
    if messages[-1].role == "assistant":
        messages = messages[:-1]
    return [checked_prompt(messages, "messages")]


def _prompt_of_input(row: Columns, file: str) -> list[Prompt]:
    given = row["input"]
    messages = messages_of(given.get("messages") if isinstance(given, dict) else given, "input.messages")
    return [checked_prompt(messages, "input")]


def _of_pairs(form: Format[Comparison]) -> Format[Prompt]:
    def read(row: Columns, file: str) -> list[Prompt]:
        return [form.read(row, file)[0].prompt]

    return Format(form.name, f"{form.mapping}; then the prompt alone", form.columns, read, form.fits)


# Where the prompt has a column of its own, the answers are not looked at: a row with a broken answer
# still has a good prompt.
PROMPT_FORMATS: tuple[Format[Prompt], ...] = (
    Format("prompt", "prompt as it is", ("prompt",), _prompt_of_column("prompt")),
    Format(
        "instruction",
        "instruction and input became the prompt",
        ("instruction",),
        lambda row, file: [_instruction(row)],
    ),
    Format("question", "question became the prompt", ("question",), _prompt_of_column("question")),
    Format(
        "messages",
        "the messages without a last assistant message became the prompt",
        ("messages",),
        _prompt_of_messages,
    ),
    Format(
        "OpenAI preference",
        "input.messages became the prompt",
        ("input", "preferred_output"),
        _prompt_of_input,
    ),
    *(_of_pairs(form) for form in COMPARISON_FORMATS if form.fits is not has_question),
)
