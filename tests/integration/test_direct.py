"""Direct methods and rejection sampling in the whole loop: every recipe, rounds, judged answers, SIGKILL."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from accord import config, direct_round, inputs, models, pipeline
from accord.config import Run
from accord.records import BadInput, Comparison, Pair
from accord.workspace import Workspace

from .killed import after_step, kill
from .test_loop import bytes_of

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "algorithms").glob("*.yaml"))
TINY = {
    "weights": {"train": "top", "top_layers": 2},
    "optimizer": {"learning_rate": 1e-3},
    "sampling": {"max_new_tokens": 6},
    "evaluate_every": 2,
    "checkpoint_seconds": 0,
}


def tiny(section, **changes):
    """A recipe's section with the sizes of the tiny model; what makes the algorithm stays."""
    sizes = (
        {"pairs_per_step": 8} if "algorithm" in section else {"tokens_per_step": 200, "samples_per_prompt": 3}
    )
    return section | TINY | sizes | changes


def run_of(settings, **sections):
    return config.validate(Run, settings | sections)


@pytest.fixture
def prepared(settings, tmp_path):
    """A folder with everything that comes before the policy."""
    out = tmp_path / "prepared"
    pipeline.run(config.validate(Run, settings), out, quiet=True, until="reward")
    return out


def test_every_recipe_trains_a_policy_from_the_same_labels(settings, prepared, tmp_path):
    """The stage alone: the loop around it is the next test's."""
    found = {path.stem: config.load(path) for path in RECIPES}
    chosen = {name: run for name, run in found.items() if run.policy_stage[0] != "online"}
    assert set(chosen) >= {"dpo", "ipo", "kto", "orpo", "simpo", "rejection_sampling"}
    run = config.validate(Run, settings)
    read = inputs.read_inputs(run)
    pairs = [json.loads(line) for line in (prepared / "round-0/pairs.jsonl").read_text().splitlines()]
    labels = [Comparison(Pair.from_json(pair), "a" if i % 2 else "b") for i, pair in enumerate(pairs)]
    tokenizer = models.load_tokenizer(run.model, str(prepared / "sft"))
    seen = set()
    for name, recipe in chosen.items():
        stage, section = recipe.policy_stage
        given = tiny(section.model_dump(mode="json", exclude_unset=True))
        changed = run_of(settings, **{stage: given})
        material = direct_round.material(changed, labels, read, read.train_prompts, read.test_prompts[:4])
        work = Workspace(stage, changed.seed, 0, tmp_path / name, name, quiet=True)
        folders = prepared / "sft", prepared / "round-0/reward", tmp_path / "reference"
        policy, made = direct_round.optimise(changed, material, *folders, tokenizer, torch.float32, work)
        start, end = made["evaluations"][0], made["evaluations"][-1]
        assert sum(row["kl"] for row in start["rows"]) == pytest.approx(0, abs=1e-4), name
        assert end["step"] > 0, name
        names = [finding["name"] for finding in made["findings"]]
        assert names == (["implicit_accuracy", "likelihood_shift"] if stage == "direct" else []), name
        weights = policy.model.layers[-1].mlp.down_proj.weight.detach().numpy().tobytes()
        assert weights not in seen, name
        seen.add(weights)
    assert len(list((tmp_path / "reference").iterdir())) == 2  # pairs; KTO's with answers to other prompts


def test_two_rounds_of_dpo_then_everything_is_cached(settings, tmp_path):
    run, out = run_of(settings, direct=tiny({"algorithm": "dpo"}), rounds=2), tmp_path / "run"
    result = pipeline.run(run, out, quiet=True)
    pairs = [json.loads(line) for line in (out / "round-1/pairs.jsonl").read_text().splitlines()]
    assert {p["a"]["policy"] for p in pairs} == {"round-0"}
    report = (out / "report.html").read_text()
    assert "What the policy learned from pairs" in report
    assert "DPO" in report
    before = bytes_of(out)
    again = pipeline.run(run, out, quiet=True)
    assert all(s["cached"] for s in json.loads((out / "accord.lock.json").read_text())["stages"])
    assert bytes_of(out) == before
    assert [f.to_json() for f in again.findings][-1]["name"] == "likelihood_shift"
    assert len(again.findings) == len(result.findings)


