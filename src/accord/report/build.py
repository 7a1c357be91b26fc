"""Builds report.html (one self-contained page) and report.json (the same figures) for a run directory."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from accord.records import BadInput
from accord.report import answers, health, lineage
from accord.report.artefacts import Artefacts, Round, clean, mapping, plain, read
from accord.report.charts import show
from accord.report.panels import panels
from accord.report.samples import chosen_samples

HERE = Path(__file__).parent
LIMIT = 4_500_000  # bytes of the page; samples are left out until it fits
SAMPLES = (60, 30, 12, 4, 1)  # kept of each order (largest gain, largest loss, random), most first
SIGNS = ("config.yaml", "accord.lock.json", "metrics.jsonl", "sft", "round-0", "labels.db")


def json_for_script(value: Any) -> Markup:
    """JSON that can stand in a <script> element: no ``</script>``, ``<!--`` or line separator survives."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    escapes: dict[str, str | int | None] = {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
    return Markup(text.translate(str.maketrans(escapes)))


def code(text: str) -> Markup:
    """Escaped text in which `this` becomes <code>; only for the report's own sentences."""
    pieces = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 and i < len(pieces) - 1 else escape(piece)
        for i, piece in enumerate(pieces)
    )


def model_of(run: Artefacts) -> str:
    model = run.config.get("model")
    return (
        clean(mapping(model).get("path") or (model if isinstance(model, str) else "")) or "model not recorded"
    )


def _head(run: Artefacts) -> dict[str, Any]:
    banner, simulated = answers.label_source(run)
    algorithm = clean(mapping(run.config.get("online")).get("algorithm"))
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


def _charts_json(charts: list[Any]) -> list[dict[str, Any]]:
    return [{"title": c.title, "columns": c.columns, "rows": c.rows} for c in charts]


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
                    "charts": _charts_json(p.charts),
                }
                for p in view["panels"]
            ],
        }
        for view in page["views"]
    ]
    trained = [
        {"stage": h.stage, "round": h.round, "broken": h.broken, "charts": _charts_json(h.charts)}
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
            "stages": lineage.stages(run),
            "lock": run.lock,
            "config": run.config,
        }
    )
    return found


def _view(one: Round) -> dict[str, Any]:
    return {"round": one, "panels": panels(one)}


def _page(run: Artefacts) -> dict[str, Any]:
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
        "versions": lineage.versions(run),
        "config": clean(yaml.safe_dump(plain(run.config), sort_keys=False, allow_unicode=True))
        if run.config
        else "",
    }


def _digest(text: str) -> str:
    """A CSP source expression for one inline element."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


@cache
def _template() -> Template:
    """page.html, compiled once a process."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "code": code, "shown": answers.shown, "verdict": answers.verdict_of}
    return environment.get_template("page.html")


def _render(page: dict[str, Any], figures: dict[str, Any], limit: int) -> str:
    style = (HERE / "style.css").read_text(encoding="utf-8")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    samples = {view["round"].index: chosen_samples(view["round"], limit) for view in page["views"]}
    return _template().render(
        **page,
        samples=samples,
        style=Markup(style),
        script=Markup(script),
        figures_json=json_for_script(figures),
        # Hashes, not 'unsafe-inline': were an escape ever forgotten, the text still could not run.
        policy=f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)};"
        " base-uri 'none'; form-action 'none'",
        better=answers.BETTER,
    )


def _write(path: Path, text: str) -> None:
    """Atomically: a reader sees the old page or the new one, never half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def build(run_dir: Path) -> Path:
    """Writes ``run_dir/report.html`` and ``run_dir/report.json``; returns the page's path.

    Works on unfinished and damaged runs: what is missing is named on the page. The page makes no network
    request and stays below 5 MB (samples are left out, largest gains and losses last).

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
    run = read(run_dir)
    page = _page(run)
    figures = _figures(run, page)
    text = ""
    for limit in SAMPLES:
        text = _render(page, figures, limit)
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
    _write(run_dir / "report.json", document + "\n")
    _write(run_dir / "report.html", text)
    return run_dir / "report.html"
