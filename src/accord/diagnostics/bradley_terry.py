"""Scores of items from who beat whom: P(i beats j) = sigmoid(s_i - s_j) (Bradley and Terry 1952)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse, special
from scipy.sparse import csgraph

from accord.diagnostics.statistics import FloatArray
from accord.records import BadInput

TOLERANCE = 1e-10  # of a Newton step, in logits
MAX_STEPS = 100


@dataclass(frozen=True)
class BradleyTerryScores:
    """The fit.

    Attributes:
        items: names, in the order of the arrays.
        score_I: logits with mean 0, because only differences are identified.
        error_I: standard errors of the scores so centred, from the curvature of the likelihood.
        log_likelihood: nats, of the decided comparisons and half of each tie's two wins.
    """

    items: tuple[Hashable, ...]
    score_I: FloatArray
    error_I: FloatArray
    log_likelihood: float

    def score(self) -> dict[Hashable, float]:
        """By name."""
        return {item: float(score) for item, score in zip(self.items, self.score_I, strict=True)}


def bradley_terry_scores(
    wins: Iterable[tuple[Hashable, Hashable]],
    ties: Iterable[tuple[Hashable, Hashable]] = (),
    *,
    ridge: float = 0.0,
) -> BradleyTerryScores:
    """Maximum likelihood by Newton's method; with ``ridge``, minus ridge · Σ score².

    Args:
        wins: (winner, loser) of each comparison.
        ties: pairs that were called equal; each counts as half a win for either.
        ridge: penalty, above 0 where the likelihood alone has no maximum.

    Raises:
        BadInput: no comparison, an item against itself, or (without a penalty) items that split into two
            sides of which one never lost to the other: their distance would be infinite (Ford 1957).
    """
    weight: dict[tuple[Hashable, Hashable], float] = {}
    for winner, loser in wins:
        weight[winner, loser] = weight.get((winner, loser), 0.0) + 1.0
    for one, two in ties:
        for pair in ((one, two), (two, one)):
            weight[pair] = weight.get(pair, 0.0) + 0.5
    if not weight:
        raise BadInput("there is no comparison: Bradley-Terry scores need at least 1")
    same = next((winner for winner, loser in weight if winner == loser), None)
    if same is not None:
        raise BadInput(f"{same!r} is compared with itself: a comparison needs two items")
    if not ridge >= 0:
        raise BadInput(f"ridge is {ridge:g}: it must be 0 or more")
    items = {item: i for i, item in enumerate(dict.fromkeys(item for pair in weight for item in pair))}
    winner_P = np.array([items[winner] for winner, _ in weight])
    loser_P = np.array([items[loser] for _, loser in weight])
    weight_P = np.array(list(weight.values()))
    count = len(items)
    if ridge == 0:
        _refuse_unbounded(winner_P, loser_P, count, list(items))

    def curvature(slope_P: FloatArray) -> FloatArray:
        hessian_II = np.zeros((count, count))
        np.add.at(hessian_II, (winner_P, winner_P), slope_P)
        np.add.at(hessian_II, (loser_P, loser_P), slope_P)
        np.add.at(hessian_II, (winner_P, loser_P), -slope_P)
        np.add.at(hessian_II, (loser_P, winner_P), -slope_P)
        return hessian_II + 2 * ridge * np.eye(count)

    def loss(score_I: FloatArray) -> float:
        margin_P = score_I[winner_P] - score_I[loser_P]
        return float(weight_P @ np.logaddexp(0, -margin_P) + ridge * score_I @ score_I)

    score_I = np.zeros(count)
    for _ in range(MAX_STEPS):
        margin_P = score_I[winner_P] - score_I[loser_P]
        pull_P = weight_P * special.expit(-margin_P)
        gradient_I = 2 * ridge * score_I
        np.add.at(gradient_I, winner_P, -pull_P)
        np.add.at(gradient_I, loser_P, pull_P)
        # The likelihood does not change along (1, …, 1): adding that direction makes the system solvable and
        # keeps the step free of it.
        step_I = np.linalg.solve(curvature(pull_P * special.expit(margin_P)) + 1 / count, -gradient_I)
        size, before = 1.0, loss(score_I)
        while loss(score_I + size * step_I) > before + 1e-12 and size > 1e-8:
            size /= 2  # a full step can overshoot where wins are lopsided
        score_I = score_I + size * step_I
        if np.abs(step_I).max() < TOLERANCE:
            break
    score_I = score_I - score_I.mean()
    margin_P = score_I[winner_P] - score_I[loser_P]
    slope_P = weight_P * special.expit(margin_P) * special.expit(-margin_P)
    covariance_II = np.linalg.pinv(curvature(slope_P), hermitian=True)
    log_likelihood = float(-(weight_P @ np.logaddexp(0, -margin_P)))
    error_I = np.sqrt(np.maximum(np.diag(covariance_II), 0))
    return BradleyTerryScores(tuple(items), score_I, error_I, log_likelihood)


def _refuse_unbounded(winner_P: FloatArray, loser_P: FloatArray, count: int, items: list[Hashable]) -> None:
    graph = sparse.coo_array((np.ones(len(winner_P)), (winner_P, loser_P)), shape=(count, count))
    parts, part_I = csgraph.connected_components(graph, directed=True, connection="strong")
    if parts > 1:
        apart = [items[i] for i in np.flatnonzero(part_I == part_I[int(winner_P[0])])]
        raise BadInput(
            f"the items fall into {parts} groups without wins in both directions ({str(apart[0])[:40]!r} and "
            f"{len(apart) - 1} more are one of them), so some distances are infinite: "
            "compare items across the groups, or give a ridge such as 0.01"
        )