def answers(path, kinds):
    rows = [
        {"prompt": f"question {i}", "completion": f"{text} {i}", "label": good}
        for i in range(12)
        for text, good in kinds(i)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_kto_learns_from_answers_that_have_no_partner(settings, tmp_path):
    settings |= {"judge": None, "sft": None, "direct": tiny({"algorithm": "kto"})}
    both = [("yes yes", True), ("no", False)]
    file = answers(tmp_path / "judged.jsonl", lambda i: both if i < 9 else both[:1])
    settings["data"] = settings["data"] | {"comparisons": file}
    result = pipeline.run(config.validate(Run, settings), tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert result.reward["pairs_train"] + result.reward["pairs_test"] == 9
    steps = [row for row in rows if row["stage"] == "direct"]
    trained = 21 - 2 * result.reward["pairs_test"]
    assert len(steps) == -(-trained // 8)
    assert "kl_baseline" in steps[0]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (lambda i: [("yes", True)], "has both a good and a bad answer.*or a judge that labels"),
        (lambda i: [("yes", bool(i % 2))], "has both a good and a bad answer"),
    ],
)
def test_kto_without_any_pair_is_refused_before_anything(settings, tmp_path, kinds, expected):
    settings |= {"judge": None, "sft": None, "direct": {"algorithm": "kto"}}
    settings["data"] = settings["data"] | {"comparisons": answers(tmp_path / "judged.jsonl", kinds)}
    with pytest.raises(BadInput, match=expected):
        pipeline.run(config.validate(Run, settings), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_kto_learns_from_thumbs_alone_where_a_judge_labels_pairs_for_the_reward_model(settings, tmp_path):
    """No prompt has answers of both kinds: the policy learns from all of them, its proxy from the judge."""
    settings |= {"sft": None, "direct": tiny({"algorithm": "kto"})}
    file = answers(tmp_path / "judged.jsonl", lambda i: [("yes", bool(i % 2))])
    settings["data"] = settings["data"] | {"comparisons": file}
    result = pipeline.run(config.validate(Run, settings), tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert len([row for row in rows if row["stage"] == "direct"]) == -(-12 // 8)
    assert result.reward["label_source"] == "simulated annotators (a stand-in for people)"
    pairs = (tmp_path / "run/round-0/pairs.jsonl").read_text().splitlines()
    assert {json.loads(line)["a"]["policy"] for line in pairs} == {"sft"}


def test_ties_alone_are_refused_before_anything(settings, tmp_path):
    rows = [{"prompt": f"q {i}", "a": "yes", "b": "no", "verdict": "tie"} for i in range(12)]
    (tmp_path / "ties.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings |= {"judge": None, "sft": None, "direct": {"algorithm": "dpo"}}
    settings["data"] = settings["data"] | {"comparisons": str(tmp_path / "ties.jsonl")}
    with pytest.raises(BadInput, match=r"all 12 comparisons are ties and direct\.ties is drop"):
        pipeline.run(config.validate(Run, settings), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["direct", "rejection"])
def test_killed_and_resumed_equals_uninterrupted(settings, tmp_path, prepared, stage):
    section = {"direct": tiny({"algorithm": "kto"}, pairs_per_step=4), "rejection": tiny({})}[stage]
    given = settings | {stage: section}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shutil.copytree(prepared, whole)
    shutil.copytree(prepared, killed)
    pipeline.run(config.validate(Run, given), whole, quiet=True)
    kill(after_step, given, killed, stage, 2)
    assert list((killed / "unfinished").iterdir())
    pipeline.run(config.validate(Run, given), killed, quiet=True)
    assert bytes_of(killed) == bytes_of(whole)
    rows = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["stage"] == stage]
    assert steps == list(range(len(steps)))
    assert len(steps) > 2


def test_direct_and_rejection_exclude_each_other(settings):
    with pytest.raises(BadInput, match="direct and rejection are both given"):
        run_of(settings, direct={}, rejection={})
