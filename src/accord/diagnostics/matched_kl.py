"""Which of two runs is better at the same distance from SFT? Gold at the largest KL that both reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from accord.diagnostics.statistics import Clusters, FloatArray, cluster_bootstrap, finite
from accord.records import BadInput, Finding

UNIT = "gold at the same KL, second run minus first, mean over prompts"


def at_kl(kl_P: Any, gold_PG: Any, target: float) -> FloatArray:
    """Gold of each prompt where the run first reached ``target`` nats -> [G].

    Between two evaluations gold is taken to be linear in √KL, the distance in which published curves are
    nearly straight (Gao et al. 2022); the weight is the same for all prompts.

    Raises:
        BadInput: the run never reached it.
    """
    kl, gold = finite(kl_P, "kl"), finite(gold_PG, "gold")
    if gold.ndim != 2 or len(gold) != len(kl):
        raise BadInput(f"gold has shape {gold.shape} for {len(kl)} evaluations: give one row for each")
    distance_P, wanted = np.sqrt(np.maximum(kl, 0.0)), float(np.sqrt(max(target, 0.0)))
    reached = np.flatnonzero(distance_P >= wanted - 1e-12)
    if not len(reached):
        raise BadInput(f"the run reached {kl.max():.2f} nats, not {target:.2f}")
    after = int(reached[0])
    if after == 0:
        first: FloatArray = gold[0]
        return first
    before = after - 1
    share = (wanted - distance_P[before]) / (distance_P[after] - distance_P[before])
    between: FloatArray = (1 - share) * gold[before] + share * gold[after]
    return between


def matched_kl(
    first_kl_P: Any,
    first_PG: Any,
    second_kl_Q: Any,
    second_QG: Any,
    prompt_G: Clusters,
    *,
    names: Sequence[str] = ("the first", "the second"),
    gold_name: str = "gold",
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: gold of the second run minus that of the first, at the largest KL that both reached.

    Args:
        first_kl_P, second_kl_Q: KL of each evaluation, SFT first.
        first_PG, second_QG: mean gold of each prompt's samples at each evaluation, the same prompts in the
            same order.

    The interval resamples prompts, paired; KL itself is taken as measured, and one run stands for its
    recipe: seeds are not in it. Verdict: good where the interval lies above 0, bad where it lies below.
    """
    first, second = np.asarray(first_kl_P, dtype=float), np.asarray(second_kl_Q, dtype=float)
    if not len(first) or not len(second):
        raise BadInput("one of the runs has no evaluation")
    target = float(min(first.max(), second.max()))
    gap_G = at_kl(second, second_QG, target) - at_kl(first, first_PG, target)
    found = cluster_bootstrap(gap_G, prompt_G, samples=samples, seed=seed)
    verdict: Literal["good", "bad", "warn", "unknown"]
    if found.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif found.low > 0:
        verdict, reading = "good", f"{names[1]} is better"
    elif found.high < 0:
        verdict, reading = "bad", f"{names[1]} is worse"
    else:
        verdict, reading = "warn", "they cannot be told apart"
    sentence = (
        f"At {target:.1f} nats, the largest KL that both reached, {gold_name} of {names[1]} minus"
        f" {names[0]} is {found.show()}: {reading}."
    )
    evidence = {
        "kl": target,
        "first": float(at_kl(first, first_PG, target).mean()),
        "second": float(at_kl(second, second_QG, target).mean()),
        "prompts": len(gap_G),
    }
    question = "Which is better at the same distance from SFT?"
    return Finding("matched_kl", question, found.figure, found.bounds, UNIT, verdict, sentence, evidence)
