"""Training health: metrics.jsonl as small multiples, one chart a figure, each with its unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accord.report.artefacts import clean, number
from accord.report.charts import SMALL, Chart, Series, line_chart

POINTS = 160  # a small chart cannot show more; longer series are averaged in buckets

# figure -> (name, unit and what it averages over). Order is the order on the page.
FIGURES = {
    "loss": ("Loss", "nats, batch mean"),
    "score_mean": ("Proxy reward", "normalised score, batch mean"),
    "accuracy": ("Training accuracy", "share of pairs"),
    "paid_mean": ("Reward paid", "score with penalties, without KL, batch mean"),
    "constraint": ("Constrained score", "its own unit, batch mean"),
    "constraint_multiplier": ("Constraint's multiplier", "reward per unit of the score"),
    "margin": ("Implicit reward margin", "nats, mean over pairs"),
    "chosen_log_ratio": ("Preferred answers", "ln π/π_ref, nats per response"),
    "rejected_log_ratio": ("Other answers", "ln π/π_ref, nats per response"),
    "kl_baseline": ("KTO's baseline", "nats per response"),
    "tie_parameter": ("Tie parameter", "nats"),
    "score_best": ("Proxy of the picked answers", "normalised score, mean"),
    "kl": ("KL to SFT", "nats per response (k1)"),
    "kl_penalised": ("KL to the reference", "nats per response (k1), where it is not SFT"),
    "kl_k3": ("KL to SFT, k3", "nats per token"),
    "entropy": ("Entropy", "nats per token"),
    "length_mean": ("Response length", "tokens, mean"),
    "unfinished_share": ("Unfinished", "share of responses"),
    "explained_variance": ("Explained variance", "share, of the critic"),
    "value_loss": ("Value loss", "squared score, token mean"),
    "policy_loss": ("Policy loss", "per token"),
    "clip_fraction": ("Clipped", "share of tokens (GSPO: responses)"),
    "kl_old_new": ("KL of one batch's updates, k3", "nats per token"),
    "ratio_p99": ("Ratio, 99th percentile", "new / old, no unit"),
    "effective_share": ("Effective sample size", "share of tokens"),
    "ratio_max_error": ("Ratio error at start", "max |ln ratio|, no unit"),
    "no_spread_share": ("Groups without spread", "share of prompts"),
    "left_out_share": ("Left out after sampling again", "share of prompts"),
    "unscored_share": ("Without a score", "share of responses"),
    "staleness": ("Age of the rollouts", "batches trained on since"),
    "kl_coefficient": ("KL coefficient", "score per nat"),
    "grad_norm": ("Gradient norm", "before clipping"),
    "gradient_noise": ("Gradient-noise scale", "responses, moving average"),
    "skipped_updates": ("Updates skipped (NaN)", "count so far"),
    "tokens_per_second": ("Speed", "tokens/s"),
    "pairs_per_second": ("Speed", "pairs/s"),
    "seconds_sample": ("Sampling", "s per step"),
    "seconds_score": ("Scoring", "s per step"),
    "seconds_train": ("Training", "s per step"),
}
OF_EACH = {"reward_": "Reward:", "member_": "Member:"}  # figures that a recipe or an ensemble names
ONLY_WHERE_IT_HAPPENS = {"skipped_updates", "staleness", "unscored_share", "left_out_share"}
STAGES = {
    "sft": (
        "Supervised fine-tuning",
        "Imitating demonstrations: loss in nats per token should fall and settle.",
    ),
    "reward": ("Reward model", "Fitting the labels: loss starts near ln 2 = 0.693 nats per pair (chance)."),
    "online": (
        "Policy optimisation",
        "Reward should rise while KL stays in its budget; entropy near 0 means that the policy collapsed.",
    ),
    "direct": (
        "Direct preference optimisation",
        "Margin and accuracy should rise; preferred answers below 0 have lost probability.",
    ),
    "rejection": ("Rejection sampling", "The best samples, imitated: loss should fall and settle."),
}


@dataclass(frozen=True)
class Health:
    """The charts of one stage of one round."""

    stage: str
    round: int
    title: str
    sentence: str
    charts: list[Chart]
    broken: list[str]
    alerts: list[str]


def thinned(
    x_N: Sequence[float], y_N: Sequence[float | None], points: int = POINTS
) -> tuple[list[float], list[float | None], list[float | None], list[float | None]]:
    """Mean, least and greatest value in each of ``points`` equal buckets (the series itself when short)."""
    if len(x_N) <= points:
        return list(x_N), list(y_N), [], []
    x, mean, least, greatest = [], list[float | None](), list[float | None](), list[float | None]()
    for bucket in range(points):
        start, end = bucket * len(x_N) // points, (bucket + 1) * len(x_N) // points
        values = [v for v in y_N[start:end] if v is not None]
        x.append(sum(x_N[start:end]) / (end - start))
        mean.append(sum(values) / len(values) if values else None)
        least.append(min(values, default=None))
        greatest.append(max(values, default=None))
    return x, mean, least, greatest


def _by_stage(metrics: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], dict[float, Mapping[str, Any]]]:
    """Rows by (stage, round) and step. A resumed run writes a step twice: the later row counts."""
    out: dict[tuple[str, int], dict[float, Mapping[str, Any]]] = {}
    for row in metrics:
        step = number(row.get("step"))
        if step is not None:
            index = number(row.get("round")) or 0
            out.setdefault((clean(row.get("stage")), int(index)), {})[step] = row
    return out


def health(metrics: Sequence[Mapping[str, Any]]) -> list[Health]:
    """One entry a stage and round, in the order of training; figures never logged have no chart."""
    order = {name: place for place, name in enumerate(STAGES)}
    groups = sorted(_by_stage(metrics).items(), key=lambda g: (g[0][1], order.get(g[0][0], 9), g[0][0]))
    out = []
    for (stage, index), rows_by_step in groups:
        steps = sorted(rows_by_step)
        charts, broken = [], []
        for key, (name, unit) in _figures(rows_by_step).items():
            rows = [rows_by_step[s] for s in steps]
            values = [number(row.get(key)) for row in rows]
            lost = sum(1 for row in rows if key in row and number(row[key]) is None)
            if lost:
                times = "once" if lost == 1 else f"{lost} times"
                broken.append(f"{name} was NaN or infinite {times}.")
            if not any(v is not None for v in values):
                continue
            if key in ONLY_WHERE_IT_HAPPENS and not any(values):
                continue
            x, y, low, high = thinned(steps, values)
            style = {"score_mean": "proxy"}.get(key, "policy")
            series = Series(name, x, y, low, high, style=style, marker="none", band=True)
            chart = line_chart(f"{name} ({unit})", "step", unit, [series], size=SMALL)
            charts.append(replace(chart, title=name))  # the unit stands on the axis, right below
        alerts = _alerts(rows_by_step)
        title, sentence = STAGES.get(stage, (stage or "unnamed stage", ""))
        if charts or broken:
            out.append(Health(stage, index, title, sentence, charts, broken, alerts))
    return out


def _figures(rows_by_step: Mapping[float, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """The figures that have a chart: the known ones, and those of each reward and each member."""
    found = {key for row in rows_by_step.values() for key in row if key.startswith(tuple(OF_EACH))}
    more = {}
    for key in sorted(found):
        kind, _, name = key.partition("_")
        more[key] = (f"{OF_EACH[kind + '_']} {clean(name)}", "score, batch mean")
    return FIGURES | more


def _alerts(rows_by_step: Mapping[float, Mapping[str, Any]]) -> list[str]:
    """One sentence for each figure that alerted: when, its last value, the limit and what to try."""
    last: dict[str, tuple[int, int, Mapping[str, Any]]] = {}
    for step in sorted(rows_by_step):
        alerts = rows_by_step[step].get("alerts")
        for alert in alerts if isinstance(alerts, list) else ():
            if not isinstance(alert, Mapping) or number(alert.get("value")) is None:
                continue
            figure = clean(alert.get("figure"))
            first, times, _ = last.get(figure, (int(step), 0, alert))
            last[figure] = (first, times + 1, alert)
    sentences = []
    for figure, (first, times, alert) in last.items():
        name = FIGURES.get(figure, (figure, ""))[0]
        value, limit = number(alert.get("value")), number(alert.get("limit"))
        if value is None or limit is None:
            continue
        often = "once" if times == 1 else f"{times} times"
        sentences.append(
            f"{name} was beyond its limit {often}, first at step {first}: last {value:.3g}, the limit is"
            f" {limit:.3g}; {clean(alert.get('what_to_try'))}."
        )
    return sentences
