"""Rows with several answers that were rated or put in order: every two of them are a comparison.

UltraFeedback has known faults, and each is met here: ratings are texts, "N/A" is a rating, and some 2,000
answers have an ``overall_score`` of 10 that was meant as 1.0 (a parser lost the point). So the mean of the
aspect ratings counts where there are any, as in Argilla's cleaned version of the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

from accord.formats_comparison import (
    Columns,
    labelled,
    number_of,
    pair_of,
    question_of,
    text_or_empty,
)
from accord.formats_messages import BadRow, prompt_of, response_of, text_of
from accord.records import Comparison, Pair, Response, Verdict, content_hash

WRONG_OVERALL_SCORE = 10  # of UltraFeedback; the ratings of its aspects go from 1 to 5


def read_rated(row: Columns, file: str) -> list[Comparison]:
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
            strength = number_of(abs(rating_a - rating_b), "the difference of ratings")
            out.append(labelled(row, file, Pair(prompt, a, b), verdict, strength))
    if not out:
        raise BadRow("there are no two different answers that have a rating and are not empty")
    return out


def _rated_answers(row: Columns) -> Iterator[tuple[Any, str, float | None]]:
    """(text, model, rating) of every answer in a row of either UltraFeedback form."""
    if "completions" in row:
        completions = row["completions"]
        if not isinstance(completions, list) or not all(isinstance(one, dict) for one in completions):
            raise BadRow("completions must be a list of objects with response and ratings")
        for one in completions:
            yield one.get("response"), text_or_empty(one.get("model"), "model"), _rating_of(one)
        return
    texts, ratings = row["generations"], row["ratings"]
    if not isinstance(texts, list) or not isinstance(ratings, list) or len(texts) != len(ratings):
        raise BadRow("generations and ratings must be two lists of one length")
    models: list[Any] = next(
        (row[name] for name in ("model_names", "models") if isinstance(row.get(name), list)), []
    )
    models = models if len(models) == len(texts) else [""] * len(texts)
    for text, rating, model in zip(texts, ratings, models, strict=True):
        yield text, text_or_empty(model, "model"), _number_or_none(rating, "ratings")


def _rating_of(completion: dict[str, Any]) -> float | None:
    """Mean of the aspect ratings, else the fine-grained score, else the overall score (never a 10)."""
    annotations = completion.get("annotations")
    if isinstance(annotations, dict) and annotations:
        aspects = [
            _number_or_none(aspect.get("Rating"), f"the rating of {name}")
            for name, aspect in annotations.items()
            if isinstance(aspect, dict)
        ]
        known = [rating for rating in aspects if rating is not None]
        if known:
            return sum(known) / len(known)
    fine = _number_or_none(completion.get("fine-grained_score"), "fine-grained_score")
    if fine is not None:
        return fine
    overall = _number_or_none(completion.get("overall_score"), "overall_score")
    return None if overall == WRONG_OVERALL_SCORE else overall


def _number_or_none(value: Any, field: str) -> float | None:
    """A rating, which may be a text; "N/A" is none."""
    if isinstance(value, str) and value.strip().upper() in ("", "N/A", "NA", "NONE"):
        return None
    return number_of(value, field)


def read_ranking(row: Columns, file: str) -> list[Comparison]:
    """Answers put in order by one annotator (rank 1 the best, equal ranks tie): every pair of them."""
    answers, ranks = row["responses"], row["ranks"]
    if not isinstance(answers, list) or not isinstance(ranks, list) or len(answers) != len(ranks):
        raise BadRow("responses and ranks must be two lists of one length")
    if not all(type(rank) is int for rank in ranks):
        raise BadRow("ranks must be whole numbers, 1 the best")
    prompt = prompt_of(row["prompt"])
    responses = [_response(answer, f"responses[{i}]") for i, answer in enumerate(answers)]
    whole = {"ranking": content_hash(prompt.key, *(one.text for one in responses)), "of": len(responses)}
    out = []
    for (a, rank_a), (b, rank_b) in combinations(zip(responses, ranks, strict=True), 2):
        verdict: Verdict = "tie" if rank_a == rank_b else "a" if rank_a < rank_b else "b"
        found = labelled(row, file, pair_of(prompt, a, b), verdict, None)
        out.append(replace(found, meta={**found.meta, **whole}))
    if not out:
        raise BadRow(f"a ranking needs 2 responses or more, not {len(answers)}")
    return out


def _response(value: Any, field: str) -> Response:
    if isinstance(value, dict) and "text" in value:
        policy = text_or_empty(value.get("policy"), f"{field}.policy")
        return Response(response_of(value["text"], field), policy=policy)
    return Response(response_of(value, field))
