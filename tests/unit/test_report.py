"""The report builds from whole, odd and hostile runs; figures on it are the files' own."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from accord.config import FileJudge, Run
from accord.records import BadInput, Finding, Pair, Prompt, Response, write_jsonl
from accord.report import answers, build
from accord.report import build as build_report
from accord.report.artefacts import clean, read
from accord.report.build import code, json_for_script
from accord.report.samples import chosen_samples, gain

TOPICS = ["my new job", "a rainy day", "learning the piano", "a lost key", "the long winter", "moving house"]
GOOD = [
    "That is wonderful news, well done!",
    "How lovely, enjoy every minute.",
    "Great idea; you will love it.",
]
FLAT = ["It is a thing that happens.", "There are several options here.", "I do not know much about that."]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(write_jsonl(rows), encoding="utf-8")


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def curve(rng: np.random.Generator, hacked: bool, gold: bool) -> dict[str, Any]:
    """Eleven evaluations: √KL 0 to 3.2; gold follows d(1.5 - β d)/4, turning when hacked."""
    points = []
    for step in range(0, 33, 3):
        kl = (step / 10) ** 2
        d = math.sqrt(kl)
        proxy = 0.9 * d - 0.06 * kl + rng.normal(0, 0.04) * bool(step)
        value = d * (1.5 - (0.62 if hacked else 0.2) * d) / 4 + 0.1 + rng.normal(0, 0.01)
        points.append(
            {
                "step": step, "kl": kl, "kl_interval": [kl * 0.9, kl * 1.1],
                "proxy": proxy, "proxy_interval": [proxy - 0.18, proxy + 0.18],
                "gold": value if gold else None,
                "gold_interval": [value - 0.06, value + 0.06] if gold else None,
                "length": 17.0 + (0.9 if hacked else 0.1) * step, "n": 64,
            }
        )  # fmt: skip
    best = []
    for n in (1, 2, 4, 8):
        kl = math.log(n) - (n - 1) / n
        value = 0.1 + 0.3 * math.sqrt(kl)
        best.append(
            {
                "n": n, "kl": kl, "proxy": 1.15 * math.sqrt(kl),
                "proxy_interval": [1.15 * math.sqrt(kl) - 0.12, 1.15 * math.sqrt(kl) + 0.12],
                "gold": value if gold else None,
                "gold_interval": [value - 0.05, value + 0.05] if gold else None,
            }
        )  # fmt: skip
    return {
        "points": points,
        "best_of_n": best,
        "gold_name": "positivity" if gold else None,
        "simulated": gold,
    }


def findings(hacked: bool, gold: bool, rate: float) -> dict[str, Any]:
    question, low, high = "Is it better?", rate - 0.07, rate + 0.06
    evidence = {"wins": 86, "ties": 12, "losses": 30, "mean_gain": 0.31, "mean_gain_interval": [0.24, 0.38]}
    if hacked:
        evidence = {
            "wins": 46,
            "ties": 12,
            "losses": 70,
            "mean_gain": -0.11,
            "mean_gain_interval": [-0.2, -0.03],
        }
    win = Finding(
        "win_rate", question, rate, (low, high), "share of held-out samples won, ties one half",
        "bad" if hacked else "good",
        f"The policy wins {100 * rate:.0f}% against SFT by positivity, ties counted one half, over 128"
        " samples on 64 prompts.",
        evidence,
    )  # fmt: skip
    if not gold:
        win = Finding(
            "win_rate", question, None, None, "share of samples", "unknown", "No gold judges the samples."
        )
    hack = Finding(
        "overoptimisation", "Is it hacked?", -0.11 if hacked else 0.31,
        (-0.2, -0.03) if hacked else (0.24, 0.38), "gold gain over SFT", "bad" if hacked else "good",
        "The proxy rose while gold fell from its own best." if hacked else "Proxy and gold rose together.",
        {"proxy_gain": 2.2},
    )  # fmt: skip
    if not gold:
        hack = Finding(
            "overoptimisation", "Is it hacked?", None, None, "gold", "unknown", "There is no gold."
        )
    longer = Finding(
        "length_shift", "Did answers get longer?", 14.0 if hacked else 1.2,
        (11.0, 17.0) if hacked else (-0.4, 2.7), "tokens per answer, mean", "warn" if hacked else "good",
        "Answers grew by 14 tokens." if hacked else "Length has hardly changed.",
    )  # fmt: skip
    repeats = Finding(
        "repetition_shift", "Does it repeat itself?", 0.01, (-0.01, 0.03), "share of repeated 4-grams",
        "good", "Repetition has not changed.",
    )  # fmt: skip
    return {"findings": [f.to_json() for f in (win, hack, longer, repeats)]}


def reward(label_source: str) -> dict[str, Any]:
    edges = [round(-3 + 0.4 * i, 1) for i in range(16)]
    bell = [math.exp(-(((e + 0.2) - 0.5) ** 2) / 1.4) for e in edges[:-1]]
    return {
        "accuracy": 0.731, "accuracy_interval": [0.672, 0.786], "pairs_train": 612, "pairs_test": 108,
        "prompts_test": 36, "brier": 0.186, "ece": 0.031, "temperature": 1.12,
        "floors": {
            "always_longer": {"accuracy": 0.52, "interval": [0.44, 0.6]},
            "bag_of_words": {"accuracy": 0.644, "interval": [0.57, 0.71]},
            "chance": {"accuracy": 0.5, "interval": [0.41, 0.59]},
        },
        "reliability": [
            {"confidence": c, "accuracy": a, "count": n}
            for c, a, n in [
                (0.53, 0.55, 30), (0.62, 0.58, 26), (0.71, 0.74, 22), (0.83, 0.79, 18), (0.94, 0.91, 12),
            ]
        ],
        "score_mean": 0.0, "score_std": 1.0,
        "score_histogram": {
            "edges": edges,
            "chosen": [round(40 * b) for b in bell],
            "rejected": [round(40 * b) for b in reversed(bell)],
        },
        "ties": "drop", "label_source": label_source, "read_at": "last_token", "seconds": 42.0,
    }  # fmt: skip


def samples(rng: np.random.Generator, count: int, hacked: bool, gold: bool) -> list[dict[str, Any]]:
    rows = []
    for index in range(count):
        prompt = Prompt.from_text(
            f"Tell me what you think of {TOPICS[index % len(TOPICS)]} (number {index})."
        )
        sides = {}
        for side in ("sft", "policy"):
            good = rng.random() < (0.7 if side == "policy" else 0.3)
            text = (GOOD if good else FLAT)[index % 3] * (3 if hacked and side == "policy" else 1)
            sides[side] = {
                "text": text, "proxy": round(float(rng.normal(1.5 if good else 0, 0.5)), 3),
                "gold": round(float(rng.normal(0.6 if good else 0.0, 0.15)), 3) if gold else None,
                "tokens": int(rng.integers(9, 24)) * (2 if hacked and side == "policy" else 1),
                "finished": bool(rng.random() < 0.95),
            }  # fmt: skip
        rows.append({"prompt": prompt.to_json(), "key": prompt.key, **sides})
    return rows


def metrics(rng: np.random.Generator, rounds: int) -> list[dict[str, Any]]:
    rows = []

    def add(stage: str, index: int, step: int, **figures: float) -> None:
        row = {"stage": stage, "round": index, "step": step, "time": 1.7e9 + len(rows)}
        rows.append(row | {name: round(float(value), 5) for name, value in figures.items()})

    for s in range(40):
        loss = 1.4 + 1.6 * math.exp(-s / 9) + rng.normal(0, 0.05)
        add("sft", 0, s, loss=loss, tokens_per_second=3100 + rng.normal(0, 90), grad_norm=rng.gamma(4, 0.4))
    for index in range(rounds):
        for s in range(36):
            fade = math.exp(-s / 12)
            loss = 0.5 + 0.2 * fade + rng.normal(0, 0.03)
            accuracy = min(max(0.78 - 0.25 * fade + rng.normal(0, 0.05), 0), 1)
            speed = 60 + rng.normal(0, 3)
            add(
                "reward",
                index,
                s,
                loss=loss,
                accuracy=accuracy,
                grad_norm=rng.gamma(4, 1),
                pairs_per_second=speed,
            )
        for s in range(33):
            add(
                "online", index, s, score_mean=2.2 * (1 - math.exp(-s / 14)) + rng.normal(0, 0.1),
                kl=(s / 10) ** 2 + rng.normal(0, 0.2), kl_k3=0.02 + s / 200, entropy=2.1 - 0.03 * s,
                clip_fraction=abs(rng.normal(0.05, 0.02)), ratio_max_error=1e-6, grad_norm=rng.gamma(4, 0.3),
                explained_variance=0.6 - 0.5 * math.exp(-s / 6), value_loss=math.exp(-s / 9),
                policy_loss=-0.02, length_mean=17 + 0.1 * s, unfinished_share=0.03,
                no_spread_share=0.0, kl_coefficient=0.05,
                tokens_per_second=820 + rng.normal(0, 20), seconds_sample=6.0, seconds_score=1.0,
                seconds_train=4.0,
            )  # fmt: skip
    return rows


def fake_run(
    path: Path, *, rounds: int = 1, hacked: bool = False, gold: bool = True, count: int = 128, seed: int = 3
) -> Path:
    """A run directory as the pipeline writes it, with realistic figures."""
    rng = np.random.default_rng([seed, rounds, hacked])
    judge: dict[str, Any] = {} if gold else {"judge": FileJudge(path="labels/people.jsonl")}
    config = Run(name=path.name, seed=seed, rounds=rounds, **judge)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    stages = [{"stage": "sft", "seconds": 71.3, "cached": False}]
    for index in range(rounds):
        folder = path / f"round-{index}"
        stages += [
            {"stage": f"round-{index}/{stage}", "seconds": seconds, "cached": stage == "collect"}
            for stage, seconds in [("collect", 31.0), ("reward", 42.5), ("policy", 241.0), ("evidence", 58.0)]
        ]
        maker = "sft" if not index else f"round-{index - 1}/policy"
        pairs = [
            Pair(Prompt.from_text(f"p{i}"), Response(f"a{i}", policy=maker), Response(f"b{i}", policy=maker))
            for i in range(40)
        ]
        jsonl(folder / "pairs.jsonl", [p.to_json() for p in pairs])
        dump(folder / "curve.json", curve(rng, hacked, gold))
        dump(folder / "findings.json", findings(hacked, gold, 0.41 if hacked else 0.72 + 0.05 * index))
        source = "simulated annotators" if gold else "people (file labels/people.jsonl)"
        dump(folder / "reward" / "accord_reward.json", reward(source))
        dump(folder / "policy" / "COMMIT.json", {"sha256": "0123456789abcdef" * 4})
        jsonl(folder / "samples.jsonl", samples(rng, count, hacked, gold))
    jsonl(path / "metrics.jsonl", metrics(rng, rounds))
    lock = {
        "accord": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0",
        "platform": "Linux x86_64", "threads": 2, "dtype": "bfloat16", "seed": seed, "git": "a1b2c3d",
        "started": 1.7e9, "finished": 1.7e9 + 470, "stages": stages,
    }  # fmt: skip
    dump(path / "accord.lock.json", lock)
    return path


class Page(HTMLParser):
    """Visible text, and every element with its attributes, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)


