"""Fresh labels of the newest policy's own samples, on prompts that nothing is learned from.

They answer one question: is the reward model still right about what the policy says now? The samples are
those of the final evaluation, so that they cost no sampling, and the reward model's margins are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.records import Comparison, Pair, Prompt, Response, content_hash

Row = dict[str, Any]


def fresh_pairs(rows: Sequence[Row], count: int, policy: str, round: int) -> list[Pair]:
    """At most ``count`` pairs of different answers to the same prompt, disjoint, one of each prompt first.

    Prompts come in the order of a hash of their key, so that more pairs include the fewer ones. The side that
    is shown left is a hash as well: the same pair is always shown the same way round.
    """
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(row["key"], []).append(row)
    pairs: dict[str, list[Pair]] = {}
    for key in sorted(by_prompt, key=lambda one: content_hash(one, "fresh labels")):
        left = [row for row in by_prompt[key] if row["text"].strip()]
        pairs[key] = []
        while len(left) > 1:
            first = left.pop(0)
            other = next((i for i, row in enumerate(left) if row["text"] != first["text"]), None)
            if other is None:
                break
            pairs[key].append(_pair(first, left.pop(other), policy, round))
    most = max((len(found) for found in pairs.values()), default=0)
    return [found[i] for i in range(most) for found in pairs.values() if i < len(found)][:count]


def _pair(first: Row, second: Row, policy: str, round: int) -> Pair:
    a, b = (
        Response(row["text"], tuple(row["ids"]) if row.get("ids") else None, bool(row["finished"]), policy)
        for row in (first, second)
    )
    shown = "a" if int(content_hash(first["key"], a.text, b.text, "side"), 16) % 2 else "b"
    return Pair(Prompt.from_json(first["prompt"]), a, b, shown, round)  # type: ignore[arg-type]


def fresh_margins(
    labels: Sequence[Comparison], rows: Sequence[Row], deviation: float
) -> tuple[list[float], list[str]]:
    """(chosen minus rejected score of each decided label, its prompt's key).

    Args:
        rows: the evaluation's rows that the pairs were made of, with ``proxy``.
        deviation: of the raw score; brings normalised scores back to Bradley–Terry log odds.
    """
    proxy = {(row["key"], row["text"]): float(row["proxy"]) for row in rows}
    margins, keys = [], []
    for one in labels:
        if one.chosen is None or one.rejected is None:
            continue
        sides = [proxy.get((one.prompt.key, side.text)) for side in (one.chosen, one.rejected)]
        if sides[0] is None or sides[1] is None:
            continue
        margins.append((sides[0] - sides[1]) * deviation)
        keys.append(one.prompt.key)
    return margins, keys
