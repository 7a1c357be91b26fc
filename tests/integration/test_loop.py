"""The whole loop on a tiny model: rounds, caching, labels from files, checkpoints that others load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from accord import config, inputs, pipeline
from accord.config import Run
from accord.records import BadInput, Comparison, Pair, Prompt, Response, WaitingForLabels
from accord.round_labels import counted_labels, source_of_labels
from accord.stability import PolicyExploded
from accord.store import LabelStore


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def test_two_rounds_then_everything_is_cached(settings, tmp_path):
    run = config.validate(Run, settings | {"rounds": 2})
    out = tmp_path / "run"
    result = pipeline.run(run, out, quiet=True)
    assert {f.name for f in result.findings} >= {"win_rate", "overoptimisation", "length_shift"}
    assert [p["step"] for p in result.curve["points"]] == [0, 2, 3]
    assert result.curve["points"][0]["kl"] == pytest.approx(0, abs=1e-5)  # step 0 is the reference itself
    assert result.report.is_file()
    first, second = (
        [json.loads(line) for line in (out / f"round-{i}/pairs.jsonl").read_text().splitlines()]
        for i in (0, 1)
    )
    assert {p["a"]["policy"] for p in first} == {"sft"}
    assert {p["a"]["policy"] for p in second} == {"round-0"}  # the new policy's samples are compared
    card = [json.loads((out / f"round-{i}/reward/accord_reward.json").read_text()) for i in (0, 1)]
    assert card[1]["pairs_train"] > card[0]["pairs_train"]  # trained again on all labels
    assert card[0]["pairs_test"] > 1
    assert card[0]["label_source"].startswith("simulated annotators")
    before = bytes_of(out)
    pipeline.run(run, out, quiet=True)
    stages = json.loads((out / "accord.lock.json").read_text())["stages"]
    assert len(stages) == 9
    assert all(stage["cached"] for stage in stages)
    assert bytes_of(out) == before


def test_a_run_learns_from_people_and_from_its_own_judge_only(settings, tmp_path):
    pair = Pair(Prompt.from_text("q"), Response("x"), Response("y"))
    names = ("ann", "judge:wise", "judge:other", "function:f", "simulated:0")
    with LabelStore(tmp_path / "labels.db") as store:
        store.add([Comparison(pair, "a", name) for name in names])
        for judge, count, source in (
            ({"kind": "human"}, 1, "people (labelling app)"),
            ({"kind": "file", "path": "labels.jsonl"}, 1, "people (file labels.jsonl)"),
            (
                {"kind": "llm", "model": "wise", "url": "http://h/v1", "key_variable": ""},
                2,
                "a language model as judge (wise), no person, and people (1 of 2 labels)",
            ),
        ):
            run = config.validate(Run, settings | {"judge": judge})
            labels = counted_labels(run, tmp_path, store, [0], [pair])
            assert [one.annotator for one in labels] == list(names[:count])
            assert source_of_labels(run, labels) == source


def test_a_files_labels_are_called_by_the_names_that_signed_them(settings):
    pair = Pair(Prompt.from_text("q"), Response("x"), Response("y"))
    run = config.validate(Run, settings | {"data": settings["data"] | {"comparisons": "a/pairs.jsonl"}})
    stand_in = "simulated annotators (a stand-in for people)"
    for names, source in (
        (["ann", "bob"], "people (file pairs.jsonl)"),
        (["simulated:0", "simulated:1"], f"{stand_in} (file pairs.jsonl)"),
        (["judge:wise", "function:f"], "models or functions as judges, no person (file pairs.jsonl)"),
        (["", ""], "annotators who are not named (file pairs.jsonl)"),
        (
            ["ann", "simulated:0", "simulated:1"],
            f"people (1 of 3 labels), and {stand_in} (2 of 3 labels), file pairs.jsonl",
        ),
    ):
        labels = [Comparison(pair, "a", name) for name in names]
        assert source_of_labels(run, labels, labels[:1]) == source
    # none of the file's rows made a pair: the labels are the judge's
    assert source_of_labels(run, labels, []) == f"{stand_in}, and people (1 of 3 labels)"


def test_fresh_starts_over_and_keeps_the_labels(settings, tmp_path):
    run, out = config.validate(Run, settings), tmp_path / "run"
    pipeline.run(run, out, quiet=True, until="reward")
    before = bytes_of(out)
    with LabelStore(out / "labels.db") as store:
        said = store.comparisons()
    (out / "mine.txt").write_text("not accord's")
    pipeline.run(run, out, quiet=True, until="reward", fresh=True)
    stages = json.loads((out / "accord.lock.json").read_text())["stages"]
    assert not any(stage["cached"] for stage in stages)
    assert bytes_of(out) == before  # the same seed
    assert (out / "mine.txt").exists()
    with LabelStore(out / "labels.before-1.db") as store:
        assert store.comparisons() == said


def test_same_seed_same_bytes_other_seed_other_bytes(settings, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        pipeline.run(config.validate(Run, settings | {"seed": seed}), folder, quiet=True)
    one, two, three = map(bytes_of, folders)
    assert one == two
    assert one["round-0/policy/model.safetensors"] != three["round-0/policy/model.safetensors"]


def test_a_used_folder_gives_the_bits_of_a_new_one(settings, tmp_path):
    """Labels of another seed or bias stay in labels.db and are not learned from."""
    used, new = tmp_path / "used", tmp_path / "new"
    pipeline.run(config.validate(Run, settings | {"seed": 1}), used, quiet=True, until="reward")
    pipeline.run(config.validate(Run, settings), used, quiet=True, until="reward")
    changed = config.validate(Run, settings | {"judge": settings["judge"] | {"length_bias": 5.0}})
    for folder in (used, new):
        pipeline.run(changed, folder, quiet=True, until="reward")
    card = [json.loads((f / "round-0/reward/accord_reward.json").read_text()) for f in (used, new)]
    assert card[0]["pairs_train"] == card[1]["pairs_train"]
    assert bytes_of(used) == bytes_of(new)


def test_other_white_space_in_the_prompts_is_other_input(settings, tmp_path):
    """A prompt's key ignores white space, for splits; what the model reads is not the same."""
    out = tmp_path / "run"
    pipeline.run(config.validate(Run, settings), out, quiet=True, until="reward")
    file = Path(settings["data"]["prompts"])
    file.write_text(file.read_text().replace(" cat?", "  cat?"))
    pipeline.run(config.validate(Run, settings), out, quiet=True, until="reward")
    stages = json.loads((out / "accord.lock.json").read_text())["stages"]
    assert {s["stage"]: s["cached"] for s in stages}["round-0/pairs"] is False


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_the_other_algorithms_and_plain_transformers(settings, tmp_path, algorithm):
    settings["online"] |= {"algorithm": algorithm}
    out = tmp_path / "run"
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    policy = AutoModelForCausalLM.from_pretrained(out / "round-0/policy")
    reward = AutoModelForSequenceClassification.from_pretrained(out / "round-0/reward", num_labels=1)
    with torch.no_grad():
        assert policy(torch.tensor([[5, 6]])).logits.isfinite().all()
        assert reward(torch.tensor([[5, 6, 2]])).logits.shape == (1, 1)