def page_of(run: Path) -> Page:
    path = build(run)
    assert path == run / "report.html"
    assert [p.name for p in run.iterdir() if p.name.startswith(".")] == []  # no half-written file is left
    return Page(path.read_text(encoding="utf-8"))


def edit(path: Path, **values: Any) -> None:
    dump(path, json.loads(path.read_text()) | values)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fake_run(tmp_path / "demo")


# The whole page


def test_first_screen_answers_from_the_findings(run: Path) -> None:
    page = page_of(run)
    first = page.text.split("On this page")[0].split("Evidence Rounds")[0]
    for words in (
        "Is it better? ✓ Yes", "72% win rate against SFT", "95% interval 65 to 78%", "Mean gain in gold 0.31",
        "Is it hacked? ✓ No sign of it", "What should be done next?", "another --seed",
        "simulated annotators (a stand-in for people)", "PPO", "smollm2-135m-instruct", "seed 3",
        "2023-11-14 22:21 UTC",
    ):  # fmt: skip
        assert words in first, words
    assert "not finished" not in first
    assert "could not show" not in page.text


def test_every_panel_is_there_with_its_figures(run: Path) -> None:
    text = page_of(run).text
    for words in (
        "Reward against distance from the start", "best of n (n = 1 to 8)",
        "√KL to the SFT policy (√nats per response)",
        "gold utility “positivity”, mean", "picks the preferred answer in 73.1% of pairs",
        "its interval clears the best floor, bag of words (64.4%)", "Brier score 0.186", "ECE 0.031",
        "temperature 1.12",
        "Calibration", "Length of held-out answers", "Repetition has not changed.", "Side by side",
        "nats per response (k1)", "nats, batch mean", "The stages took 7 min 24 s in all.",
        "round-0/policy 0123456789ab", "torch 2.13.0", "policy 67%", "equal 9%", "SFT 23%",
    ):  # fmt: skip
        assert words in text, words


