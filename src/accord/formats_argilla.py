"""Records exported from Argilla: people's answers to a preference question, the submitted ones only.

Argilla lets people name fields and questions as they like. Read are records with a field for the prompt
(prompt, instruction, question, input or context) and two fields for the answers (response, completion, answer
or generation with a number or a letter, or chosen and rejected); and with one question that is answered by
the name of an answer, by its place (A or 1, B or 2), by a tie, or by a ranking of the two.

Three shapes of export are known: `FeedbackDataset` records (``fields``, and ``responses`` by user),
`Dataset.records.to_list(flatten=True)` or `to_datasets()` (a column ``QUESTION.responses`` beside
``QUESTION.responses.users`` and ``QUESTION.responses.status``), and the nested form of the same if its
responses say their status. A response that does not say that it was submitted is not counted as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from accord.formats_comparison import Columns, labelled, pair_of
from accord.formats_messages import BadRow, prompt_of, response_of
from accord.records import Comparison, Response, Verdict

PROMPT_FIELDS = ("prompt", "instruction", "question", "input", "context")
ANSWER_FIELD = re.compile(r"(response|completion|answer|generation)[ _-]?(\d|[a-zA-Z])", re.IGNORECASE)
RESPONSES = ".responses"
PLACES = {"a": 0, "1": 0, "b": 1, "2": 1}
OTHERS: dict[str, Verdict] = {
    "tie": "tie",
    "equal": "tie",
    "both": "tie",
    "both_good": "tie",
    "both_bad": "both_bad",
    "neither": "both_bad",
    "skip": "skip",
}


def is_argilla(row: Columns) -> bool:
    """Whether a row looks like a record of one of the three shapes."""
    return any(name.endswith(RESPONSES) and f"{name}.status" in row for name in map(str, row)) or (
        isinstance(row.get("fields"), dict) and "responses" in row
    )


def read_argilla(row: Columns, file: str) -> list[Comparison]:
    """One comparison for each submitted answer to the preference question."""
    fields = row["fields"] if isinstance(row.get("fields"), dict) else row
    prompt_field = next((name for name in PROMPT_FIELDS if fields.get(name)), None)
    if prompt_field is None:
        raise BadRow(f"none of the fields {', '.join(PROMPT_FIELDS)} holds a prompt")
    names = _answer_fields(fields)
    prompt = prompt_of(fields[prompt_field], prompt_field)
    pair = pair_of(prompt, *(Response(response_of(fields[name], name)) for name in names))
    out, questions = [], set()
    for question, user, value in _submitted(row):
        verdict = _verdict(value, names)
        if verdict is None:  # another question: a text, a rating, a span
            continue
        questions.add(question)
        given = {"annotator": user, "source": row.get("source"), "id": row.get("id")}
        out.append(labelled(given, file, pair, verdict, None))
    if len(questions) > 1:
        raise BadRow(f"{' and '.join(sorted(questions))} are both answered by a preference: keep one of them")
    if not out:
        raise BadRow("no submitted response names one of the two answers or a tie")
    return out


def _answer_fields(fields: Mapping[str, Any]) -> tuple[str, str]:
    names = sorted(
        name for name, value in fields.items() if ANSWER_FIELD.fullmatch(str(name)) and value is not None
    )
    if not names and fields.get("chosen") is not None and fields.get("rejected") is not None:
        names = ["chosen", "rejected"]
    if len(names) != 2:
        raise BadRow(f"there must be 2 answer fields such as response_a and response_b, not {len(names)}")
    return names[0], names[1]


def _submitted(row: Columns) -> Iterator[tuple[str, str, Any]]:
    """(question, user, value) of every response with the status submitted."""
    for name in map(str, row):
        if name.endswith(RESPONSES):
            yield from _flat(row, name)
    responses = row.get("responses")
    if isinstance(responses, list):  # FeedbackDataset: one object a user, with a value for each question
        for response in responses:
            if isinstance(response, dict) and response.get("status") == "submitted":
                values = response.get("values")
                for question, given in (values if isinstance(values, dict) else {}).items():
                    yield question, _user(response), given.get("value") if isinstance(given, dict) else None
    elif isinstance(responses, dict):
        for question, answers in responses.items():
            for answer in answers if isinstance(answers, list) else []:
                if isinstance(answer, dict) and answer.get("status") == "submitted":
                    yield question, _user(answer), answer.get("value")


def _flat(row: Columns, name: str) -> Iterator[tuple[str, str, Any]]:
    columns = [row[name], row.get(f"{name}.users"), row.get(f"{name}.status")]
    if row[name] is None:
        return
    if not all(isinstance(one, list) and len(one) == len(row[name]) for one in columns):
        raise BadRow(f"{name}, {name}.users and {name}.status must be lists of one length")
    for value, user, status in zip(*columns, strict=True):
        if status == "submitted":
            yield name.removesuffix(RESPONSES), user if isinstance(user, str) else "", value


def _user(response: Mapping[str, Any]) -> str:
    user = response.get("user_id")
    return user if isinstance(user, str) else ""


def _verdict(value: Any, names: tuple[str, str]) -> Verdict | None:
    """What an answer to a preference question says; None where it is an answer to something else."""
    if isinstance(value, list):
        ranks = {
            one.get("value"): one.get("rank")
            for one in value
            if isinstance(one, dict) and isinstance(one.get("value"), str)
        }
        first, second = ranks.get(names[0]), ranks.get(names[1])
        if not isinstance(first, int) or not isinstance(second, int):
            return None
        return "tie" if first == second else "a" if first < second else "b"
    if not isinstance(value, str):
        return None
    if value in names:
        return "a" if value == names[0] else "b"
    said = value.strip().casefold()
    place = PLACES.get(said)
    if place is None:
        return OTHERS.get(said)
    return "a" if place == 0 else "b"
