"""One round's evidence as panels: charts, each with one plain sentence computed from its own figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from accord.report.answers import STAND_IN, shown, verdict_of
from accord.report.artefacts import Round, clean, interval, mapping, mappings, number, numbers
from accord.report.charts import Chart, Series, line_chart, show
from accord.report.distributions import Bar, histogram, interval_chart, reliability, share_bar
from accord.report.samples import outcomes

# The fitted forms of diagnostics.overoptimisation: what the legend calls them, and the curve above its start.
FORMS: dict[str, tuple[str, Callable[[float, float, float], float]]] = {
    "best_of_n": ("d(α−βd)", lambda d, alpha, beta: d * (alpha - beta * d)),
    "rl": ("d(α−β ln d)", lambda d, alpha, beta: d * (alpha - beta * math.log(d)) if d > 0 else 0.0),
    "line": ("a line", lambda d, alpha, beta: alpha * d),
    "saturating": ("saturating", lambda d, alpha, beta: alpha * (1 - math.exp(-d / beta)) if beta else 0.0),
}
FLOORS = {"bag_of_words": "bag of words", "always_longer": "always longer", "chance": "chance"}
ABOUT_LENGTH = ("length_shift", "length_share", "repetition_shift")
ROOT_KL = "√KL to the SFT policy (√nats per response)"


@dataclass(frozen=True)
class Panel:
    """A heading, one sentence, charts, and figures as (name, value, what it means)."""

    anchor: str
    title: str
    sentence: str
    charts: list[Chart] = field(default_factory=list)
    figures: list[tuple[str, str, str]] = field(default_factory=list)
    note: str = ""


def _ends(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float | None], list[float | None]]:
    pairs = [interval(row.get(key)) for row in rows]
    return [p[0] if p else None for p in pairs], [p[1] if p else None for p in pairs]


def _root(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """√KL; a sampled KL estimate may fall below 0, where KL itself cannot."""
    return [math.sqrt(max(number(row.get("kl")) or 0.0, 0.0)) for row in rows]


def curve_points(curve: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The evaluations that have a KL, in order of training."""
    points = [p for p in mappings(curve.get("points")) if number(p.get("kl")) is not None]
    return sorted(points, key=lambda p: number(p.get("step")) or 0.0)


def curve_chart(
    curve: Mapping[str, Any], kind: str, title: str, y_label: str, fits: list[Series] | None = None
) -> Chart | None:
    """``kind`` (proxy or gold) against √KL: RL as points with intervals, best-of-n as a dashed reference."""
    points = curve_points(curve)
    if not any(number(p.get(kind)) is not None for p in points):
        return None
    series = []
    for key, words, marker in (
        ("best_of_n", "best of n", "diamond"),
        ("best_of_n_pessimistic", "pessimistic best of n", "square"),
    ):
        best = sorted(mappings(curve.get(key)), key=lambda p: number(p.get("n")) or 0.0)
        if any(number(p.get(kind)) is not None for p in best):
            low, high = _ends(best, f"{kind}_interval")
            y = [number(p.get(kind)) for p in best]
            largest = show(number(best[-1].get("n")))
            series.append(
                Series(
                    f"{words} (n = 1 to {largest})",
                    _root(best), y, low, high,
                    style="reference", marker=marker, hollow=True, dashed=True, band=True,
                )
            )  # fmt: skip
    low, high = _ends(points, f"{kind}_interval")
    y = [number(p.get(kind)) for p in points]
    marker = "square" if kind == "gold" else "circle"
    series.append(Series("RL policy", _root(points), y, low, high, style=kind, marker=marker))
    series += fits or []
    return line_chart(
        title, ROOT_KL, y_label, series, description=f"{title} against √KL, with 95% intervals."
    )


def fitted_series(finding: Mapping[str, Any] | None) -> list[Series]:
    """The best of the fitted curves, where `diagnostics.overoptimisation` could tell the forms apart."""
    evidence = mapping((finding or {}).get("evidence"))
    form, distance = clean(evidence.get("best")), numbers(evidence.get("distance"))
    fit = mapping(mapping(evidence.get("fits")).get(form))
    start, alpha, beta = (number(fit.get(key)) for key in ("start", "alpha", "beta"))
    if form not in FORMS or start is None or alpha is None or beta is None or not distance:
        return []
    x = [max(distance) * i / 40 for i in range(41)]
    y = [start + FORMS[form][1](d, alpha, beta) for d in x]
    return [Series(f"fit: {FORMS[form][0]}", x, y, style="neutral-line", marker="none", dashed=True)]


def _move(points: Sequence[Mapping[str, Any]], key: str) -> tuple[float, float] | None:
    """First and last known value."""
    values = [v for p in points if (v := number(p.get(key))) is not None]
    return (values[0], values[-1]) if len(values) > 1 else None


