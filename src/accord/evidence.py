"""From evaluations to findings: is it better, is it hacked, what moved. The only reader of gold besides the
judge.

Training never sees anything from here. What an evaluation's rows hold decides what can be asked: ``proxy``,
``kl``, ``tokens`` and ``text`` always; where they are there also ``entropy`` (nats a token, mean of the
answer), ``other_half`` (score by a reward model of other pairs than the one that is optimised) and
``members`` (scores by the members of an ensemble, each in units of its own deviation). Rows of best-of-n may
hold ``halves``, the scores by two reward models of one half of the pairs each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accord.best_of_evidence import best_of_curve, pessimistic_best_of, pessimistic_curve
from accord.config import Evaluate, Simulated
from accord.config import Judge as JudgeConfig
from accord.diagnostics.length import diversity_shift, length_share, length_shift, repetition_shift
from accord.diagnostics.overoptimisation import overoptimisation
from accord.diagnostics.statistics import by_prompt, cluster_bootstrap
from accord.diagnostics.win_rate import win_rate
from accord.further_evidence import FreshLabels, Latents, ProbeSides, SecondModel, further_findings
from accord.judging import gold
from accord.records import Finding, write_jsonl
from accord.stop_rules import Evaluation

Row = dict[str, Any]
Gold = Callable[[Sequence[str]], Any]
# Scores that a stop rule may be asked about, in addition to the ensemble's worst case. Not gold: a rule that
# reads it would stop by what no real run has.
SCORES = ("proxy", "other_half")


class Extras(NamedTuple):
    """What a stage can give besides the rows, each None where there is none.

    Attributes:
        probes: what edits did to the reward model's scores of SFT's and the policy's answers.
        latents: its latents of SFT's and the final policy's answers, in the order of their rows.
        fresh: margins on its own test set and on fresh labels of the current policy's samples.
        second: about the reward model behind the rows' ``other_half``.
    """

    probes: ProbeSides | None = None
    latents: Latents | None = None
    fresh: FreshLabels | None = None
    second: SecondModel = SecondModel()


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
    if rows[0].get("other_half") is not None:
        point["other_half"], point["other_half_interval"] = mean("other_half")
    point["length"] = float(np.mean([row["tokens"] for row in rows]))
    return point


def _graded(rows: Sequence[Row], judge: JudgeConfig | None) -> list[Row]:
    """Copies of the rows with ``gold``, None where there is none. What training keeps stays without it."""
    utility, _ = gold_of(judge)
    values = utility([row["text"] for row in rows]) if utility and rows else None
    return [row | {"gold": float(values[i]) if values is not None else None} for i, row in enumerate(rows)]


class ByPrompt(NamedTuple):
    """Gold of each evaluation by prompt [P, G], prompts in the order of ``keys``, and its name."""

    kl: list[float]
    gold_PG: Any
    keys: list[str]
    name: str


def graded_by_prompt(evaluations: Sequence[Row], judge: JudgeConfig | None) -> ByPrompt | None:
    """What a comparison of two runs at matched KL needs; None where there is no gold."""
    name = gold_of(judge)[1]
    if name is None:
        return None
    every = [_graded(e["rows"], judge) for e in evaluations]
    gold = [by_prompt([row["gold"] for row in rows], [row["key"] for row in rows]) for rows in every]
    kl = [float(np.mean([row["kl"] for row in rows])) for rows in every]
    return ByPrompt(kl, np.array([mean_G for mean_G, _ in gold]), gold[0][1], name)


def write_curve(
    folder: Path,
    evaluations: Sequence[Row],
    best_of: Sequence[Row],
    config: Evaluate,
    judge: JudgeConfig | None,
) -> Row:
    """Write curve.json of the evaluations so far and return it.

    Called after every evaluation it keeps a live report's curve up to date.
    """
    graded = [e | {"rows": _graded(e["rows"], judge)} for e in evaluations]
    return _write_curve(folder, graded, _graded(best_of, judge), config, judge)


def _write_curve(
    folder: Path, graded: Sequence[Row], best_of: Sequence[Row], config: Evaluate, judge: JudgeConfig | None
) -> Row:
    rows = graded[0]["rows"]
    gold = None
    if rows[0].get("gold") is not None:
        means = [by_prompt([r["gold"] for r in e["rows"]], [r["key"] for r in e["rows"]]) for e in graded]
        gold = {"keys": means[0][1], "gold": [mean_G.tolist() for mean_G, _ in means]}
    curve: Row = {
        "points": [_point(e["step"], e["rows"], config) for e in graded],
        "best_of_n": best_of_curve(best_of, config),
        "best_of_n_pessimistic": pessimistic_curve(best_of, config),
        "by_prompt": gold,
        "gold_name": gold_of(judge)[1],
        "simulated": isinstance(judge, Simulated),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curve.json").write_text(json.dumps(curve, indent=1), encoding="utf-8")
    return curve


def judge_round(
    folder: Path,
    evaluations: Sequence[Row],
    best_of: Sequence[Row],
    config: Evaluate,
    judge: JudgeConfig | None,
    extras: Extras = Extras(),
    beyond: Sequence[Row] = (),
    more: Sequence[Finding] = (),
) -> tuple[list[Finding], Row]:
    """Write curve.json, samples.jsonl and findings.json of a round; return the findings and the curve.

    Args:
        evaluations: {step, rows} with rows of held-out samples; the first is SFT, the last the final policy.
        best_of: rows of SFT samples with ``proxy``, the same number for each prompt.
        extras: what lets more questions be asked.
        beyond: evaluations after the final policy's, where a stop rule chose an earlier one: on the curve.
        more: findings that were made elsewhere.
    """
    beyond = [e | {"rows": _graded(e["rows"], judge)} for e in beyond]
    evaluations = [e | {"rows": _graded(e["rows"], judge)} for e in evaluations]
    best_of = _graded(best_of, judge)
    curve = _write_curve(folder, [*evaluations, *beyond], best_of, config, judge)
    base, policy = evaluations[0]["rows"], evaluations[-1]["rows"]
    findings = _findings(evaluations, base, policy, config, curve["gold_name"])
    findings += further_findings(evaluations, best_of, config, *extras)
    findings += [*pessimistic_best_of(best_of, config, curve["gold_name"]), *more]
    samples = [
        {"prompt": b["prompt"], "key": b["key"], "sft": _sample(b), "policy": _sample(p)}
        for b, p in zip(base, policy, strict=True)
    ]
    (folder / "samples.jsonl").write_text(write_jsonl(samples), encoding="utf-8")
    write_findings(folder, findings)
    return findings, curve


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """findings.json, what the report reads."""
    found = {"findings": [finding.to_json() for finding in findings]}
    (folder / "findings.json").write_text(json.dumps(found, indent=1, default=_plain), encoding="utf-8")


def rule_evaluations(
    evaluations: Sequence[Row], findings: Sequence[Sequence[Finding]] | None = None
) -> list[Evaluation]:
    """The evaluations so far as stop rules take them: per-prompt means, prompts in the same order.

    Args:
        findings: of each evaluation against SFT, where alarms are to be rules.
    """
    out = []
    for place, evaluation in enumerate(evaluations):
        rows = evaluation["rows"]
        keys = [row["key"] for row in rows]
        scores = {
            name: by_prompt([row[name] for row in rows], keys)[0].tolist()
            for name in SCORES
            if rows[0].get(name) is not None
        }
        if rows[0].get("members") is not None:  # worst case of the members
            scores["pessimistic"] = by_prompt([min(row["members"]) for row in rows], keys)[0].tolist()
        if evaluation.get("labelled") is not None:
            scores["labelled"] = evaluation["labelled"]
        found = {finding.name: finding for finding in findings[place]} if findings else {}
        kl = float(np.mean([row["kl"] for row in rows]))
        out.append(Evaluation(evaluation["step"], kl, scores, found))
    return out


def alarm_findings(
    base: Sequence[Row], rows: Sequence[Row], names: Sequence[str], config: Evaluate
) -> list[Finding]:
    """The named findings of an evaluation against SFT; none of them reads gold.

    An evaluation may have fewer samples of a prompt than SFT: SFT's first ones are then taken.
    """
    left: dict[str, int] = {}
    for row in rows:
        left[row["key"]] = left.get(row["key"], 0) + 1
    paired = []
    for row in base:
        if left.get(row["key"], 0):
            left[row["key"]] -= 1
            paired.append(row)
    found: list[Finding] = []
    if set(names) & {"length_shift", "length_share", "repetition_shift", "diversity_shift"}:
        found += _shifts(paired, rows, [row["key"] for row in paired], {"samples": config.bootstrap})
    kept = [{"step": 0, "rows": paired}, {"step": 1, "rows": rows}]
    found += further_findings(kept, [], config, only=names)
    return [finding for finding in found if finding.name in names]


def _column(rows: Sequence[Row], field: str) -> list[Any]:
    return [row[field] for row in rows]


def _shifts(base: Sequence[Row], policy: Sequence[Row], keys: Sequence[str], options: Any) -> list[Finding]:
    """What moved in the answers themselves."""
    return [
        length_shift(_column(base, "tokens"), _column(policy, "tokens"), keys, **options),
        length_share(
            _column(base, "proxy"),
            _column(policy, "proxy"),
            _column(base, "tokens"),
            _column(policy, "tokens"),
            keys,
            **options,
        ),
        repetition_shift(_column(base, "text"), _column(policy, "text"), keys, **options),
        diversity_shift(_column(base, "text"), _column(policy, "text"), keys),
    ]


def _findings(
    evaluations: Sequence[Row], base: Sequence[Row], policy: Sequence[Row], config: Evaluate, name: str | None
) -> list[Finding]:
    keys = [row["key"] for row in base]
    has_gold = name is not None
    options: Any = {"samples": config.bootstrap}

    def matrix(field: str) -> Any:
        return np.array(
            [by_prompt(_column(e["rows"], field), _column(e["rows"], "key"))[0] for e in evaluations]
        )

    kl = [float(np.mean(_column(e["rows"], "kl"))) for e in evaluations]
    label = name or "gold"
    return [
        win_rate(
            _column(policy, "gold") if has_gold else None,
            _column(base, "gold") if has_gold else None,
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
        *_shifts(base, policy, keys, options),
    ]


def _sample(row: Row) -> Row:
    out = {name: row[name] for name in ("text", "proxy", "gold", "tokens", "finished")}
    if row.get("members") is not None:
        out["proxy_std"] = float(np.std(row["members"], ddof=1))
    return out


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a plain value")
