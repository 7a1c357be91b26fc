"""The panels that ask further: a second reward model, fresh labels, drift, style, probes, sameness, seeds.

Each stands on the page where its findings were measured, and is left out where none of them was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.report.answers import shown
from accord.report.artefacts import Round, clean, interval, mapping, mappings, number, numbers
from accord.report.charts import Chart, Series, line_chart, show
from accord.report.distributions import Bar, interval_chart
from accord.report.panels import (
    ROOT_KL,
    Panel,
    length_panel,
    reward_model_panel,
    reward_panel,
    win_panel,
)


def _found(one: Round, *names: str) -> list[dict[str, Any]]:
    return [finding for name in names if (finding := one.finding(name))]


def _sentences(findings: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(clean(finding.get("sentence")) for finding in findings)


def _figures(findings: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """A finding's figure with its unit and interval, as the page shows figures."""
    out = []
    for finding in findings:
        if number(finding.get("figure")) is None:
            continue
        text, ends = shown(finding)
        unit = clean(finding.get("unit"))
        p = number(mapping(finding.get("evidence")).get("p"))
        sure = f"; 95% {ends}" if ends else f"; p = {show(p)}" if p is not None else ""
        out.append((clean(finding.get("name")).replace("_", " "), text, unit + sure))
    return out


def second_model_panel(one: Round) -> Panel | None:
    """A reward model of the other half of the pairs, and the members of an ensemble."""
    findings = _found(one, "split_half", "split_half_selection", "ensemble_spread", "pessimistic_best_of_n")
    if not findings:
        return None
    charts = []
    evidence = mapping((one.finding("split_half") or {}).get("evidence"))
    distance, trained, other = (numbers(evidence.get(key)) for key in ("distance", "trained", "other"))
    if len(distance) == len(trained) == len(other) > 1:
        series = [
            Series("optimised model", distance, trained, style="proxy"),
            Series("second model", distance, other, style="gold", marker="square"),
        ]
        charts.append(
            line_chart("Scores of both reward models", ROOT_KL, "normalised reward-model score, mean", series)
        )
    return Panel("second", "A second reward model", _sentences(findings), charts, _figures(findings))


def fresh_labels_panel(one: Round) -> Panel | None:
    findings = _found(one, "on_policy_accuracy")
    if not findings:
        return None
    evidence = mapping(findings[0].get("evidence"))
    bins = [row for row in mappings(evidence.get("bins")) if number(row.get("margin")) is not None]
    charts = []
    if bins:
        margins = [number(row.get("margin")) or 0.0 for row in bins]
        series = [
            Series(
                name,
                margins,
                [_percent(row.get(f"{side}_accuracy")) for row in bins],
                style=style,
                marker=mark,
            )
            for name, side, style, mark in (
                ("test set", "test", "reference", "circle"),
                ("fresh labels", "fresh", "policy", "square"),
            )
        ]
        charts.append(
            line_chart(
                "Accuracy at the same margin", "size of the score margin", "pairs right (%)", series, level=50
            )
        )
    figures = []
    for side, name in (("test", "test set"), ("fresh", "fresh labels")):
        row = mapping(evidence.get(side))
        for key, word in (
            ("accuracy", "accuracy"),
            ("brier", "Brier score"),
            ("ece", "ECE"),
            ("temperature", "temperature"),
        ):
            value = number(row.get(key))
            if value is not None:
                text = f"{show(100 * value)}%" if key == "accuracy" else show(value)
                figures.append((f"{word}, {name}", text, f"{show(number(row.get('pairs')))} pairs"))
    note = ""
    expected = number(evidence.get("expected"))
    if expected is not None:
        note = f"The test set’s calibration promises {show(100 * expected)}% on the fresh pairs’ margins."
    return Panel(
        "fresh", "Fresh labels of the policy’s own samples", _sentences(findings), charts, figures, note
    )


def _percent(value: object) -> float | None:
    figure = number(value)
    return None if figure is None else 100 * figure


