"""Can this reward model be trusted? Everything that can be said from held-out comparisons and their scores.

Pure: scores come in as numbers, whoever gave them, and plain JSON values go out (the measured part of the
reward-model card). The reading of it is in `reward_gate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.diagnostics.annotator_agreement import best_reachable, ceiling, contradicted
from accord.diagnostics.calibration import brier_terms, correct, reward_metrics
from accord.diagnostics.length_reliance import length_reliance
from accord.diagnostics.reward_floors import floor_table, measured_floors
from accord.diagnostics.reward_slices import slices
from accord.diagnostics.statistics import FloatArray, cluster_bootstrap
from accord.records import BadInput, Comparison
from accord.reward_annotators import described, fit_before

HISTOGRAM_BINS = 24
# A spread this small against the scores' size is round-off: every response has the same score.
LEAST_RELATIVE_SPREAD = 1e-6


@dataclass(frozen=True)
class ScoredPairs:
    """Comparisons with the scores of both answers, row n to comparison n.

    Attributes:
        score_N2: scores of a and b, in the scorer's own units. Calibration reads differences as log odds
            (nats), which is what Bradley–Terry trains.
    """

    comparisons: Sequence[Comparison]
    score_N2: FloatArray

    def __post_init__(self) -> None:
        if self.score_N2.shape != (len(self.comparisons), 2):
            raise BadInput(
                f"{len(self.comparisons)} comparisons have scores of shape {self.score_N2.shape}:"
                " give the scores of both answers of each"
            )


def _verdict_counts(rows: Sequence[Comparison]) -> dict[str, int]:
    counts = Counter(row.verdict for row in rows)
    return {
        "decided": counts["a"] + counts["b"],
        "ties": counts["tie"],
        "not_judged": counts["both_bad"] + counts["skip"],
    }


def label_source(rows: Sequence[Comparison]) -> str:
    """Who judged, as far as the names say: simulated annotators are never called people."""
    named = {row.annotator for row in rows if row.annotator}
    simulated = {name for name in named if name.startswith("simulated:")}
    if simulated and simulated == named:
        return f"{len(simulated)} simulated annotator(s), a stand-in for people"
    if simulated:
        return f"{len(named)} annotators, {len(simulated)} of them simulated"
    return f"{len(named)} named annotator(s)" if named else "annotators who are not named"


def same_score(score: FloatArray) -> bool:
    """Whether the scores differ by no more than round-off."""
    return bool(np.ptp(score) <= LEAST_RELATIVE_SPREAD * max(1.0, float(np.abs(score).max())))


def _scores(score_N2: FloatArray, chose_a_N: FloatArray) -> dict[str, Any]:
    edges = np.histogram_bin_edges(score_N2, bins=HISTOGRAM_BINS)
    chosen_N = np.where(chose_a_N, score_N2[:, 0], score_N2[:, 1])
    rejected_N = np.where(chose_a_N, score_N2[:, 1], score_N2[:, 0])
    return {
        "mean": float(score_N2.mean()),
        "deviation": float(score_N2.std()),
        "constant": same_score(score_N2),
        "histogram": {
            "edges": edges.tolist(),
            "chosen": np.histogram(chosen_N, edges)[0].tolist(),
            "rejected": np.histogram(rejected_N, edges)[0].tolist(),
        },
    }


def _annotators(rows: Sequence[Comparison]) -> dict[str, Any] | None:
    """Each annotator's inverse temperature and side bias; None where the labels cannot tell them apart."""
    try:
        return described(fit_before(rows))
    except BadInput:
        return None


def _usable(pairs: ScoredPairs) -> tuple[list[Comparison], FloatArray, int]:
    """Decided pairs with two finite scores, and how many decided ones had none."""
    finite_N = np.isfinite(pairs.score_N2).all(axis=1)
    decided_N = np.array([row.chosen is not None for row in pairs.comparisons], dtype=bool)
    rows = [row for row, keep in zip(pairs.comparisons, decided_N & finite_N, strict=True) if keep]
    return rows, pairs.score_N2[decided_N & finite_N], int((decided_N & ~finite_N).sum())


