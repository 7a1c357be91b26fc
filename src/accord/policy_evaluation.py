"""Samples of a policy to held-out prompts, with the proxy's score and the KL. Gold is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from accord import batches, kl, models
from accord.batches import Packed, Rollouts
from accord.config import Sampling
from accord.records import Prompt
from accord.sampling.local import LocalSampler
from accord.streams import stream_seed
from accord.towers import Tower


class Evaluated(Protocol):
    """What an evaluation asks of a trainer."""

    tokenizer: Any
    sampler: LocalSampler
    tower: Tower

    def logps(
        self, packed: Packed, trunk_TH: Tensor | None, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor]: ...

    def reference_logps(self, packed: Packed, trunk_TH: Tensor | None) -> Tensor: ...

    def score_members(
        self, prompts: Sequence[Prompt], rollouts: Rollouts, packed: Packed, trunk_TH: Tensor | None
    ) -> tuple[Tensor, Tensor | None]: ...


@torch.no_grad()
def evaluate(
    trainer: Evaluated, prompts: Sequence[Prompt], k: int, seed: int, sampling: Sampling
) -> list[dict[str, Any]]:
    """k samples to each prompt: text, token ids, proxy (and an ensemble's members), KL to the reference,
    length, entropy in nats a token at the sampling temperature.
    """
    rows: list[dict[str, Any]] = []
    chunk = max(1, sampling.batch_size // k)
    for start in range(0, len(prompts), chunk):
        asked = prompts[start : start + chunk]
        tokens = [models.encode_prompt(trainer.tokenizer, p) for p in asked]
        rollouts = trainer.sampler.sample(tokens, k, sampling, stream_seed(seed, start))
        packed = batches.pack(rollouts.groups, models.device())
        trunk_TH = trainer.tower.trunk(packed)
        proxy_B, member_EB = trainer.score_members(asked, rollouts, packed, trunk_TH)
        proxy, members = proxy_B.tolist(), member_EB.T.tolist() if member_EB is not None else None
        logp_R, entropy_R = trainer.logps(packed, trunk_TH, entropy=True)
        logp_BT = packed.to_BT(logp_R)
        entropy_B = (packed.to_BT(entropy_R).sum(1) / packed.length_B).tolist()
        reference_BT = packed.to_BT(trainer.reference_logps(packed, trunk_TH))
        divergence = kl.k1(logp_BT, reference_BT).sum(1).tolist()
        responses = [r for g in rollouts.groups for r in g.responses]
        for i, response in enumerate(responses):
            rows.append(
                {
                    "prompt": asked[i // k].to_json(),
                    "key": asked[i // k].key,
                    "text": models.decode(trainer.tokenizer, response, trainer.sampler.ends),
                    "ids": list(response),
                    "tokens": len(response),
                    "finished": bool(rollouts.finished_B[i]),
                    "proxy": proxy[i],
                    "kl": divergence[i],
                    "entropy": entropy_B[i],
                }
                | ({"members": members[i]} if members is not None else {})
            )
    return rows
