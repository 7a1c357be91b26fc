"""The field's comparison formats: one row in, one or more `Comparison` out.

Each format is one entry of ``COMPARISON_FORMATS``: its name, what became what, the columns it needs, and the
function that reads a row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accord.formats_argilla import is_argilla, read_argilla
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
from accord.formats_llamafactory import read_alpaca, read_sharegpt, read_trajectory
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
from accord.formats_rated import read_ranking, read_rated
from accord.formats_unpaired import is_unpaired, pair_up, read_unpaired, read_unpaired_conversation
from accord.records import Comparison, Message, Pair, Prompt, Response, Span, Verdict

SAFE_RLHF = (("helpful", "better_response_id"), ("harmless", "safer_response_id"))


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
    annotator, source, criterion = (
        text_or_empty(row.get(field), field) for field in ("annotator", "source", "criterion")
    )
    verdict = verdict_of(row["verdict"], "verdict")
    found = Comparison(pair, verdict, annotator, strength, source, meta_of(row), criterion)
    return [replace(found, **_said_besides(row))]


def _said_besides(row: Columns) -> dict[str, Any]:
    """Reason, marked passages, time and page version, as the labelling app writes them."""
    spent = number_of(row.get("milliseconds"), "milliseconds")
    try:
        spans = tuple(Span.from_json(span) for span in row.get("spans") or ())
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadRow("spans must be marked passages with side, start, end, quote and mark") from None
    return {
        "reason": text_or_empty(row.get("reason"), "reason"),
        "spans": spans,
        "milliseconds": None if spent is None else int(spent),
        "ui": text_or_empty(row.get("ui"), "ui"),
    }


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
    if Prompt(before[-len(prompt.messages) :]).key != Prompt(prompt.messages).key:
        raise BadRow("the conversations in chosen and rejected do not repeat the prompt of their row")
    return Prompt(checked_prompt(before).messages, prompt.tools)


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


def _read_safe(row: Columns, file: str) -> list[Comparison]:
    """PKU-SafeRLHF: which answer is more helpful, and which is safer; the user chooses one, or both."""
    answers = [Response(response_of(row[f"response_{i}"], f"response_{i}")) for i in (0, 1)]
    pair = pair_of(question_of(row), *answers)
    out = []
    for criterion, column in SAFE_RLHF:
        chosen = row[column]
        if chosen not in (0, 1) or isinstance(chosen, bool):
            raise BadRow(f"{column} is {str(chosen)[:40]!r}: it must be 0 or 1")
        verdict: Verdict = "a" if chosen == 0 else "b"
        out.append(labelled(dict(row) | {"criterion": criterion}, file, pair, verdict, None))
    return out


def _both_transcripts(row: Columns) -> bool:
    sides = [row["chosen"], row["rejected"]]
    return not has_question(row) and all(isinstance(side, str) and is_transcript(side) for side in sides)


COMPARISON_FORMATS: tuple[Format[Comparison], ...] = (
    Format(
        "accord", "prompt, a, b and verdict as they are", ("prompt", "a", "b", "verdict"), _read_canonical
    ),
    Format(
        "ranking",
        "every two of the responses became a comparison, the lower rank wins, equal ranks tie",
        ("prompt", "responses", "ranks"),
        read_ranking,
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
        "SafeRLHF",
        "response_0 and response_1 became the sides, better_response_id the verdict of the criterion "
        "helpful, safer_response_id of the criterion harmless",
        ("response_0", "response_1", *(column for _, column in SAFE_RLHF)),
        _read_safe,
        has_question,
        criteria=tuple(criterion for criterion, _ in SAFE_RLHF),
    ),
    Format(
        "Argilla",
        "a field became the prompt, two the sides, each submitted response one comparison by its user; "
        "responses that were not submitted are left out",
        (),
        read_argilla,
        is_argilla,
    ),
    Format(
        "UltraInteract",
        "trajectory became the prompt, chosen side a (the winner), rejected side b",
        ("trajectory", "chosen", "rejected"),
        read_trajectory,
    ),
    Format(
        "LLaMA-Factory sharegpt",
        "conversations (after system, where given) became the prompt, chosen side a (the winner), rejected "
        "side b",
        ("conversations", "chosen", "rejected"),
        read_sharegpt,
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
        "LLaMA-Factory alpaca",
        "system, history, instruction and input became the prompt (input on a line after the instruction), "
        "chosen side a (the winner), rejected side b",
        ("instruction", "chosen", "rejected"),
        read_alpaca,
        lambda row: "prompt" not in row and isinstance(row["instruction"], str),
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
        "every pair of completions became a comparison, the higher mean of the aspect ratings (else "
        "fine-grained_score, else overall_score, of which a 10 is known to be wrong) wins, equal ones tie; "
        "empty or unrated answers and pairs of equal texts are left out",
        ("completions",),
        read_rated,
        has_question,
    ),
    Format(
        "UltraFeedback generations",
        "every pair of generations became a comparison, the higher rating wins, equal ratings tie; "
        "empty or unrated answers and pairs of equal texts are left out",
        ("generations", "ratings"),
        read_rated,
        has_question,
    ),
    *(
        Format(
            f"unpaired ({' and '.join(columns)})",
            "answers tagged good and bad: the n-th good one of a prompt became side a (the winner), its n-th "
            "bad one side b",
            columns,
            reader,
            is_unpaired,
            pair_up,
        )
        for columns, reader in (
            (("prompt", "completion"), read_unpaired),
            (("instruction", "output"), read_unpaired),
            (("messages",), read_unpaired_conversation),
            (("conversations",), read_unpaired_conversation),
        )
    ),
)
