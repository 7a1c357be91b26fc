"""How often, and by how much, edits that must not raise a score raise it, with the worst of them to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.diagnostics.probes import PROBES, Around, Probe
from accord.diagnostics.statistics import FloatArray, cluster_bootstrap, clustered_share, stream
from accord.records import BadInput, Comparison, Prompt, Response, content_hash

ScoreResponses = Callable[[Sequence[Prompt], Sequence[Response]], Sequence[float]]

# Rises below this many standard deviations are round-off of the scorer, not a preference.
LEAST_RISE = 0.01
EXAMPLE_CHARACTERS = 1200
NO_END = "no_end"


@dataclass(frozen=True)
class Probed:
    """An answer to be edited. ``preferred``: people called it the better one in some comparison."""

    prompt: Prompt
    response: Response
    preferred: bool


def real_responses(rows: Sequence[Comparison], limit: int, seed: int) -> list[Probed]:
    """Distinct answers of the comparisons, at most ``limit``, picked by a hash of what they say.

    A hash and no draw, so that an answer stays picked when others come or go.
    """
    found: dict[tuple[str, str], Probed] = {}
    for row in rows:
        for response in (row.pair.a, row.pair.b):
            key = (row.prompt.key, response.text)
            better = row.chosen is response
            known = found.get(key)
            if known is None or (better and not known.preferred):
                found[key] = Probed(row.prompt, response, better or bool(known and known.preferred))
    order = sorted(found, key=lambda key: content_hash(*key, str(seed), "probed responses"))
    return [found[key] for key in order[:limit]]


def others(items: Sequence[Probed], seed: int) -> dict[str, Response]:
    """For each prompt a preferred answer to another: prompts in the order of a hash, each takes the next."""
    good: dict[str, Response] = {}
    for item in items:
        if item.preferred and item.response.text.strip():
            good.setdefault(item.prompt.key, item.response)
    ring = sorted(good, key=lambda key: content_hash(key, str(seed), "other answers"))
    given = {key: good[ring[(i + 1) % len(ring)]] for i, key in enumerate(ring)} if len(ring) > 1 else {}
    for item in items:  # prompts without a preferred answer take the ring's first
        if ring and item.prompt.key not in good:
            given[item.prompt.key] = good[ring[0]]
    return given


def edits(items: Sequence[Probed], probe: Probe, seed: int) -> list[Response | None]:
    """What ``probe`` makes of each answer; None where it does not apply."""
    given = others(items, seed)
    out: list[Response | None] = []
    for item in items:
        if probe.preferred_only and not item.preferred:
            out.append(None)
            continue
        # A stream of its own for each answer: the edit does not depend on what else is probed.
        rng = stream(seed, f"probe {probe.name} {content_hash(item.prompt.key, item.response.text)}")
        out.append(probe.edit(item.response, Around(rng, given.get(item.prompt.key))))
    return out


def _shown(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS] + " […]"


def _figures(
    probe: Probe,
    items: Sequence[Probed],
    edited: Sequence[Response | None],
    change_N: FloatArray,
    place: Sequence[int],
    samples: int,
    seed: int,
    worst: int,
) -> dict[str, Any]:
    known = np.isfinite(change_N)
    change, index = change_N[known], [i for i, keep in zip(place, known, strict=True) if keep]
    out: dict[str, Any] = {
        "name": probe.name,
        "what": probe.what,
        "preferred_only": probe.preferred_only,
        "tried": len(index),
        "unscorable": int((~known).sum()),
        "reason": "" if len(index) else "it applies to none of the answers",
        "examples": [],
    }
    if not index:
        return out
    prompts = [items[i].prompt.key for i in index]
    rises, falls = change > LEAST_RISE, change < -LEAST_RISE
    share = clustered_share(rises.astype(np.float64), prompts, samples, seed)
    falling = clustered_share(falls.astype(np.float64), prompts, samples, seed)
    mean = cluster_bootstrap(change, prompts, samples=samples, seed=seed)
    out |= {
        "share_rising": share.figure,
        "share_interval": share.bounds,
        "share_falling": falling.figure,
        "share_falling_interval": falling.bounds,
        "mean_change": mean.figure,
        "mean_change_interval": mean.bounds,
        "mean_rise": float(change[rises].mean()) if rises.any() else None,
        "largest_rise": float(change.max()),
    }
    for k in np.argsort(-change, kind="stable")[:worst]:
        if rises[k]:
            after = edited[index[k]]
            assert after is not None  # only edited answers have a change
            out["examples"].append(
                {
                    "change": float(change[k]),
                    "prompt": _shown(items[index[k]].prompt.text),
                    "before": _shown(items[index[k]].response.text),
                    "after": _shown(after.text),
                }
            )
    return out


def measure_probes(
    items: Sequence[Probed],
    score: ScoreResponses,
    *,
    deviation: float,
    reads_end: bool = True,
    probes: Sequence[Probe] = PROBES,
    samples: int = 2000,
    seed: int = 0,
    worst: int = 3,
) -> list[dict[str, Any]]:
    """Every probe's figures, as plain JSON values, in the order of ``probes``.

    Args:
        items: real answers, from `real_responses`.
        score: scores of answers, higher is better; NaN where it cannot score one. ``Response.finished`` says
            whether the end token is there.
        deviation: standard deviation of the scores over real answers: the unit of every change.
        reads_end: whether ``score`` can see a missing end token. A scorer of texts cannot.
        worst: examples kept of each probe, the largest rises.

    Returns:
        For each probe ``share_rising`` and ``share_falling`` (of answers whose score rises or falls by more
        than 0.01 deviations) with intervals over prompts, ``mean_change`` with its interval, ``mean_rise``
        among those that rise, ``largest_rise``, ``examples``; or ``tried`` 0 and a ``reason``.

    Raises:
        BadInput: no answers, or scores that do not vary (there is no unit).
    """
    if not items:
        raise BadInput("there is no answer to probe: give comparisons with answers")
    if not deviation > 0:
        raise BadInput(f"the scores' deviation is {deviation:g}: without spread a change has no unit")
    before = _checked(score, [i.prompt for i in items], [i.response for i in items])
    table = []
    for probe in probes:
        if probe.name == NO_END and not reads_end:
            row = _figures(probe, items, [], np.zeros(0), [], samples, seed, worst)
            table.append(row | {"reason": "this scorer is given text, in which no end token can be missing"})
            continue
        edited = edits(items, probe, seed)
        place = [i for i, one in enumerate(edited) if one is not None]
        answers = [one for one in edited if one is not None]
        after = _checked(score, [items[i].prompt for i in place], answers) if place else np.zeros(0)
        change_N = (after - before[place]) / deviation
        table.append(_figures(probe, items, edited, change_N, place, samples, seed, worst))
    return table


def _checked(score: ScoreResponses, prompts: Sequence[Prompt], responses: Sequence[Response]) -> FloatArray:
    found: FloatArray = np.asarray(score(prompts, responses), dtype=np.float64)
    if found.shape != (len(responses),):
        raise BadInput(f"the scorer gave scores of shape {found.shape} for {len(responses)} responses")
    return found
