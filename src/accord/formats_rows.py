"""The field's comparison formats: one row in, one or more `Comparison` out.

Each format is one entry of ``COMPARISON_FORMATS``: its name, what became what, the columns it needs, and the
function that reads a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from accord.formats_comparison import (
    Columns,
    Format,
    has_question,
    labelled,
    meta_of,
    number_of,
    pair_of,
    policies_of,
    preferred,
    question_of,
    text_or_empty,
    verdict_of,
)
from accord.formats_messages import (
    BadRow,
    checked_prompt,
    conversation_of,
    is_transcript,
    messages_of,
    not_blank,
    prompt_of,
    response_of,
    split_common_prompt,
    split_transcript,
    text_of,
)
from accord.records import Comparison, Message, Pair, Prompt, Response, Verdict


def _read_canonical(row: Columns, file: str) -> list[Comparison]:
    """accord's own rows. An answer may be blank here if it carries the tokens that a policy really sampled
    (an end token at once is an answer too); text alone must not be blank.
    """
    sides = [_read_side(row[side], side) for side in ("a", "b")]
    pair_of(prompt := prompt_of(row["prompt"]), *sides)
    shown = row.get("shown_left")
    if shown not in ("a", "b", None):
        raise BadRow(f"shown_left is {str(shown)[:40]!r}: it must be a or b")
    round_ = number_of(row.get("round"), "round") or 0
    if round_ != int(round_) or round_ < 0:
        raise BadRow(f"round must be a whole number from 0, not {round_:g}")
    pair = Pair(prompt, sides[0], sides[1], shown or "a", int(round_))
    strength = number_of(row.get("strength"), "strength")
    annotator, source = (text_or_empty(row.get(field), field) for field in ("annotator", "source"))
    return [
        Comparison(pair, verdict_of(row["verdict"], "verdict"), annotator, strength, source, meta_of(row))
    ]


def _read_side(value: Any, side: str) -> Response:
    if isinstance(value, str):
        return Response(not_blank(text_of(value, side), side))
    if not isinstance(value, dict):
        raise BadRow(f"{side} must be a response (text, or an object with text), not {type(value).__name__}")
    text = text_of(value.get("text"), f"{side}.text")
    tokens = value.get("tokens")
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        raise BadRow(f"{side}.tokens must be a list of token ids")
    finished = True if value.get("finished") is None else value["finished"]
    if not isinstance(finished, bool):
        raise BadRow(f"{side}.finished must be true or false")
    if not tokens:
        not_blank(text, f"{side}.text")
    policy = text_or_empty(value.get("policy"), f"{side}.policy")
    return Response(text, tuple(tokens) if tokens is not None else None, finished, policy)


def _read_openai(row: Columns, file: str) -> list[Comparison]:
    given = row["input"]
    messages = messages_of(given.get("messages") if isinstance(given, dict) else given, "input.messages")
    chosen = response_of(row["preferred_output"], "preferred_output")
    rejected = response_of(row["non_preferred_output"], "non_preferred_output")
    return preferred(row, file, checked_prompt(messages, "input"), chosen, rejected)


def _read_annotators(row: Columns, file: str) -> list[Comparison]:
    """Every annotator's label is a comparison of its own; one unreadable label rejects the whole row."""
    answers = [response_of(row[f"response_{side}"], f"response_{side}") for side in ("a", "b")]
    policies = policies_of(row, "model_a", "model_b")
    sides = [Response(text, policy=policy) for text, policy in zip(answers, policies, strict=True)]
    pair = pair_of(question_of(row), *sides)
    strength = number_of(row.get("strength"), "strength")
    if "labels" not in row:
        return [labelled(row, file, pair, verdict_of(row["label"], "label"), strength)]
    labels = row["labels"]
    # A table gives every row a column for every annotator: null is "did not judge this one".
    given = (
        {who: label for who, label in labels.items() if label is not None} if isinstance(labels, dict) else {}
    )
    if not given:
        raise BadRow("labels must be an object of annotator: verdict, with at least one verdict")
    return [
        labelled(dict(row) | {"annotator": who}, file, pair, verdict_of(label, f"labels.{who}"), strength)
        for who, label in given.items()
    ]


def _read_transcripts(row: Columns, file: str) -> list[Comparison]:
    before, chosen = split_transcript(row["chosen"], "chosen")
    other, rejected = split_transcript(row["rejected"], "rejected")
    if before != other:
        raise BadRow(
            "chosen and rejected differ before the last Assistant turn: they answer different prompts"
        )
    return preferred(row, file, checked_prompt(before), chosen, rejected)


def _read_explicit(row: Columns, file: str) -> list[Comparison]:
    """Answers alone, or whole conversations that repeat the prompt (UltraFeedback binarised)."""
    prompt, chosen, rejected = question_of(row), row["chosen"], row["rejected"]
    if any(isinstance(side, list) and len(side) > 1 for side in (chosen, rejected)):
        (before, chosen), (other, rejected) = (
            conversation_of(row[side], side) for side in ("chosen", "rejected")
        )
        if before != other:
            raise BadRow(
                "chosen and rejected differ before their last message: they answer different prompts"
            )
        if before:
            prompt = _repeated(prompt, before)
    return preferred(row, file, prompt, response_of(chosen, "chosen"), response_of(rejected, "rejected"))


