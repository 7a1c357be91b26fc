"""Held-out samples side by side: what each prompt gained, and which of them the page shows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from accord.records import content_hash
from accord.report.artefacts import Round, mapping, number


def gain(sample: Mapping[str, Any], kind: str) -> float | None:
    """Policy minus SFT on the same prompt, in units of ``kind`` (gold or proxy)."""
    new, old = (number(mapping(sample.get(side)).get(kind)) for side in ("policy", "sft"))
    return new - old if new is not None and old is not None else None


def _standardised(values: Sequence[float | None]) -> list[float | None]:
    """Each value in deviations from the mean of the known ones; None where nothing varies or it is not
    known.
    """
    known = [value for value in values if value is not None]
    spread = statistics.pstdev(known) if known else 0.0
    if not spread > 0:
        return [None] * len(values)
    mean = statistics.fmean(known)
    return [None if value is None else (value - mean) / spread for value in values]


def disagreements(samples: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """How far proxy and gold differ about each gain, in standard deviations; positive where the proxy says
    more.

    Without gold, the members of an ensemble: the spread of their scores of the policy's answer
        (``proxy_std``).
    """
    proxy = _standardised([gain(s, "proxy") for s in samples])
    gold = _standardised([gain(s, "gold") for s in samples])
    if any(value is not None for value in gold):
        return [p - g if p is not None and g is not None else None for p, g in zip(proxy, gold, strict=True)]
    return [number(mapping(s.get("policy")).get("proxy_std")) for s in samples]


def chosen_samples(one: Round, limit: int) -> tuple[str, list[dict[str, Any]]]:
    """(what gains are measured by, up to 4 × limit samples: largest gains, losses, disagreements, random).

    Each carries its place in every order: ``gain_rank`` (0 is the largest gain), ``loss_rank``,
    ``dispute_rank`` (0 is the largest disagreement) and ``random_rank`` (a fixed draw by hash, so that the
    same run gives the same page); and ``dispute``, the disagreement itself.
    """
    kind = "gold" if any(gain(s, "gold") is not None for s in one.samples) else "proxy"
    rows = [
        dict(s, gain=gain(s, kind), draw=content_hash(s["key"], str(i), s["policy"]["text"]))
        for i, s in enumerate(one.samples)
    ]
    for row, dispute in zip(rows, disagreements(rows), strict=True):
        row["dispute"] = dispute
    known = sorted((r for r in rows if r["gain"] is not None), key=lambda r: (-r["gain"], r["draw"]))
    drawn = sorted(rows, key=lambda r: r["draw"])
    for rank, row in enumerate(known):
        row["gain_rank"], row["loss_rank"] = rank, len(known) - 1 - rank
    for rank, row in enumerate(drawn):
        row["random_rank"] = rank
    disputed = sorted(
        (r for r in rows if r["dispute"] is not None), key=lambda r: (-abs(r["dispute"]), r["draw"])
    )
    for rank, row in enumerate(disputed):
        row["dispute_rank"] = rank
    last = len(rows)
    kept = [
        row
        for row in rows
        if min(
            row.setdefault("gain_rank", last),
            row.setdefault("loss_rank", last),
            row.setdefault("dispute_rank", last),
            row["random_rank"],
        )
        < limit
    ]
    return kind, sorted(
        kept, key=lambda row: (-(row["gain"] or 0.0), row["draw"])
    )  # unknown gains: in the middle


def outcomes(one: Round) -> tuple[float, float, float] | None:
    """(policy better, equal, SFT better) under the gold, as the win rate counted them; None without gold."""
    evidence = mapping((one.finding("win_rate", "is it better") or {}).get("evidence"))
    won, equal, lost = (number(evidence.get(key)) for key in ("wins", "ties", "losses"))
    if won is not None and equal is not None and lost is not None:
        return won, equal, lost
    gaps = [gap for s in one.samples if (gap := gain(s, "gold")) is not None]
    if not gaps:
        return None
    wins, losses = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    return wins, len(gaps) - wins - losses, losses
