"""The field's formats of demonstrations (a prompt and the answer to imitate) and of prompts alone."""

from __future__ import annotations

from typing import Any

from accord.formats_comparison import Columns, Format, has_question
from accord.formats_llamafactory import alpaca_prompt, turns_of_row
from accord.formats_messages import (
    BadRow,
    checked_prompt,
    messages_of,
    prompt_of,
    response_of,
    split_answer,
)
from accord.formats_rows import COMPARISON_FORMATS
from accord.formats_unpaired import TAGS
from accord.records import Comparison, Demonstration, Prompt


def _read_response(row: Columns, file: str) -> list[Demonstration]:
    return [Demonstration(prompt_of(row["prompt"]), response_of(row["response"], "response"))]


def _imitable(row: Columns) -> None:
    """Refuses an answer that an unpaired preference row (KTO) calls a bad one."""
    for tag in TAGS:
        if row.get(tag) is False:
            raise BadRow(f"{tag} is false: this answer is not one to imitate")


def _read_completion(row: Columns, file: str) -> list[Demonstration]:
    _imitable(row)
    return [Demonstration(prompt_of(row["prompt"]), response_of(row["completion"], "completion"))]


def _read_conversation(field: str) -> Any:
    def read(row: Columns, file: str) -> list[Demonstration]:
        _imitable(row)
        before, response = split_answer(turns_of_row(row, field), field)
        return [Demonstration(checked_prompt(before, f"{field} without the answer"), response)]

    return read


def _read_instruction(row: Columns, file: str) -> list[Demonstration]:
    _imitable(row)
    return [Demonstration(alpaca_prompt(row), response_of(row["output"], "output"))]


def _of_winners(form: Format[Comparison]) -> Format[Demonstration]:
    def read(row: Columns, file: str) -> list[Demonstration]:
        winners = [(one.prompt, one.chosen) for one in form.records(row, file)]
        out = [Demonstration(prompt, chosen.text) for prompt, chosen in winners if chosen is not None]
        if not out:
            raise BadRow("no answer was preferred: there is nothing to imitate")
        return out

    mapping = f"{form.mapping}; then the preferred answer became the one to imitate"
    return Format(form.name, mapping, form.columns, read, form.fits)


DEMONSTRATION_FORMATS: tuple[Format[Demonstration], ...] = (
    Format("prompt/response", "prompt and response as they are", ("prompt", "response"), _read_response),
    Format("prompt/completion", "completion became the response", ("prompt", "completion"), _read_completion),
    *(  # before messages: UltraFeedback binarised has both
        _of_winners(form) for form in COMPARISON_FORMATS if not form.gather and not form.criteria
    ),
    *(
        Format(
            field,
            f"the last of {field}, an assistant's, became the response, those before it the prompt",
            (field,),
            _read_conversation(field),
        )
        for field in ("messages", "conversations")
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


def _prompt_of_turns(field: str) -> Any:
    def read(row: Columns, file: str) -> list[Prompt]:
        messages = turns_of_row(row, field)
        return [checked_prompt(messages[:-1] if messages[-1].role == "assistant" else messages, field)]

    return read


def _prompt_of_input(row: Columns, file: str) -> list[Prompt]:
    given = row["input"]
    messages = messages_of(given.get("messages") if isinstance(given, dict) else given, "input.messages")
    return [checked_prompt(messages, "input")]


def _of_pairs(form: Format[Comparison]) -> Format[Prompt]:
    def read(row: Columns, file: str) -> list[Prompt]:
        return [form.records(row, file)[0].prompt]

    return Format(form.name, f"{form.mapping}; then the prompt alone", form.columns, read, form.fits)


# Where the prompt has a column of its own, the answers are not looked at: a row with a broken answer
# still has a good prompt.
PROMPT_FORMATS: tuple[Format[Prompt], ...] = (
    Format("prompt", "prompt as it is", ("prompt",), _prompt_of_column("prompt")),
    Format(
        "instruction",
        "instruction and input (and system and history) became the prompt",
        ("instruction",),
        lambda row, file: [alpaca_prompt(row)],
    ),
    Format("question", "question became the prompt", ("question",), _prompt_of_column("question")),
    *(
        Format(
            field,
            f"the {field} without a last assistant message became the prompt",
            (field,),
            _prompt_of_turns(field),
        )
        for field in ("messages", "conversations")
    ),
    Format(
        "OpenAI preference",
        "input.messages became the prompt",
        ("input", "preferred_output"),
        _prompt_of_input,
    ),
    *(_of_pairs(form) for form in COMPARISON_FORMATS if form.fits is not has_question and not form.gather),
)
