"""Several runs on one page: their answers side by side, differences with intervals, curves on common axes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from accord.records import BadInput, content_hash
from accord.report import answers, lineage, tables
from accord.report.artefacts import clean, interval, mapping, number, plain, policy_stage, read
from accord.report.build import charts_json, checked, model_of
from accord.report.charts import Chart, Series, line_chart, show
from accord.report.differences import (
    FIGURES,
    Compared,
    Difference,
    by_key,
    changed_settings,
    compared,
    differences,
    seed_groups,
    sentence,
    shown,
)
from accord.report.distributions import Bar, interval_chart
from accord.report.pages import HERE, code, json_for_script, policy, style, template, write
from accord.report.panels import ROOT_KL, curve_points

MOST = 8  # runs on one page: more colours, markers and dashes cannot be told apart
MARKERS = ("circle", "square", "diamond")
SAMPLES = 60  # prompts shown side by side, those with the largest differences
LIMIT = 4_500_000


def _style(place: int) -> str:
    return f"run-{place}"


def _row(one: Compared) -> dict[str, Any]:
    """What the table at the top says of a run."""
    better, _, hacked = answers.answers(one.run)
    reward = one.round.reward if one.round else {}
    win = one.round.finding("win_rate", "is it better") if one.round else None
    figure, ends = answers.shown(win) if win else ("–", "")
    points = curve_points(one.round.curve) if one.round else []
    gain = mapping((win or {}).get("evidence"))
    seconds = sum(s["seconds"] or 0 for s in lineage.stages(one.run) if not s["cached"])
    return {
        "label": one.label,
        "seed": clean(one.run.config.get("seed", one.run.lock.get("seed", "–"))),
        "algorithm": policy_stage(one.run.config)[1].upper() or "–",
        "model": model_of(one.run),
        "round": str(one.round.index) if one.round else "–",
        "finished": answers.is_finished(one.run),
        "better": better,
        "hacked": hacked,
        "win": figure,
        "win_interval": ends,
        "gain": show(number(gain.get("mean_gain"))),
        "gain_interval": _range(gain.get("mean_gain_interval")),
        "kl": show(number(points[-1].get("kl"))) if points else "–",
        "accuracy": lineage.percent(reward.get("accuracy"), reward.get("accuracy_interval")),
        "time": lineage.duration(seconds) if seconds else "–",
        "figures": {
            "win rate": (number((win or {}).get("figure")), interval((win or {}).get("interval"))),
            "gain in gold": (number(gain.get("mean_gain")), interval(gain.get("mean_gain_interval"))),
            "KL": (number(points[-1].get("kl")) if points else None, None),
            "reward-model accuracy": (
                number(reward.get("accuracy")),
                interval(reward.get("accuracy_interval")),
            ),
            "seconds": (seconds or None, None),
        },
    }


def _range(value: object) -> str:
    ends = interval(value)
    return f"{show(ends[0])} to {show(ends[1])}" if ends else ""


def _curves(runs: Sequence[Compared], kind: str, title: str, y_label: str) -> Chart | None:
    """One line a run against √KL."""
    series = []
    for place, one in enumerate(runs):
        points = [
            p for p in curve_points(one.round.curve if one.round else {}) if number(p.get(kind)) is not None
        ]
        if not points:
            continue
        ends = [interval(p.get(f"{kind}_interval")) for p in points]
        series.append(
            Series(
                one.label,
                [math.sqrt(max(number(p.get("kl")) or 0.0, 0.0)) for p in points],
                [number(p.get(kind)) for p in points],
                [e[0] if e else None for e in ends],
                [e[1] if e else None for e in ends],
                style=_style(place), marker=MARKERS[place % 3], hollow=place >= 3, dashed=place % 2 == 1,
            )
        )  # fmt: skip
    if not series:
        return None
    # Names stand in the key below the heading: up to eight do not fit above a small drawing
    return line_chart(title, ROOT_KL, y_label, series, key=False)


def _difference_charts(found: Sequence[Difference], runs: Sequence[Compared]) -> list[Chart]:
    """A chart a figure: every other run minus the first."""
    place = {one.label: _style(i) for i, one in enumerate(runs)}
    charts = []
    for name in dict.fromkeys(one.figure for one in found):
        rows = [one for one in found if one.figure == name and one.value is not None]
        if not rows:
            continue
        bars = [
            Bar(
                one.label,
                one.value or 0.0,
                one.low,
                one.high,
                place[one.label],
                note=shown(one).partition(" (")[0],
            )
            for one in rows
        ]
        every = [v for bar in bars for v in (bar.figure, bar.low, bar.high, 0.0) if v is not None]
        margin = 0.06 * ((max(every) - min(every)) or 1.0)
        charts.append(
            interval_chart(
                f"{name[0].upper()}{name[1:]}", f"{rows[0].unit}, minus {runs[0].label}", bars,
                x_range=(min(every) - margin, max(every) + margin), level=0.0, level_name="no difference",
            )
        )  # fmt: skip
    return charts


def _samples(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """Prompts that all runs answered, with each policy's first answer; the largest spread of gold first."""
    kind = "gold" if all(by_key(one.round, "gold") for one in runs) else "tokens"
    first: list[dict[str, Any]] = []
    for one in runs:
        found: dict[str, Any] = {}
        for sample in one.round.samples if one.round else []:
            found.setdefault(sample["key"], sample)
        first.append(found)
    shared = set.intersection(*(set(found) for found in first)) - {""} if first else set()
    rows = []
    for key in shared:
        answers_of = [found[key]["policy"] for found in first]
        values = [v for answer in answers_of if (v := number(answer.get(kind))) is not None]
        spread = max(values) - min(values) if len(values) == len(runs) else 0.0
        rows.append({"prompt": first[0][key]["prompt"], "key": key, "answers": answers_of, "spread": spread})
    return sorted(rows, key=lambda row: (-row["spread"], content_hash(row["key"])))[:SAMPLES]


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {"show": show, "code": code}
    return template("compare.html", filters)


