"""From the lines of reward_figures.py to tables: every interval is over prompts or debates, paired where two
models are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from figure_plot import curve_svg
from scipy import stats

from accord.diagnostics.calibration import (
    brier_terms,
    correct,
    expected_calibration_error,
    fitted_temperature,
    fold,
)
from accord.diagnostics.learning_curve import Measurement, learning_curve
from accord.diagnostics.length_reliance import length_reliance
from accord.diagnostics.statistics import FloatArray, Interval, cluster_bootstrap, clustered_share

Lines = Sequence[dict[str, Any]]


def summary(lines: Mapping[str, Lines], out: Path) -> str:
    parts = [
        "\n".join(part(lines[name], out))
        for name, part in (("hh", _hh), ("ukp", _ukp), ("pandalm", _pandalm), ("curve", _curve))
        if lines.get(name)
    ]
    return "\n\n".join(parts)


def _show(interval: Interval, form: str = ".3f") -> str:
    if interval.bounds is None:
        return f"{interval.figure:{form}} (no interval)"
    return f"{interval.figure:{form}} ({interval.low:{form}} to {interval.high:{form}})"


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    return [_row(*head), _row(*("---" for _ in head)), *(_row(*row) for row in rows)]


def log_loss_terms(margin_N: FloatArray) -> FloatArray:
    return np.asarray(np.logaddexp(0, -margin_N))


def ece(margin_N: FloatArray) -> float:
    return expected_calibration_error(*fold(margin_N))


def _margins(lines: Lines, **which: Any) -> FloatArray:
    """(models, pairs)."""
    found = [line["margin"] for line in lines if all(line.get(k) == v for k, v in which.items())]
    return np.array(found, dtype=np.float64)


def _over_seeds(values_S: FloatArray) -> str:
    """Mean over seeds and the t interval of it: what another seed would do, on the same held-out pairs."""
    if len(values_S) < 2:
        return "one model"
    half = float(stats.t.ppf(0.975, len(values_S) - 1) * values_S.std(ddof=1) / np.sqrt(len(values_S)))
    least, most = values_S.min(), values_S.max()
    return f"{values_S.mean():.3f} ± {half:.3f} over {len(values_S)} ({least:.3f} to {most:.3f})"


def _hh(lines: Lines, out: Path) -> list[str]:
    base = next(line for line in lines if line["arm"] == "floors")
    prompts, words = base["prompts"], np.array(base["bag_of_words"])
    rows: list[Sequence[Any]] = []
    for name, key in (("always longer", "always_longer"), ("bag of words", "bag_of_words")):
        share = clustered_share(np.array(base[key]), prompts)
        gain = cluster_bootstrap(np.array(base[key]) - words, prompts)
        rows.append((name, _show(share), "", "" if key == "bag_of_words" else _show(gain, "+.3f")))
    kinds = {"fitted head": _margins(lines, arm="head"), "top layers": _margins(lines, arm="top")}
    for name, margin_SN in kinds.items():
        if not margin_SN.size:
            continue
        right_SN = correct(margin_SN)
        mean_N = right_SN.mean(0)
        share, gain = clustered_share(mean_N, prompts), cluster_bootstrap(mean_N - words, prompts)
        rows.append((name, _show(share), _over_seeds(right_SN.mean(1)), _show(gain, "+.3f")))
    title = f"HH harmless: {base['pairs']} training pairs, {len(words)} held out; 95% intervals over prompts"
    head = ("model", "accuracy", "over seeds", "gain over bag of words")
    return [title, "", *_table(head, rows), *_ensembles(lines, prompts), *_calibration(kinds)]


def _calibration(kinds: Mapping[str, FloatArray]) -> list[str]:
    rows = [
        (
            name,
            f"{brier_terms(m_SN).mean():.3f}",
            f"{np.mean([ece(m) for m in m_SN]):.3f}",
            f"{log_loss_terms(m_SN).mean():.3f}",
            f"{np.mean([fitted_temperature(m) for m in m_SN]):.2f}",
        )
        for name, m_SN in kinds.items()
        if m_SN.size
    ]
    return ["", *_table(("model, mean over seeds", "Brier", "ECE", "log loss", "temperature"), rows)]


def _ensembles(lines: Lines, prompts: Sequence[str]) -> list[str]:
    """Each ensemble's mean score against the mean figure of its own members, both averaged over seeds."""
    seeds = sorted({line["seed"] for line in lines if line["arm"] == "member"})
    if not seeds:
        return []
    member_SMN = np.stack([_margins(lines, arm="member", seed=seed) for seed in seeds])
    mean_SN = member_SMN.mean(1)
    measures: dict[str, Callable[[FloatArray], FloatArray]] = {
        "accuracy": correct,
        "Brier": brier_terms,
        "log loss": log_loss_terms,
    }
    rows: list[Sequence[Any]] = []
    for name, terms in measures.items():
        mine_N, theirs_N = terms(mean_SN).mean(0), terms(member_SMN).mean((0, 1))
        change = cluster_bootstrap(mine_N - theirs_N, prompts)
        rows.append((name, f"{theirs_N.mean():.3f}", f"{mine_N.mean():.3f}", _show(change, "+.3f")))

    def gap(place_N: FloatArray) -> float:
        at = place_N.astype(int)
        single = np.mean([[ece(m) for m in members] for members in member_SMN[:, :, at]])
        return float(np.mean([ece(m) for m in mean_SN[:, at]]) - single)

    places = np.arange(mean_SN.shape[1], dtype=np.float64)
    change = cluster_bootstrap(places, prompts, gap, samples=500)
    single = np.mean([[ece(m) for m in members] for members in member_SMN])
    rows.append(("ECE", f"{single:.3f}", f"{np.mean([ece(m) for m in mean_SN]):.3f}", _show(change, "+.3f")))
    title = f"{len(seeds)} ensembles of {member_SMN.shape[1]} fitted heads on bootstrap draws of the prompts"
    return ["", title, "", *_table(("", "mean member", "ensemble", "change"), rows)]


