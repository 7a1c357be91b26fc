"""From evaluations to findings: is it better, is it hacked, what moved. The only reader of gold besides the
judge.

Training never sees anything from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accord.config import Evaluate, Simulated
from accord.config import Judge as JudgeConfig
from accord.diagnostics.best_of_n import best_of_n_curve
from accord.diagnostics.length import diversity_shift, length_share, length_shift, repetition_shift
from accord.diagnostics.overoptimisation import overoptimisation
from accord.diagnostics.statistics import by_prompt, cluster_bootstrap
from accord.diagnostics.win_rate import win_rate
from accord.judging import gold
from accord.records import Finding, write_jsonl

Row = dict[str, Any]
Gold = Callable[[Sequence[str]], Any]


def gold_of(judge: JudgeConfig | None) -> tuple[Gold | None, str | None]:
    """The hidden utility of simulated annotators and its name; people have none that we could read."""
    if isinstance(judge, Simulated):
        name = judge.gold
        return (lambda texts: gold.utility(name, texts)), name
    return None, None


def _point(step: int, rows: Sequence[Row], config: Evaluate) -> Row:
    """Means over held-out prompts with intervals clustered by prompt."""
    keys = [row["key"] for row in rows]

    def mean(name: str) -> tuple[float | None, Any]:
        if rows[0].get(name) is None:
            return None, None
        interval = cluster_bootstrap([row[name] for row in rows], keys, samples=config.bootstrap)
        return interval.figure, interval.bounds

    point: Row = {"step": step, "n": len(rows)}
    for name in ("kl", "proxy", "gold"):
        point[name], point[f"{name}_interval"] = mean(name)
    point["length"] = float(np.mean([row["tokens"] for row in rows]))
    return point


def judge_round(
    folder: Path,
    evaluations: Sequence[Row],
    best_of: Sequence[Row],
    config: Evaluate,
    judge: JudgeConfig | None,
) -> tuple[list[Finding], Row]:
    """Write curve.json, samples.jsonl and findings.json of a round; return the findings and the curve.

    Args:
        evaluations: {step, rows} with rows of held-out samples; the first is SFT, the last the final policy.
        best_of: rows of SFT samples with ``proxy``, the same number for each prompt.
    """
    utility, name = gold_of(judge)
    for rows in (*[e["rows"] for e in evaluations], best_of):
        values = utility([row["text"] for row in rows]) if utility and rows else None
        for i, row in enumerate(rows):
            row["gold"] = float(values[i]) if values is not None else None
    curve: Row = {
        "points": [_point(e["step"], e["rows"], config) for e in evaluations],
        "best_of_n": _best_of_n(best_of, config),
        "gold_name": name,
        "simulated": isinstance(judge, Simulated),
    }
    base, policy = evaluations[0]["rows"], evaluations[-1]["rows"]
    findings = _findings(evaluations, base, policy, config, name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curve.json").write_text(json.dumps(curve, indent=1), encoding="utf-8")
    samples = [
        {"prompt": b["prompt"], "key": b["key"], "sft": _sample(b), "policy": _sample(p)}
        for b, p in zip(base, policy, strict=True)
    ]
    (folder / "samples.jsonl").write_text(write_jsonl(samples), encoding="utf-8")
    found = {"findings": [finding.to_json() for finding in findings]}
    (folder / "findings.json").write_text(json.dumps(found, indent=1, default=_plain), encoding="utf-8")
    return findings, curve


def _findings(
    evaluations: Sequence[Row], base: Sequence[Row], policy: Sequence[Row], config: Evaluate, name: str | None
) -> list[Finding]:
    keys = [row["key"] for row in base]
    has_gold = name is not None
    options: Any = {"samples": config.bootstrap}

    def column(rows: Sequence[Row], field: str) -> list[Any]:
        return [row[field] for row in rows]

    def matrix(field: str) -> Any:
        return np.array(
            [by_prompt(column(e["rows"], field), column(e["rows"], "key"))[0] for e in evaluations]
        )

    kl = [float(np.mean(column(e["rows"], "kl"))) for e in evaluations]
    label = name or "gold"
    return [
        win_rate(
            column(policy, "gold") if has_gold else None,
            column(base, "gold") if has_gold else None,
            keys,
            gold_name=label,
            **options,
        ),
        overoptimisation(
            np.maximum(kl, 0.0),
            matrix("proxy"),
            matrix("gold") if has_gold else None,
            gold_name=label,
            **options,
        ),
        length_shift(column(base, "tokens"), column(policy, "tokens"), keys, **options),
        length_share(
            column(base, "proxy"),
            column(policy, "proxy"),
            column(base, "tokens"),
            column(policy, "tokens"),
            keys,
            **options,
        ),
        repetition_shift(column(base, "text"), column(policy, "text"), keys, **options),
        diversity_shift(column(base, "text"), column(policy, "text"), keys),
    ]


def _best_of_n(rows: Sequence[Row], config: Evaluate) -> list[Row]:
    if not rows:
        return []
    width = sum(1 for row in rows if row["key"] == rows[0]["key"])
    score_PN = np.array([row["proxy"] for row in rows]).reshape(-1, width)
    gold_PN = None if rows[0]["gold"] is None else np.array([row["gold"] for row in rows]).reshape(-1, width)
    sizes = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= width]
    return best_of_n_curve(score_PN, gold_PN, sizes=sizes, samples=config.bootstrap)


def _sample(row: Row) -> Row:
    return {name: row[name] for name in ("text", "proxy", "gold", "tokens", "finished")}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a plain value")
