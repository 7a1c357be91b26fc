"""Writes lab.html (one self-contained page), lab.json and lab.csv."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import accord
from accord.config import dump
from accord.diagnostics import extrapolation, overoptimisation
from accord.lab import ensembles, policies, preferences, reward, rounds, stopping, trial, world
from accord.lab.acceptance import acceptance
from accord.lab.figures import DOTS, as_csv, page_figures, typical
from accord.lab.snippets import Snippet, snippet
from accord.lab.study import Study
from accord.lab.trial import Recipe
from accord.records import Finding
from accord.report.charts import Chart, Series, line_chart, show
from accord.report.pages import json_for_script

HERE = Path(__file__).parent
REPORT = HERE.parent / "report"

CONTENTS = (
    ("world", "The world"),
    ("learn", "Learning"),
    ("push", "Reward hacking"),
    ("blind", "Blind spots"),
    ("variance", "Variance"),
    ("ensemble", "Ensembles"),
    ("rounds", "Circularity"),
    ("forecast", "Foresight"),
    ("stops", "When to stop"),
    ("play", "All sliders"),
    ("holds", "What holds"),
)
RULES = {
    "predicted peak": "annotators compare answers of {checkpoints} checkpoints with the start's, {labels}"
    " pairs each; a curve is fitted to the win rates, and its top is shipped. The only rule that costs fresh"
    " labels.",
    "pessimistic ensemble": "{watching} reward models of other pretraining, taught by the same labels, look"
    " on; stop when the most pessimistic of them says it gets worse.",
    "split half": "two reward models, each from one half of the labels. One is optimised while the other"
    " looks on; stop when the other says it gets worse.",
    "fixed KL": "stop at {kl:g} nats, always. The number was the best one on the development seeds.",
    "last checkpoint": "do not stop. The proxy is at its highest.",
}
AGGREGATIONS = (
    ("mean", "mean"),
    ("worst_case", "worst case"),
    ("uncertainty_weighted", "mean − ½ variance"),
)


def snippets() -> dict[str, list[Snippet]]:
    """The code behind each section, with the line that matters."""
    return {
        "world": [snippet(world.make_world, "network_R = ", "liked_length_R =")],
        "learn": [snippet(preferences.preferred, "prefers_N: "), snippet(reward.fit_loss, "return")],
        "push": [snippet(policies.tilted, "weight_R = "), snippet(policies.optimise, "mean_PV[place]")],
        "blind": [snippet(reward.seen, "seen_U = ", "seen_C = ")],
        "variance": [snippet(trial.Trial.labels, "stream("), snippet(trial.Trial.visible, "stream(")],
        "ensemble": [
            snippet(ensembles.mean, "out: "),
            snippet(ensembles.worst_case, "out: "),
            snippet(ensembles.uncertainty_weighted, "out: "),
        ],
        "rounds": [snippet(rounds.run_rounds, "policy_R if fresh else None")],
        "forecast": [
            snippet(overoptimisation.columns, "d(α - β d)", "-(distance_P**2)", "-distance_P * logs"),
            snippet(extrapolation.forecast, "fits = "),
        ],
        "stops": [
            snippet(stopping.choices, '"pessimistic ensemble"'),
            snippet(stopping.turned_down, "argmax"),
        ],
        "play": [snippet(trial.Trial.curve, "aggregate"), snippet(trial.Trial.curve_of, "optimise(")],
    }


def static_charts(study: Study) -> dict[str, list[Chart]]:
    """What readers without scripts see: one position of the sliders."""
    few, noise, most = study.settings.few_pairs, study.settings.usual_noise, study.settings.members[-1]
    distance = study.settings.distance_P.tolist()
    blind = Recipe(few, noise)
    x_label, y_label = "√KL: how hard the policy was pushed", "deviations above the start"

    def line(name: str, values_P: Any, style: str, dashed: bool = False) -> Series:
        return Series(
            name, distance, np.asarray(values_P).tolist(), style=style, marker="none", dashed=dashed
        )

    def gold(recipe: Recipe) -> Any:
        return study.gold(recipe).mean(axis=1)

    proxy = line("proxy", study.proxy(blind).mean(axis=1), "proxy")
    seeds = [line(f"seed {one.seed}", one.curves[blind].gold_P, "gold") for one in study.seeds]
    members = [
        line("single", gold(blind), "reference", dashed=True),
        line("own runs", gold(replace(blind, members=most)), "gold"),
        line("one run", gold(replace(blind, members=most, shared=True)), "policy", dashed=True),
    ]
    size = (460, 320)
    return {
        "push": [
            line_chart(
                f"Proxy and gold, {few} pairs, mean of the seeds",
                x_label,
                y_label,
                [proxy, line("gold", gold(blind), "gold", dashed=True)],
                size=size,
            )
        ],
        "variance": [
            line_chart(
                f"Gold of each seed, {few} pairs",
                x_label,
                y_label,
                seeds[:1] + [replace(s, name="") for s in seeds[1:]],
                size=size,
            )
        ],
        "ensemble": [
            line_chart(f"Gold with {most} members, {few} pairs", x_label, y_label, members, size=size)
        ],
    }


def _controls(study: Study) -> dict[str, tuple[str, int, int]]:
    """Each slider's name, its first position and how many it has."""
    settings = study.settings
    return {
        "pairs": ("Pairs compared", settings.pairs.index(settings.few_pairs), len(settings.pairs)),
        "noise": ("How careful people are", settings.noise.index(settings.usual_noise), len(settings.noise)),
        "misspecification": (
            "Hidden from it",
            len(settings.misspecification) - 1,
            len(settings.misspecification),
        ),
        "members": ("Reward models", len(settings.members) - 1, len(settings.members)),
        "distance": ("Pressure", settings.points - 1, settings.points),
        "seed": ("Seed", typical(study), settings.seeds),
    }