def direct_panel(one: Round) -> Panel | None:
    """Of a policy that was trained on pairs: how it ranks unseen ones, and where their probability went."""
    findings = _found(one, "implicit_accuracy", "likelihood_shift")
    if not findings:
        return None
    evidence = mapping((one.finding("likelihood_shift") or {}).get("evidence"))
    bars = []
    for side, name in (("chosen", "preferred answers"), ("rejected", "other answers")):
        figure = number(evidence.get(side))
        low, high = interval(evidence.get(f"{side}_interval")) or (None, None)
        if figure is not None:
            bars.append(Bar(name, figure, low, high))
    charts = []
    if bars:
        ends = [v for bar in bars for v in (bar.figure, bar.low, bar.high, 0.0) if v is not None]
        margin = 0.05 * (max(ends) - min(ends)) or 1.0
        unit, span = "change of log-probability (nats per response)", (min(ends) - margin, max(ends) + margin)
        charts.append(interval_chart("Held-out pairs", unit, bars, x_range=span, level=0.0))
    title = "What the policy learned from pairs"
    return Panel("direct", title, _sentences(findings), charts, _figures(findings))


def drift_panel(one: Round) -> Panel | None:
    findings = _found(one, "classifier_drift", "latent_outliers", "mmd_drift", "entropy_shift")
    if not findings:
        return None
    bars = []
    for finding in findings[:2]:
        figure = number(finding.get("figure"))
        name = clean(finding.get("name"))
        if figure is None or name not in ("classifier_drift", "latent_outliers"):
            continue
        low, high = interval(finding.get("interval")) or (None, None)
        title = "told apart (AUC)" if name == "classifier_drift" else "outliers"
        bars.append(Bar(title, figure, low, high, note=show(figure)))
    charts = []
    if bars:
        charts.append(
            interval_chart(
                "Distance from SFT’s answers",
                "share or area (0.5 is no difference for AUC)",
                bars,
                x_range=(0, 1),
                level=0.5,
                level_name="chance",
            )
        )
    note = ""
    about = {clean(mapping(f.get("evidence")).get("features")) for f in findings} - {""}
    if about:
        note = f"Measured on {' and '.join(sorted(about))}."
    return Panel("drift", "How far it has moved", _sentences(findings), charts, _figures(findings), note)


def _rows_chart(
    title: str,
    unit: str,
    rows: Sequence[Mapping[str, Any]],
    sides: Sequence[tuple[str, str, str]],
    level: float | None,
) -> Chart | None:
    """One bar for each row and side: (key of the figure, word for the side, class)."""
    bars = []
    for row in rows:
        for key, word, style in sides:
            figure = number(row.get(key))
            if figure is None:
                continue
            low, high = interval(row.get(f"{key}_interval")) or (None, None)
            name = clean(row.get("name")).replace("_", " ")
            bars.append(Bar(f"{name}, {word}" if word else name, figure, low, high, style, note=show(figure)))
    if not bars:
        return None
    every = [v for bar in bars for v in (bar.figure, bar.low, bar.high) if v is not None]
    margin = 0.05 * ((max(every) - min(every)) or 1.0)
    x_range = (min(0.0, min(every) - margin), max(0.0, max(every) + margin))
    return interval_chart(title, unit, bars, x_range=x_range, level=level, table_open=False)


def paid_for_panel(one: Round) -> Panel | None:
    """Style, and edits that must not pay."""
    findings = _found(one, "style_reliance", "policy_probes")
    if not findings:
        return None
    charts = []
    style = mapping((one.finding("style_reliance") or {}).get("evidence"))
    charts.append(
        _rows_chart(
            "Score and style, other features held fixed", "partial correlation",
            mappings(style.get("features")),
            [("sft", "SFT", "reference"), ("policy", "policy", "policy")], 0.0,
        )
    )  # fmt: skip
    probes = mapping((one.finding("policy_probes") or {}).get("evidence"))
    charts.append(
        _rows_chart(
            "Edits that raise the score more often than before", "growth in the share of answers",
            mappings(probes.get("probes")), [("change", "", "policy")], 0.0,
        )
    )  # fmt: skip
    constant = [clean(name) for name in style.get("constant") or [] if isinstance(name, str)]
    note = f"Left out, as they hardly vary: {', '.join(constant)}." if constant else ""
    return Panel(
        "paid", "What the score is paid for", _sentences(findings), [c for c in charts if c], note=note
    )


