"""Scores of a reward model that was trained elsewhere: given text, in the form that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from torch import Tensor, nn

from accord import batches
from accord.records import BadInput, Prompt

Inputs = Literal["chat", "pair", "plain"]
TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class Reading:
    """How logits become a score.

    Attributes:
        label: which logit.
        log_odds: log p − log (1 − p) of that label in place of the logit: where labels exclude each other, a
            logit means nothing without the others, and log odds are on Bradley–Terry's scale.
        mean, std: the score is (value − mean) / std, as OpenRLHF's ``normalize_reward``.
    """

    label: int = 0
    log_odds: bool = False
    mean: float = 0.0
    std: float = 1.0

    def score(self, logit_BL: Tensor) -> Tensor:
        """(B,) scores from (B, labels) logits, float32."""
        logit_BL = logit_BL.float()
        value_B = logit_BL[:, self.label]
        if self.log_odds:
            others = [i for i in range(logit_BL.shape[1]) if i != self.label]
            value_B = value_B - torch.logsumexp(logit_BL[:, others], dim=1)
        return (value_B - self.mean) / self.std


@dataclass(frozen=True)
class Encoded:
    """Token ids, and which of two texts each is of (empty where the model is not told)."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()


class ForeignScorer:
    """Scores of a foreign reward model, from texts, as its own code would give them.

    Args:
        model: returns logits (B, labels); see Classifier and ValueHead.
        tokenizer: the model's own.
        reading: which logit is the score.
        inputs: how prompt and answer become one text; see the module's first lines.
        ends_with_eos: the text ends with the end token (OpenRLHF), whatever the template gives.
        pad: id that fills up shorter rows; None scores one row at a time. A classifier of transformers finds
            the last token by its *configuration's* pad id, which may be another than the tokenizer's.
        limit: tokens that the model can take.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        reading: Reading,
        inputs: Inputs,
        *,
        ends_with_eos: bool = False,
        pad: int | None = None,
        limit: int | None = None,
        kind: str = "sequence classifier",
    ) -> None:
        self.model, self.tokenizer, self.reading = model, tokenizer, reading
        self.inputs, self.ends_with_eos, self.kind = inputs, ends_with_eos, kind
        self.pad, self.limit = pad, limit

    def encode(self, prompt: Prompt, response: str) -> Encoded:
        """Prompt and answer as token ids, special tokens where this model wants them.

        Raises:
            BadInput: the chat template cannot write this conversation.
        """
        if self.inputs == "pair":
            found = self.tokenizer(_one_text(prompt), response)
            return Encoded(tuple(found["input_ids"]), tuple(found.get("token_type_ids", ())))
        if self.inputs == "plain":
            ids = self.tokenizer(_one_text(prompt) + response)["input_ids"]
            return Encoded((*ids, self.tokenizer.eos_token_id))
        turns = [*prompt.to_json(), {"role": "assistant", "content": response}]
        try:
            text: str = self.tokenizer.apply_chat_template(turns, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise BadInput(f"the reward model's chat template cannot write a conversation: {error}") from None
        if self.ends_with_eos:
            text = text.rstrip("\n")
            if not text.endswith(self.tokenizer.eos_token):
                text += " " + self.tokenizer.eos_token
        return Encoded(tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]))

    def fits(self, prompt: Prompt, response: str) -> bool:
        """Whether the model can take prompt and answer whole."""
        return self.limit is None or len(self.encode(prompt, response).ids) <= self.limit

    @torch.no_grad()
    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """One score each; they do not depend on what else is in the batch.

        Raises:
            BadInput: an input beyond the model's limit; it is never cut, for a cut answer has another score.
        """
        rows = [self.encode(p, r) for p, r in zip(prompts, responses, strict=True)]
        longest = max((len(row.ids) for row in rows), default=0)
        if self.limit is not None and longest > self.limit:
            raise BadInput(
                f"a prompt with its answer has {longest} tokens, the reward model takes {self.limit}:"
                " leave it out"
            )
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))  # little padding
        scores = torch.zeros(len(rows))
        for run in batches.by_budget([len(rows[i].ids) for i in order], TOKENS_PER_BATCH):
            places = [order[i] for i in run]
            for part in [places] if self.pad is not None else [[place] for place in places]:
                scores[part] = self._forward([rows[place] for place in part])
        found: list[float] = scores.tolist()
        return found

    def _forward(self, rows: Sequence[Encoded]) -> Tensor:
        width = max(len(row.ids) for row in rows)
        device = next(self.model.parameters()).device

        def padded(values: Sequence[Sequence[int]], fill: int) -> Tensor:
            return torch.tensor([[*row, *[fill] * (width - len(row))] for row in values], device=device)

        given = {
            "input_ids": padded([row.ids for row in rows], self.pad or 0),
            "attention_mask": padded([[1] * len(row.ids) for row in rows], 0),
        }
        if rows[0].types:
            given["token_type_ids"] = padded([row.types for row in rows], 0)
        return self.reading.score(self.model(**given)).cpu()


def _one_text(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt.messages)


class Classifier(nn.Module):
    """A sequence classifier of transformers: it finds the place of the score by itself."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: Tensor) -> Tensor:
        logits: Tensor = self.model(**given).logits
        return logits


class ValueHead(nn.Module):
    """OpenRLHF's reward model: a linear head without bias at the last real token, by the mask and not by ids.

    Layout: the base model under its usual prefix, the head as ``value_head.weight`` or ``score.weight``
    (1, hidden), ``mean``, ``std`` and ``normalize_reward`` in config.json (openrlhf/models/model.py there).
    """

    def __init__(self, base: Any, weight_1H: Tensor) -> None:
        super().__init__()
        self.base = base
        self.head = nn.Linear(weight_1H.shape[1], 1, bias=False)
        self.head.weight = nn.Parameter(weight_1H, requires_grad=False)

    def forward(self, **given: Tensor) -> Tensor:
        hidden_BTH = self.base(**given).last_hidden_state
        last_B = given["attention_mask"].sum(1) - 1
        at_end: Tensor = self.head(hidden_BTH[torch.arange(len(last_B)), last_B])
        return at_end
