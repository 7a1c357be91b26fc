"""Self-tests: the faults that raise no error, looked for on the very model that is about to be trained.

`accord doctor` runs all of them; a run makes the ones that its next stage depends on, before it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from accord import batches, models, tensors, towers
from accord.batches import Group
from accord.config import Sampling
from accord.records import BadInput, Prompt
from accord.sampling.local import LocalSampler
from accord.scoring.reward_model import RewardModelScorer
from accord.scoring.subject import TokenScorer

GAP = {torch.float32: 1e-3, torch.bfloat16: 0.35}  # max |Δ log-probability| between two batch shapes
SCORE_GAP = {torch.float32: 1e-3, torch.bfloat16: 0.1}  # max |Δ score| over the scores' own deviation
PROMPTS = (Prompt.from_text("How are you?"), Prompt.from_text("Tell me about the sea in winter, please."))


class SelfTestFailed(RuntimeError):
    """Something that every later figure depends on is wrong; nothing was trained."""


@dataclass(frozen=True)
class Check:
    """One self-test: what was looked at, what came out, and whether that is all right."""

    name: str
    ok: bool
    result: str


def insist(checks: Sequence[Check]) -> None:
    """Raises SelfTestFailed for the first check that is not all right."""
    for check in checks:
        if not check.ok:
            raise SelfTestFailed(
                f"self-test {check.name!r} failed before the stage began: {check.result};"
                " `accord doctor --model FOLDER` shows all of them"
            )


def tokens(model: Any, tokenizer: Any) -> list[Check]:
    """Template round trip, end tokens, the reward model's pad: nothing is run but the tokenizer."""
    ids = models.encode_prompt(tokenizer, PROMPTS[0])
    doubled = len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id
    kept = PROMPTS[0].text in tokenizer.decode(ids)
    ends = models.end_tokens(model, tokenizer)
    written = models.encode_response(tokenizer, "Fine.")
    once = written[-1] in ends and written[-2] not in ends
    found = [
        Check(
            "template round trip",
            kept and not doubled,
            f"{len(ids)} tokens, text kept: {kept}, doubled BOS: {doubled}",
        ),
        Check(
            "end tokens",
            once,
            ", ".join(repr(tokenizer.decode([i])) for i in sorted(ends))
            + ("" if once else "; an answer does not end with exactly one of them"),
        ),
    ]
    try:
        pad = repr(tokenizer.decode([models.pad_for_scores(model, tokenizer)]))
        found.append(Check("pad of the reward model", True, pad))
    except BadInput as error:
        found.append(Check("pad of the reward model", False, str(error)))
    return found


def policy(model: Any, tokenizer: Any) -> list[Check]:
    """Dropout, packing invariance, ratio is 1, the sampler's log-probabilities against the trainer's."""
    sampler = LocalSampler(model, models.end_tokens(model, tokenizer))
    asked = [models.encode_prompt(tokenizer, prompt) for prompt in PROMPTS]
    rollouts = sampler.sample(asked, 2, Sampling(max_new_tokens=8), 0)
    together, again = _logps(model, rollouts.groups), _logps(model, rollouts.groups)
    alone = torch.cat([_logps(model, (group,)) for group in _apart(rollouts.groups)])
    sampled = torch.cat([row[:n] for row, n in zip(rollouts.sampled_logp_BT, rollouts.lengths, strict=True)])
    limit = GAP[model.dtype]
    packing, ratio, sampling = (float((together - other).abs().max()) for other in (alone, again, sampled))
    return [
        dropout_off(model),
        Check("packing invariance", packing <= limit, f"max |Δ log p| {packing:.2g}, limit {limit:g}"),
        Check("ratio is 1", ratio == 0, f"max |log ratio| {ratio:.2g} without an update"),
        Check("sampler against trainer", sampling <= limit, f"max |Δ log p| {sampling:.2g}, limit {limit:g}"),
    ]


def reward(model: Any, tokenizer: Any) -> list[Check]:
    """A score does not depend on the batch that the response is in."""
    return scorer(RewardModelScorer(model, tokenizer))


def scorer(scorer: Any) -> list[Check]:
    """The same of anything that scores token ids; nothing for who is given text."""
    if not isinstance(scorer, TokenScorer):
        return []
    tokenizer, model = scorer.tokenizer, getattr(scorer, "model", None)
    answers = ("Fine, thank you.", "Cold and grey, but the light is lovely on a clear morning.")
    groups = [
        Group(
            models.encode_prompt(tokenizer, prompt),
            tuple(models.encode_response(tokenizer, answer) for answer in answers),
        )
        for prompt in PROMPTS
    ]
    together = scorer.score_groups(groups)
    alone = torch.cat([scorer.score_groups([group]) for group in _apart(groups)])
    gap, limit = float((together - alone).abs().max()), SCORE_GAP[getattr(model, "dtype", torch.float32)]
    return [
        dropout_off(model),
        Check(
            "reward batch invariance", gap <= limit, f"max |Δ score| {gap:.2g} deviations, limit {limit:g}"
        ),
    ]


def dropout_off(model: Any) -> Check:
    """No part of the model is in training mode, where dropout would be on."""
    training = sum(module.training for module in model.modules())
    return Check("dropout is off", not training, f"{training} modules in training mode")


def same_tokenizer(mine: Any, theirs: Any) -> Check:
    """Token ids go from the policy to its reward model as they are: both must mean the same by them."""
    same = mine.get_vocab() == theirs.get_vocab()
    return Check("tokenizer agreement", same, "one vocabulary" if same else "the vocabularies differ")


def memory(needed: float) -> Check:
    """Room for the largest batch, by the estimate of the run."""
    free = psutil.virtual_memory().available
    return Check("memory", free >= needed, f"{free / 1e9:.1f} GB free, about {needed / 1e9:.1f} GB needed")


def _apart(groups: Sequence[Group]) -> list[Group]:
    """Each response in a group of its own."""
    return [Group(group.prompt, (response,)) for group in groups for response in group.responses]


@torch.no_grad()
def _logps(model: Any, groups: Sequence[Group]) -> torch.Tensor:
    packed = batches.pack(groups, models.device())
    hidden_TH = towers.Tower(towers.base_of(model)).hidden(packed)
    logp_R, _ = tensors.head_logps(hidden_TH[packed.predictor_R], towers.head_of(model), packed.target_R)
    return logp_R.cpu()
