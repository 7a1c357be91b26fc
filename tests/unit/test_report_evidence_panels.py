"""The further panels show the findings' own figures, and are left out where nothing was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.diagnostics.drift_classifier import classifier_drift
from accord.diagnostics.drift_mmd import mmd_drift
from accord.diagnostics.drift_outliers import latent_outliers
from accord.diagnostics.ensemble_spread import ensemble_spread
from accord.diagnostics.entropy import entropy_shift
from accord.diagnostics.length import length_share
from accord.diagnostics.mode_collapse import mode_collapse
from accord.diagnostics.on_policy import on_policy_accuracy
from accord.diagnostics.overoptimisation import overoptimisation
from accord.diagnostics.pessimistic_selection import pessimistic_selection
from accord.diagnostics.policy_probes import Changes, policy_probes
from accord.diagnostics.seeds import seeds_finding
from accord.diagnostics.split_half import split_half, split_half_selection
from accord.diagnostics.style import style_reliance
from accord.diagnostics.style_features import FEATURES
from accord.records import Finding
from accord.report import build
from accord.report.artefacts import read
from accord.report.charts import show
from accord.report.evidence_panels import panels
from tests.unit.test_report import Page, edit, fake_run

TWICE = np.repeat(np.arange(40), 2)


def every_finding() -> list[Finding]:
    """Real findings of simulated data in which much is wrong."""
    rng = np.random.default_rng(0)
    d_P = np.linspace(0, 4, 9)
    trained = d_P[:, None] + rng.normal(0, 0.3, (9, 40))
    other = (d_P * (1 - 0.25 * d_P))[:, None] + rng.normal(0, 0.2, (9, 40))
    base, policy = rng.normal(size=(80, 6)), rng.normal(0.8, 1, size=(80, 6))
    members = (
        rng.normal(size=80) + rng.normal(0, 0.3, (4, 80)),
        rng.normal(size=80) + rng.normal(0, 0.6, (4, 80)),
    )
    size = np.abs(rng.normal(0, 2, 120))
    right = np.where(rng.random(120) < 0.8, size, -size)
    worse = np.where(rng.random(120) < 0.55, size, -size)
    length = rng.integers(5, 60, 80)
    features = rng.gamma(2, 1, (2, 80, len(FEATURES)))
    keys = [str(i) for i in TWICE]
    changes = [
        {"flattery": Changes(keys, rng.normal(shift, 1, 80)), "emoji": Changes(keys, rng.normal(size=80))}
        for shift in (-1, 1)
    ]
    return [
        overoptimisation(d_P**2, trained, other, gold_name="positivity", samples=200),
        split_half(d_P**2, trained, other, samples=200),
        split_half_selection(rng.normal(size=(40, 4)), rng.normal(size=(40, 4)), samples=200),
        pessimistic_selection(*rng.normal(size=(3, 40, 4)), samples=200),
        ensemble_spread(*members, TWICE, TWICE, samples=200),
        on_policy_accuracy(right, worse, np.arange(120), np.arange(120), samples=200),
        classifier_drift(base, policy, TWICE, TWICE, samples=200),
        latent_outliers(base, policy, TWICE, TWICE, samples=200),
        mmd_drift(base, policy, TWICE, TWICE, permutations=99),
        entropy_shift(rng.normal(2, 0.2, 80), rng.normal(1, 0.2, 80), TWICE, samples=200),
        length_share(rng.normal(size=80), rng.normal(1, 1, 80), length, length + 10, TWICE, samples=200),
        style_reliance(
            rng.normal(size=80), 2 * features[1][:, 3] + rng.normal(size=80), *features, TWICE, TWICE,
            list(FEATURES), samples=200,
        ),
        policy_probes(*changes, samples=200),
        mode_collapse([f"word{i} other{i}" for i in range(80)], ["the same <b>words</b>"] * 80, TWICE),
        seeds_finding({"demo": [0.61, 0.66, 0.72]}, what="the win rate", unit="share of samples", null=0.5),
    ]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = fake_run(tmp_path / "full", count=20)
    path = run / "round-0/findings.json"
    kept = [
        f
        for f in json.loads(path.read_text())["findings"]
        if f["name"] not in ("overoptimisation", "length_share")
    ]
    found = [finding.to_json() for finding in every_finding()]
    path.write_text(json.dumps({"findings": kept + found}))
    return run


def test_every_finding_has_its_panel_with_the_figures(run: Path) -> None:
    views: dict[str, Any] = {panel.anchor: panel for panel in panels(read(run).rounds[0])}
    assert list(views) == ["kl", "win", "second", "rm", "fresh", "drift", "length", "paid", "same", "seeds"]
    found = {f["name"]: f for f in json.loads((run / "round-0/findings.json").read_text())["findings"]}
    halves = views["second"].charts[0].data
    assert [one.value for one in halves if one.series == "second model"] == found["split_half"]["evidence"][
        "other"
    ]
    picked = next(one for one in views["second"].figures if one[0] == "pessimistic best of n")
    assert picked[1] == show(found["pessimistic_best_of_n"]["figure"])
    bins = found["on_policy_accuracy"]["evidence"]["bins"]
    fresh = [one for one in views["fresh"].charts[0].data if one.series == "fresh labels"]
    assert [one.value for one in fresh] == pytest.approx([100 * row["fresh_accuracy"] for row in bins])
    assert [one.x for one in fresh] == [row["margin"] for row in bins]
    style = {one.series: one for one in views["paid"].charts[0].data}
    row = next(r for r in found["style_reliance"]["evidence"]["features"] if r["name"] == "flattery")
    assert style["flattery, policy"].value == row["policy"]
    assert style["flattery, policy"].low == row["policy_interval"][0]
    probe = next(one for one in views["paid"].charts[1].data if one.series == "flattery")
    assert probe.value == found["policy_probes"]["evidence"]["probes"][0]["change"]
    assert "“the same <b>words</b>” to 40 prompts" in views["same"].note
    assert len(views["seeds"].charts[0].data) == 3
    length = [chart.title for chart in views["length"].charts]
    assert "Proxy by length of the answer" in length


def test_a_peak_is_drawn_with_its_curve_and_its_interval(run: Path) -> None:
    panel = panels(read(run).rounds[0])[0]
    evidence = next(
        f
        for f in json.loads((run / "round-0/findings.json").read_text())["findings"]
        if f["name"] == "overoptimisation"
    )["evidence"]
    assert evidence["peak"] == pytest.approx(2, abs=0.2)
    assert "The fitted curve of gold peaks at √KL = " in panel.note
    fit = [one for one in panel.charts[1].data if one.series.startswith("fit:")]
    assert len(fit) == 41
    best = max(fit, key=lambda one: one.value or 0.0)
    assert best.x == pytest.approx(evidence["peak"], abs=0.11)  # the grid's step


def test_the_page_shows_and_escapes_it(run: Path) -> None:
    page = Page(build(run).read_text())
    for words in (
        "A second reward model", "Fresh labels of the policy’s own samples", "How far it has moved",
        "What the score is paid for", "Does it say the same to everyone?", "Would another seed say so?",
        "“the same <b>words</b>” to 40 prompts", "Outside the run’s own 95% band:", "drift of the answers",
        "the reward model knows less of them",
    ):  # fmt: skip
        assert words in page.text, words
    assert (
        "Over 3 runs the win rate has an interquartile mean"
        in page.text.split("What should be done next?")[0]
    )


def test_without_gold_the_second_reward_model_answers_is_it_hacked(run: Path) -> None:
    path = run / "round-0/findings.json"
    found = json.loads(path.read_text())["findings"]
    for row in found:
        if row["name"] == "overoptimisation":
            row |= {"figure": None, "interval": None, "verdict": "unknown", "sentence": "There is no gold."}
    path.write_text(json.dumps({"findings": found}))
    edit(run / "round-0/curve.json", gold_name=None)
    first = Page(build(run).read_text()).text.split("What should be done next?")[0]
    assert "Is it hacked? ✕ Yes The reward model that was optimised moved by" in first


def test_nothing_measured_leaves_no_panel_and_odd_shapes_no_trace(run: Path) -> None:
    plain = fake_run(run.parent / "plain", count=5)
    anchors = [panel.anchor for panel in panels(read(plain).rounds[0])]
    assert anchors == ["kl", "win", "rm", "length"]
    path = run / "round-0/findings.json"
    found = json.loads(path.read_text())["findings"]
    for row in found:
        row["evidence"] = {
            "bins": [1],
            "features": {"x": 1},
            "modes": [],
            "values": 3,
            "distance": ["a"],
            "fits": 1,
        }
    path.write_text(json.dumps({"findings": found}))
    assert "How far it has moved" in Page(build(run).read_text()).text


def test_pessimistic_best_of_n_has_a_line_of_its_own_beside_plain_best_of_n(run: Path) -> None:
    points = [
        {"n": n, "kl": kl, "proxy": 0.1 * n, "gold": gold, "proxy_interval": None, "gold_interval": None}
        for n, kl, gold in ((1, 0.0, 0.0), (4, 0.64, 0.5))
    ]
    edit(
        run / "round-0/curve.json",
        best_of_n=points,
        best_of_n_pessimistic=[p | {"gold": 0.7} for p in points],
    )
    charts = panels(read(run).rounds[0])[0].charts
    drawn = {one.series: one for one in charts[1].data if one.x == pytest.approx(0.8)}
    assert drawn["best of n (n = 1 to 4)"].value == 0.5
    assert drawn["pessimistic best of n (n = 1 to 4)"].value == 0.7
    edit(run / "round-0/curve.json", best_of_n_pessimistic=[])
    names = {one.series for one in panels(read(run).rounds[0])[0].charts[1].data}
    assert not any(name.startswith("pessimistic") for name in names)
