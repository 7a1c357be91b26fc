"""Builds report.html (one self-contained page) for a run directory, and its figures as JSON and CSV."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Template
from markupsafe import Markup

from accord.records import BadInput
from accord.report import answers, cost, health, lineage, live, tables
from accord.report.artefacts import Artefacts, Round, clean, mapping, plain, policy_stage, read
from accord.report.charts import Chart, show
from accord.report.evidence_panels import panels
from accord.report.pages import HERE, code, json_for_script, policy, style, template, write
from accord.report.samples import chosen_samples

LIMIT = 4_500_000  # bytes of the page; samples are left out until it fits
SAMPLES = (60, 30, 12, 4, 1)  # kept of each order (largest gain, loss, disagreement, random), most first
SIGNS = ("config.yaml", "accord.lock.json", "metrics.jsonl", "sft", "round-0", "labels.db")


def model_of(run: Artefacts) -> str:
    model = run.config.get("model")
    return (
        clean(mapping(model).get("path") or (model if isinstance(model, str) else "")) or "model not recorded"
    )


def _head(run: Artefacts) -> dict[str, Any]:
    banner, simulated = answers.label_source(run)
    algorithm = policy_stage(run.config)[1]
    seed = run.config.get("seed", run.lock.get("seed"))
    started = run.lock.get("finished") or run.lock.get("started")
    return {
        "name": clean(run.config.get("name")) or run.path.resolve().name,
        "algorithm": algorithm.upper() or "algorithm not recorded",
        "model": model_of(run),
        "date": lineage.date(started) if started else "date not recorded",
        "seed": f"seed {clean(seed)}" if seed is not None else "seed not recorded",
        "finished": answers.is_finished(run),
        "banner": banner,
        "simulated": simulated,
    }


def charts_json(charts: list[Chart]) -> list[dict[str, Any]]:
    """The figures of charts, unrounded; what is not known is left out."""
    return [
        {
            "title": c.title,
            "x": c.x_label,
            "value": c.y_label,
            "rows": [{k: v for k, v in one._asdict().items() if v is not None} for one in c.data],
        }
        for c in charts
    ]


def _figures(run: Artefacts, page: dict[str, Any]) -> dict[str, Any]:
    """Everything on the page, without the samples' text, as plain JSON values."""
    rounds = [
        {
            "round": view["round"].index,
            "findings": view["round"].findings,
            "curve": view["round"].curve,
            "reward": view["round"].reward,
            "panels": [
                {
                    "title": p.title,
                    "sentence": p.sentence,
                    "figures": [{"name": n, "value": v, "meaning": m} for n, v, m in p.figures],
                    "charts": charts_json(p.charts),
                }
                for p in view["panels"]
            ],
        }
        for view in page["views"]
    ]
    trained = [
        {
            "stage": h.stage,
            "round": h.round,
            "broken": h.broken,
            "alerts": h.alerts,
            "charts": charts_json(h.charts),
        }
        for h in page["health"]
    ]
    found: dict[str, Any] = plain(
        {
            "run": page["head"],
            "answers": [vars(a) for a in page["answers"]],
            "next": page["next"],
            "missing": run.missing,
            "rounds": rounds,
            "rounds_table": page["round_rows"],
            "health": trained,
            "events": run.events,
            "progress": [vars(stage) for stage in page["progress"]],
            "cost": [{"name": n, "value": v, "meaning": m} for n, v, m in page["cost"]],
            "stages": lineage.stages(run),
            "lock": run.lock,
            "config": run.config,
        }
    )
    return found


def _view(one: Round) -> dict[str, Any]:
    return {"round": one, "panels": panels(one)}


def _rows(run: Artefacts, page: dict[str, Any]) -> list[tables.Row]:
    """The table of report.csv: answers, findings, every chart, costs."""
    rows: list[tables.Row] = [
        {"part": "answer", "table": a.question, "series": a.word, "verdict": a.verdict, "text": a.sentence}
        for a in page["answers"]
    ]
    rows += [{"part": "next", "table": "What should be done next?", "text": step} for step in page["next"]]
    rows += [{"part": "missing", "text": sentence} for sentence in run.missing]
    for view in page["views"]:
        index = view["round"].index
        rows += tables.finding_rows(view["round"].findings, index)
        for panel in view["panels"]:
            rows += tables.chart_rows(panel.title, panel.charts, index)
            rows += [
                {"part": panel.title, "round": index, "table": name, "text": f"{value} ({meaning})"}
                for name, value, meaning in panel.figures
            ]
    for h in page["health"]:
        rows += tables.chart_rows(f"training: {h.stage}", h.charts, h.round)
    charts = [c for c in (page["rounds_chart"], page["time_chart"], page["phase_chart"]) if c]
    rows += tables.chart_rows("origin", charts)
    rows += [{"part": "cost", "table": name, "text": f"{value} ({why})"} for name, value, why in page["cost"]]
    return rows