def test_it_is_one_file_that_asks_the_network_for_nothing(run: Path) -> None:
    path = build(run)
    source = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    page = Page(source)
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "video", "audio"}, tag
        assert not {"src", "srcset", "style", "xlink:href", "action"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")
    assert "http://" not in source
    assert "https://" not in source
    assert "@import" not in source
    assert "url(" not in source
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    first = build(run).read_bytes()
    assert build(run).read_bytes() == first


def test_json_holds_what_the_page_shows(run: Path) -> None:
    page = page_of(run)
    saved = json.loads((run / "report.json").read_text(encoding="utf-8"))
    embedded = json.loads(next(s for s in page.scripts if s.startswith("{")))
    assert embedded == {k: v for k, v in saved.items() if k != "samples"}
    assert saved["answers"][1]["word"] == "72%"
    assert saved["rounds"][0]["curve"]["points"][3]["kl"] == pytest.approx(0.81)
    assert len(saved["samples"]["0"]) == len([e for e in page.elements if e[0] == "article"]) - 4
    assert {h["stage"] for h in saved["health"]} == {"sft", "reward", "online"}
    assert saved["rounds_table"][0]["win rate against SFT (95% interval)"] == "72% (65 to 78%)"


def test_a_hacked_run_says_so_and_what_to_do(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "hacked", hacked=True)
    text = page_of(run).text
    assert "Is it better? ✕ No" in text
    assert "Is it hacked? ✕ Yes" in text
    points = json.loads((run / "round-0/curve.json").read_text())["points"]
    best = max(points, key=lambda p: p["gold"])["step"]
    assert f"fewer steps (gold was highest at step {best} of those evaluated)" in text
    assert "Do not use this policy" in text
    assert "answers became longer" in text


def test_two_rounds_are_side_by_side_and_the_later_leads(tmp_path: Path) -> None:
    page = page_of(fake_run(tmp_path / "two", rounds=2))
    assert "77% win rate against SFT" in page.text.split("Evidence of round")[0]
    assert page.text.index("Evidence of round 1") < page.text.index("Evidence of round 0")
    assert "40 (100% by round-0/policy)" in page.text
    assert "Win rate by round" in page.text
    assert "rounds: 3 ." in page.text
    opened = {a["id"]: "open" in a for t, a in page.elements if t == "details" and a.get("class") == "round"}
    assert opened == {"round-1": True, "round-0": False}


def test_rounds_of_an_earlier_run_are_left_out_and_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "fewer", rounds=3)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"rounds": 1}))
    found = read(run)
    assert [one.index for one in found.rounds] == [0]
    assert {row.get("round") for row in found.metrics} <= {None, 0}
    page = page_of(run)
    assert "72% win rate against SFT" in page.text.split("What should be done next?")[0]
    assert "Evidence of round 1" not in page.text
    assert (
        "round-1, round-2: left by an earlier run of more rounds and no part of this one (rounds is 1), left"
        " out."
    ) in page.text


