"""What did the fresh labels buy? Two reward models, the same number of labels, the same pairs to judge."""

from __future__ import annotations

from typing import Any, Literal

from accord.diagnostics.calibration import correct
from accord.diagnostics.statistics import Clusters, cluster_bootstrap, finite
from accord.records import BadInput, Finding

QUESTION = "What did labels of the newer policy's samples buy?"
UNIT = "share of pairs right, with fresh labels minus with as many of the older policy's samples"


def fresh_labels_value(
    fresh_margin_N: Any, control_margin_N: Any, prompt_N: Clusters, *, samples: int = 2000, seed: int = 0
) -> Finding:
    """Finding: accuracy on the newer policy's own samples, reward model with its labels minus the control's.

    The control has as many labels, spent on the policy before it, so that what differs is whose samples were
    labelled and not how many (SCIENCE: the equal-label control).

    Args:
        fresh_margin_N, control_margin_N: chosen minus rejected by both reward models, of the same labelled
            pairs of the newer policy's samples, on prompts that neither learned from.

    The interval is of the paired difference, prompts resampled. Verdict: good above 0, bad below, else warn.
    """
    fresh, control = finite(fresh_margin_N, "margins"), finite(control_margin_N, "the control's margins")
    if fresh.shape != control.shape or len(prompt_N) != len(fresh):
        raise BadInput(
            f"{len(fresh)} and {len(control)} margins of {len(prompt_N)} prompts: give both models the same"
            " pairs"
        )
    if not len(fresh):
        raise BadInput("there is no fresh label to judge the reward models by")
    right_N, control_N = correct(fresh), correct(control)
    gap = cluster_bootstrap(right_N - control_N, prompt_N, samples=samples, seed=seed)
    verdict: Literal["good", "bad", "warn", "unknown"]
    if gap.bounds is None:
        verdict, reading = "unknown", "one prompt gives no interval"
    elif gap.low > 0:
        verdict, reading = "good", "fresh labels were worth more than as many older ones"
    elif gap.high < 0:
        verdict, reading = "bad", "as many labels of the older policy's samples were worth more"
    else:
        verdict, reading = "warn", "they are not shown to be worth more than as many older ones"
    sentence = (
        f"On {len(fresh)} fresh pairs of the policy whose samples were labelled, the reward model is right in"
        f" {right_N.mean():.1%}, the equal-label control in {control_N.mean():.1%}: a difference of"
        f" {gap.show_percent()}, so {reading}."
    )
    evidence = {"fresh": float(right_N.mean()), "control": float(control_N.mean()), "pairs": len(fresh)}
    return Finding("fresh_labels_value", QUESTION, gap.figure, gap.bounds, UNIT, verdict, sentence, evidence)
