"""Is it hacked, where there is no gold? A reward model of one half of the pairs, judged by that of the other.

Both halves learn from the same annotators with the same architecture. What the two share (a taste for length,
say) stays unseen: agreement is no proof of quality. What only one of them learned, noise of its own pairs, is
seen, and that is what optimisation finds first where labels are few.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from accord.diagnostics.best_of_n import best_of_n_values
from accord.diagnostics.overoptimisation import fall_from_best, gain_interval, score_matrix, verdict_of_gains
from accord.diagnostics.statistics import cluster_sum_draws, finite, percentile_interval, stream
from accord.records import BadInput, Finding

QUESTION = "Is it hacked? Asked of a second reward model"
SHARED = "errors that both halves share stay unseen"


def split_half(
    kl_P: Any,
    trained_PG: Any,
    other_PG: Any,
    *,
    other_pairs: str = "the other half of the pairs",
    samples: int = 2000,
    seed: int = 0,
) -> Finding:
    """Finding: does the gain hold under a reward model that the policy was never optimised for?

    Args:
        kl_P: KL to SFT of each evaluation in nats a response, SFT first, the final policy last.
        trained_PG: mean score by the reward model that the policy was optimised for, fitted on one half of
            the pairs (halves split by prompt); each in units of its own deviation over SFT's samples.
        other_PG: mean score of the very same samples by the reward model of the other half.
        other_pairs: what the second one learned from, in the words of the sentence.

    The rules are those of ``overoptimisation`` with the other half in gold's place; ``figure`` is the gain
    under the other half. Evidence ``transfer`` is that gain over the gain under the trained half: 1 where the
    second model confirms all of it, 0 where none.
    """
    kl = finite(kl_P, "kl")
    trained = score_matrix(trained_PG, "the trained half's scores", len(kl))
    other = score_matrix(other_PG, "the other half's scores", len(kl))
    if trained.shape != other.shape:
        raise BadInput(
            f"the trained half scored {trained.shape}, the other {other.shape}: give the same samples to both"
        )
    points, prompts = trained.shape
    both_GP = np.concatenate([trained, other]).T
    draws_SP = cluster_sum_draws(both_GP, samples, stream(seed, "split_half")) / prompts
    trained_SP, other_SP = draws_SP[:, :points], draws_SP[:, points:]
    trained_gain = gain_interval(trained_SP, trained.mean(axis=1), prompts)
    other_gain = gain_interval(other_SP, other.mean(axis=1), prompts)
    fall, fall_bound, best = fall_from_best(other, other_SP)
    name = "the other half's score"
    verdict, reason, reading = verdict_of_gains(trained_gain, other_gain, fall, fall_bound, name)
    gain_S, confirmed_S = trained_SP[:, -1] - trained_SP[:, 0], other_SP[:, -1] - other_SP[:, 0]
    known = trained_gain.low > 0  # a ratio of a gain that may be 0 has no useful interval
    with np.errstate(divide="ignore", invalid="ignore"):
        transfer_S = confirmed_S / gain_S
    transfer = percentile_interval(
        other_gain.figure / trained_gain.figure if known else np.nan, transfer_S, prompts
    )
    evidence: dict[str, Any] = {
        "reason": reason,
        "trained_gain": trained_gain.figure,
        "trained_gain_interval": trained_gain.bounds,
        "transfer": transfer.figure if known else None,
        "transfer_interval": transfer.bounds if known else None,
        "fall_from_best": fall,
        "fall_lower_bound": fall_bound if prompts > 1 else None,
        "best_point": best,
        "other_pairs": other_pairs,
        "prompts": prompts,
        "distance": np.sqrt(np.maximum(kl, 0)).tolist(),
        "trained": trained.mean(axis=1).tolist(),
        "other": other.mean(axis=1).tolist(),
    }
    sentence = (
        f"The reward model that was optimised moved by {trained_gain.show()}, one of {other_pairs}"
        f" by {other_gain.show()}: {reading}; {SHARED}."
    )
    unit = "normalised score of the other half's reward model, final policy minus SFT"
    return Finding(
        "split_half", QUESTION, other_gain.figure, other_gain.bounds, unit, verdict, sentence, evidence
    )


def split_half_selection(
    first_PK: Any, second_PK: Any, *, size: int | None = None, samples: int = 2000, seed: int = 0
) -> Finding:
    """Finding: of what best-of-n gains under one half's reward model, how much does the other confirm?

    Needs no policy: SFT's own K samples to each of P prompts are picked by one half and scored by the other,
    in both directions (``best_of_n.best_of_n_values``), so it can be asked before any RL is paid for.

    Args:
        first_PK, second_PK: scores of the same samples by the reward models of the two halves.
        size: n; None: all K.

    Verdict: good where the interval of the confirmed share lies above one half (of what is optimised more is
    real than not), bad where the confirmed gain is not shown to be above 0, else warn.
    """
    first, second = finite(first_PK, "the first half's scores"), finite(second_PK, "the second half's scores")
    if first.shape != second.shape or first.ndim != 2:
        raise BadInput(f"scores have shapes {first.shape} and {second.shape}: give the same samples to both")
    prompts, count = first.shape
    size = count if size is None else size
    if not 2 <= size <= count:
        raise BadInput(f"best of {size} needs 2 to {count} samples, as many as there are for each prompt")
    columns = []
    for picked, judged in ((first, first), (first, second), (second, second), (second, first)):
        value_P2 = best_of_n_values(picked, judged, [1, size])
        columns.append(value_P2[:, 1] - value_P2[:, 0])
    own_P, confirmed_P = columns[0] + columns[2], columns[1] + columns[3]
    totals_P2 = np.stack([own_P, confirmed_P], axis=1) / 2
    draws_S2 = cluster_sum_draws(totals_P2, samples, stream(seed, "split_half_selection")) / prompts
    own, confirmed = (
        percentile_interval(float(totals_P2[:, i].mean()), draws_S2[:, i], prompts) for i in (0, 1)
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # scores that are all the same gain nothing
        share_S = draws_S2[:, 1] / draws_S2[:, 0]
    share = percentile_interval(confirmed.figure / own.figure if own.figure > 0 else np.nan, share_S, prompts)
    verdict: Literal["good", "warn", "bad", "unknown"]
    if share.bounds is None:
        verdict, reading = "unknown", "there is no interval"
    elif not confirmed.low > 0:
        verdict, reading = "bad", "no gain is shown under the other half"
    elif share.low > 0.5:
        verdict, reading = "good", "more of it is confirmed than not"
    else:
        verdict, reading = "warn", "much of it may be noise of one half's pairs"
    evidence = {
        "size": size,
        "own_gain": own.figure,
        "own_gain_interval": own.bounds,
        "confirmed_gain": confirmed.figure,
        "confirmed_gain_interval": confirmed.bounds,
        "prompts": prompts,
    }
    sentence = (
        f"Of what best of {size} gains under a reward model of half the pairs, one of the other half confirms"
        f" {share.show_percent()}: {reading}; {SHARED}."
    )
    figure = share.figure if np.isfinite(share.figure) else None
    return Finding(
        "split_half_selection", "Would a second reward model pick the same?", figure, share.bounds,
        f"share of the gain of best of {size} that the other half's reward model confirms",
        verdict, sentence, evidence,
    )  # fmt: skip
