"""Comparisons: pairs of answers, and which side noisy annotators preferred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from accord.diagnostics.statistics import FloatArray

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Pairs:
    """N comparisons of responses ``a_N`` and ``b_N`` (row numbers); ``a_wins_N`` is the label."""

    a_N: Indices
    b_N: Indices
    a_wins_N: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.a_N)

    def __getitem__(self, rows: slice | Indices) -> Pairs:
        return Pairs(self.a_N[rows], self.b_N[rows], self.a_wins_N[rows])

    def __add__(self, other: Pairs) -> Pairs:
        both = ((self.a_N, other.a_N), (self.b_N, other.b_N))
        a_N, b_N = (np.concatenate(sides) for sides in both)
        return Pairs(a_N, b_N, np.concatenate([self.a_wins_N, other.a_wins_N]))


def draw(policy_R: FloatArray | None, uniform_N: FloatArray, responses: int) -> Indices:
    """Responses of a policy (None: the uniform start), by its inverse distribution function."""
    if policy_R is None:
        return (uniform_N * responses).astype(np.intp)
    edge_R = np.cumsum(policy_R)
    place_N: Indices = np.searchsorted(edge_R, uniform_N * edge_R[-1], side="right")
    return np.minimum(place_N, responses - 1)


def preferred(gap_N: FloatArray, noise: float, uniform_N: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether a noisy annotator prefers the first of each pair: P = σ(gap / noise) (Bradley-Terry).

    ``gap_N`` is how much better the first is, ``noise`` a temperature, both in units of gold.
    """
    prefers_N: npt.NDArray[np.bool_] = uniform_N < special.expit(gap_N / noise)
    return prefers_N


def compare(
    liked_R: FloatArray,
    count: int,
    noise: float,
    rng: np.random.Generator,
    policy_R: FloatArray | None = None,
    other_R: FloatArray | None = None,
) -> Pairs:
    """Noisy annotators compare ``count`` pairs of a policy's answers (None: of the start's).

    ``liked_R`` is what they judge by: gold, or gold with a bias of their own. ``other_R`` is the policy of
    the second side (None: the same). Three numbers a pair, in order: fewer pairs of a stream are the first
    of more.
    """
    uniform_N3 = rng.random((count, 3))
    a_N = draw(policy_R, uniform_N3[:, 0], len(liked_R))
    b_N = draw(policy_R if other_R is None else other_R, uniform_N3[:, 1], len(liked_R))
    return Pairs(a_N, b_N, preferred(liked_R[a_N] - liked_R[b_N], noise, uniform_N3[:, 2]))


def shuffled(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """The same pairs with labels that mean nothing: each side wins by the toss of a coin."""
    return Pairs(pairs.a_N, pairs.b_N, rng.random(len(pairs)) < 0.5)


def accuracy(score_R: FloatArray, gold_R: FloatArray, policy_R: FloatArray | None = None) -> float:
    """How often two different answers of a policy are put in the order of gold: exactly, over all pairs.

    Pairs weigh as often as the policy draws them; equal scores count one half; gold has no equal values.
    """
    weight_R = np.full(len(gold_R), 1.0 / len(gold_R)) if policy_R is None else policy_R
    order_R = np.argsort(gold_R)
    weight_R, score_R = weight_R[order_R], score_R[order_R]
    _, rank_R, _ = np.unique(score_R, return_inverse=True, return_counts=True)
    own = float((weight_R**2).sum())
    tied = (float((np.bincount(rank_R, weight_R) ** 2).sum()) - own) / 2
    return (_rising(weight_R, rank_R) + tied / 2) / ((float(weight_R.sum()) ** 2 - own) / 2)


def _rising(weight_R: FloatArray, rank_R: Indices) -> float:
    """Σ w_i w_j over i < j with rank_i < rank_j, by merging blocks of 1, 2, 4, … rows: R log² R, not R²."""
    place_R = np.arange(len(rank_R))
    total, width = 0.0, 1
    while width < len(rank_R):
        block_R, is_left_R = place_R // (2 * width), (place_R // width) % 2 == 0
        # Within a block by rank; where ranks are equal the right half comes first, so ties do not count.
        order_R = np.argsort((block_R * len(rank_R) + rank_R) * 2 + is_left_R)
        left_R = np.where(is_left_R, weight_R, 0.0)
        earlier_B = np.concatenate([[0.0], np.cumsum(np.bincount(block_R, left_R))])
        below_R = np.cumsum(left_R[order_R]) - earlier_B[block_R[order_R]]
        total += float(np.where(is_left_R, 0.0, weight_R)[order_R] @ below_R)
        width *= 2
    return total
