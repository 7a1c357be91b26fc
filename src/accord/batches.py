"""Ragged token sequences, packed into one stream without padding.

A group is a prompt with one or more responses. The prompt's tokens lie in the stream once; each response
follows with the positions it would have had alone. ``Packed`` knows where every response token's predictor
lies, so that log-probabilities, values and scores are gathered where they are needed and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.attention import PackedPlan, Segment

MICROBATCH_TOKENS = 4096  # activations of one forward and backward

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """One prompt and the responses to it; a response must not be empty."""

    prompt: Tokens
    responses: tuple[Tokens, ...]


@dataclass(frozen=True)
class Packed:
    """A packed stream of T tokens that holds B responses with R response tokens in all.

    Attributes:
        tokens_T, position_T: the stream.
        plan: which tokens attend to which.
        predictor_R: stream index of the token before each response token.
        target_R: the response tokens, response after response.
        row_R, column_R: which response, and which token of it.
        last_B: stream index of each response's last token (where a score is read).
        length_B: response lengths.
    """

    tokens_T: Tensor
    position_T: Tensor
    plan: PackedPlan
    predictor_R: Tensor
    target_R: Tensor
    row_R: Tensor
    column_R: Tensor
    last_B: Tensor
    length_B: Tensor

    @property
    def mask_BT(self) -> Tensor:
        """True at response tokens, (B, longest response). Made from lengths, never from a pad id."""
        return torch.arange(int(self.length_B.max()), device=self.length_B.device) < self.length_B[:, None]

    def to_BT(self, value_R: Tensor) -> Tensor:
        """Spread values at response tokens over a (B, longest response) tensor, zeros elsewhere."""
        out = value_R.new_zeros(len(self.length_B), int(self.length_B.max()))
        return out.index_put((self.row_R, self.column_R), value_R)

    def from_BT(self, value_BT: Tensor) -> Tensor:
        """The inverse of ``to_BT``."""
        return value_BT[self.row_R, self.column_R]


def pack(groups: Sequence[Group], device: torch.device | str = "cpu") -> Packed:
    """Pack groups into one stream.

    Raises:
        ValueError: a prompt or a response without tokens (the first response token needs a predictor).
    """
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    predictor: list[int] = []
    target: list[int] = []
    last: list[int] = []
    lengths: list[int] = []
    for group in groups:
        if not group.prompt or not group.responses or not all(group.responses):
            raise ValueError("a packed group needs a prompt and responses of at least one token each")
        prompt_start, prompt_length = len(tokens), len(group.prompt)
        tokens += group.prompt
        positions += range(prompt_length)
        shared = len(group.responses) > 1
        if shared:
            segments.append(Segment(prompt_start, len(tokens)))
        for response in group.responses:
            start = len(tokens)
            tokens += response
            positions += range(prompt_length, prompt_length + len(response))
            if shared:
                segments.append(Segment(start, len(tokens), prompt_start, prompt_start + prompt_length))
            else:
                segments.append(Segment(prompt_start, len(tokens)))
            predictor += [prompt_start + prompt_length - 1, *range(start, len(tokens) - 1)]
            target += response
            last.append(len(tokens) - 1)
            lengths.append(len(response))
    length_B = torch.tensor(lengths)
    return Packed(
        torch.tensor(tokens).to(device),
        torch.tensor(positions).to(device),
        PackedPlan(segments, device),
        torch.tensor(predictor).to(device),
        torch.tensor(target).to(device),
        torch.repeat_interleave(torch.arange(len(lengths)), length_B).to(device),
        torch.cat([torch.arange(n) for n in lengths]).to(device),
        torch.tensor(last).to(device),
        length_B.to(device),
    )


def stream_length(group: Group) -> int:
    """Tokens that a group takes in the stream."""
    return len(group.prompt) + sum(map(len, group.responses))


def by_budget(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in order, cut into runs of at most ``budget`` tokens (a longer one stands alone)."""
    runs: list[list[int]] = []
    total = 0
    for index, length in enumerate(lengths):
        if not runs or total + length > budget:
            runs.append([])
            total = 0
        runs[-1].append(index)
        total += length
    return runs


@dataclass(frozen=True)
class Rollouts:
    """Samples of a policy: P prompts with K responses each, B = P·K in prompt order.

    Attributes:
        groups: the prompts and their responses as token ids, end tokens included.
        sampled_logp_BT: the sampler's own log-probability of each response token (T: longest response).
        finished_B: the response ended with one of the model's end tokens.
        policy_version: which weights made them.
    """

    groups: tuple[Group, ...]
    sampled_logp_BT: Tensor
    finished_B: Tensor
    policy_version: int = 0

    @property
    def response_count(self) -> int:
        return sum(len(group.responses) for group in self.groups)

    @property
    def lengths(self) -> list[int]:
        return [len(response) for group in self.groups for response in group.responses]
