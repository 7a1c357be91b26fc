"""Best-of-n on SFT's own samples, picked as RL reads the score and, where asked for, pessimistically.

Rows hold N samples of each prompt one after another, with ``proxy``, ``gold`` (None where there is none) and,
of an ensemble, ``members``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from accord.config import Aggregation, Evaluate
from accord.diagnostics.best_of_n import best_of_n_curve
from accord.diagnostics.pessimistic_selection import pessimistic_selection
from accord.diagnostics.statistics import FloatArray
from accord.records import Finding
from accord.scoring.ensemble import aggregate

Row = dict[str, Any]
SIZES = (1, 2, 4, 8, 16, 32, 64)


def best_of_curve(rows: Sequence[Row], config: Evaluate) -> list[Row]:
    """Proxy and gold over n, picked by the score as RL reads it (``online.ensemble``)."""
    return _curve(rows, config, None) if rows else []


def pessimistic_curve(rows: Sequence[Row], config: Evaluate) -> list[Row]:
    """The same samples picked by ``evaluate.best_of_ensemble``; empty where it is not asked for."""
    how = _asked(rows, config)
    return _curve(rows, config, _combined(rows, how)) if how is not None else []


def pessimistic_best_of(rows: Sequence[Row], config: Evaluate, gold_name: str | None) -> list[Finding]:
    """What the pessimistic pick of all N bought; empty where it is not asked for."""
    how = _asked(rows, config)
    if how is None:
        return []
    words = {
        "worst": "the lowest member's score",
        "uwo": f"mean − {how.coefficient:g}·variance of the members",
        "lcb": f"mean − {how.coefficient:g}·deviation of the members",
    }
    gold_PN = None if gold_name is None else _by_prompt([row["gold"] for row in rows], rows)
    return [
        pessimistic_selection(
            _combined(rows, Aggregation()),
            _combined(rows, how),
            gold_PN,
            rule=words[how.rule],
            gold_name=gold_name or "gold",
            samples=config.bootstrap,
        )
    ]


def _asked(rows: Sequence[Row], config: Evaluate) -> Aggregation | None:
    """The rule, where the rows have what it reads."""
    return config.best_of_ensemble if rows and rows[0].get("members") is not None else None


def _by_prompt(values: Sequence[float], rows: Sequence[Row]) -> FloatArray:
    """[P, N]."""
    return np.array(values, dtype=np.float64).reshape(-1, sum(row["key"] == rows[0]["key"] for row in rows))


def _combined(rows: Sequence[Row], how: Aggregation) -> FloatArray:
    """[P, N] scores of the rows' members by a rule."""
    score_EB = torch.tensor([row["members"] for row in rows], dtype=torch.float64).T
    return _by_prompt(aggregate(score_EB, how).tolist(), rows)


def _curve(rows: Sequence[Row], config: Evaluate, picked_by_PN: FloatArray | None) -> list[Row]:
    score_PN = _by_prompt([row["proxy"] for row in rows], rows)
    gold_PN = None if rows[0]["gold"] is None else _by_prompt([row["gold"] for row in rows], rows)
    return best_of_n_curve(
        score_PN,
        gold_PN,
        picked_by_PN=picked_by_PN,
        sizes=[n for n in SIZES if n <= score_PN.shape[1]],
        samples=config.bootstrap,
    )