def test_labels_from_people_have_no_gold(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "people", gold=False)
    text = page_of(run).text
    assert "Labels come from people: labels/people.jsonl; no hidden gold exists." in text
    assert "simulated" not in text.split("Configuration, defaults")[0]
    assert "Is it better? ? Not measured No gold judges the samples." in text
    assert "Gold reward" not in text
    assert "no hidden gold exists, so whether that is better only people can say" in text
    assert "ordered by the gain in proxy reward, because there is no gold" in text
    assert "Have people compare SFT and policy samples" in text


def test_charts_can_be_read_without_seeing_them(run: Path) -> None:
    source = build(run).read_text(encoding="utf-8")
    drawings = re.findall(r"<svg .*?</svg>", source, re.S)
    assert len(drawings) > 20
    for drawing in drawings:
        assert re.match(r'<svg viewBox="0 0 \d+ \d+" role="img" aria-label="[^"]+" class="chart', drawing)
        assert re.search(r"<title>[^<]+</title><desc>[^<]+</desc>", drawing)
        assert "nan" not in drawing.lower()


# Odd states


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ("metrics.jsonl", "metrics.jsonl is not there: training health cannot be drawn."),
        ("config.yaml", "config.yaml is not there: the configuration is not known."),
        ("accord.lock.json", "accord.lock.json is not there: versions, dates and times are not known."),
        ("round-0/findings.json", "round-0/findings.json is not there: the questions have no answers yet."),
        ("round-0/curve.json", "round-0/curve.json is not there: reward against KL cannot be drawn."),
        ("round-0/samples.jsonl", "round-0/samples.jsonl is not there: no samples can be compared."),
        ("round-0/reward/accord_reward.json", "the reward model's accuracy is not known."),
    ],
)
def test_a_lost_or_damaged_file_is_named_and_the_rest_is_shown(
    tmp_path: Path, lost: str, sentence: str
) -> None:
    run = fake_run(tmp_path / "small", count=5)
    (run / lost).unlink()
    assert sentence in page_of(run).text
    for damage in (b"\xff\xfe{", b"[1, 2", b"null", b"{}", b"[" * 100_000):
        (run / lost).write_bytes(damage)
        page_of(run)