def versions(study: Study, command: str, seconds: float) -> list[tuple[str, str]]:
    return [
        ("command", command),
        ("seeds", f"{study.seeds[0].seed} to {study.seeds[-1].seed}"),
        ("time", f"{seconds:.0f} s"),
        ("accord", accord.__version__),
        ("Python", platform.python_version()),
        ("numpy", np.__version__),
        ("scipy", scipy.__version__),
    ]


def _digest(text: str) -> str:
    """A content-policy source for one inline element."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def render(
    study: Study, findings: Sequence[Finding], figures: dict[str, Any], made: list[tuple[str, str]]
) -> str:
    """The page: no network request, no inline style, scripts by hash only."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "minus": lambda text: re.sub(r"(?<![\w.])-(?=\d)", "−", text)}
    style = (REPORT / "style.css").read_text(encoding="utf-8") + (HERE / "lab.css").read_text(
        encoding="utf-8"
    )
    script = "".join(
        (HERE / name).read_text(encoding="utf-8") for name in ("chart.js", "page.js", "sections.js")
    )
    settings = study.settings
    meaning = {
        "checkpoints": stopping.LABELLED,
        "labels": settings.checkpoint_labels,
        "watching": settings.members[-1] - 1,
        "kl": settings.fixed_kl,
    }
    return environment.get_template("page.html").render(
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)};"
        " base-uri 'none'; form-action 'none'",
        figures_json=json_for_script(figures),
        responses=f"{len(study.world.gold_R):,}",
        features=study.world.feature_RF.shape[1],
        contents=CONTENTS,
        controls=_controls(study),
        static=static_charts(study),
        snippets=snippets(),
        aggregations=AGGREGATIONS,
        members=settings.members,
        rules=[(name, text.format(**meaning)) for name, text in RULES.items()],
        seeds=[one.seed for one in study.seeds],
        findings=findings,
        dots=DOTS,
        typical=study.seeds[typical(study)].seed,
        versions=made,
        settings=dump(settings),
    )


def write(study: Study, out: Path, command: str, seconds: float) -> tuple[Path, list[Finding]]:
    """lab.html, lab.json and lab.csv in ``out``; returns the page's path and the six findings."""
    findings = acceptance(study)
    figures = page_figures(study)
    made = versions(study, command, seconds)
    document = {
        "made": dict(made),
        "settings": study.settings.model_dump(mode="json"),
        "acceptance": [finding.to_json() for finding in findings],
        "page": figures,
    }
    out.mkdir(parents=True, exist_ok=True)
    page = render(study, findings, figures, made)
    for name, text in (
        ("lab.html", page),
        ("lab.json", json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"),
        ("lab.csv", as_csv(study, findings)),
    ):
        part = out / f".{name}.part"
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(out / name)  # a reader sees the old file or the new one, never half of one
    return out / "lab.html", findings
