"""Does a policy trained on pairs rank unseen pairs as their labels do, and what did it pay for that?"""

from __future__ import annotations

from typing import Any, Literal

from accord.diagnostics.statistics import Clusters, cluster_bootstrap, clustered_share, finite
from accord.records import BadInput, Finding


def implicit_accuracy(margin_N: Any, prompt_N: Clusters, *, samples: int = 2000, seed: int = 0) -> Finding:
    """Share of held-out pairs whose preferred answer has the larger implicit reward; equal ones count half.

    Args:
        margin_N: implicit reward of the preferred answer minus that of the other, nats.
        prompt_N: prompt key of each pair; whole prompts are resampled.

    Verdict: good where the 95% interval lies above one half, bad where it lies below, else warn.
    """
    margin = finite(margin_N, "margins")
    share = clustered_share(0.5 + 0.5 * (margin > 0) - 0.5 * (margin < 0), prompt_N, samples, seed)
    verdict: Literal["good", "warn", "bad", "unknown"] = "warn"
    reading = "that cannot be told apart from chance"
    if share.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif share.low > 0.5:
        verdict, reading = "good", "better than chance"
    elif share.high < 0.5:
        verdict, reading = "bad", "worse than chance"
    sentence = (
        f"The policy's implicit reward ranks {share.show_percent()} of {len(margin)} held-out pairs as their"
        f" labels do: {reading}."
    )
    evidence = {"pairs": len(margin), "mean_margin": float(margin.mean())}
    question = "Does the policy rank unseen pairs as their labels do?"
    unit = "share of held-out pairs"
    return Finding(
        "implicit_accuracy", question, share.figure, share.bounds, unit, verdict, sentence, evidence
    )


def likelihood_shift(
    chosen_N: Any, rejected_N: Any, prompt_N: Clusters, *, samples: int = 2000, seed: int = 0
) -> Finding:
    """How the log-probability of preferred answers to held-out prompts changed: it may fall with the other's.

    A direct loss sees the difference only, so that both may fall while it falls too (Rafailov et al. 2024,
    arXiv 2404.12358; Pal et al. 2024, arXiv 2402.13228). The probability then goes to answers that nobody
    judged.

    Args:
        chosen_N: log π − log π_ref of the preferred answers, nats, summed over tokens.
        rejected_N: of the others.

    Verdict: warn where the interval of the preferred answers' change lies below 0, else good.
    """
    chosen, rejected = finite(chosen_N, "preferred answers"), finite(rejected_N, "other answers")
    if chosen.shape != rejected.shape:
        raise BadInput(f"{chosen.size} preferred answers but {rejected.size} others: give one of each a pair")
    first = cluster_bootstrap(chosen, prompt_N, samples=samples, seed=seed)
    second = cluster_bootstrap(rejected, prompt_N, samples=samples, seed=seed)
    falls = first.bounds is not None and first.high < 0
    both = falls and second.figure < 0
    if both:
        reading = "both fall, so that probability goes to answers that nobody judged"
    elif falls:
        reading = "the preferred answers lose probability"
    else:
        reading = "the preferred answers keep theirs"
    sentence = (
        f"On {len(chosen)} held-out pairs the preferred answer's log-probability changed by"
        f" {first.show()} nats and the other's by {second.show()}: {reading}."
    )
    if falls:
        sentence += " A larger β, fewer epochs or a lower learning rate, or algorithm: ipo, hold it back."
    evidence = {
        "chosen": first.figure,
        "chosen_interval": first.bounds,
        "rejected": second.figure,
        "rejected_interval": second.bounds,
        "both_fall": both,
    }
    question = "Do preferred answers keep their probability?"
    unit = "nats per response, mean over held-out pairs"
    verdict: Literal["good", "warn", "bad", "unknown"] = "warn" if falls else "good"
    if first.bounds is None:
        verdict = "unknown"
    return Finding(
        "likelihood_shift", question, first.figure, first.bounds, unit, verdict, sentence, evidence
    )
