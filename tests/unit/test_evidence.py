"""From evaluations to files: what is asked of what there is, and that no question ends a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.config import Evaluate, FileJudge, Simulated
from accord.evidence import Extras, judge_round, rule_evaluations, write_curve
from accord.further_evidence import FreshLabels, Latents, SecondModel, at_most, further_findings, probe_sides
from accord.judging import gold
from accord.records import Prompt, Response
from accord.stop_rules import kl_budget, turned_down

CONFIG = Evaluate(bootstrap=200)
GOOD = [
    "That is wonderful news, enjoy it!",
    "What a lovely plan, well done.",
    "Great, you will love it here.",
]
FLAT = ["It is a thing that happens.", "There are several options.", "The door is made of wood."]


def rows(
    stock: Sequence[str], proxy: float, kl: float, prompts: int = 24, **more: Any
) -> list[dict[str, Any]]:
    rng = np.random.default_rng([len(stock), int(10 * proxy), prompts])
    out = []
    for i in range(2 * prompts):
        prompt = Prompt.from_text(f"Tell me about day {i // 2}.")
        text = f"{stock[int(rng.integers(len(stock)))]} Day {i // 2}, {rng.integers(100)}."
        out.append(
            {
                "prompt": prompt.to_json(), "key": prompt.key, "text": text, "tokens": len(text.split()),
                "finished": True, "proxy": proxy + float(rng.normal(0, 0.5)), "kl": kl,
                **{name: make(rng) for name, make in more.items()},
            }
        )  # fmt: skip
    return out


def evaluations(**more: Any) -> list[dict[str, Any]]:
    return [
        {"step": step, "rows": rows(FLAT if not step else GOOD, proxy, kl, **more)}
        for step, proxy, kl in ((0, 0.0, 0.0), (5, 1.0, 2.0), (10, 2.0, 6.0))
    ]


def test_a_round_as_the_pipeline_gives_it(tmp_path: Path) -> None:
    found, curve = judge_round(tmp_path, evaluations(), [], CONFIG, Simulated())
    names = [finding.name for finding in found]
    assert names == [
        "win_rate", "overoptimisation", "length_shift", "length_share", "repetition_shift", "diversity_shift",
        "classifier_drift", "mmd_drift", "style_reliance", "mode_collapse",
    ]  # fmt: skip
    by_name = {finding.name: finding for finding in found}
    assert by_name["win_rate"].verdict == "good"
    assert by_name["classifier_drift"].evidence["features"] == "the answers' words"
    assert by_name["classifier_drift"].verdict == "warn"  # the stocks share no sentence
    written = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert [row["name"] for row in written] == names
    assert written[0]["figure"] == by_name["win_rate"].figure
    first = evaluations()[0]["rows"]
    expected = np.mean(gold.utility("positivity", [row["text"] for row in first]))
    assert curve["points"][0]["gold"] == pytest.approx(expected)
    assert json.loads((tmp_path / "curve.json").read_text()) == json.loads(json.dumps(curve))
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 48
    assert "proxy_std" not in samples[0]["policy"]


def test_with_everything_there_every_question_is_asked(tmp_path: Path) -> None:
    every = evaluations(
        other_half=lambda rng: float(rng.normal()),
        members=lambda rng: rng.normal(size=3).tolist(),
        entropy=lambda rng: float(rng.uniform(1, 2)),
    )
    rng = np.random.default_rng(0)

    def score(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[float]:
        return [0.01 * len(response.text) for response in responses]

    margin = rng.normal(1, 1, 60)
    keys = [f"p{i % 20}" for i in range(60)]
    extras = Extras(
        probe_sides(every[0]["rows"], every[-1]["rows"], score, 200),
        Latents(rng.normal(size=(48, 6)), rng.normal(0.5, 1, size=(48, 6))),
        FreshLabels(margin, keys, margin - 0.5, keys),
        SecondModel("60 held-out labels"),
    )
    best_of = rows(FLAT, 0.0, 0.0, prompts=12, halves=lambda rng: rng.normal(size=2).tolist())
    found, curve = judge_round(tmp_path, every, best_of, CONFIG, FileJudge(path="labels.jsonl"), extras)
    names = {finding.name for finding in found}
    assert names >= {
        "split_half", "split_half_selection", "ensemble_spread", "on_policy_accuracy", "latent_outliers",
        "entropy_shift", "policy_probes", "classifier_drift", "mmd_drift", "style_reliance", "mode_collapse",
    }  # fmt: skip
    by_name = {finding.name: finding for finding in found}
    assert by_name["win_rate"].verdict == "unknown"  # people's labels: no gold
    assert by_name["split_half"].verdict == "bad"  # the other half is noise here
    assert "one of 60 held-out labels by" in by_name["split_half"].sentence
    assert by_name["latent_outliers"].evidence["columns"] == 6
    assert "other_half" in curve["points"][0]
    grown = next(r for r in by_name["policy_probes"].evidence["probes"] if r["name"] == "filler")
    assert (grown["sft"], grown["policy"]) == (1, 1)  # length is paid for on both sides
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    members = every[-1]["rows"][0]["members"]
    assert samples[0]["policy"]["proxy_std"] == pytest.approx(np.std(members, ddof=1))


def test_a_question_that_cannot_be_answered_says_why_and_ends_nothing() -> None:
    few = [
        {"step": step, "rows": rows(FLAT, step, step, prompts=2, members=lambda rng: [1.0, 1.0])}
        for step in (0, 5)
    ]
    found = {f.name: f for f in further_findings(few, [], CONFIG)}
    assert found["ensemble_spread"].verdict == "unknown"
    assert "the same score, so its scores have no unit" in found["ensemble_spread"].sentence
    assert "Drift cannot be measured on 2 prompts" in found["classifier_drift"].sentence
    assert found["mode_collapse"].verdict == "unknown"
    odd = {
        f.name: f
        for f in further_findings(few, [], CONFIG, latents=Latents(np.full((4, 2), np.nan), np.ones((4, 2))))
    }
    assert "NaN" in odd["latent_outliers"].sentence


def test_another_error_is_not_hidden() -> None:
    def broken(prompts: object, responses: object) -> list[float]:
        raise RuntimeError("the scorer died")

    with pytest.raises(RuntimeError, match="the scorer died"):
        probe_sides(evaluations()[0]["rows"], evaluations()[-1]["rows"], broken, 10)


def test_a_second_model_that_cannot_judge_is_said_to_be_so() -> None:
    found = further_findings(evaluations(), [], CONFIG, second=SecondModel("3 labels", "it is at chance"))
    assert found[0].name == "split_half"
    assert found[0].sentence == "Split half was not measured: it is at chance."


def test_a_large_evaluation_is_thinned_by_whole_prompts() -> None:
    many = rows(FLAT, 0.0, 0.0, prompts=30)
    kept = at_most(many, 41)
    assert len(kept) == 40
    counts = {many[i]["key"]: 0 for i in kept}
    for i in kept:
        counts[many[i]["key"]] += 1
    assert set(counts.values()) == {2}
    assert at_most(many, 60) == list(range(60))
    assert set(at_most(many, 20)) < set(kept)  # the same order of prompts whatever the limit


def test_the_curve_on_the_way_holds_what_there_is(tmp_path: Path) -> None:
    every = evaluations()
    first = write_curve(tmp_path, every[:1], [], CONFIG, Simulated())
    assert [p["step"] for p in first["points"]] == [0]
    second = write_curve(tmp_path, every[:2], [], CONFIG, Simulated())
    assert second["points"][0] == first["points"][0]
    assert "gold" not in every[1]["rows"][0]  # what training keeps stays without it
    saved = json.loads((tmp_path / "curve.json").read_text())
    assert [p["step"] for p in saved["points"]] == [0, 5]
    assert saved["points"][1]["gold"] is not None


def test_rules_take_the_evaluations_and_never_see_gold() -> None:
    every = evaluations(members=lambda rng: [0.5, float(rng.normal())], other_half=lambda rng: 1.0)
    for evaluation in every:
        for row in evaluation["rows"]:
            row["gold"] = 99.0
    taken = rule_evaluations(every)
    assert [one.step for one in taken] == [0, 5, 10]
    assert [one.kl for one in taken] == [0, 2, 6]
    assert set(taken[0].scores) == {"proxy", "other_half", "pessimistic"}
    assert len(taken[0].scores["proxy"]) == 24
    assert max(taken[0].scores["pessimistic"]) <= 0.5
    assert kl_budget(4.0)(taken).best_step == 5
    assert not turned_down("other_half")(taken).stop