def reward_panel(one: Round) -> Panel:
    points = curve_points(one.curve)
    name = clean(one.curve.get("gold_name"))
    proxy, gold = _move(points, "proxy"), _move(points, "gold")
    root = _root(points)
    hacked = one.finding("overoptimisation", "is it hacked")
    charts = [
        curve_chart(
            one.curve, "proxy", "Proxy reward: what was optimised", "normalised reward-model score, mean"
        ),
        curve_chart(
            one.curve, "gold", "Gold reward: what was wanted", f"gold utility “{name}”, mean",
            fitted_series(hacked),
        ),
    ]  # fmt: skip
    if proxy is None:
        sentence = "Not shown: curve.json holds fewer than two evaluations of the policy."
    else:
        where = f"at √KL = {show(root[-1])}"
        sentence = (
            f"{where[0].upper() + where[1:]} the proxy has gone from {show(proxy[0])} to {show(proxy[1])}"
        )
        if gold is not None:
            sentence += f" and the hidden gold from {show(gold[0])} to {show(gold[1])}."
        else:
            sentence += "; no hidden gold exists, so whether that is better only people can say."
    notes = []
    if charts[0]:
        notes.append("Best of n spends KL in another way than RL: compare the shapes, not equal KL.")
    if gold is not None:
        notes.append(_peak_note(mapping((hacked or {}).get("evidence"))))
    return Panel(
        "kl",
        "Reward against distance from the start",
        sentence,
        [c for c in charts if c],
        _fit_figures(mapping((hacked or {}).get("evidence"))),
        " ".join(note for note in notes if note),
    )


