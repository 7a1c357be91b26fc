"""Is it better? The policy's answers against the SFT policy's, judged by gold, ties counted one half."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from accord.diagnostics.statistics import Clusters, cluster_bootstrap, clustered_share, finite
from accord.records import BadInput, Finding

QUESTION = "Is it better?"


def win_rate(
    policy_N: Any | None,
    base_N: Any | None,
    prompt_N: Clusters,
    tie_margin: float = 0.0,
    *,
    gold_name: str = "gold",
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Share of held-out samples on which the policy beats SFT.

    Args:
        policy_N, base_N: gold of the policy's and of SFT's answer, row n to the same prompt; None: no gold.
        prompt_N: prompt key of each row; whole prompts are resampled.
        tie_margin: a gap of at most this much (in units of gold) is a tie, which counts one half.

    Verdict: good where the 95% interval lies above one half, bad where it lies below, else warn.
    """
    if policy_N is None or base_N is None:
        sentence = "The win rate cannot be measured: there is no gold judgement of the held-out samples."
        return Finding("win_rate", QUESTION, None, None, "share of samples", "unknown", sentence)
    policy, base = finite(policy_N, "the policy's gold"), finite(base_N, "the SFT policy's gold")
    if policy.shape != base.shape:
        raise BadInput(f"{policy.size} answers of the policy but {base.size} of SFT: give one of each a row")
    if tie_margin < 0:
        raise BadInput(f"tie_margin is {tie_margin:g}: give 0 or more")
    gap_N = policy - base
    wins, losses = gap_N > tie_margin, gap_N < -tie_margin
    rate = clustered_share(0.5 + 0.5 * wins - 0.5 * losses, prompt_N, samples, seed)
    gain = cluster_bootstrap(gap_N, prompt_N, samples=samples, seed=seed)
    verdict: Literal["good", "warn", "bad", "unknown"]
    if rate.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif rate.low > 0.5:
        verdict, reading = "good", "it is better than SFT"
    elif rate.high < 0.5:
        verdict, reading = "bad", "it is worse than SFT"
    else:
        verdict, reading = "warn", "it cannot be told apart from SFT"
    prompts = len(np.unique(np.asarray(prompt_N)))
    sentence = (
        f"The policy wins {rate.show_percent()} against SFT by {gold_name}, ties counted one half, over"
        f" {len(gap_N)} samples on {prompts} prompts: {reading}."
    )
    evidence = {
        "wins": int(wins.sum()),
        "ties": int(len(gap_N) - wins.sum() - losses.sum()),
        "losses": int(losses.sum()),
        "samples": len(gap_N),
        "prompts": prompts,
        "tie_margin": tie_margin,
        "gold_name": gold_name,
        "mean_gain": gain.figure,
        "mean_gain_interval": gain.bounds,
    }
    unit = "share of held-out samples won, ties one half"
    return Finding("win_rate", QUESTION, rate.figure, rate.bounds, unit, verdict, sentence, evidence)
