"""Which loss a direct algorithm takes, and what is reported beside it.

Axes: B answers, N pairs. ``logp_B`` and ``reference_B`` are sums over the tokens of each answer, nats; the
preferred answer of a pair comes right before the other. Algorithms without reference are given zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord import direct_losses, preference_losses
from accord.config import Direct
from accord.direct_examples import Example
from accord.preference_losses import A_WINS, TIE


def objective(
    config: Direct,
    logp_B: Tensor,
    reference_B: Tensor,
    examples: Sequence[Example],
    *,
    count: int,
    baseline: Tensor | None = None,
    tie: Tensor | None = None,
) -> Tensor:
    """The loss of some examples, over a global count of pairs (KTO: of answers).

    Args:
        baseline: KTO's z0 of the whole batch.
        tie: η of Rao–Kupper, above 0, or log ν of Davidson; None: ties are dropped.
    """
    beta, device = config.strength, logp_B.device
    if config.algorithm == "kto":
        assert baseline is not None
        good_B = torch.tensor([good for e in examples for good in e.good], device=device)
        return direct_losses.kto(
            logp_B - reference_B,
            good_B,
            baseline,
            beta=beta,
            good_weight=config.good_weight,
            bad_weight=config.bad_weight,
            count=count,
        )
    if not config.needs_reference:
        chosen_N, rejected_N = _means(logp_B, examples).view(-1, 2).unbind(1)
        if config.algorithm == "orpo":
            return direct_losses.orpo(chosen_N, rejected_N, odds_weight=config.odds_weight, count=count)
        return direct_losses.simpo(chosen_N, rejected_N, beta=beta, gamma=config.gamma, count=count)
    chosen_N, rejected_N = (logp_B - reference_B).view(-1, 2).unbind(1)
    if tie is not None:
        outcome_N = torch.tensor([TIE if e.tie else A_WINS for e in examples], device=device)
        with_ties = {"rao_kupper": preference_losses.rao_kupper, "davidson": preference_losses.davidson}
        return with_ties[config.ties](beta * (chosen_N - rejected_N), outcome_N, tie, count=count)
    match config.algorithm:
        case "ipo":
            return direct_losses.ipo(chosen_N, rejected_N, beta=beta, count=count)
        case "robust_dpo":
            smoothing = config.smoothing
            return direct_losses.robust_dpo(
                chosen_N, rejected_N, beta=beta, label_smoothing=smoothing, count=count
            )
        case _:  # dpo, cdpo
            smoothing = config.smoothing
            return direct_losses.dpo(chosen_N, rejected_N, beta=beta, label_smoothing=smoothing, count=count)


def margins(config: Direct, logp_B: Tensor, reference_B: Tensor, examples: Sequence[Example]) -> Tensor:
    """Implicit reward of the preferred answer minus that of the other, nats, of each decided pair (N,).

    β · log ratio; for SimPO β · mean log-probability, for ORPO the log odds.
    """
    if config.needs_reference:
        reward_B = config.strength * (logp_B - reference_B)
    elif config.algorithm == "orpo":
        reward_B = direct_losses.log_odds(_means(logp_B, examples))
    else:
        reward_B = config.strength * _means(logp_B, examples)
    first, place = [], 0
    for example in examples:
        if len(example.good) == 2 and not example.tie:
            first.append(place)
        place += len(example.good)
    index_N = torch.tensor(first, dtype=torch.long, device=logp_B.device)
    return reward_B[index_N] - reward_B[index_N + 1]


def figures(
    config: Direct, logp_B: Tensor, reference_B: Tensor, examples: Sequence[Example]
) -> dict[str, float]:
    """Means over the batch, ties left out.

    ``chosen_logp``, ``rejected_logp``: nats per response, of preferred (or good) answers and of the others;
    ``chosen_log_ratio``, ``rejected_log_ratio``: their change against the reference; ``both_fall``: 1 where
    both are below 0; ``margin``: nats, over pairs; ``accuracy``: share of pairs with a margin above 0.
    """
    good_B = torch.tensor([good for e in examples for good in e.good])
    decided_B = torch.tensor([not e.tie for e in examples for _ in e.good])
    sides = {"chosen": good_B & decided_B, "rejected": ~good_B & decided_B}
    found: dict[str, float] = {}
    for side, rows_B in sides.items():
        if not bool(rows_B.any()):
            continue
        found[f"{side}_logp"] = float(logp_B[rows_B].mean())
        if config.needs_reference:
            found[f"{side}_log_ratio"] = float((logp_B - reference_B)[rows_B].mean())
    if {"chosen_log_ratio", "rejected_log_ratio"} <= set(found):
        found["both_fall"] = float(found["chosen_log_ratio"] < 0 and found["rejected_log_ratio"] < 0)
    margin_N = margins(config, logp_B, reference_B, examples)
    if len(margin_N):
        found |= {"margin": float(margin_N.mean()), "accuracy": float((margin_N > 0).float().mean())}
    return found


def _means(logp_B: Tensor, examples: Sequence[Example]) -> Tensor:
    """Per token."""
    lengths = [len(response) for e in examples for response in e.group.responses]
    return logp_B / torch.tensor(lengths, device=logp_B.device, dtype=logp_B.dtype)
