"""States, margins and second models against plain transformers; what is written is what is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from accord import models, round_evidence
from accord.answer_states import answer_states, groups_of
from accord.config import Evaluate
from accord.further_evidence import further_findings
from accord.records import Comparison, Pair, Prompt, Response
from accord.round_evidence import extras_of, with_second_models
from accord.streams import generator
from accord.towers import Tower, base_of

LIMITS = {"max_prompt": 64, "max_response": 64}


def rows(tokenizer, texts, prompts=12, step=0):
    out = []
    for i in range(prompts):
        prompt = Prompt.from_text(f"ask {i}")
        for k, text in enumerate(texts):
            shown = f"{text} {(i * 7 + k) % 10}"
            out.append(
                {
                    "prompt": prompt.to_json(), "key": prompt.key, "text": shown,
                    "ids": list(models.encode_response(tokenizer, shown)), "finished": True,
                    "tokens": len(shown), "proxy": float((i + k) % 5) + step, "kl": float(step),
                }
            )  # fmt: skip
    return out


def labels(texts, count=60):
    """The first text is always preferred, on prompts of its own."""
    out = []
    for i in range(count):
        a, b = (Response(f"{text} {i % 10}") for text in texts)
        out.append(Comparison(Pair(Prompt.from_text(f"label {i // 2}"), a, b, round=i % 2), "a", "ann"))
    return out


@pytest.fixture
def reward_folder(tiny_folder, tokenizer, tmp_path):
    model = models.new_reward(tiny_folder, torch.float32, tokenizer, generator(0, "head"))
    model.config.accord = {"score_mean": 0.5, "score_std": 2.0}
    models.save(model, tokenizer, tmp_path / "reward")
    return tmp_path / "reward"


def test_states_are_those_that_the_score_is_read_from(reward_folder, tokenizer):
    given = rows(tokenizer, ["good", "bad"], prompts=3)
    model = models.load_reward(reward_folder, torch.float32)
    state_NH = answer_states(Tower(base_of(model)), groups_of(tokenizer, given))
    assert state_NH.shape == (6, 48)
    plain = AutoModelForSequenceClassification.from_pretrained(reward_folder, num_labels=1)
    weight_H = plain.score.weight[0].detach().double().numpy()
    for row, state_H in zip(given, state_NH, strict=True):
        prompt = models.encode_prompt(tokenizer, Prompt.from_json(row["prompt"]))
        with torch.no_grad():
            score = float(plain(torch.tensor([[*prompt, *row["ids"]]])).logits)
        assert state_H @ weight_H == pytest.approx(score, abs=1e-4)


def test_everything_is_measured_written_and_read(reward_folder, tiny_folder, tokenizer, tmp_path):
    evaluations = [{"step": step, "rows": rows(tokenizer, ["good", "awful"], step=step)} for step in (0, 2)]
    best_of = rows(tokenizer, ["good", "awful", "so"], prompts=6)
    pairs = labels(["good", "awful"])
    found = round_evidence.measure(
        tiny_folder, reward_folder, tokenizer, torch.float32, evaluations, best_of, pairs,
        labels(["good", "awful"], 40), Evaluate(probed_answers=4, bootstrap=100), LIMITS,
    )  # fmt: skip
    round_evidence.write(tmp_path, found)
    read = round_evidence.read(tmp_path)
    assert np.array_equal(read.base_NH, found.base_NH)
    assert read.second == found.second
    assert read.halves == found.halves
    assert len(read.test_margin_N) == 40
    assert read.deviation == 2.0
    # good against awful is plain to see in the states, so the held-out labels' model knows it ...
    assert read.second["accuracy"] > 0.9
    scored, picked = with_second_models(read, evaluations, best_of)
    first = scored[0]["rows"]
    assert first[0]["other_half"] > first[1]["other_half"]
    assert np.mean([row["other_half"] for row in first]) == pytest.approx(0, abs=1e-9)
    assert np.std([row["other_half"] for row in first], ddof=1) == pytest.approx(1)
    # ... and both halves of the training labels do.
    assert all(a > b for a, b in zip(picked[0]["halves"], picked[1]["halves"], strict=True))
    assert "other_half" not in evaluations[0]["rows"][0]
    extras = extras_of(read, ([1.0, -1.0], ["p", "q"]))
    assert extras.second.pairs == "40 held-out labels"
    assert extras.fresh is not None
    assert extras.probes is not None
    assert "filler" in extras.probes.sft
    assert extras_of(read).fresh is None


def test_a_second_model_at_chance_does_not_judge(reward_folder, tiny_folder, tokenizer):
    """The same texts on both sides of different pairs: nothing can be learned."""
    evaluations = [{"step": s, "rows": rows(tokenizer, ["good", "bad"], step=s)} for s in (0, 2)]
    noise = [
        Comparison(one.pair, "a" if i % 4 in (0, 3) else "b", "ann")
        for i, one in enumerate(labels(["good", "awful"], 40))
    ]
    found = round_evidence.measure(
        tiny_folder, reward_folder, tokenizer, torch.float32, evaluations, [], [], noise,
        Evaluate(probed_answers=0, bootstrap=100), LIMITS,
    )  # fmt: skip
    assert found.other_half == []
    assert "cannot be told from chance" in found.second["unusable"]
    assert "no decided pair" in found.second["no_halves"]
    assert found.probes is None
    scored, picked = with_second_models(found, evaluations, [])
    assert "other_half" not in scored[0]["rows"][0]
    assert picked == []


def test_fresh_labels_that_decide_nothing_are_said_to_be_so():
    found = round_evidence.Measured(np.zeros((4, 2)), np.ones((4, 2)), 1.0, [0.5, -0.5], ["p", "q"])

    def sentence(extras):
        ends = [
            {"step": s, "rows": [{"key": k, "text": k, "proxy": s, "kl": s, "tokens": 1} for k in "abcd"]}
            for s in (0, 1)
        ]
        only = ["on_policy_accuracy"]
        asked = further_findings(ends, [], Evaluate(bootstrap=20), *extras, only=only)
        return [finding.sentence for finding in asked]

    assert sentence(extras_of(found)) == []  # not asked for
    (ties,) = sentence(extras_of(found, ([], []), 7))
    assert "On policy accuracy was not measured: none of 7 fresh labels" in ties
    (same,) = sentence(extras_of(found, ([], []), 0))
    assert "gave no prompt two different answers" in same
    found.test_margin_N, found.test_prompt_N = [], []
    (alone,) = sentence(extras_of(found, ([1.0], ["p"]), 1))
    assert "the reward model's own test set has no decided pair" in alone
