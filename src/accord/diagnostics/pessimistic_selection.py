"""Does it pay to pick where the members of an ensemble agree? Pessimistic best-of-n beside plain best-of-n.

The members, the labels, the samples and n are the same on both sides, and so is the KL to SFT (ln n − (n−1)/n
does not ask what picks): the comparison is at matched KL and matched labels by its construction.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from accord.diagnostics.best_of_n import best_of_n_kl, best_of_n_values
from accord.diagnostics.statistics import cluster_bootstrap, finite
from accord.records import BadInput, Finding

QUESTION = "Does picking by the pessimistic score pay?"


def pessimistic_selection(
    mean_PN: Any,
    pessimistic_PN: Any,
    gold_PN: Any | None = None,
    *,
    rule: str = "pessimistic",
    gold_name: str = "gold",
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: gold of best-of-N picked by the ensemble's pessimistic score, minus that picked by its mean.

    Args:
        mean_PN: mean of the members' standardised scores, N samples of SFT's for each of P prompts.
        pessimistic_PN: the score that picks instead: worst case, mean − λ·variance (Coste et al. 2023,
            arXiv 2310.02743: for best-of-n λ = 0.5) or a lower bound.
        gold_PN: gold of the same samples, or None.
        rule: of the pessimistic score, as the sentence names it.

    Samples that score the same are broken at random, in expectation. The interval is of the paired
    difference, prompts resampled. Verdict: good above 0, bad below, else warn; unknown without gold, when
    ``figure`` is None and the evidence says how far the picks differ.

    Raises:
        BadInput: shapes that differ, scores that are not finite, fewer than 2 samples a prompt.
    """
    unit = f"{gold_name} of the pick, by {rule} minus by the members' mean"
    mean, pessimistic = finite(mean_PN, "mean scores"), finite(pessimistic_PN, "pessimistic scores")
    gold = None if gold_PN is None else finite(gold_PN, "gold")
    if mean.shape != pessimistic.shape or (gold is not None and gold.shape != mean.shape):
        raise BadInput(
            f"mean scores have shape {mean.shape}, pessimistic ones {pessimistic.shape}, gold"
            f" {gold.shape if gold is not None else 'none'}: they must be of the same samples"
        )
    if mean.ndim != 2 or mean.shape[1] < 2:
        raise BadInput(f"scores have shape {mean.shape}: give 2 samples a prompt or more, one row a prompt")
    prompts, n = mean.shape

    def picked(value_PN: Any) -> list[Any]:
        """Value of the pick of each prompt, by the mean and by the pessimistic score."""
        return [best_of_n_values(score, value_PN, [n])[:, 0] for score in (mean, pessimistic)]

    plain_P, careful_P = picked(mean)
    other = float((mean.argmax(axis=1) != pessimistic.argmax(axis=1)).mean())
    evidence: dict[str, Any] = {
        "rule": rule,
        "n": n,
        "kl": best_of_n_kl(n),
        "prompts": prompts,
        "other_picks": other,
        "mean_score_given_up": float((plain_P - careful_P).mean()),
    }
    about = (
        f"Best of {n} picks another answer to {other:.0%} of {prompts} prompts where it picks by {rule} and"
        " not by the members' mean"
    )
    if gold is None:
        sentence = f"{about}; whether those are better cannot be said without gold."
        return Finding("pessimistic_best_of_n", QUESTION, None, None, unit, "unknown", sentence, evidence)
    plain_gold_P, careful_gold_P = picked(gold)
    gap = cluster_bootstrap(careful_gold_P - plain_gold_P, np.arange(prompts), samples=samples, seed=seed)
    verdict: Literal["good", "bad", "warn", "unknown"]
    if gap.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif gap.low > 0:
        verdict, reading = "good", "pessimism pays here"
    elif gap.high < 0:
        verdict, reading = "bad", "pessimism costs here"
    else:
        verdict, reading = "warn", "it is not shown to pay here"
    evidence |= {
        "gold_start": float(gold.mean()),
        "gold_mean": float(plain_gold_P.mean()),
        "gold_pessimistic": float(careful_gold_P.mean()),
    }
    sentence = f"{about}: {gold_name} differs by {gap.show()} at the same KL and labels, so {reading}."
    return Finding(
        "pessimistic_best_of_n", QUESTION, gap.figure, gap.bounds, unit, verdict, sentence, evidence
    )