def _repeated(prompt: Prompt, before: tuple[Message, ...]) -> Prompt:
    """The turns before the answer, which must be the prompt again; they may add a system message to it."""
    if Prompt(before[-len(prompt.messages) :]).key != prompt.key:
        raise BadRow("the conversations in chosen and rejected do not repeat the prompt of their row")
    return checked_prompt(before)


def _read_implicit(row: Columns, file: str) -> list[Comparison]:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        parts = split_common_prompt(text_of(chosen, "chosen"), text_of(rejected, "rejected"))
        return preferred(row, file, *parts)
    (before, chosen), (other, rejected) = (
        conversation_of(row[side], side) for side in ("chosen", "rejected")
    )
    if before != other:
        raise BadRow("chosen and rejected differ before their last message: they answer different prompts")
    if not before:
        raise BadRow("chosen and rejected hold an answer only: give the prompt in a column of its own")
    return preferred(row, file, checked_prompt(before, "chosen"), chosen, rejected)


def _read_rated(row: Columns, file: str) -> list[Comparison]:
    """UltraFeedback with K rated answers: every pair, in the row's order, so that the side tells nothing."""
    prompt = question_of(row)
    answers = [
        (Response(text_of(text, "an answer"), policy=model), rating)
        for text, model, rating in _rated_answers(row)
        if rating is not None and isinstance(text, str) and text.strip()
    ]
    out: list[Comparison] = []
    for (a, rating_a), (b, rating_b) in combinations(answers, 2):
        if a.text != b.text:
            verdict: Verdict = "tie" if rating_a == rating_b else "a" if rating_a > rating_b else "b"
            out.append(
                labelled(
                    row,
                    file,
                    Pair(prompt, a, b),
                    verdict,
                    number_of(abs(rating_a - rating_b), "the difference of ratings"),
                )
            )
    if not out:
        raise BadRow("there are no two different answers that have a rating and are not empty")
    return out


def _rated_answers(row: Columns) -> Iterator[tuple[Any, str, float | None]]:
    """(text, model, rating) of every answer in a row of either UltraFeedback form."""
    if "completions" in row:
        completions = row["completions"]
        if not isinstance(completions, list) or not all(isinstance(one, dict) for one in completions):
            raise BadRow("completions must be a list of objects with response and overall_score")
        for one in completions:
            rating = one.get("fine-grained_score")
            rating = one.get("overall_score") if rating is None else rating
            yield (
                one.get("response"),
                text_or_empty(one.get("model"), "model"),
                number_of(rating, "the rating of an answer"),
            )
        return
    texts, ratings = row["generations"], row["ratings"]
    if not isinstance(texts, list) or not isinstance(ratings, list) or len(texts) != len(ratings):
        raise BadRow("generations and ratings must be two lists of one length")
    models: list[Any] = next(
        (row[name] for name in ("model_names", "models") if isinstance(row.get(name), list)), []
    )
    models = models if len(models) == len(texts) else [""] * len(texts)
    for text, rating, model in zip(texts, ratings, models, strict=True):
        yield text, text_or_empty(model, "model"), number_of(rating, "ratings")


def _both_transcripts(row: Columns) -> bool:
    sides = [row["chosen"], row["rejected"]]
    return not has_question(row) and all(isinstance(side, str) and is_transcript(side) for side in sides)


COMPARISON_FORMATS: tuple[Format[Comparison], ...] = (
    Format(
        "accord", "prompt, a, b and verdict as they are", ("prompt", "a", "b", "verdict"), _read_canonical
    ),
    Format(
        "OpenAI preference",
        "input.messages became the prompt, preferred_output side a (the winner), non_preferred_output side b",
        ("input", "preferred_output", "non_preferred_output"),
        _read_openai,
    ),
    Format(
        "annotators",
        "response_a and response_b became the sides, each annotator in labels one comparison",
        ("response_a", "response_b", "labels"),
        _read_annotators,
        has_question,
    ),
    Format(
        "one label",
        "response_a and response_b became the sides, label the verdict",
        ("response_a", "response_b", "label"),
        _read_annotators,
        has_question,
    ),
    Format(
        "HH transcripts",
        "the turns up to the last Assistant turn became the prompt, that turn of chosen side a (the winner), "
        "of rejected side b; two turns of one role in a row were merged",
        ("chosen", "rejected"),
        _read_transcripts,
        _both_transcripts,
    ),
    Format(
        "prompt/chosen/rejected",
        "chosen became side a (the winner), rejected side b; equal ratings of the two, where given, a tie",
        ("chosen", "rejected"),
        _read_explicit,
        has_question,
    ),
    Format(
        "chosen/rejected (implicit prompt)",
        "what chosen and rejected share at their beginning (whole messages, or whole words of text) became "
        "the prompt, the rest of chosen side a (the winner), of rejected side b",
        ("chosen", "rejected"),
        _read_implicit,
        lambda row: not has_question(row),
    ),
    Format(
        "UltraFeedback completions",
        "every pair of completions became a comparison, the higher fine-grained_score (else overall_score) "
        "wins, equal scores tie; empty or unrated answers and pairs of equal texts are left out",
        ("completions",),
        _read_rated,
        has_question,
    ),
    Format(
        "UltraFeedback generations",
        "every pair of generations became a comparison, the higher rating wins, equal ratings tie; "
        "empty or unrated answers and pairs of equal texts are left out",
        ("generations", "ratings"),
        _read_rated,
        has_question,
    ),
)