def test_people_label_a_file_and_the_run_goes_on(settings, tmp_path):
    labels = tmp_path / "labels.jsonl"
    settings["judge"] = {"kind": "file", "path": str(labels)}
    run, out = config.validate(Run, settings), tmp_path / "run"
    with pytest.raises(WaitingForLabels, match=r"labels\.jsonl"):
        pipeline.run(run, out, quiet=True)
    assert (out / "report.html").is_file()  # says how far it got
    pairs = [json.loads(line) for line in (out / "round-0/pairs.jsonl").read_text().splitlines()]
    rows = [
        {
            "pair": p["id"],
            "verdict": "a" if len(p["a"]["text"]) > len(p["b"]["text"]) else "b",
            "annotator": "ann",
        }
        for p in pairs
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = pipeline.run(run, out, quiet=True)
    assert result.reward["label_source"] == "people (file labels.jsonl)"
    win = next(f for f in result.findings if f.name == "win_rate")
    assert win.figure is None  # nobody knows a gold here, and the finding says so
    assert win.verdict == "unknown"


def test_labels_that_exist_replace_the_first_collection(settings, tmp_path):
    rows = [{"prompt": f"question {i}", "chosen": f"yes {i} yes", "rejected": f"no {i}"} for i in range(24)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings["data"] |= {"comparisons": str(file)}
    settings["judge"] = None
    settings["sft"] = None
    result = pipeline.run(config.validate(Run, settings), tmp_path / "run", quiet=True)
    assert set(result.reward["floors"]) == {"always_longer", "bag_of_words", "chance"}
    assert result.reward["floors"]["always_longer"]["accuracy"] == 1.0  # every chosen side is longer here
    assert not (tmp_path / "run/round-0/pairs.jsonl").exists()


def test_test_prompts_in_the_training_set_are_refused(settings):
    settings["data"] |= {"test_prompts": settings["data"]["prompts"]}
    with pytest.raises(BadInput, match="24 of the test prompts are also among the prompts"):
        inputs.read_inputs(config.validate(Run, settings))


def test_test_comparisons_on_prompts_that_a_judge_labels_are_refused(settings, tmp_path):
    prompts = [
        json.loads(line)["prompt"] for line in Path(settings["data"]["prompts"]).read_text().splitlines()
    ]
    rows = [{"prompt": p[0]["content"], "chosen": "yes", "rejected": "no"} for p in prompts]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings["data"] |= {"test_comparisons": str(tmp_path / "held.jsonl")}
    with pytest.raises(BadInput, match="of the test comparisons are also among the prompts"):
        inputs.read_inputs(config.validate(Run, settings))


def test_a_run_with_two_rewards_and_a_constraint(settings, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def short(prompts, texts):\n    return [-len(t) / 10 for t in texts]\n"
        "def asks(prompts, texts):\n    return [float('?' in t) for t in texts]\n"
    )
    settings["online"] |= {
        "algorithm": "rloo",
        "rewards": [{"path": f"{file}:short", "weight": 0.5}],
        "constraint": {"path": f"{file}:asks", "threshold": 0.9},
    }
    out = tmp_path / "run"
    pipeline.run(config.validate(Run, settings), out, quiet=True)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["stage"] == "online"]
    assert all(
        {"reward_short", "constraint", "constraint_multiplier", "paid_mean"} <= set(r) for r in trained
    )
    assert trained[-1]["constraint_multiplier"] > 0  # a random model rarely asks
    settings["online"]["rewards"] = [{"path": f"{file}:gone"}]
    with pytest.raises(BadInput, match="has no attribute 'gone'"):
        pipeline.run(config.validate(Run, settings), tmp_path / "other", quiet=True)
    assert not (tmp_path / "other").exists()  # nothing was begun


def test_an_explosion_leaves_the_last_healthy_policy_beside_the_run(settings, tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(
        "accord.stability.OwnRange.judge",
        lambda self, figures: judged.append(0) or ("boom" if len(judged) > 2 else None),
    )
    out = tmp_path / "run"
    with pytest.raises(PolicyExploded, match="stopped at step 2: boom; the healthy state after step 0"):
        pipeline.run(config.validate(Run, settings), out, quiet=True)
    assert not (out / "round-0/policy").exists()
    AutoModelForCausalLM.from_pretrained(out / "round-0/policy-last-healthy")