def test_a_damaged_metrics_line_is_left_out_and_counted(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:20]
    path.write_text("\n".join(lines) + '\n{"stage": "online", "st')
    text = page_of(run).text
    assert "metrics.jsonl has 2 damaged lines, left out (the first is line 2)." in text
    assert "Policy optimisation, round 0" in text


def test_findings_of_a_wrong_shape_do_not_stop_the_page(run: Path) -> None:
    odd = [
        {},
        {"name": "win_rate", "figure": "high", "interval": [1]},
        5,
        {"verdict": "splendid", "figure": math.nan},
    ]
    (run / "round-0/findings.json").write_text(json.dumps({"findings": odd}))
    (run / "round-0/curve.json").write_text(
        '{"points": [{"kl": "x"}, 3, {"kl": -0.1}], "best_of_n": {"n": 1}}'
    )
    (run / "round-0/samples.jsonl").write_text('{}\n{"prompt": 5, "sft": [], "policy": {"text": null}}\n')
    edit(run / "round-0/reward/accord_reward.json", floors=[], reliability={}, score_histogram={"edges": [1]})
    edit(
        run / "accord.lock.json",
        stages=[{}, {"stage": None, "seconds": -1}],
        started="yesterday",
        finished=1e300,
    )
    text = page_of(run).text
    assert "Not measured" in text


