"""Policies that an optimiser would reach, written down exactly: tilted ones and best-of-n, with their KL.

R responses, the starting policy is uniform over them. The policy that maximises E[score] - β·KL is
π(x) ∝ π₀(x)·exp(score(x)/β), so no training, no samples and no optimiser noise are needed.
"""

from __future__ import annotations

import numpy as np

from accord.diagnostics.statistics import FloatArray, finite
from accord.records import BadInput

CLOSE_ENOUGH = 1e-9  # nats between the KL asked for and the KL of the policy returned
MOST_STEPS = 200


def tilted(score_R: FloatArray, inverse_beta: float) -> FloatArray:
    """policy_R ∝ exp(score·λ), the maximiser of E[score] - KL/λ (Rafailov et al. 2023, eq. 4)."""
    weight_R = np.exp(inverse_beta * (score_R - score_R.max()))  # the largest first: no overflow
    policy_R: FloatArray = weight_R / weight_R.sum()
    return policy_R


def kl_to_start(policy_R: FloatArray) -> float:
    """KL(policy ‖ uniform) in nats: Σ π ln(π·R), where 0·ln 0 is 0."""
    held_R = policy_R[policy_R > 0]
    return float(held_R @ np.log(held_R * len(policy_R)))


def policy_at(score_R: FloatArray, distance: float, guess: float = 0.0) -> tuple[FloatArray, float]:
    """The tilted policy whose KL to the start is distance², and its 1/β.

    Newton on the inverse temperature λ, where d KL/dλ = λ·Var(score), inside a bracket. ``guess`` is where
    the search starts (0: where a normal score would have its answer).

    Raises:
        BadInput: the KL is not reachable: at infinite pressure the policy sits on the best responses.
    """
    target = distance**2
    if target == 0:
        return np.full(len(score_R), 1.0 / len(score_R)), 0.0
    top = float(score_R.max())
    limit = float(np.log(len(score_R) / np.count_nonzero(score_R == top)))
    if target > 0.95 * limit:
        raise BadInput(
            f"a distance of {distance:g} √nats needs KL {target:.2f}, but {len(score_R)} responses with these"
            f" scores allow {limit:.2f} at most: stay below {np.sqrt(0.95 * limit):.2f}"
        )
    low, high = 0.0, np.inf
    inverse = guess or np.sqrt(2.0) * distance / float(score_R.std())
    for _ in range(MOST_STEPS):
        policy_R = tilted(score_R, inverse)
        mean = float(policy_R @ score_R)
        # ln π = λ(score - top) - ln Σ, and ln Σ = -ln π at the top
        kl = inverse * (mean - top) + np.log(float(policy_R.max()) * len(score_R))
        if abs(kl - target) < CLOSE_ENOUGH:
            return policy_R, inverse
        low, high = (inverse, high) if kl < target else (low, inverse)
        variance = float(policy_R @ (score_R - mean) ** 2)
        step = inverse - (kl - target) / max(inverse * variance, 1e-300)
        inside = low < step < min(high, 4 * inverse)  # far out the variance vanishes and Newton leaps
        inverse = step if inside else (2 * inverse if np.isinf(high) else (low + high) / 2)
    raise BadInput(f"no inverse temperature gives a distance of {distance:g} √nats for these scores")


def optimise(score_R: FloatArray, distance_P: FloatArray, *values_R: FloatArray) -> list[FloatArray]:
    """What optimising ``score_R`` harder and harder does: the mean of each of ``values_R`` at P distances.

    Args:
        score_R: what the policy is optimised for.
        distance_P: √KL in √nats, rising.
        values_R: what to average under each policy, for example the proxy, gold, the length.

    Returns:
        One array [P] for each of ``values_R``, in order: exact expectations, no samples.
    """
    score_R = finite(score_R, "scores")
    value_RV = np.stack(values_R, axis=1)
    mean_PV = np.empty((len(distance_P), len(values_R)))
    inverse, before = 0.0, 0.0
    for place, distance in enumerate(distance_P):
        guess = inverse * distance / before if before else 0.0  # right for a normal score, near for others
        policy_R, inverse = policy_at(score_R, float(distance), guess)
        before = float(distance)
        mean_PV[place] = policy_R @ value_RV
    return list(mean_PV.T)


def best_of_n(score_R: FloatArray, n: float) -> FloatArray:
    """policy_R of the best of n independent draws from the start, in closed form; n may be a fraction.

    The r-th smallest of R has ((r/R)^n - ((r-1)/R)^n). Equal scores share their probability.
    """
    order_R = np.argsort(score_R, kind="stable")
    edge = np.linspace(0, 1, len(score_R) + 1) ** n
    policy_R = np.empty(len(score_R))
    policy_R[order_R] = np.diff(edge)
    _, group_R, size_G = np.unique(score_R, return_inverse=True, return_counts=True)
    shared: FloatArray = (np.bincount(group_R, policy_R) / size_G)[group_R]
    return shared
