"""Behind ``accord evaluate reward``: from a model or a function to a card, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from accord import checkpoints, models, reward_evaluation, reward_model
from accord.config import Gate
from accord.records import BadInput, write_jsonl
from accord.report.reward_card import FILES
from tests.conftest import byte_tokenizer
from tests.unit.comparisons import compared

RULES = """
import math

def good(prompts, responses):
    return [float(r.count("good")) for r in responses]

def some_nan(prompts, responses):
    return [math.nan if "7" in r else float(r.count("good")) for r in responses]

def raises(prompts, responses):
    if any("11" in r for r in responses):
        raise RuntimeError("no eleven")
    return good(prompts, responses)

def wrong(prompts, responses):
    return [0.0]

number = 3
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.py"
    path.write_text(RULES)
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Half of the winners are the longer ones; all say "good" and only they."""
    rows = [
        compared(f"prompt {i}", f"a good answer {i} " + "x" * (i % 2 * 20), f"an answer {i} by chance", "a")
        for i in range(120)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text(write_jsonl(row.to_json() for row in rows))
    return path


def evaluate(model, pairs, out, **options):
    return reward_evaluation.evaluate_reward(
        str(model), [pairs], out=out, **({"quiet": True, "bootstrap": 100, "probed": 40} | options)
    )


def test_a_function_from_a_file(rules, pairs, tmp_path) -> None:
    found = evaluate(f"{rules}:good", pairs, tmp_path / "card")
    assert [path.name for path in found.paths] == list(FILES)
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert card["accuracy"]["figure"] == 1
    assert card["model"] == {"path": f"{rules}:good", "kind": "Python function"}
    assert card["files"] == ["pairs.jsonl"]
    probes = {row["name"]: row for row in card["probes"]}
    assert probes["no_end"]["tried"] == 0
    assert 0.3 < probes["repeated_sentence"]["share_rising"] < 0.7  # "good" twice, where it was said
    assert probes["other_answer"]["share_rising"] == probes["other_answer"]["share_falling"] == 0
    warned = {reason["name"] for reason in card["gate"]["reasons"] if reason["level"] == "warn"}
    assert "probe other answer" in warned  # it never reads the prompt


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_intervals(rules, pairs, tmp_path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        evaluate(f"{rules}:good", pairs, tmp_path / name, seed=seed)
    bytes_of = {name: (tmp_path / name / "card.json").read_bytes() for name in ("one", "two", "three")}
    assert bytes_of["one"] == bytes_of["two"]
    assert bytes_of["one"] != bytes_of["three"]


def test_failures_of_a_function_are_counted_and_judged(rules, pairs, tmp_path) -> None:
    for name, lost in (("some_nan", 21), ("raises", 11)):  # numbers with a 7; with an 11
        card = evaluate(f"{rules}:{name}", pairs, tmp_path / name).card
        assert card["data"]["unscorable"] == lost
        assert card["data"]["pairs"] == 120 - lost
        assert card["gate"]["decision"] == "reject"
    with pytest.raises(BadInput, match="1 scores for 64 responses"):
        evaluate(f"{rules}:wrong", pairs, tmp_path / "wrong")


def test_thresholds_reach_the_verdict(rules, pairs, tmp_path) -> None:
    found = evaluate(
        f"{rules}:good", pairs, tmp_path / "a", thresholds=Gate(rejected_rise=100, minimum_pairs=500)
    )
    assert found.verdict.decision == "accept with warnings"
    assert found.card["gate"]["thresholds"]["minimum_pairs"] == 500


def own_model(folder: Path, tiny_folder: Path) -> Path:
    """A reward model as the pipeline commits it."""
    tokenizer = byte_tokenizer()
    model = reward_model.new(str(tiny_folder), torch.float32, tokenizer, seed=0)
    model.config.accord = {"score_mean": 0.1, "score_std": 2.0, "read_at": "last_token", "end_token": 2}
    checkpoints.commit(folder, lambda target: models.save(model, tokenizer, target), manifest={"key": "k"})
    return folder


def test_accords_own_checkpoint_gets_its_card_and_stays_whole(tiny_folder, pairs, tmp_path) -> None:
    folder = own_model(tmp_path / "reward", tiny_folder)
    found = evaluate(folder, pairs, None)
    assert found.card["model"]["kind"] == "accord reward model"
    assert {row["name"]: row["tried"] for row in found.card["probes"]}["no_end"] > 0
    assert all((folder / name).is_file() for name in FILES)
    evaluate(folder, pairs, None, seed=1)  # again, over the first
    assert checkpoints.cached(folder, "k") == {"key": "k"}
    # a new checkpoint replaces it, card and all, and sets nothing aside
    checkpoints.commit(folder, lambda target: (target / "a").write_text("x"), manifest={"key": "2"})
    assert sorted(p.name for p in tmp_path.iterdir() if "reward" in p.name) == ["reward"]
    # a card written within a commit is not hashed either
    checkpoints.commit(folder, lambda target: (target / "card.md").write_text("x"), manifest={"key": "3"})
    (folder / "card.md").write_text("y")
    checkpoints.verify(folder)


def test_margins_are_in_nats_whatever_the_normalisation(tiny_folder, pairs, tmp_path) -> None:
    """Temperature and deviation describe the raw scores: another stored deviation changes nothing."""
    folder = own_model(tmp_path / "reward", tiny_folder)
    before = evaluate(folder, pairs, tmp_path / "one").card
    config = json.loads((folder / "config.json").read_text())
    config["accord"]["score_std"] = 20.0
    (folder / "config.json").write_text(json.dumps(config))
    after = evaluate(folder, pairs, tmp_path / "two").card
    assert after["scores"]["deviation"] == pytest.approx(before["scores"]["deviation"], rel=1e-4)
    assert after["calibration"]["temperature"] == pytest.approx(
        before["calibration"]["temperature"], rel=1e-3
    )


def test_a_foreign_model_and_answers_beyond_its_context(pairs, tmp_path) -> None:
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        num_labels=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / "foreign")
    byte_tokenizer().save_pretrained(tmp_path / "foreign")
    long = compared("p", "x" * 200, "y", "a")
    more = tmp_path / "more.jsonl"
    more.write_text(pairs.read_text() + write_jsonl([long.to_json()]))
    card = evaluate(tmp_path / "foreign", more, tmp_path / "card").card
    assert card["model"]["kind"] == "sequence classifier"
    assert card["left_out"] == 1
    assert card["data"]["pairs"] == 120
    only = tmp_path / "only.jsonl"
    only.write_text(write_jsonl([long.to_json()]))
    with pytest.raises(BadInput, match="each of 1 comparisons is beyond what the reward model takes"):
        evaluate(tmp_path / "foreign", only, tmp_path / "card")


def test_several_files_and_training_pairs(rules, pairs, tmp_path) -> None:
    found = reward_evaluation.evaluate_reward(
        f"{rules}:good",
        [pairs, pairs],
        train=[pairs],
        out=tmp_path / "card",
        quiet=True,
        bootstrap=50,
        probed=0,
    )
    assert found.card["data"]["comparisons"] == 240
    assert found.card["data"]["prompts_in_training"] == 120
    assert found.card["training_files"] == ["pairs.jsonl"]
    assert found.card["probes"] is None
    assert "leakage" in {reason.name for reason in found.verdict.reasons}


def test_a_benchmark_has_its_usual_table(rules, tmp_path) -> None:
    rows = [
        {"prompt": f"q{i}", "chosen": "a good one", "rejected": "bad" if i % 4 else "good good", "id": i}
        | {"subset": "alpacaeval-easy" if i < 8 else "math-prm"}
        for i in range(12)
    ]
    file = tmp_path / "rb.jsonl"
    file.write_text(write_jsonl(rows))
    (found,) = evaluate(f"{rules}:good", file, tmp_path / "card", probed=0, benchmark=True).card["benchmarks"]
    scores = {line["name"]: line["score"] for line in found["lines"]}
    # wrong at 0, 4 and 8: 6 of 8 and 3 of 4; each section has one subset; overall the mean of two sections
    assert scores == {
        "alpacaeval-easy": 0.75,
        "Chat": 0.75,
        "math-prm": 0.75,
        "Reasoning": 0.75,
        "overall": 0.75,
    }
    assert (found["name"], len(found["notes"])) == ("rewardbench", 2)
    page = (tmp_path / "card" / "card.html").read_text()
    assert "OVERALL" in page
    assert "no row of section Safety" in page
    lost = evaluate(f"{rules}:some_nan", file, tmp_path / "lost", probed=0, benchmark=True).card["benchmarks"]
    assert lost[0]["notes"][-1:] != ["1 of 12 pairs could not be scored"]  # no answer has a 7: all are scored


def test_unusable_rows_are_refused_unless_allowed(rules, pairs, tmp_path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(pairs.read_text() + '{"prompt": "p", "chosen": "", "rejected": "x"}\n')
    with pytest.raises(BadInput, match=r"broken\.jsonl, line 121"):
        evaluate(f"{rules}:good", broken, tmp_path / "card", probed=0)
    found = evaluate(f"{rules}:good", broken, tmp_path / "card", probed=0, max_rejects=1)
    assert found.card["data"]["comparisons"] == 120


def test_what_is_refused_before_anything_is_loaded(rules, pairs, tmp_path) -> None:
    with pytest.raises(BadInput, match="give --out"):
        evaluate(f"{rules}:good", pairs, None)
    with pytest.raises(BadInput, match=r"no Python file at .*nowhere\.py"):
        evaluate(tmp_path / "nowhere.py:good", pairs, tmp_path / "card")
    with pytest.raises(BadInput, match="defines no function 'number'"):
        evaluate(f"{rules}:number", pairs, tmp_path / "card")
    with pytest.raises(BadInput, match="neither labels nor inputs"):
        evaluate(f"{rules}:good", pairs, tmp_path / "card", label="positive")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(BadInput, match=r"broken\.py cannot be run: ZeroDivisionError"):
        evaluate(tmp_path / "broken.py:good", pairs, tmp_path / "card")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="no card can be written"):
        evaluate(f"{rules}:good", pairs, tmp_path / "file")


def test_a_folder_is_shown_by_its_last_names(tmp_path) -> None:
    folder = tmp_path / "runs" / "round-0" / "reward"
    folder.mkdir(parents=True)
    assert reward_evaluation.shown(str(folder)) == "runs/round-0/reward"
    assert reward_evaluation.shown("owner/name") == "owner/name"