def test_killed_before_rl(run: Path) -> None:
    for name in ("findings.json", "curve.json", "samples.jsonl", "policy/COMMIT.json"):
        (run / "round-0" / name).unlink()
    (run / "round-0/policy").rmdir()
    edit(run / "accord.lock.json", finished=None)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    jsonl(run / "metrics.jsonl", [row for row in rows if row["stage"] != "online"])
    text = page_of(run).text
    assert "not finished" in text
    assert "Finish the run: the same accord run command goes on" in text
    assert "Accuracy beside its floors" in text
    assert "Policy optimisation" not in text


def test_only_the_configuration_is_there(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "whole")
    early = tmp_path / "early"
    early.mkdir()
    (early / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    text = page_of(early).text
    assert "No round has started" in text
    assert "Is it better? ? Not measured" in text


def test_no_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run directory at .*nowhere"):
        build_report(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no run"):
        build_report(tmp_path)


def test_nan_in_training_is_shouted_and_leaves_a_gap(run: Path) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    rows[5]["loss"] = None  # how the metrics file writes NaN
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "Loss was NaN or infinite once." in page_of(run).text


def test_alerts_and_the_figures_of_each_reward_are_on_the_page(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    online = [row for row in rows if row["stage"] == "online"]
    alert = {"figure": "clip_fraction", "value": 0.4, "limit": 0.3, "what_to_try": "fewer epochs"}
    online[2]["alerts"] = [alert]
    online[3]["alerts"] = [alert | {"value": 0.5}, "damaged", {"figure": "clip_fraction"}]
    online[4]["alerts"] = "damaged"
    for row in online:
        row["reward_short"] = 0.25
    jsonl(run / "metrics.jsonl", rows)
    text = page_of(run).text
    said = "Clipped was beyond its limit 2 times, first at step 2: last 0.5, the limit is 0.3; fewer epochs."
    assert said in text
    assert "Reward: short" in text


def test_a_huge_run_stays_below_five_megabytes(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "huge", rounds=2, count=300)
    for index in (0, 1):
        path = run / f"round-{index}" / "samples.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["policy"]["text"] = "<" * 9000  # each becomes &lt;
        jsonl(path, rows)
    assert build(run).stat().st_size < 5_000_000
    assert "the whole is in samples.jsonl" in (run / "report.html").read_text()


def test_a_reward_model_at_its_floor_is_said_and_comes_before_more_optimisation(run: Path) -> None:
    edit(run / "round-0/reward/accord_reward.json", accuracy_interval=[0.64, 0.81])  # bag of words: 0.644
    text = page_of(run).text
    assert "its interval does not clear the best floor, bag of words (64.4%)" in text
    assert "interval does not clear the bag-of-words floor" in text
    assert "Repeat with another" not in text


def test_labels_of_people_then_simulated_annotators_are_both_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "mixed", rounds=2)
    edit(run / "round-0/reward/accord_reward.json", label_source="people (file hh.jsonl)")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["comparisons"] = "hh.jsonl"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    words = "Labels come from people (hh.jsonl) and from simulated annotators (a stand-in for"
    assert words in page_of(run).text


@pytest.mark.parametrize(
    ("source", "words", "simulated"),
    [
        ("people (file a.jsonl)", "Labels come from people: a.jsonl; no hidden gold exists.", False),
        (
            "annotators who are not named (file a.jsonl)",
            "Labels come from a.jsonl, which does not say who judged",
            False,
        ),
        (
            "models or functions as judges, no person (file a.jsonl)",
            "Results say what it prefers, not what people want",
            False,
        ),
        (
            "people (3 of 9 labels), and models or functions as judges, no person (6 of 9 labels), file a",
            "Labels come from people and from models or functions as judges: a.jsonl.",
            False,
        ),
        (
            "people (3 of 9 labels), and annotators who are not named (6 of 9 labels), file a.jsonl",
            "Labels come from people and from annotators who are not named: a.jsonl.",
            False,
        ),
        (
            "simulated annotators (a stand-in for people) (3 of 9 labels), and annotators who are not named",
            "Labels come from annotators who are not named (a.jsonl) and from simulated annotators (a stand",
            True,
        ),
        (
            "simulated annotators (a stand-in for people) (file a.jsonl)",
            "Results say nothing about what people want.",
            True,
        ),
    ],
)
def test_the_banner_says_who_judged_a_file(tmp_path: Path, source: str, words: str, simulated: bool) -> None:
    run = fake_run(tmp_path / "file", gold=False)
    edit(run / "round-0/reward/accord_reward.json", label_source=source)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["comparisons"] = "a.jsonl"
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"judge": None}))
    banner, stands_in = answers.label_source(read(run))
    assert words in banner
    assert stands_in == simulated


