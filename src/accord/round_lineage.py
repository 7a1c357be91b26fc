"""What came from what in a round: which policy made the samples, which labels made which model, what each
model started from. One small file a round, and one line a label.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accord.records import Comparison, write_jsonl


def write_lineage(
    folder: Path,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    *,
    sampled_from: str | None,
    chosen_by: str | None,
    reward_from: str,
    policy_from: str,
    keys: dict[str, str],
) -> dict[str, Any]:
    """Write ``lineage.json`` and ``labels.jsonl`` of a round's folder; returns the former.

    Args:
        sampled_from: the policy whose samples were compared in this round; None: labels of a file.
        chosen_by: how its pairs were chosen.
        reward_from, policy_from: what the round's models started from.
        keys: content keys of the round's stages.
    """
    sides = {"train": training, "test": test}
    values = {
        "sampled_from": sampled_from,
        "chosen_by": chosen_by,
        "labels": {
            side: {
                "count": len(rows),
                "by_round": _counted(str(one.pair.round) for one in rows),
                "by_policy": _counted(_policy(one) for one in rows),
            }
            for side, rows in sides.items()
        },
        "reward_from": reward_from,
        "policy_from": policy_from,
        "keys": keys,
    }
    lines = [
        {
            "pair": one.pair.id,
            "annotator": one.annotator,
            "verdict": one.verdict,
            "side": side,
            "round": one.pair.round,
            "policy": _policy(one),
        }
        for side, rows in sides.items()
        for one in rows
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.jsonl").write_text(write_jsonl(lines), encoding="utf-8")
    (folder / "lineage.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    return values


def _policy(one: Comparison) -> str:
    names = sorted({side.policy or "unknown" for side in (one.pair.a, one.pair.b)})
    return " and ".join(names)


def _counted(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