def _page(run: Artefacts, every: float | None) -> dict[str, Any]:
    events = [
        {
            "level": clean(row.get("level")) or "note",
            "stage": clean(row.get("stage")),
            "message": clean(row.get("message")),
        }
        for row in run.events
    ]
    return {
        "head": _head(run),
        "answers": answers.answers(run),
        "next": answers.next_steps(run),
        "missing": run.missing,
        "views": [_view(one) for one in reversed(run.rounds)],
        "round_rows": [lineage.round_row(one) for one in run.rounds],
        "rounds_chart": lineage.rounds_chart(run),
        "health": health.health(run.metrics),
        "events": events[-30:],
        "time_chart": lineage.time_chart(run),
        "total_time": lineage.duration(sum(s["seconds"] or 0 for s in lineage.stages(run))),
        "cost": cost.figures(run),
        "phase_chart": cost.phase_chart(run),
        "progress": [] if answers.is_finished(run) else live.progress(run),
        "reload": every,
        "updated": lineage.date(live.changed_at(run.path)) if every else "",
        "versions": lineage.versions(run),
        "config": clean(yaml.safe_dump(plain(run.config), sort_keys=False, allow_unicode=True))
        if run.config
        else "",
    }


@cache
def _template() -> Template:
    """page.html, compiled once a process."""
    filters: dict[str, Callable[..., Any]] = {
        "show": show,
        "code": code,
        "shown": answers.shown,
        "verdict": answers.verdict_of,
    }
    return template("page.html", filters)


def _render(page: dict[str, Any], figures: dict[str, Any], table: str, limit: int) -> str:
    script = "".join((HERE / name).read_text(encoding="utf-8") for name in ("files.js", "page.js"))
    samples = {view["round"].index: chosen_samples(view["round"], limit) for view in page["views"]}
    return _template().render(
        **page,
        samples=samples,
        style=Markup(style()),
        script=Markup(script),
        figures_json=json_for_script(figures),
        figures_csv=json_for_script(table),
        policy=policy(style(), script),
        better=answers.BETTER,
    )


def checked(run_dir: Path | str) -> Path:
    """The folder, if a run is in it.

    Raises:
        BadInput: there is no such directory, or nothing in it comes from a run.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise BadInput(
            f"no run directory at {run_dir}: give the folder that `accord run` wrote, such as runs/demo"
        )
    if not any((run_dir / sign).exists() for sign in SIGNS):
        raise BadInput(
            f"{run_dir} holds no run (no config.yaml, metrics or rounds): give a folder under runs/"
        )
    return run_dir


def build(run_dir: Path | str, *, reload: float | None = None) -> Path:
    """Writes report.html, report.json, report.csv and samples.csv into ``run_dir``; returns the page's path.

    Works on unfinished and damaged runs: what is missing is named on the page. The page makes no network
    request and stays below 5 MB (samples are left out, largest gains and losses last). report.csv has the
    figures of the page and every step of training, samples.csv every held-out sample.

    Args:
        reload: the run is going on, and the page reloads itself after so many seconds; None: it does not.

    Raises:
        BadInput: there is no such directory, or nothing in it comes from a run.
    """
    run_dir = checked(run_dir)
    run = read(run_dir)
    page = _page(run, reload)
    figures = _figures(run, page)
    rows = _rows(run, page)
    table = tables.written(tables.COLUMNS, rows)
    text = ""
    for limit in SAMPLES:
        text = _render(page, figures, table, limit)
        if len(text.encode()) <= LIMIT:
            break
    kept = {
        str(view["round"].index): [
            {k: s[k] for k in ("prompt", "sft", "policy", "gain")}
            for s in chosen_samples(view["round"], limit)[1]
        ]
        for view in page["views"]
    }
    document = json.dumps(figures | {"samples": kept}, ensure_ascii=False, allow_nan=False, indent=1)
    every_step = [
        *(row for row in rows if not row["part"].startswith("training")),
        *tables.training_rows(run),
    ]
    write(run_dir / "report.json", document + "\n")
    write(run_dir / "report.csv", tables.written(tables.COLUMNS, every_step))
    write(run_dir / "samples.csv", tables.written(tables.SAMPLE_COLUMNS, tables.sample_rows(run.rounds)))
    write(run_dir / "report.html", text)
    return run_dir / "report.html"
