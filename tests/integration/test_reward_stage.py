"""Reward models of every kind through the pipeline: trained, kept, loaded, optimised against."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from accord import config, pipeline
from accord.config import Run
from accord.records import BadInput, Prompt
from accord.reward_stage import RewardModelRejected
from accord.scoring.loading import load_scorer

WORDS = ["good", "bad", "happy", "sad", "fine", "awful", "lovely", "poor", "great", "nice", "cold", "warm"]


@pytest.fixture
def labelled(settings, tmp_path):
    """Settings that start from 24 labels on the untrained model: no SFT, no samples."""
    rows = [
        {
            "prompt": f"question {i}",
            "chosen": f"yes {word}",
            "rejected": f"no {word} {i}",
            "strength": 1 + i % 3,
            "annotator": f"ann{i % 2}",
            "criterion": ("helpful", "harmless")[i % 2],
        }
        for i, word in enumerate(2 * WORDS)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings["data"] |= {"comparisons": str(file)}
    return settings | {"judge": None, "sft": None}


def run(values, folder, until="reward", **reward):
    values = values | {"reward": values["reward"] | reward}
    return pipeline.run(config.validate(Run, values), folder, quiet=True, until=until)


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


ASKED = [Prompt.from_text("question 1"), Prompt.from_text("another")]


def test_heads_on_one_body_and_their_members_in_the_evaluation(labelled, tmp_path):
    labelled["online"] |= {"ensemble": {"rule": "worst"}}
    labelled["evaluate"] |= {"best_of_ensemble": {"rule": "uwo"}}
    result = run(labelled, tmp_path / "run", until="evidence", ensemble={"members": 3})
    picked = next(f for f in result.findings if f.name == "pessimistic_best_of_n")
    assert picked.evidence["n"] == 2
    assert [point["n"] for point in result.curve["best_of_n_pessimistic"]] == [1, 2]
    folder = tmp_path / "run/round-0/reward"
    card = json.loads((folder / "accord_reward.json").read_text())
    assert [member["name"] for member in card["members"]] == ["member 0", "member 1", "member 2"]
    for name in ("card.html", "card.md", "card.json"):
        assert (folder / name).is_file()
    # the scorer, from plain transformers: each head standardised, the lowest counts
    scorer = load_scorer(folder, torch.float32, config.Aggregation(rule="worst"))
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    kept = plain.config.accord
    members = scorer.members(ASKED, ["yes", "no way"])
    for prompt, text, member, score in zip(
        ASKED, ["yes", "no way"], members, scorer.score(ASKED, ["yes", "no way"]), strict=True
    ):
        ids = scorer.tokenizer.apply_chat_template(
            prompt.messages_json(), tokenize=False, add_generation_prompt=True
        )
        ids = scorer.tokenizer(ids + text)["input_ids"] + [scorer.tokenizer.eos_token_id]
        with torch.no_grad():
            raw = plain(torch.tensor([ids])).logits[0].tolist()
        wanted = [(x - m) / s for x, m, s in zip(raw, kept["head_mean"], kept["head_std"], strict=True)]
        assert member == pytest.approx(wanted, abs=1e-4)
        assert score == pytest.approx(min(wanted), abs=1e-4)
    found = json.loads((tmp_path / "run/round-0/rollouts/evaluations.json").read_text())
    row = found["evaluations"][-1]["rows"][0]
    assert row["proxy"] == pytest.approx(min(row["members"]))
    assert result.curve["points"]


def test_whole_members_are_one_folder_and_resume_does_not_train_them_again(labelled, tmp_path, monkeypatch):
    whole = {"ensemble": {"members": 2, "kind": "full"}, "weights": {"train": "top", "top_layers": 1}}
    run(labelled, tmp_path / "one", until="reward", **whole)
    folder = tmp_path / "one/round-0/reward"
    assert not list((tmp_path / "one/unfinished").glob("*member*"))
    scorer = load_scorer(folder, torch.float32)
    assert scorer.tower.start == 3  # they share the three layers that neither trained
    assert scorer.bodies[0].model.model.layers[0] is scorer.bodies[1].model.model.layers[0]
    members = scorer.members(ASKED, ["yes", "no way"])
    for number in range(2):
        alone = load_scorer(folder / f"member-{number}", torch.float32)
        assert [row[number] for row in members] == pytest.approx(
            alone.score(ASKED, ["yes", "no way"]), abs=1e-5
        )
    assert members[0][0] != pytest.approx(members[0][1], abs=1e-3)
    # interrupted after the first member
    from accord import reward_ensemble

    fit, calls = reward_ensemble.reward_model.fit, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(reward_ensemble.reward_model, "fit", stops)
    with pytest.raises(KeyboardInterrupt):
        run(labelled, tmp_path / "two", **whole)
    run(labelled, tmp_path / "two", **whole)
    assert len(calls) == 3
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    rows = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["stage"] == "reward"]
    assert steps == list(range(len(steps)))


def test_averaged_members_are_one_plain_model(labelled, tmp_path):
    warm = {"ensemble": {"members": 2, "kind": "full", "average": True}}
    run(labelled, tmp_path / "run", **warm)
    folder = tmp_path / "run/round-0/reward"
    card = json.loads((folder / "accord_reward.json").read_text())
    assert card["averaged"] == 2
    assert AutoModelForSequenceClassification.from_pretrained(folder).score.weight.shape[0] == 1


def test_the_gate_stops_before_rl_and_loses_nothing(labelled, tmp_path):
    labelled["gate"] = {"gain_over_length": 0.9, "probed_answers": 0}  # nothing gains that much
    with pytest.raises(RewardModelRejected, match="not good enough"):
        run(labelled, tmp_path / "run", until="evidence")
    assert (tmp_path / "run/round-0/reward/card.html").is_file()
    before = bytes_of(tmp_path / "run")
    with pytest.raises(BadInput):  # again, from the card that is there
        run(labelled, tmp_path / "run", until="evidence")
    assert bytes_of(tmp_path / "run") == before
    assert not (tmp_path / "run/round-0/policy").exists()


def test_criteria_are_weighed_when_they_are_used(labelled, tmp_path):
    run(labelled, tmp_path / "run", criteria=["helpful", "harmless"])
    folder = tmp_path / "run/round-0/reward"
    both = load_scorer(folder, torch.float32)
    heads = both.members(ASKED, ["yes", "no"])
    assert both.score(ASKED, ["yes", "no"]) == pytest.approx([sum(row) / 2 for row in heads], abs=1e-5)
    weighed = load_scorer(folder, torch.float32, weights={"harmless": 2.0})
    assert weighed.score(ASKED, ["yes", "no"]) == pytest.approx([2 * row[1] for row in heads], abs=1e-5)
    with pytest.raises(BadInput, match="no criterion"):
        load_scorer(folder, torch.float32, weights={"harmles": 2.0})
    card = json.loads((folder / "accord_reward.json").read_text())
    assert [row["name"] for row in card["criteria"]] == ["helpful", "harmless"]


def test_odin_keeps_the_quality_head_alone(labelled, tmp_path):
    run(labelled, tmp_path / "run", length="odin")
    folder = tmp_path / "run/round-0/reward"
    assert AutoModelForSequenceClassification.from_pretrained(folder).score.weight.shape[0] == 1
    card = json.loads((folder / "accord_reward.json").read_text())
    odin = card["odin"]
    assert odin["accuracy_cost"] == pytest.approx(odin["both_heads"]["accuracy"] - card["accuracy"])


def test_what_the_card_measures_is_in_its_key_and_the_gate_shows_its_progress(labelled, tmp_path, capsys):
    """Other probes or draws make another card of the same weights; RL's key asks for the weights alone."""
    out = tmp_path / "run"
    pipeline.run(config.validate(Run, labelled), out, until="reward")
    shown = capsys.readouterr().err
    assert "held-out pairs" in shown
    assert "probes" in shown
    folder = out / "round-0/reward"
    before, first = bytes_of(folder), json.loads((folder / "card.json").read_text())
    assert first["probed"] == 2
    labelled["gate"] |= {"probed_answers": 0}
    run(labelled, out)
    second = json.loads((folder / "card.json").read_text())
    assert (second["probed"], second["probes"]) == (0, None)
    assert bytes_of(folder) == before
    labelled["evaluate"] |= {"bootstrap": 60}
    run(labelled, out)
    assert json.loads((folder / "card.json").read_text())["made_by"]["bootstrap"] == 60
