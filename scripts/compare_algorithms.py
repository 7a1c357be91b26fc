"""Several algorithms at several KL levels on the same labels: one picture of gold against √KL.

    python scripts/compare_algorithms.py recipes/comparison/comparison.yaml --out runs/comparison
    python scripts/compare_algorithms.py … --set online.steps=4        # of every run

SFT, pairs and reward model are made once in OUT/shared and copied: their keys are the same in every run. A
finished run is loaded, so the same command goes on after a kill. OUT/comparison.html holds the picture and
its table, OUT/comparison.json the figures. KL of best-of-n and of training do not mean the same distance.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from accord import config, pipeline
from accord.report.charts import Series, line_chart
from accord.report.pages import policy, style, write
from accord.report.panels import ROOT_KL

STYLES = ("policy", "gold", "reference", "good", "bad")
MARKERS = ("circle", "square", "diamond")


def plan(path: Path, overrides: list[str]) -> tuple[config.Run, dict[str, list[config.Run]]]:
    """(what all share, the runs of each algorithm in the order of their levels)."""
    asked = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = path.parent / asked["recipe"]
    runs: dict[str, list[config.Run]] = {}
    for algorithm, levels in asked["runs"].items():
        runs[algorithm] = []
        for level in levels:
            given = [f"{key}={json.dumps(value)}" for key, value in level.items()]
            if not any(key.startswith(("direct", "rejection")) for key in level):
                given.append(f"online.algorithm={algorithm}")
            runs[algorithm].append(config.load(recipe, [*given, *overrides]))
    return config.load(recipe, overrides), runs


def prepared(shared: Path, out: Path) -> Path:
    """A run's folder with everything that comes before its policy."""
    if not out.exists():
        partial = out.with_name(out.name + ".writing")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(shared, partial)
        partial.rename(out)
    return out


def point(curve: dict[str, Any], level: int) -> dict[str, Any]:
    end = curve["points"][-1]
    low, high = end["gold_interval"] or (None, None)
    return {"level": level, "kl": end["kl"], "gold": end["gold"], "low": low, "high": high}


def picture(found: dict[str, list[dict[str, Any]]], gold: str) -> str:
    """The page: one drawing, and its table."""
    series = [
        Series(
            name,
            [math.sqrt(max(0.0, p["kl"])) for p in points],
            [p["gold"] for p in points],
            [p["low"] for p in points],
            [p["high"] for p in points],
            style=STYLES[i % len(STYLES)],
            marker=MARKERS[i % len(MARKERS)],
            dashed=name == "best of n",
        )
        for i, (name, points) in enumerate(found.items())
    ]
    chart = line_chart("Gold against distance", ROOT_KL, f"{gold}, mean over held-out prompts", series)
    head = Markup("<tr>{}</tr>").format(
        Markup("").join(Markup("<th>{}</th>").format(c) for c in chart.columns)
    )
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in row))
        for row in chart.rows
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Algorithms compared</title>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style())}"><style>{style()}</style>'
        f"<body><main><h1>Algorithms compared</h1><figure class=figure>{chart.svg}</figure>"
        f"<table>{head}{rows}</table></main></body></html>"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--set", action="append", default=[], help="a.b=c, of every run")
    args = parser.parse_args()
    base, runs = plan(args.comparison, args.set)
    pipeline.run(base, args.out / "shared", until="reward", quiet=True)
    found: dict[str, list[dict[str, Any]]] = {}
    gold = "gold"
    for algorithm, levels in runs.items():
        for number, run in enumerate(levels):
            result = pipeline.run(
                run, prepared(args.out / "shared", args.out / f"{algorithm}-{number}"), quiet=True
            )
            gold = result.curve["gold_name"] or gold
            if result.curve["points"][-1]["gold"] is None:
                raise SystemExit("nobody knows a gold here: the comparison needs a simulated judge")
            found.setdefault(algorithm, []).append(point(result.curve, number))
            best = [
                {"level": b["n"], "kl": b["kl"], "gold": b["gold"]}
                | dict(zip(("low", "high"), b["gold_interval"] or (None, None), strict=True))
                for b in result.curve["best_of_n"]
            ]
            print(f"{algorithm}, level {number}: {found[algorithm][-1]}", flush=True)
    for points in found.values():
        points.sort(key=lambda p: p["kl"])
    found["best of n"] = best  # of the same SFT samples in every run
    (args.out / "comparison.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    write(args.out / "comparison.html", picture(found, gold))
    print(f"wrote {args.out / 'comparison.html'}")


if __name__ == "__main__":
    main()
