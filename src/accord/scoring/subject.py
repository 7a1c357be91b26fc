"""A scorer as the evaluation of reward models sees it: scores of answers, ended or not, in its own units.

A scorer of accord's own reads tokens: it scores the very ids that were sampled, and an answer without its end
token. Any other is given text, in which no end token can be missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from accord import models
from accord.batches import Group, Tokens
from accord.records import BadInput, Prompt, Response
from accord.scoring.base import Scorer


@runtime_checkable
class TokenScorer(Protocol):
    """A scorer that reads token ids: `RewardModelScorer`, and whatever else has these.

    ``mean`` and ``std``: what its scores were normalised with; (score · std + mean) is in nats.
    """

    tokenizer: Any
    mean: float
    std: float

    def score_groups(self, groups: Sequence[Group]) -> Tensor: ...


@dataclass(frozen=True)
class Subject:
    """A scorer under evaluation.

    Attributes:
        path: what the user called it: a folder, a hub id, a function.
        kind: what it is, for the card.
    """

    scorer: Scorer | TokenScorer
    path: str
    kind: str

    @property
    def reads_end(self) -> bool:
        """Whether it sees if an answer's end token is there."""
        return isinstance(self.scorer, TokenScorer)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[float]:
        """Scores in the scorer's own units (nats, for a Bradley–Terry model); NaN where it cannot score one.

        Only a `TokenScorer` may be given answers that are not finished.
        """
        if isinstance(self.scorer, TokenScorer):
            return _token_scores(self.scorer, prompts, responses)
        unfinished = sum(not response.finished for response in responses)
        if unfinished:
            raise BadInput(f"{unfinished} answers have no end, and this scorer is given text, which has none")
        return [float(s) for s in self.scorer.score(prompts, [response.text for response in responses])]

    def fits(self, prompt: Prompt, response: Response) -> bool:
        """Whether the scorer can take prompt and answer whole."""
        if isinstance(self.scorer, TokenScorer):
            length = len(models.encode_prompt(self.scorer.tokenizer, prompt))
            length += len(_tokens(self.scorer.tokenizer, response) or ())
            limit = getattr(getattr(self.scorer, "model", None), "config", None)
            return length <= int(getattr(limit, "max_position_embeddings", None) or length)
        own = getattr(self.scorer, "fits", None)
        return bool(own(prompt, response.text)) if own else True


def _tokens(tokenizer: Any, response: Response) -> Tokens | None:
    """Sampled ids as they are; written text with the end token, or without where the answer has none.

    Ids that do not read as the text in this tokenizer were sampled with another: the text counts then.
    """
    if response.tokens is not None and _reads_as(tokenizer, response.tokens, response.text):
        return response.tokens
    tokens = models.encode_response(tokenizer, response.text)
    return tokens if response.finished else tokens[:-1] or None


def _reads_as(tokenizer: Any, tokens: Tokens, text: str) -> bool:
    if max(tokens, default=0) >= len(tokenizer):
        return False
    return bool(tokenizer.decode(tokens, skip_special_tokens=True) == text)


def _token_scores(
    scorer: TokenScorer, prompts: Sequence[Prompt], responses: Sequence[Response]
) -> list[float]:
    """Answers to one prompt that follow each other share its tokens."""
    scores = [math.nan] * len(responses)
    groups, places = [], []
    for prompt, run in groupby(range(len(responses)), key=lambda i: prompts[i]):
        known = [(i, t) for i in run if (t := _tokens(scorer.tokenizer, responses[i])) is not None]
        if known:
            groups.append(Group(models.encode_prompt(scorer.tokenizer, prompt), tuple(t for _, t in known)))
            places += [i for i, _ in known]
    if groups:
        found = scorer.score_groups(groups).double() * scorer.std + scorer.mean
        for place, score in zip(places, found.tolist(), strict=True):
            scores[place] = score
    return scores