def _fit_figures(evidence: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Akaike's criterion of every fitted form, both with a peak and both without."""
    out = []
    for form, (name, _) in FORMS.items():
        fit = mapping(mapping(evidence.get("fits")).get(form))
        score, peak = number(fit.get("aicc")), number(fit.get("peak"))
        if score is not None:
            where = f"; its peak √KL = {show(peak)}" if peak is not None else ""
            best = ", the lowest" if evidence.get("best") == form else ""
            out.append((f"AICc of {name}", show(score), f"of gold’s curve, lower fits better{best}{where}"))
    return out


def _peak_note(evidence: Mapping[str, Any]) -> str:
    """Where gold peaks, or why no peak is reported."""
    peak, ends = number(evidence.get("peak")), interval(evidence.get("peak_interval"))
    if peak is not None:
        between = f" (95% interval {show(ends[0])} to {show(ends[1])})" if ends else ""
        where = f"√KL = {show(peak)}{between}"
        return f"The fitted curve of gold peaks at {where}: a policy beyond it has lost gold."
    reason = clean(evidence.get("no_peak_because"))
    return f"No peak of gold is reported: {reason}." if reason else ""


def win_panel(one: Round) -> Panel:
    finding = one.finding("win_rate", "is it better")
    figure = number((finding or {}).get("figure"))
    charts = []
    if finding is not None and figure is not None:
        low, high = interval(finding.get("interval")) or (None, None)
        style = {"good": "good", "bad": "bad"}.get(verdict_of(finding), "warn")
        bar = Bar("policy over SFT", figure, low, high, style, note=shown(finding)[0])
        charts.append(
            interval_chart(
                "Win rate against SFT", "win rate (%), a tie counts half",
                [bar], x_range=(0, 1), level=0.5, level_name="no difference", scale=100,
            )
        )  # fmt: skip
        sentence = clean(finding.get("sentence"))
    else:
        sentence = clean((finding or {}).get("sentence")) or "No win rate: findings.json does not hold one."
    counted = outcomes(one)
    if counted:
        won, equal, lost = counted
        charts.append(
            share_bar(
                "Same prompt, both answers: which is better under the gold?",
                {"policy": (won, "policy"), "equal": (equal, "neutral"), "SFT": (lost, "reference")},
            )
        )
    return Panel("win", "Win rate", sentence, charts)


def _floors(reward: Mapping[str, Any]) -> list[Bar]:
    bars = []
    accuracy = number(reward.get("accuracy"))
    if accuracy is not None:
        low, high = interval(reward.get("accuracy_interval")) or (None, None)
        bars.append(Bar("reward model", accuracy, low, high, "proxy", note=f"{show(100 * accuracy)}%"))
    floors = mapping(reward.get("floors"))
    for key in sorted(floors, key=lambda k: list(FLOORS).index(k) if k in FLOORS else 9):
        floor = mapping(floors[key])
        value = number(floor.get("accuracy"))
        if value is not None:
            low, high = interval(floor.get("interval")) or (None, None)
            name, note = FLOORS.get(key, clean(key)), f"{show(100 * value)}%"
            bars.append(Bar(name, value, low, high, "reference", note=note))
    return bars


def reward_model_panel(one: Round) -> Panel:
    reward = one.reward
    bars = _floors(reward)
    accuracy, ends = number(reward.get("accuracy")), interval(reward.get("accuracy_interval"))
    if accuracy is None:
        return Panel("rm", "Reward model", "Not shown: the reward model’s figures have not been written.")
    sentence = (
        f"On held-out prompts the reward model picks the preferred answer in {show(100 * accuracy)}% of pairs"
    )
    floors = [bar for bar in bars if bar.name != "reward model" and bar.name != "chance"]
    if ends and floors:
        best = max(floors, key=lambda bar: bar.figure)
        clears = "clears" if ends[0] > best.figure else "does not clear"
        sentence += f"; its interval {clears} the best floor, {best.name} ({show(100 * best.figure)}%)"
    lowest = min(0.4, *(v for bar in bars for v in (bar.figure, bar.low) if v is not None))
    charts = [
        interval_chart(
            "Accuracy beside its floors", "accuracy on held-out pairs (%)", bars,
            x_range=(max(math.floor(lowest * 10) / 10, 0), 1), level=0.5, level_name="chance", scale=100,
            table_open=True,
        )
    ]  # fmt: skip
    bins = [
        (c, a, n)
        for row in mappings(reward.get("reliability"))
        if (c := number(row.get("confidence"))) is not None
        and (a := number(row.get("accuracy"))) is not None
        and (n := number(row.get("count")))
    ]
    if bins:
        charts.append(reliability("Calibration", *([column[i] for column in bins] for i in range(3))))
    scores = mapping(reward.get("score_histogram"))
    edges = numbers(scores.get("edges"))
    counts = {f"{side} answers": numbers(scores.get(side)) for side in ("chosen", "rejected")}
    if len(edges) > 1 and all(len(count) == len(edges) - 1 for count in counts.values()):
        charts.append(
            histogram(
                "Scores of held-out answers", "reward-model score (normalised)", edges, counts,
                ("proxy", "reference"), y_label="share of answers (%)",
            )
        )  # fmt: skip
    known = [
        ("training pairs", "pairs_train", "labelled pairs it was fitted on"),
        ("held-out pairs", "pairs_test", "pairs the figures here come from"),
        ("held-out prompts", "prompts_test", "intervals resample these"),
        ("Brier score", "brier", "squared error of the probability; 0.25 is chance, lower is better"),
        ("ECE", "ece", "calibration error, in probability; 0 is perfect"),
        ("temperature", "temperature", "above 1: the scores are too sure of themselves"),
    ]
    figures = [
        (n, show(number(reward.get(k))), why) for n, k, why in known if number(reward.get(k)) is not None
    ]
    details = [("ties", "ties"), ("score read at", "read_at")]
    said = [f"{name}: {_plainly(reward[key])}" for name, key in details if reward.get(key)]
    source = clean(reward.get("label_source"))
    said += [f"labels from: {STAND_IN if 'simulated' in source else source}"] if source else []
    return Panel("rm", "Reward model", sentence + ".", charts, figures, " · ".join(said))


def _plainly(value: Any) -> str:
    """A choice, with its count where there is one."""
    choice, count = mapping(value).get("choice"), number(mapping(value).get("count"))
    if choice is not None:
        return clean(choice).replace("_", " ") + (f" ({show(count)} of them)" if count is not None else "")
    return clean(value).replace("_", " ")


def length_edges(lengths: Sequence[float], bins: int = 16) -> list[float]:
    """Equal bins of whole tokens from 0 to just past the longest."""
    width = max(math.ceil((max(lengths, default=0) + 1) / bins), 1)
    return [float(width * i) for i in range(math.ceil((max(lengths, default=0) + 1) / width) + 1)]


def length_panel(one: Round) -> Panel:
    tokens = {
        side: [v for s in one.samples if (v := number(mapping(s.get(side)).get("tokens"))) is not None]
        for side in ("policy", "sft")
    }
    charts = []
    if all(tokens.values()):
        edges = length_edges([*tokens["policy"], *tokens["sft"]])
        counts = {
            name: [float(sum(low <= v < high for v in tokens[side])) for low, high in pairwise(edges)]
            for name, side in (("policy", "policy"), ("SFT", "sft"))
        }
        charts.append(histogram("Length of held-out answers", "tokens per answer", edges, counts))
    points = curve_points(one.curve)
    if _move(points, "length"):
        steps = [number(p.get("step")) or 0.0 for p in points]
        series = Series("length", steps, [number(p.get("length")) for p in points])
        charts.append(
            line_chart("Length during training", "step", "tokens per held-out answer, mean", [series])
        )
    shifts = [f for f in one.findings if clean(f.get("name")).startswith(ABOUT_LENGTH)]
    figures = []
    for finding in shifts:
        text, ends = shown(finding)
        unit = clean(finding.get("unit"))
        figures.append(
            (clean(finding.get("name")).replace("_", " "), text, f"{unit}; 95% {ends}" if ends else unit)
        )
    sentence = " ".join(clean(f.get("sentence")) for f in shifts)
    if not sentence:
        sentence = "Shift in length and repetition has not been measured: findings.json does not hold it."
    return Panel("length", "Length and repetition", sentence, charts, figures)