def _ukp(lines: Lines, out: Path) -> list[str]:
    base = next(line for line in lines if line.get("arm") == "floors")
    debates, gap_N = base["debates"], np.array(base["gap"])
    longer_N = np.array(base["always_longer"])
    folds = [line for line in lines if "fold" in line]
    whole = [s for s in sorted({f["seed"] for f in folds}) if sum(f["seed"] == s for f in folds) == 5]
    names = [name for name in folds[0] if name == "head" or name.startswith(("lowess_", "odin_"))]
    margin = {name: np.full((len(whole), len(gap_N)), np.nan) for name in [*names, "bag_of_words"]}
    for line in folds:
        if line["seed"] in whole:
            for name in margin:
                margin[name][whole.index(line["seed"]), line["place"]] = line[name]
    if not whole:
        return ["UKP: no partition is complete yet"]
    words_N = margin["bag_of_words"].mean(0)
    right = {name: correct(margin[name]).mean(0) for name in names}
    shown: list[Sequence[Any]] = [
        ("always longer", _show(clustered_share(longer_N, debates)), "", ""),
        ("bag of words", _show(clustered_share(words_N, debates)), _gain(words_N, longer_N, debates), ""),
    ]
    for name in names:
        mean_N = right[name]
        share = clustered_share(mean_N, debates)
        shown.append((name, _show(share), _gain(mean_N, longer_N, debates), _gain(mean_N, words_N, debates)))
    title = (
        f"UKP: {len(gap_N)} pairs of {len(set(debates))} debates, each held out once in each of"
        f" {len(whole)} partitions into 5 folds of debates; 95% intervals over debates"
    )
    head = ("model", "accuracy", "gain over always longer", "gain over bag of words")
    lengths: list[Sequence[Any]] = []
    plain = length_reliance(margin["head"].mean(0), gap_N, debates)
    for name in names:
        found = length_reliance(margin[name].mean(0), gap_N, debates)
        lost = _gain(right[name], right["head"], debates)
        shown_partial = f"{found['partial']:+.3f} ({_between(found['partial_interval'])})"
        left = abs(found["partial"]) / abs(plain["partial"])
        lengths.append((name, lost, f"{found['correlation']:+.3f}", shown_partial, f"{left:.0%}"))
    columns = ("model", "accuracy, change", "correlation with length", "partial", "partial left")
    return [title, "", *_table(head, shown), "", *_table(columns, lengths)]


def _gain(one_N: FloatArray, other_N: FloatArray, clusters: Sequence[str]) -> str:
    return _show(cluster_bootstrap(one_N - other_N, clusters), "+.3f")


def _between(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else "no interval"


def _pandalm(lines: Lines, out: Path) -> list[str]:
    prompts, ties = lines[0]["prompts"], ("bradley_terry", "rao_kupper", "davidson")
    arms = [f"{labels}_{tie}" for labels in ("majority", "soft") for tie in ties]
    mean = {arm: np.mean([line[arm] for line in lines], axis=0) for arm in arms}
    base = mean["majority_bradley_terry"]
    rows: list[Sequence[Any]] = []
    for arm in arms:
        labels, _, tie = arm.partition("_")
        same = "" if labels == "majority" else _gain(mean[arm], mean[f"majority_{tie}"], prompts)
        gain = "" if arm == "majority_bradley_terry" else _gain(mean[arm], base, prompts)
        rows.append((labels, tie.replace("_", "–"), _show(cluster_bootstrap(mean[arm], prompts)), gain, same))
    title = (
        f"PandaLM: {lines[0]['pairs']} pairs of {len(set(prompts))} prompts, three annotators; mean held-out"
        f" log-likelihood of a label (a, b, tie), nats; {len(lines)} partitions into 5 folds of prompts"
    )
    head = ("labels", "ties", "log-likelihood", "over majority, ties dropped", "soft over majority")
    return [title, "", *_table(head, rows)]


def _curve(lines: Lines, out: Path) -> list[str]:
    parts = []
    findings = {}
    for name, key in (("reward model", "accuracy"), ("bag of words", "bag_of_words")):
        points = [Measurement(line["pairs"], line[key], line["tested"]) for line in lines]
        if len({point.pairs for point in points}) < 4:
            return ["Learning curve: fewer than 4 sizes yet"]
        findings[name] = learning_curve(points)
        parts.append(f"{name}: {findings[name].sentence}")
    sizes = {name: found.evidence["sizes"] for name, found in findings.items()}
    rows: list[Sequence[Any]] = []
    for one, other in zip(sizes["reward model"], sizes["bag of words"], strict=True):
        spread = f"{one['lowest']:.3f} to {one['highest']:.3f}"
        rows.append((one["pairs"], one["runs"], f"{one['accuracy']:.3f}", spread, f"{other['accuracy']:.3f}"))
    path = out / "curve.svg"
    path.write_text(curve_svg({name: found.evidence for name, found in findings.items()}), encoding="utf-8")
    head = ("pairs", "seeds", "accuracy", "lowest to highest", "bag of words")
    title = f"Learning curve, HH harmless; plot: {path}"
    return [title, "", *_table(head, rows), "", *parts]