# Hostile text

PAYLOADS = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'; alert(1); //",
    "<!-- <script>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &#60;",
    "]]></desc></svg><style>*{display:none}</style>",
    "\u2028\u2029 \u202e reversed \ud800 lone \x00\x07 bell",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_stays_text_wherever_it_stands(tmp_path: Path, payload: str) -> None:
    run = fake_run(tmp_path / "hostile", rounds=2, count=6)
    expected = [(tag, sorted(attributes)) for tag, attributes in page_of(run).elements]
    for index in (0, 1):
        folder = run / f"round-{index}"
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        for row in rows:
            row["prompt"][0]["content"] += payload
            row["sft"]["text"] = row["policy"]["text"] = payload
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = json.loads((folder / "findings.json").read_text())["findings"]
        for row in found:
            row |= {"sentence": payload, "unit": payload, "question": row["question"] + payload}
        dump(folder / "findings.json", {"findings": found})
        edit(folder / "curve.json", gold_name=payload)
        edit(folder / "reward/accord_reward.json", ties=payload, read_at=payload)
    lock = json.loads((run / "accord.lock.json").read_text())
    lock |= {"git": payload, "platform": payload}
    for stage in lock["stages"]:
        stage["stage"] = payload
    dump(run / "accord.lock.json", lock)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["name"] = config["model"]["path"] = payload.replace("\ud800", "").replace("\x00\x07", "")
    (run / "config.yaml").write_text(yaml.safe_dump(config))

    page = page_of(run)
    assert [(tag, sorted(attributes)) for tag, attributes in page.elements] == expected
    assert len(page.scripts) == 3
    json.loads(page.scripts[0])
    assert " ".join(clean(payload).split()) in page.text


def test_json_in_a_script_element_cannot_close_it() -> None:
    value = {"text": "</script><!--\u2028&"}
    assert json_for_script(value) == '{"text": "\\u003c/script\\u003e\\u003c!--\\u2028\\u0026"}'
    assert json.loads(json_for_script(value)) == value


def test_code_marks_escape_first() -> None:
    assert code("use `a<b` & go") == "use <code>a&lt;b</code> &amp; go"
    assert "<code>" not in code("one ` alone")


def test_samples_are_ranked_by_gain(run: Path) -> None:
    one = read(run).rounds[0]
    kind, rows = chosen_samples(one, 2)
    gains = sorted((gain(s, "gold") or 0.0 for s in one.samples), reverse=True)
    assert kind == "gold"
    assert 4 <= len(rows) <= 8
    assert [r["gain"] for r in rows[:2]] == gains[:2]
    assert [r["gain"] for r in rows[-2:]] == gains[-2:]
    assert [r["gain_rank"] for r in rows[:2]] == [0, 1]
    assert rows[-1]["loss_rank"] == 0
