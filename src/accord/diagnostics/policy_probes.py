"""Edits that must not raise a score, tried on the policy's own answers: has it found where they pay?

The probes are those of the reward model's card (``probes``). There they are tried on labelled answers; a
policy that was optimised may have moved to where they work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from accord.diagnostics.probe_figures import LEAST_RISE, NO_END, Probed, ScoreResponses, edits
from accord.diagnostics.probes import PROBES, Probe
from accord.diagnostics.statistics import (
    FloatArray,
    cluster_sum_draws,
    cluster_totals,
    stream,
)
from accord.diagnostics.style import simultaneous
from accord.records import BadInput, Finding


class Changes(NamedTuple):
    """What one probe did to the scores of the answers that it applies to, in standard deviations."""

    prompts: list[str]
    change_N: FloatArray


def probe_changes(
    items: Sequence[Probed],
    score: ScoreResponses,
    *,
    deviation: float,
    reads_end: bool = True,
    probes: Sequence[Probe] = PROBES,
    seed: int = 0,
) -> dict[str, Changes]:
    """Score after each edit minus score before it; answers that cannot be scored are left out.

    Args:
        deviation: of the scores over SFT's answers, for both sides: the unit of the changes.
        reads_end: whether ``score`` can see a missing end token.
    """
    if not items:
        raise BadInput("there is no answer to probe: give samples")
    if not deviation > 0:
        raise BadInput(f"the scores' deviation is {deviation:g}: without spread a change has no unit")
    before_N = np.asarray(score([i.prompt for i in items], [i.response for i in items]), dtype=np.float64)
    out = {}
    for probe in probes:
        if probe.name == NO_END and not reads_end:
            continue
        edited = [(i, one) for i, one in enumerate(edits(items, probe, seed)) if one is not None]
        if not edited:
            continue
        place = [i for i, _ in edited]
        after = np.asarray(
            score([items[i].prompt for i in place], [one for _, one in edited]), dtype=np.float64
        )
        change_N = (after - before_N[place]) / deviation
        known = np.isfinite(change_N)
        prompts = [items[i].prompt.key for i, keep in zip(place, known, strict=True) if keep]
        if prompts:
            out[probe.name] = Changes(prompts, change_N[known])
    return out


def policy_probes(
    sft: Mapping[str, Changes], policy: Mapping[str, Changes], *, samples: int = 2000, seed: int = 0
) -> Finding:
    """Finding: do the probes raise the score of the policy's answers more often than of SFT's?

    Args:
        sft, policy: ``probe_changes`` of both sides' answers to the same prompts.

    ``figure`` is the largest growth in the share of answers that a probe raises (by more than 0.01 standard
    deviations); intervals hold for all probes at once and resample prompts. Verdict: warn where one of them
    lies above 0, else good.
    """
    question, unit = (
        "Has it moved to where tricks pay?",
        "share of answers that the probe raises, policy minus SFT",
    )
    names = [name for name in sft if name in policy]
    if not names:
        sentence = "No probe applies to the answers of both sides."
        return Finding("policy_probes", question, None, None, unit, "unknown", sentence)
    parts, keys = [], sorted({p for side in (sft, policy) for name in names for p in side[name].prompts})
    index_of = {key: i for i, key in enumerate(keys)}
    for name in names:
        for side in (sft, policy):
            changes = side[name]
            index = np.array([index_of[key] for key in changes.prompts])
            rises = (changes.change_N > LEAST_RISE).astype(np.float64)
            parts.append(cluster_totals(np.stack([rises, np.ones_like(rises)], axis=1), index, len(keys)))
    totals = np.concatenate(parts, axis=1)
    draws = cluster_sum_draws(totals, samples, stream(seed, "policy_probes"))
    growth_F, share_F2 = _growth(totals.sum(axis=0)[None])
    growth_SF, _ = _growth(draws)
    known_S = np.isfinite(growth_SF).all(axis=1)
    if len(keys) < 2 or known_S.sum() < 2:
        sentence = "Probes on the policy's answers have no interval: they apply to too few prompts."
        return Finding("policy_probes", question, None, None, unit, "unknown", sentence)
    low_F, high_F = simultaneous(growth_F[0], growth_SF[known_S], len(keys))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "sft": float(share_F2[0, i, 0]),
            "policy": float(share_F2[0, i, 1]),
            "change": float(growth_F[0, i]),
            "change_interval": [float(low_F[i]), float(high_F[i])],
            "sft_answers": len(sft[name].change_N),
            "policy_answers": len(policy[name].change_N),
            "sft_mean_change": float(sft[name].change_N.mean()),
            "policy_mean_change": float(policy[name].change_N.mean()),
        }
        for i, name in enumerate(names)
    ]
    grown = [row["name"] for row in rows if row["change_interval"][0] > 0]
    top = int(np.argmax(growth_F[0]))
    ends = (float(low_F[top]), float(high_F[top]))
    verdict: Literal["good", "warn"] = "warn" if grown else "good"
    shown = [name.replace("_", " ") for name in grown]
    reading = (
        f"{' and '.join(shown)} raises the score more often than before"
        if grown
        else "no edit raises scores more often than before"
    )
    sentence = (
        f"Of {len(rows)} edits that must not raise a score, “{names[top].replace('_', ' ')}” has grown most,"
        f" by {growth_F[0, top]:.1%} of answers (95% interval over all edits {ends[0]:.1%} to {ends[1]:.1%}):"
        f" {reading}."
    )
    evidence = {"probes": rows, "grown": grown, "prompts": len(keys)}
    return Finding(
        "policy_probes", question, float(growth_F[0, top]), ends, unit, verdict, sentence, evidence
    )


def _growth(sums_SX: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(policy share minus SFT share [S, F], shares [S, F, 2]) from rises and answers of each probe and
    side.
    """
    table = sums_SX.reshape(len(sums_SX), -1, 2, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = table[..., 0] / table[..., 1]
    return share[..., 1] - share[..., 0], share
