"""Is it still undecided? Entropy of the policy's next-token choices against SFT's."""

from __future__ import annotations

from typing import Any, Literal

from accord.diagnostics.statistics import Clusters, cluster_bootstrap, finite, shared_clusters
from accord.records import BadInput, Finding


def entropy_shift(
    sft_nats_N: Any, policy_nats_N: Any, prompt_N: Clusters, *, samples: int = 2000, seed: int = 0
) -> Finding:
    """Finding: mean entropy of an answer's tokens, policy minus SFT, interval over prompts.

    Args:
        sft_nats_N, policy_nats_N: mean over an answer's tokens of the next-token entropy in nats (or of minus
            the log-probability of the sampled token, which has the same expectation), row n to the same
            prompt.

    Verdict: warn where the interval lies below 0: the policy has become surer of what it says. Some of that
        is
    what optimisation is for; near 0 nats it says one thing only and samples carry no more signal.
    """
    sft, policy = finite(sft_nats_N, "SFT entropies"), finite(policy_nats_N, "policy entropies")
    if sft.shape != policy.shape or len(prompt_N) != len(sft):
        raise BadInput(
            f"{sft.size} entropies of SFT, {policy.size} of the policy, {len(prompt_N)} prompts:"
            " give the same number of each, row n to the same prompt"
        )
    shift = cluster_bootstrap(policy - sft, prompt_N, samples=samples, seed=seed)
    _, _, prompts = shared_clusters(prompt_N, ())
    verdict: Literal["good", "warn", "unknown"]
    if shift.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif shift.high < 0:
        verdict, reading = "warn", "it has become surer of what it says"
    else:
        verdict, reading = "good", "no fall is shown"
    sentence = (
        f"Entropy moved from {sft.mean():.2f} to {policy.mean():.2f} nats a token, a shift of {shift.show()}:"
        f" {reading}."
    )
    evidence = {"sft_mean": float(sft.mean()), "policy_mean": float(policy.mean()), "prompts": prompts}
    return Finding(
        "entropy_shift", "Is it still undecided?", shift.figure, shift.bounds,
        "nats a token, mean over answers, policy minus SFT", verdict, sentence, evidence,
    )  # fmt: skip
