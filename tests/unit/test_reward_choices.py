"""Reward training with annotators who differ, with length taken out afterwards, and on poor data."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import logsigmoid, softplus
from torch.testing import assert_close

from accord import models, reward_model
from accord.annotators import Annotators
from accord.config import Reward
from accord.records import BadInput, Comparison, Pair, Prompt, Response
from accord.reward_examples import read
from accord.reward_joint import from_state, to_state
from accord.reward_lessons import by_annotators, lessons, softened
from accord.reward_loss import pair_loss
from accord.scoring.length_calibration import LengthCurve
from accord.scoring.reward_model import RewardModelScorer
from accord.workspace import Workspace

FAST = {"learning_rate": 3e-3}


@pytest.fixture
def model(tiny_folder, tokenizer):
    return reward_model.new(str(tiny_folder), torch.float32, tokenizer, seed=0)


def said(verdict, who, prompt="q", a="x", b="y", left="a"):
    return Comparison(Pair(Prompt.from_text(prompt), Response(a), Response(b), left), verdict, who)


def crowd(count, seed):
    """Three who see it, one who clicks, one who answers the opposite; each pair is judged by all five."""
    draw, rows = random.Random(seed), []
    for i in range(count):
        good = "".join(draw.choices("abcde", k=draw.randint(4, 8)))
        bad = "".join(draw.choices("vwxyz", k=draw.randint(4, 8)))
        first = draw.random() < 0.5
        a, b = (good, bad) if first else (bad, good)
        for who in ("ann", "bob", "cy", "clicker", "inverted"):
            right = {"clicker": draw.random() < 0.5, "inverted": draw.random() < 0.1}.get(
                who, draw.random() < 0.9
            )
            verdict = "a" if first == right else "b"
            rows.append(said(verdict, who, f"q {seed} {i}", a, b, draw.choice("ab")))
    return rows


def held_out(seed):
    return [row for row in crowd(40, seed) if row.annotator == "ann"]


def train(model, tokenizer, training, test, **options):
    config = Reward(**({"epochs": 2, "optimizer": FAST, "minimum_pairs": 20} | options))
    work = Workspace("reward", quiet=True)
    return reward_model.train(model, tokenizer, training, test, config, work, bootstrap=100)


# --- annotators ------------------------------------------------------------------------------------------


def known(beta, side):
    error = np.full(2, 0.1)
    return Annotators(("ann", "bob"), np.array([10, 10]), np.array(beta), error, np.array(side), error, -1.0)


def test_a_label_is_read_through_its_annotator() -> None:
    rows = [said("a", "ann"), said("b", "bob", left="b")]
    taught = by_annotators(lessons(rows, Reward()), known([3.0, 1.0], [0.5, 0.25]))
    assert [one.scale for one in taught] == [1.5, 0.5]
    assert [one.margin for one in taught] == [-0.5, 0.25]  # a side bias towards a need not be earned
    # P(a) = σ(1.5·d + 0.5) and P(b) = σ(−(0.5·d − 0.25)) at d = 0.4 and −0.8
    a_N, b_N = torch.tensor([0.5, -0.6]), torch.tensor([0.1, 0.2])
    found = pair_loss(
        a_N, b_N, torch.tensor([one.shares for one in taught]),
        margin_N=torch.tensor([one.margin for one in taught]),
        scale_N=torch.tensor([one.scale for one in taught]), count=2,
    )  # fmt: skip
    by_hand = -(logsigmoid(torch.tensor(1.1)) + logsigmoid(torch.tensor(0.65))) / 2
    assert_close(found, by_hand)


def test_the_scale_reaches_tie_models_as_well() -> None:
    # Davidson with ν = 1 and d = 2·0.5: P(tie) = 1 / (e^½ + e^−½ + 1)
    tie = torch.tensor([[0.0, 0.0, 1.0]])
    found = pair_loss(
        torch.tensor([0.5]), torch.tensor([0.0]), tie, tie_model="davidson", tie=torch.tensor(0.0),
        scale_N=torch.tensor([2.0]), count=1,
    )  # fmt: skip
    half = torch.tensor(0.5)
    assert_close(found, torch.log(half.exp() + (-half).exp() + 1))


def test_soft_lessons_are_pairs(tokenizer) -> None:
    rows = [said("a", "ann"), said("a", "bob", a="y", b="x"), said("b", "ann", prompt="r")]
    first, second = softened(lessons(rows, Reward()), known([2.0, 1.0], [0.0, 0.0]), Reward())
    assert (len(first.rows), len(second.rows)) == (2, 1)
    assert 0.5 < first.shares[0] < 1  # the sharper one said x
    assert first.shares[0] + first.shares[1] == pytest.approx(1)
    assert second.shares[0] < 0.5


@pytest.mark.parametrize("choice", ["soft", "fitted", "joint"])
def test_a_clicker_and_an_inverted_annotator_are_found_and_do_no_harm(model, tokenizer, choice) -> None:
    card = train(model, tokenizer, crowd(40, 1), held_out(2), annotators=choice)
    assert card["accuracy"] > 0.75  # ann herself is right in nine of ten
    readings = {one["name"]: one["reading"] for one in card["annotators"]["annotators"]}
    assert card["annotators"]["choice"] == choice
    assert readings["inverted"] == "against the others"
    assert readings["ann"] == "agrees"
    assert any("inverted answers against the others" in text for text in card["annotators"]["warnings"])


def test_one_label_a_pair_needs_joint(model, tokenizer) -> None:
    rows = [row for i, row in enumerate(crowd(60, 3)) if i % 5 == (i // 5) % 5]
    with pytest.raises(BadInput, match="annotators to joint or none"):
        train(model, tokenizer, rows, held_out(2), annotators="fitted")
    with pytest.raises(BadInput, match="one annotator"):
        train(model, tokenizer, held_out(3), held_out(2), annotators="soft")
    card = train(model, tokenizer, rows, held_out(2), annotators="joint", head_start="probe")
    assert len(card["annotators"]["annotators"]) == 5


def test_annotators_survive_a_training_state() -> None:
    one = known([3.0, 1.0], [0.5, 0.0])
    again = from_state(to_state(one))
    assert again is not None
    assert again.names == one.names
    np.testing.assert_array_equal(again.inverse_temperature_J, one.inverse_temperature_J)
    assert from_state(to_state(None)) is None


def test_choices_that_contradict_each_other_are_refused() -> None:
    for options, words in (
        ({"annotators": "soft", "labels": "pooled"}, "pooled labels have no annotator"),
        ({"annotators": "joint", "epochs": 1}, "there is no second one"),
        ({"annotators": "joint", "criteria": ("one", "two")}, "fitted to one score"),
        ({"length": "lowess", "criteria": ("one", "two")}, "one curve to one score"),
        ({"length": "lowess", "ensemble": {"kind": "full", "average": True}}, "averaged weights are none"),
    ):
        with pytest.raises(ValidationError, match=words):
            Reward(**options)


# --- length ----------------------------------------------------------------------------------------------


def test_a_curve_in_the_checkpoint_is_taken_off_every_score(model, tokenizer, tmp_path) -> None:
    prompts, texts = [Prompt.from_text("p")] * 3, ["ab", "abcdef", "a" * 40]
    plain = RewardModelScorer(model, tokenizer).score(prompts, texts)
    # tokens are bytes, and the end token: 3, 7 and 41 of them; between the knots a line, beyond them flat
    curve = LengthCurve((3.0, 11.0), (-1.0, 3.0), 50, 0.5, 3, "tokens")
    model.config.accord = {"length_curve": curve.to_json()}
    models.save(model, tokenizer, tmp_path)
    loaded = RewardModelScorer(models.load_reward(tmp_path, torch.float32), tokenizer)
    expected = torch.tensor(plain) - torch.tensor([-1.0, 1.0, 3.0])
    assert_close(torch.tensor(loaded.score(prompts, texts)), expected, atol=1e-5, rtol=0)


def long_is_good(count, seed):
    draw, rows = random.Random(seed), []
    for i in range(count):
        texts = ["a" * draw.randint(2, 30), "a" * draw.randint(2, 30)]
        if texts[0] == texts[1]:
            texts[0] += "aaa"
        longer_wins = draw.random() < 0.95
        rows.append(
            said(
                "a" if (len(texts[0]) > len(texts[1])) == longer_wins else "b", "ann", f"q{seed} {i}", *texts
            )
        )
    return rows


def test_lowess_says_what_it_costs_and_takes_the_trend_out(model, tokenizer) -> None:
    training, test = long_is_good(80, 1), long_is_good(40, 2)
    card = train(model, tokenizer, training, test, length="lowess", epochs=3)
    before, after = card["lowess"]["before"], card["lowess"]["after"]
    assert before["accuracy"] > 0.8  # people like length here, and nothing else
    assert card["lowess"]["accuracy_cost"] == before["accuracy"] - after["accuracy"]
    assert card["lowess"]["accuracy_cost"] > 0.2
    assert abs(after["correlation"]) < abs(before["correlation"]) / 2
    assert card["accuracy"] == after["accuracy"]  # what RL will see is what was measured
    scorer = RewardModelScorer(model, tokenizer)
    scores = scorer.score(
        [r.prompt for r in training for _ in "ab"], [t.text for r in training for t in (r.pair.a, r.pair.b)]
    )
    assert np.std(scores) == pytest.approx(1, abs=0.05)


# --- bad input -------------------------------------------------------------------------------------------


def test_all_ties_are_refused_with_the_way_out(model, tokenizer) -> None:
    ties = [said("tie", "ann", f"q{i}") for i in range(30)]
    with pytest.raises(BadInput, match="all 30 labels that were judged are ties"):
        train(model, tokenizer, ties, held_out(2))


def test_contradictory_pairs_pull_their_scores_together(model, tokenizer) -> None:
    # Half of the labels on each pair say a, half b: the best loss is ln 2, at equal scores
    rows = [said(v, "", f"q{i}", "abc" * (i % 5 + 1), "xyz") for i in range(20) for v in "ab"]
    config = Reward(labels="pooled", minimum_pairs=10)
    data = read(tokenizer, rows, held_out(2), config)
    assert {example.shares for example in data.examples} == {(0.5, 0.5, 0.0)}
    trainer = reward_model.RewardTrainer(model, tokenizer, config, 4)
    figures = trainer.step(data.examples)
    assert figures["accuracy"] == 0  # no pair is decided
    assert figures["loss"] >= float(softplus(torch.tensor(0.0))) - 1e-6


def test_ten_pairs_are_few_and_say_so(model, tokenizer) -> None:
    with pytest.raises(BadInput, match="there are 10 usable pairs of 10, at least 50 are needed"):
        train(model, tokenizer, held_out(1)[:10], held_out(2), minimum_pairs=50)
    with pytest.raises(BadInput, match="a head cannot be fitted to 9 decided pairs"):
        train(model, tokenizer, held_out(1)[:9], held_out(2), minimum_pairs=5, head_start="probe")
    card = train(model, tokenizer, held_out(1)[:10], held_out(2), minimum_pairs=10)
    assert card["pairs_train"] == 10


@pytest.mark.parametrize("choice", ["fitted", "joint"])
def test_a_resumed_stage_ends_with_the_same_bits(tiny_folder, tokenizer, tmp_path, choice) -> None:
    config = Reward(
        epochs=2, optimizer=FAST, minimum_pairs=20, pairs_per_step=40, annotators=choice, head_start="probe",
        checkpoint_seconds=0,
    )  # fmt: skip
    heads = {}
    for name, stop in (("whole", None), ("cut", 3)):
        work = Workspace("reward", folder=tmp_path / name, key="k", quiet=True, checkpoint_seconds=0)
        data = read(tokenizer, crowd(16, 1), held_out(2), config)
        if stop is not None:
            one = reward_model.new(str(tiny_folder), torch.float32, tokenizer, seed=0)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Workspace, "record", lambda self, step, figures: _stop(step, 3))
                with pytest.raises(KeyboardInterrupt):
                    reward_model.fit(one, tokenizer, data, config, work)
        one = reward_model.new(str(tiny_folder), torch.float32, tokenizer, seed=0)
        reward_model.fit(one, tokenizer, data, config, work)
        heads[name] = one.score.weight.detach().clone()
    assert torch.equal(heads["whole"], heads["cut"])


def _stop(step, until):
    if step == until:
        raise KeyboardInterrupt
