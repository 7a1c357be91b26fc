"""What a reward model shows on held-out comparisons: accuracy, calibration, floors, scores, its members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accord.diagnostics.calibration import reward_metrics
from accord.diagnostics.floors import floors
from accord.diagnostics.length_reliance import length_reliance
from accord.diagnostics.statistics import FloatArray
from accord.records import Comparison
from accord.reward_examples import Example


def signs(examples: Sequence[Example]) -> FloatArray:
    """+1 where a won, −1 where b did."""
    return np.array([1.0 if e.outcome == 0 else -1.0 for e in examples])


def measure(
    score_N2: FloatArray,
    nats_N: FloatArray | float,
    examples: Sequence[Example],
    rows: Sequence[Comparison],
    training: Sequence[Comparison],
    *,
    bootstrap: int = 2000,
) -> dict[str, Any]:
    """Accuracy with its interval, calibration, score distribution, and the floors, on held-out comparisons.

    Args:
        score_N2: normalised scores of a and b.
        nats_N: what a difference of 1 is in raw units (nats of Bradley–Terry log odds), so that calibration
            is of the model itself.
        examples, rows: decided pairs, and the comparisons that they are of.
        training: what the learned floors learn from; empty: no floors.
    """
    sign_N = signs(examples)
    margin_N = (score_N2[:, 0] - score_N2[:, 1]) * sign_N * nats_N
    keys = [row.prompt.key for row in rows]
    chosen_N = np.where(sign_N > 0, score_N2[:, 0], score_N2[:, 1])
    rejected_N = np.where(sign_N > 0, score_N2[:, 1], score_N2[:, 0])
    edges = np.histogram_bin_edges(score_N2, bins=24)
    return reward_metrics(margin_N, keys, samples=bootstrap) | {
        "floors": floors(training, rows, samples=bootstrap) if training else {},
        "pairs_test": len(examples),
        "prompts_test": len(set(keys)),
        "score_histogram": {
            "edges": edges.tolist(),
            "chosen": np.histogram(chosen_N, edges)[0].tolist(),
            "rejected": np.histogram(rejected_N, edges)[0].tolist(),
        },
    }


def measure_heads(
    names: Sequence[str],
    score_EN2: FloatArray,
    nats_E: FloatArray,
    examples: Sequence[Example],
    rows: Sequence[Comparison],
    *,
    own_pairs: bool = False,
    bootstrap: int = 2000,
) -> list[dict[str, Any]]:
    """Accuracy and calibration of each member of an ensemble, or of each criterion on its own pairs."""
    out = []
    for number, name in enumerate(names):
        use = [i for i, e in enumerate(examples) if not own_pairs or e.criterion == number]
        if not use:
            out.append({"name": name, "pairs_test": 0})
            continue
        sign_N = signs([examples[i] for i in use])
        score_N2 = score_EN2[number][use]
        margin_N = (score_N2[:, 0] - score_N2[:, 1]) * sign_N * nats_E[number]
        figures = reward_metrics(margin_N, [rows[i].prompt.key for i in use], samples=bootstrap)
        kept = ("accuracy", "accuracy_interval", "pairs_test", "brier", "ece", "temperature")
        out.append({"name": name} | {key: figures[key] for key in kept})
    return out


def length_figures(
    margin_N: FloatArray, examples: Sequence[Example], rows: Sequence[Comparison], *, bootstrap: int = 2000
) -> dict[str, Any]:
    """Accuracy, and how far chosen-minus-rejected margins go with length beyond what the labels explain."""
    gap_N = [len(row.pair.a.text) - len(row.pair.b.text) for row in rows] * signs(examples)
    keys = [row.prompt.key for row in rows]
    found = length_reliance(margin_N, gap_N, keys, samples=bootstrap)
    right = float(((margin_N > 0) + 0.5 * (margin_N == 0)).mean())
    return {"accuracy": right} | {
        name: found[name] for name in ("correlation", "partial", "partial_interval")
    }
