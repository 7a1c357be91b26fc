"""The equal-label control: as many labels of the older policy's samples, and what differs then.

It has a folder of its own (``control/``), with its own labels, metrics and stages, so that nothing of it can
reach the run that it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from accord.config import Aggregation, Evaluate
from accord.config import Judge as JudgeConfig
from accord.diagnostics.fresh_labels_value import fresh_labels_value
from accord.diagnostics.matched_kl import matched_kl
from accord.evidence import graded_by_prompt
from accord.records import BadInput, Comparison, Finding
from accord.scoring.loading import load_scorer

Row = dict[str, Any]


def margins_of(
    reward_folder: Path,
    dtype: torch.dtype,
    labels: Sequence[Comparison],
    how: Aggregation = Aggregation(),
    weights: Mapping[str, float] | None = None,
) -> tuple[list[float], list[str]]:
    """Chosen minus rejected score of the decided labels by a reward model, and their prompts' keys."""
    scorer = load_scorer(reward_folder, dtype, how, weights)
    decided = [one for one in labels if one.chosen is not None and one.rejected is not None]
    if not decided:
        return [], []
    prompts = [one.prompt for one in decided]
    better = scorer.score(prompts, [one.chosen.text for one in decided if one.chosen is not None])
    worse = scorer.score(prompts, [one.rejected.text for one in decided if one.rejected is not None])
    return [float(a - b) for a, b in zip(better, worse, strict=True)], [p.key for p in prompts]


def control_findings(
    margins: tuple[list[float], list[float], list[str]],
    evaluations: Sequence[Row],
    control: Sequence[Row],
    config: Evaluate,
    judge: JudgeConfig | None,
) -> list[Finding]:
    """Accuracy on the newer policy's own samples, and gold at matched KL where there is gold.

    Args:
        margins: of the run's reward model, of the control's, and the prompts' keys.
        evaluations, control: of the policies that were optimised for the two.
    """
    found = []
    try:
        found.append(fresh_labels_value(*margins, samples=config.bootstrap))
    except BadInput as error:
        sentence = f"What the fresh labels bought was not measured: {error}."
        found.append(
            Finding("fresh_labels_value", "What did fresh labels buy?", None, None, "", "unknown", sentence)
        )
    first, second = (graded_by_prompt(side, judge) for side in (control, evaluations))
    if first is not None and second is not None:
        at_kl = matched_kl(
            first.kl, first.gold_PG, second.kl, second.gold_PG, first.keys, gold_name=first.name,
            names=("the equal-label control", "the run"), samples=config.bootstrap,
        )  # fmt: skip
        found.append(at_kl)
    return found
