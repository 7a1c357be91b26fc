"""A batch of rollouts with everything that is computed before its first update, and its parts.

Axes: B responses in prompt order, T response tokens, R all response tokens of a packed batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord import batches, kl, models, tensors
from accord.batches import Group, Packed, Rollouts


@dataclass(frozen=True)
class Scored:
    """Rollouts with everything that is computed before the first update, on one packed batch.

    Attributes:
        trunk_TH: hidden states of the shared frozen trunk, or None.
        score_B: what each response is paid: scores weighted, shaped, with all penalties but the KL.
        kl_BT: k1 to the SFT policy per token, nats.
        reference_logp_BT: log-probabilities under the policy that the KL is a penalty to.
        old_logp_BT, advantage_BT: inputs of the policy loss.
        importance_BT: trainer / sampler per token, truncated: corrects for the sampler's other arithmetic.
        old_value_BT, return_BT: inputs of the critic's loss (PPO), else None.
        pair_P2: rows of the better and the worse response of each group (online DPO), else None.
        live_logp_R, live_value_R: the same log-probabilities and values with their graph, where the batch has
            one update in one microbatch: it needs no second forward pass, and the ratio is 1 by construction.
    """

    rollouts: Rollouts
    packed: Packed
    trunk_TH: Tensor | None
    score_B: Tensor
    kl_BT: Tensor
    reference_logp_BT: Tensor
    old_logp_BT: Tensor
    advantage_BT: Tensor
    importance_BT: Tensor
    old_value_BT: Tensor | None
    return_BT: Tensor | None
    figures: dict[str, float]
    pair_P2: Tensor | None = None
    live_logp_R: Tensor | None = None
    live_value_R: Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """Log-probabilities of a batch's tokens before its first update.

    Attributes:
        live_logp_R: the policy's, with their graph where there is one.
        logp_BT, start_BT, sampled_BT: the policy's, the SFT policy's, and those that the sampler gave.
        reference_BT: of the policy that the KL is a penalty to: SFT, or the moving average.
        entropy_R: nats.
        gap_R: |sampler − trainer|, nats.
    """

    live_logp_R: Tensor
    logp_BT: Tensor
    start_BT: Tensor
    reference_BT: Tensor
    sampled_BT: Tensor
    entropy_R: Tensor
    gap_R: Tensor

    def figures(self, packed: Packed, rollouts: Rollouts) -> dict[str, float]:
        """KL to SFT in nats per response (k1) and per token (k3), entropy, lengths, the sampler's gap."""
        return {
            "kl": float(kl.k1(self.logp_BT, self.start_BT).sum(1).mean()),
            "kl_k3": float(tensors.masked_mean(kl.k3(self.logp_BT, self.start_BT), packed.mask_BT)),
            "entropy": float(self.entropy_R.mean()),
            "length_mean": float(packed.length_B.float().mean()),
            "unfinished_share": 1.0 - float(rollouts.finished_B.float().mean()),
            "sampler_gap": float(self.gap_R.max()),
            "sampler_gap_mean": float(self.gap_R.mean()),
        }


def score_figures(proxy_B: Tensor) -> dict[str, float]:
    """Mean and deviation of the run's own scores, without those that could not be given."""
    scored_B = proxy_B[torch.isfinite(proxy_B)]
    return {
        "score_mean": float(scored_B.mean()),
        "score_std": float(scored_B.std()) if len(scored_B) > 1 else 0.0,
    }


@dataclass(frozen=True)
class Part:
    """Some groups of a batch as a batch of their own: what one forward and backward pass takes.

    Attributes:
        rows_B: which responses of the whole batch these are.
    """

    rows_B: Tensor
    packed: Packed
    trunk_TH: Tensor | None


def microbatches(chosen: Sequence[int], groups: Sequence[Group]) -> list[list[int]]:
    """The chosen groups, cut into runs of at most ``MICROBATCH_TOKENS``."""
    runs = batches.by_budget([batches.stream_length(groups[i]) for i in chosen], batches.MICROBATCH_TOKENS)
    return [[chosen[i] for i in run] for run in runs]


def rows_of(chosen: Sequence[int], groups: Sequence[Group]) -> Tensor:
    """Which responses belong to the chosen groups, in order, (B,)."""
    ranges = _ranges([len(group.responses) for group in groups])
    return torch.cat([torch.arange(*ranges[i]) for i in chosen])


def parts(scored: Scored, chosen: Sequence[int]) -> Iterator[Part]:
    """The chosen groups, a microbatch at a time; the trunk's states are cut out, not recomputed."""
    groups = scored.rollouts.groups
    group_tokens = _ranges([batches.stream_length(group) for group in groups])
    for part in microbatches(chosen, groups):
        rows_B = rows_of(part, groups)
        if len(part) == len(groups):
            yield Part(rows_B, scored.packed, scored.trunk_TH)
            continue
        packed, trunk_TH = batches.pack([groups[i] for i in part], models.device()), None
        if scored.trunk_TH is not None:
            trunk_TH = torch.cat([scored.trunk_TH[slice(*group_tokens[i])] for i in part])
        yield Part(rows_B, packed, trunk_TH)


def widen(value_BT: Tensor, width: int) -> Tensor:
    """Zero columns added on the right, up to ``width``."""
    return torch.nn.functional.pad(value_BT, (0, width - value_BT.shape[1]))


def _ranges(lengths: Sequence[int]) -> list[tuple[int, int]]:
    stops = torch.tensor(lengths).cumsum(0).tolist()
    return [(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
