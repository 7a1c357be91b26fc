"""Figures of runs whose gold is known: curves, fits, peaks, matched KL, what each stop rule loses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from accord.config import Run
from accord.diagnostics.overoptimisation import overoptimisation
from accord.diagnostics.statistics import by_prompt
from accord.stop_rules import Evaluation, Rule, first_stop, kl_budget, predicted_peak, turned_down

Row = dict[str, Any]
SCORES = ("proxy", "gold", "other_half")
WITHOUT_LABELS = {
    "other_half": "second reward model turned down",
    "pessimistic": "ensemble's worst case turned down",
}


def measure_curves(folder: Path, evaluations: Sequence[Row], settings: Run) -> Row:
    """Step, KL and the scores of every held-out prompt at every evaluation."""
    kept = []
    for one in evaluations:
        rows = one["rows"]
        keys = [row["key"] for row in rows]
        point: Row = {"step": one["step"], "kl": float(np.mean([row["kl"] for row in rows]))}
        point["length"] = float(np.mean([len(row["text"].split()) for row in rows]))
        for name in SCORES:
            if rows[0].get(name) is not None:
                values = by_prompt([row[name] for row in rows], keys)[0]
                point[name] = [round(float(v), 4) for v in values]
        if rows[0].get("members") is not None:
            values = by_prompt([min(row["members"]) for row in rows], keys)[0]
            point["pessimistic"] = [round(float(v), 4) for v in values]
        point["right"], point["pairs"] = own_accuracy(rows)
        kept.append(point)
    return {"evaluations": kept}


def own_accuracy(rows: Sequence[Row]) -> tuple[int, int]:
    """(right, pairs): how often the reward model orders two answers to one prompt as gold does."""
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row["key"], []).append(row)
    right = pairs = 0
    for answers in by_key.values():
        for i, a in enumerate(answers):
            for b in answers[i + 1 :]:
                if a["gold"] != b["gold"] and a["proxy"] != b["proxy"]:
                    pairs += 1
                    right += (a["gold"] > b["gold"]) == (a["proxy"] > b["proxy"])
    return right, pairs


def series(row: Row, name: str) -> np.ndarray:
    """Means over held-out prompts at each evaluation."""
    return np.array([float(np.mean(one[name])) for one in row["evaluations"]])


def distance(row: Row) -> np.ndarray:
    return np.sqrt(np.maximum([one["kl"] for one in row["evaluations"]], 0.0))


def fitted(row: Row, draws: int = 2000) -> Row:
    """Both forms of Gao et al. and the verdict, by accord's own finding."""
    points = row["evaluations"]
    proxy, gold = (np.array([one[name] for one in points]) for name in ("proxy", "gold"))
    found = overoptimisation(np.maximum([one["kl"] for one in points], 0.0), proxy, gold, samples=draws)
    return {"verdict": found.verdict, "sentence": found.sentence, **found.evidence}


def over_seeds(values: Sequence[float]) -> str:
    """Mean with a 95% t interval over seeds; the bare figure where there is one seed."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "–"
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})".replace("-", "−")


def gold_at(row: Row, where: np.ndarray) -> np.ndarray:
    """Gold's gain over the start at these √KL, between evaluations by straight lines."""
    d, gold = distance(row), series(row, "gold")
    order = np.argsort(d, kind="stable")
    return np.interp(where, d[order], (gold - gold[0])[order])


def matched(row: Row, other: Row) -> float:
    """Gold of ``row`` minus that of ``other`` at the same √KL: the mean over the range that both reached."""
    end = min(distance(row).max(), distance(other).max())
    where = np.linspace(0, end, 41)[1:]
    return float((gold_at(row, where) - gold_at(other, where)).mean())


# Stop rules


def looks(row: Row) -> list[Evaluation]:
    """The evaluations as rules see them; gold is there only for the rule that pays for labels."""
    names = [name for name in ("proxy", "other_half", "pessimistic", "gold") if name in row["evaluations"][0]]
    return [
        Evaluation(one["step"], one["kl"], {name: one[name] for name in names}) for one in row["evaluations"]
    ]


def regret(row: Row, rule: Rule) -> float:
    """Gold at the run's best checkpoint minus gold at the one that the rule keeps."""
    steps = [one["step"] for one in row["evaluations"]]
    gold = series(row, "gold")
    _, decision = first_stop(rule, looks(row))
    kept = decision.best_step if decision.stop else steps[-1]
    return float(gold.max() - gold[steps.index(kept)])


def best_budget(rows: Sequence[Row]) -> float:
    """The one KL budget with the least mean regret on these runs."""
    reached = sorted({round(one["kl"], 3) for row in rows for one in row["evaluations"] if one["kl"] > 0})
    return min(reached, key=lambda limit: float(np.mean([regret(row, kl_budget(limit)) for row in rows])))


def regrets(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Each rule's regret in each run. The fixed KL is the best one for the runs of the *other* seeds."""
    rules: dict[str, Callable[[Row], Rule]] = {}
    for name, words in WITHOUT_LABELS.items():
        if all(name in row["evaluations"][0] for row in rows):
            rules[words] = lambda row, name=name: turned_down(name, looks=len(row["evaluations"]))
    rules["predicted peak (every checkpoint labelled)"] = lambda row: predicted_peak("gold")
    out: dict[str, list[float]] = {"last checkpoint": [], "fixed KL, tuned on the other seeds": []} | {
        name: [] for name in rules
    }
    for row in rows:
        gold = series(row, "gold")
        out["last checkpoint"].append(float(gold.max() - gold[-1]))
        others = [one for one in rows if one["seed"] != row["seed"]] or list(rows)
        out["fixed KL, tuned on the other seeds"].append(regret(row, kl_budget(best_budget(others))))
        for name, make in rules.items():
            out[name].append(regret(row, make(row)))
    return out