def buckets_chart(finding: Mapping[str, Any] | None) -> Chart | None:
    """Mean score by length bucket, both policies."""
    evidence = mapping((finding or {}).get("evidence"))
    rows = [r for r in mappings(evidence.get("buckets")) if number(r.get("from")) is not None]
    series = []
    for side, name, style, mark in (
        ("sft", "SFT", "reference", "circle"),
        ("policy", "policy", "policy", "square"),
    ):
        points = [
            (
                (number(r.get("from")) or 0)
                + ((number(r.get("to")) or 0) - (number(r.get("from")) or 0)) / 2,
                v,
            )
            for r in rows
            if (v := number(r.get(f"{side}_mean"))) is not None
        ]
        series.append(Series(name, [x for x, _ in points], [y for _, y in points], style=style, marker=mark))
    if not any(one.x for one in series):
        return None
    return line_chart(
        "Proxy by length of the answer", "tokens, middle of the bucket", "normalised score, mean", series
    )


def sameness_panel(one: Round) -> Panel | None:
    """Answers that are the same for many prompts, word for word."""
    findings = _found(one, "mode_collapse", "diversity_shift")
    if not findings:
        return None
    evidence = mapping((one.finding("mode_collapse") or {}).get("evidence"))
    figures = _figures(findings)
    share = number(evidence.get("near_duplicates"))
    if share is not None:
        base = number(evidence.get("near_duplicates_sft"))
        why = (
            "of the policy’s answers are nearer to another prompt’s than 95% of SFT’s are; SFT’s own"
            f" {show(100 * (base or 0))}%"
        )
        figures.append(("near duplicates", f"{show(100 * share)}%", why))
    repeated = mappings(mapping(evidence.get("modes")).get("policy"))
    lines = [
        f"“{clean(row.get('text'))[:160]}” to {show(number(row.get('prompts')))} prompts" for row in repeated
    ]
    note = "Given word for word: " + " · ".join(lines) + "." if lines else ""
    return Panel("same", "Does it say the same to everyone?", _sentences(findings), [], figures, note)


def stop_panel(one: Round) -> Panel | None:
    """Which checkpoint is the result, and why."""
    findings = _found(one, "stop_rule")
    if not findings:
        return None
    return Panel("stop", "Which checkpoint is the result", _sentences(findings), [], _figures(findings))


def control_panel(one: Round) -> Panel | None:
    """The round with as many labels of the older policy's samples beside it."""
    findings = _found(one, "fresh_labels_value", "matched_kl")
    if not findings:
        return None
    return Panel("control", "What the fresh labels bought", _sentences(findings), [], _figures(findings))


def seeds_panel(one: Round) -> Panel | None:
    findings = _found(one, "seeds")
    if not findings:
        return None
    values = mapping(mapping(findings[0].get("evidence")).get("values"))
    bars = [
        Bar(
            clean(name) if len(numbers(found)) == 1 else f"{clean(name)}, {place + 1}",
            value,
            note=show(value),
        )
        for name, found in values.items()
        for place, value in enumerate(numbers(found))
    ]
    charts = []
    if bars:
        low, high = min(bar.figure for bar in bars), max(bar.figure for bar in bars)
        margin = 0.1 * ((high - low) or 1.0)
        charts.append(
            interval_chart(
                "Every run", clean(findings[0].get("unit")), bars, x_range=(low - margin, high + margin)
            )
        )
    return Panel("seeds", "Would another seed say so?", _sentences(findings), charts, _figures(findings))


def panels(one: Round) -> list[Panel]:
    """The evidence of one round, in reading order (samples follow on the page)."""
    length = length_panel(one)
    buckets = buckets_chart(one.finding("length_share"))
    if buckets:
        length.charts.append(buckets)
    every = [
        reward_panel(one), stop_panel(one), win_panel(one), second_model_panel(one), reward_model_panel(one),
        fresh_labels_panel(one), control_panel(one), direct_panel(one), drift_panel(one), length,
        paid_for_panel(one),
        sameness_panel(one), seeds_panel(one),
    ]  # fmt: skip
    return [panel for panel in every if panel]
