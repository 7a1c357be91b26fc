"""Held-out samples side by side: what each prompt gained, and which of them the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.records import content_hash
from accord.report.artefacts import Round, mapping, number


def gain(sample: Mapping[str, Any], kind: str) -> float | None:
    """Policy minus SFT on the same prompt, in units of ``kind`` (gold or proxy)."""
    new, old = (number(mapping(sample.get(side)).get(kind)) for side in ("policy", "sft"))
    return new - old if new is not None and old is not None else None


def chosen_samples(one: Round, limit: int) -> tuple[str, list[dict[str, Any]]]:
    """(what gains are measured by, up to 3 × limit samples: largest gains, largest losses, random).

    Each carries its place in every order: ``gain_rank`` (0 is the largest gain), ``loss_rank`` and
    ``random_rank`` (a fixed draw by hash, so that the same run gives the same page).
    """
    kind = "gold" if any(gain(s, "gold") is not None for s in one.samples) else "proxy"
    rows = [
        dict(s, gain=gain(s, kind), draw=content_hash(s["key"], str(i), s["policy"]["text"]))
        for i, s in enumerate(one.samples)
    ]
    known = sorted((r for r in rows if r["gain"] is not None), key=lambda r: (-r["gain"], r["draw"]))
    drawn = sorted(rows, key=lambda r: r["draw"])
    for rank, row in enumerate(known):
        row["gain_rank"], row["loss_rank"] = rank, len(known) - 1 - rank
    for rank, row in enumerate(drawn):
        row["random_rank"] = rank
    last = len(rows)
    kept = [
        row
        for row in rows
        if min(row.setdefault("gain_rank", last), row.setdefault("loss_rank", last), row["random_rank"])
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
