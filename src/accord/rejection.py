"""Rejection-sampling fine-tuning: the best of n samples of each training prompt, imitated.

What every other algorithm has to beat at the same KL: no gradient through a reward, no baseline, no clipping.
The reward model picks once, from the SFT policy's samples, and SFT does the rest (Touvron et al. 2023,
arXiv 2307.09288, section 3.2.3; Dong et al. 2023, RAFT, arXiv 2304.06767).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from accord import models, sft
from accord.anchored import Anchored
from accord.batches import Group
from accord.config import Rejection, Sft
from accord.records import BadInput, Prompt
from accord.scoring.base import Scorer
from accord.streams import stream_seed
from accord.towers import TrunkStates
from accord.workspace import Workspace, check_bad_steps


@dataclass(frozen=True)
class Picked:
    """The best sample of each prompt, and what picking gained.

    Attributes:
        score, best: mean score of all samples, and of the picked ones.
    """

    groups: list[Group]
    score: float
    best: float


@torch.no_grad()
def pick(held: Anchored, prompts: Sequence[Prompt], config: Rejection, seed: int) -> Picked:
    """Sample n answers to each prompt and keep the one with the highest score; of equal ones the first.

    The very tokens are kept. An answer without an end is not imitated while another one has an end: SFT
    would learn not to stop.

    Raises:
        BadInput: no prompts.
    """
    if not prompts:
        raise BadInput("there are no prompts to sample from: give data.prompts")
    n, groups, scores, best = config.samples_per_prompt, [], 0.0, 0.0
    chunk = max(1, config.sampling.batch_size // n)
    for start in range(0, len(prompts), chunk):
        asked = prompts[start : start + chunk]
        tokens = [models.encode_prompt(held.tokenizer, prompt) for prompt in asked]
        rollouts = held.sampler.sample(tokens, n, config.sampling, stream_seed(seed, start))
        packed, trunk_TH = held.packed(rollouts.groups)
        score_PK = held.score_members(asked, rollouts, packed, trunk_TH)[0].cpu().view(len(asked), n)
        ended_PK = rollouts.finished_B.cpu().view(len(asked), n)
        allowed_PK = ended_PK | ~ended_PK.any(1, keepdim=True)
        place_P = torch.where(allowed_PK, score_PK, -math.inf).argmax(1)
        for group, place in zip(rollouts.groups, place_P.tolist(), strict=True):
            groups.append(Group(group.prompt, (group.responses[place],)))
        scores += float(score_PK.mean(1).sum())
        best += float(score_PK.gather(1, place_P[:, None]).sum())
    return Picked(groups, scores / len(prompts), best / len(prompts))


def train(
    policy: Any,
    tokenizer: Any,
    scorer: Scorer,
    config: Rejection,
    prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    work: Workspace,
    *,
    samples: int = 2,
    curve_samples: int = 1,
) -> list[dict[str, Any]]:
    """Fine-tune ``policy`` in place on its own best samples. Returns evaluations as `online.train` does.

    Raises:
        BadInput: no prompts, scores that are not finite.
        NumericalTrouble: repeated NaN.
    """
    held = Anchored(policy, tokenizer, config.weights, config.sampling, scorer=scorer)
    done, state, extra = work.resume()
    if done:
        kept = [Group(tuple(p), (tuple(r),)) for p, r in extra["picked"]]
        picked = Picked(kept, *extra["scores"])
    else:
        picked = pick(held, prompts, config, stream_seed(work.seed, "rejection", work.round))
    imitation = Sft(
        epochs=config.epochs,
        tokens_per_step=config.tokens_per_step,
        weights=config.weights,
        optimizer=config.optimizer,
    )
    steps = sft.plan(picked.groups, imitation, stream_seed(work.seed, "rejection order", work.round))
    trainer = sft.SftTrainer(policy, imitation, len(steps), work.seed)
    evaluations: list[dict[str, Any]] = list(extra.get("evaluations", []))
    if done:
        trainer.execution.load(state["execution"])
    trunk = TrunkStates(trainer.tower, picked.groups, models.device(), work.frozen_layers)
    progress = work.progress(len(steps), done)

    def evaluate(step: int) -> dict[str, float]:
        if not any(e["step"] == step for e in evaluations):
            k = samples if step in (0, len(steps)) else curve_samples
            seed = stream_seed(work.seed, "evaluate", work.round, step)
            with progress.aside(left=-(-(len(steps) - step) // config.evaluate_every)):
                evaluations.append({"step": step, "rows": held.evaluate(test_prompts, k, seed)})
        rows = next(e["rows"] for e in evaluations if e["step"] == step)
        return {"kl": sum(row["kl"] for row in rows) / len(rows)}

    for step in range(done, len(steps)):
        at_evaluation = evaluate(step) if step % config.evaluate_every == 0 else {}
        batch = [picked.groups[i] for i in steps[step]]
        figures = trainer.step(batch, trunk.of(batch)) | at_evaluation
        check_bad_steps(trainer.execution.bad_steps, config.max_bad_steps, "rejection", step)
        figures |= {"score_mean": picked.score, "score_best": picked.best}
        work.record(step, {name: value for name, value in figures.items() if math.isfinite(value)})
        work.keep(step + 1, partial(_state, trainer, picked, evaluations))
        progress.advance(f"loss {figures['loss']:.3f}")
    evaluate(len(steps))
    return evaluations


def _state(
    trainer: sft.SftTrainer, picked: Picked, evaluations: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    rows = [[list(g.prompt), list(g.responses[0])] for g in picked.groups]
    extra = {"evaluations": list(evaluations), "picked": rows, "scores": [picked.score, picked.best]}
    return {"execution": trainer.execution.state()}, extra