def _tie_margin(pairs: ScoredPairs) -> float | None:
    """Mean |difference of scores| over ties: should be small beside that of decided pairs."""
    tie_N = np.array([row.verdict == "tie" for row in pairs.comparisons], dtype=bool)
    gap = np.abs(pairs.score_N2[:, 0] - pairs.score_N2[:, 1])[tie_N & np.isfinite(pairs.score_N2).all(axis=1)]
    return float(gap.mean()) if len(gap) else None


def evaluate(
    pairs: ScoredPairs, training: Sequence[Comparison] = (), *, samples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The measured part of a reward-model card, as plain JSON values.

    Args:
        pairs: held-out comparisons, ties and skips included (they are counted; ties also measured).
        training: what the learned floors learn from; without it they are cross-fitted on ``pairs``.
        samples: bootstrap draws over prompts.

    Raises:
        BadInput: there is no comparison, none names a winner (all ties, all skipped), or none that does has
            two finite scores. Constant scores are no error: they are right half of the time, and say so.
    """
    every = list(pairs.comparisons)
    if not every:
        raise BadInput("there is no comparison to evaluate on: give a file that holds some")
    counts = _verdict_counts(every)
    if not counts["decided"]:
        raise BadInput(
            f"none of {len(every)} comparisons names a winner ({counts['ties']} ties,"
            f" {counts['not_judged']} not judged): accuracy needs pairs with a better side"
        )
    rows, score_N2, unscorable = _usable(pairs)
    if not rows:
        raise BadInput(
            f"all {unscorable} decided pairs have a score that is NaN or infinite: mend the scorer first"
        )
    chose_a_N = np.array([row.verdict == "a" for row in rows])
    margin_N = np.where(chose_a_N, 1.0, -1.0) * (score_N2[:, 0] - score_N2[:, 1])
    scores = _scores(score_N2, chose_a_N)
    if scores["constant"]:
        margin_N = np.zeros_like(margin_N)  # round-off must not decide who is right
    prompts = [row.prompt.key for row in rows]
    right_N = correct(margin_N)
    floors = measured_floors(training, rows, seed)
    metrics = reward_metrics(margin_N, prompts, samples, seed)
    gap_N = np.array([len(r.chosen.text) - len(r.rejected.text) for r in rows if r.chosen and r.rejected])
    trained_on = {row.prompt.key for row in training}
    brier = cluster_bootstrap(brier_terms(margin_N), prompts, samples=samples, seed=seed)
    return {
        "data": {
            "comparisons": len(every),
            **counts,
            "unscorable": unscorable,
            "pairs": len(rows),
            "prompts": len(set(prompts)),
            "contradicted": contradicted(every),
            "best_reachable": best_reachable(rows),
            "prompts_in_training": len(set(prompts) & trained_on),
            "label_source": label_source(every),
        },
        "accuracy": {"figure": metrics["accuracy"], "interval": metrics["accuracy_interval"]},
        "floors": floor_table(right_N, floors, prompts, samples, seed),
        "floors_learned_from": floors.learned_from,
        "calibration": {
            "brier": brier.figure,
            "brier_interval": brier.bounds,
            "ece": None if scores["constant"] else metrics["ece"],
            "temperature": None if scores["constant"] else metrics["temperature"],
            "reliability": metrics["reliability"],
        },
        "length": length_reliance(margin_N, gap_N, prompts, samples, seed),
        "ceiling": ceiling(every, samples, seed),
        "annotators": _annotators(every),
        "ties": {"count": counts["ties"], "mean_gap": _tie_margin(pairs)},
        "decided_mean_gap": float(np.abs(margin_N).mean()),
        "slices": slices(rows, every, margin_N, right_N, floors.correct, samples, seed),
        "scores": scores,
    }