def _checked(paths: Sequence[Path | str]) -> list[Path]:
    folders = [checked(path) for path in paths]
    if not 2 <= len(folders) <= MOST:
        raise BadInput(f"{len(folders)} runs are given: a comparison takes 2 to {MOST}")
    resolved = [folder.resolve() for folder in folders]
    twice = next((folder for i, folder in enumerate(resolved) if folder in resolved[:i]), None)
    if twice is not None:
        raise BadInput(f"{twice} is given twice: give different runs")
    return folders


def default_place(paths: Sequence[Path | str]) -> Path:
    """comparison.html in the folder that holds all the runs."""
    parents = [str(Path(path).resolve().parent) for path in paths]
    return Path(os.path.commonpath(parents)) / "comparison.html"


def compare(paths: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Writes a page that compares runs with the first of them, and its figures as .json and .csv beside it.

    Args:
        out: the page; None: comparison.html in the folder that holds all the runs.

    Raises:
        BadInput: fewer than 2 runs or more than 8, one twice, or a folder without a run.
    """
    runs = compared([read(folder) for folder in _checked(paths)])
    target = Path(out) if out is not None else default_place(paths)
    found = differences(runs)
    charts = [
        _curves(runs, "gold", "Gold reward: what was wanted", "gold utility, mean"),
        _curves(runs, "proxy", "Proxy reward: what was optimised", "normalised score, each run’s own model"),
    ]
    page: dict[str, Any] = {
        "runs": [_row(one) for one in runs],
        "first": runs[0].label,
        "sentences": sentence(found, runs[0].label),
        "missing": [f"{one.label}: {what}" for one in runs for what in one.run.missing],
        "curves": [chart for chart in charts if chart],
        "differences": found,
        "difference_charts": _difference_charts(found, runs),
        "groups": seed_groups(runs),
        "changed": changed_settings(runs),
        "simulated": any(answers.label_source(one.run)[1] for one in runs),
        "several": len(runs) > 2,
    }
    rows = _rows(page)
    figures = plain(
        {
            "runs": [
                {k: v for k, v in row.items() if k not in ("better", "hacked")}
                | {"better": vars(row["better"]), "hacked": vars(row["hacked"])}
                for row in page["runs"]
            ],
            "sentences": page["sentences"],
            "differences": [vars(one) for one in found],
            "seeds": [
                vars(one)
                | {
                    "spread": one.spread._asdict(),
                    "difference": one.difference._asdict() if one.difference else None,
                }
                for one in page["groups"]
            ],
            "curves": charts_json(page["curves"]),
            "changed_settings": [{"key": key, "values": values} for key, values in page["changed"]],
            "missing": page["missing"],
        }
    )
    table = tables.written(tables.COLUMNS, rows)
    samples = _samples(runs)
    while True:
        text = _render(page, samples, figures, table)
        if len(text.encode()) <= LIMIT or not samples:
            break
        samples = samples[: len(samples) // 2]
    target.parent.mkdir(parents=True, exist_ok=True)
    document = json.dumps(
        figures | {"samples": plain(samples)}, ensure_ascii=False, allow_nan=False, indent=1
    )
    write(target.with_suffix(".json"), document + "\n")
    write(target.with_suffix(".csv"), table)
    write(target, text)
    return target


def _rows(page: dict[str, Any]) -> list[tables.Row]:
    rows: list[tables.Row] = [{"part": "which is better", "text": text} for text in page["sentences"]]
    for row in page["runs"]:
        for name, (value, ends) in row["figures"].items():
            low, high = ends or (None, None)
            rows.append(
                {
                    "part": "run",
                    "table": row["label"],
                    "series": name,
                    "value": value,
                    "low": low,
                    "high": high,
                }
            )
    for one in page["differences"]:
        rows.append(
            {
                "part": "difference", "table": one.figure, "series": f"{one.label} minus {page['first']}",
                "value": one.value, "low": one.low, "high": one.high, "n": one.prompts, "unit": one.unit,
                "text": one.note or ("same prompts" if one.paired else "other prompts"),
            }
        )  # fmt: skip
    for group in page["groups"]:
        low, high = group.spread.bounds or (None, None)
        rows.append(
            {
                "part": "seeds", "table": group.figure, "series": group.label, "value": group.spread.figure,
                "low": low, "high": high, "n": len(group.members), "text": ", ".join(group.members),
            }
        )  # fmt: skip
    return rows + list(tables.chart_rows("curves", page["curves"]))


def _render(page: dict[str, Any], samples: list[dict[str, Any]], figures: Any, table: str) -> str:
    script = (HERE / "files.js").read_text(encoding="utf-8")
    return _template().render(
        **page,
        samples=samples,
        style=Markup(style()),
        script=Markup(script),
        figures_json=json_for_script(figures),
        figures_csv=json_for_script(table),
        policy=policy(style(), script),
        names=FIGURES,
    )
