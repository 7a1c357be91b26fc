"""Has the distribution of answers changed at all? Maximum mean discrepancy, with an exact permutation
test.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.spatial.distance import pdist, squareform

from accord.diagnostics.drift_features import checked_sides
from accord.diagnostics.statistics import Clusters, FloatArray, stream
from accord.records import Finding

AT_ONCE = 200  # permutations whose labels are held together
LEVEL = 0.05


def rbf_kernel(rows_ND: FloatArray, bandwidth: float | None = None) -> FloatArray:
    """k(x, y) = exp(-|x - y|² / 2h²); h is the median distance where not given (Gretton et al. 2012)."""
    distance = pdist(rows_ND, "sqeuclidean")
    if bandwidth is None:
        positive = distance[distance > 0]
        bandwidth = float(np.sqrt(np.median(positive))) if len(positive) else 1.0
    kernel: FloatArray = np.exp(-squareform(distance) / (2 * bandwidth**2))
    return kernel


def squared_mmd(kernel_NN: FloatArray, policy_SN: FloatArray) -> FloatArray:
    """Unbiased squared discrepancy for S ways of calling rows the policy's (1) or SFT's (0) -> [S].

    Gretton et al. 2012 (JMLR 13, equation 3): means over pairs of different rows within each side, minus
    twice the mean between the sides. Can be negative where the sides are alike.
    """
    off_NN = kernel_NN - np.diag(np.diag(kernel_NN))
    count = policy_SN.sum(1)
    others = len(kernel_NN) - count
    # Sums over pairs within the policy's side, between the sides, and what is left within SFT's
    within = ((policy_SN @ off_NN) * policy_SN).sum(1)
    between = policy_SN @ off_NN.sum(1) - within
    rest = off_NN.sum() - within - 2 * between
    value: FloatArray = (
        within / (count * (count - 1)) + rest / (others * (others - 1)) - 2 * between / (count * others)
    )
    return value


def _permuted(policy_N: FloatArray, index_N: Any, count: int, rng: np.random.Generator) -> FloatArray:
    """Labels exchanged at random among the rows of each prompt -> [count, N]; rows must be sorted by
    prompt.
    """
    order_SN = np.argsort(index_N + rng.random((count, len(index_N))), axis=1)
    return policy_N[order_SN]


def mmd_drift(
    base_ND: Any,
    policy_MD: Any,
    base_prompt_N: Clusters,
    policy_prompt_M: Clusters,
    *,
    features: str = "latents of the reward model",
    permutations: int = 1000,
    bandwidth: float | None = None,
    seed: int = 0,
) -> Finding:
    """Finding: are the policy's answers drawn from another distribution than SFT's?

    Which side an answer comes from is exchanged within its prompt: under the null hypothesis (the policy
    answers as SFT does) the test is exact, however alike the answers to one prompt are. Evidence ``p`` is
    (1 + permutations as large) / (1 + permutations).

    Verdict: warn where p < 0.05, unknown where no prompt was answered by both. It says that something changed
    and not how much: read ``classifier_drift`` for that.
    """
    base, policy, index_N, index_M, prompts = checked_sides(
        base_ND, policy_MD, base_prompt_N, policy_prompt_M
    )
    question, unit = "Did the answers change at all?", f"squared maximum mean discrepancy on {features}"
    shared = len(np.intersect1d(index_N, index_M))
    if not shared or min(len(base), len(policy)) < 2:
        sentence = "A change cannot be tested: no prompt was answered by both the policy and SFT."
        return Finding("mmd_drift", question, None, None, unit, "unknown", sentence)
    index = np.concatenate([index_N, index_M])
    order = np.argsort(index, kind="stable")
    policy_side = np.concatenate([np.zeros(len(base)), np.ones(len(policy))])[order]
    kernel_NN = rbf_kernel(np.concatenate([base, policy])[order], bandwidth)
    value = float(squared_mmd(kernel_NN, policy_side[None])[0])
    rng = stream(seed, "mmd_drift")
    null = np.concatenate(
        [
            squared_mmd(
                kernel_NN, _permuted(policy_side, index[order], min(AT_ONCE, permutations - done), rng)
            )
            for done in range(0, permutations, AT_ONCE)
        ]
    )
    # Sums in another order differ in the last bits; an equal split must count as equally large
    p = float((1 + (null >= value - 1e-12).sum()) / (1 + permutations))
    verdict: Literal["good", "warn"] = "warn" if p < LEVEL else "good"
    reading = "they have changed" if verdict == "warn" else "no change is shown"
    sentence = (
        f"Exchanging the policy's answers with SFT's {permutations} times within each prompt gives a"
        f" discrepancy as large as the one seen with p = {p:.3f}: {reading}."
    )
    evidence = {
        "p": p,
        "permutations": permutations,
        "features": features,
        "prompts": prompts,
        "shared": shared,
    }
    return Finding("mmd_drift", question, value, None, unit, verdict, sentence, evidence)
