"""The reward model learns a planted rule, treats ties as told, and scores alike in any batch."""

from __future__ import annotations

import random

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from accord import reward_model
from accord.config import Optimizer, Reward
from accord.records import BadInput, Comparison, Pair, Prompt, Response
from accord.reward_model import RewardTrainer, encode
from accord.scoring.reward_model import RewardModelScorer
from accord.workspace import Workspace

FAST = Optimizer(learning_rate=3e-3)


@pytest.fixture
def model(tiny_folder, tokenizer):
    return reward_model.new(str(tiny_folder), torch.float32, tokenizer, seed=0)


def comparison(prompt, a, b, verdict):
    return Comparison(Pair(Prompt.from_text(prompt), Response(a), Response(b)), verdict)


def planted(count, seed, ties=0):
    """The side with more letters of the alphabet's first half wins; lengths and sides carry nothing."""
    draw, rows = random.Random(seed), []
    for i in range(count):
        good = "".join(draw.choices("abcde", k=draw.randint(4, 8)))
        bad = "".join(draw.choices("vwxyz", k=draw.randint(4, 8)))
        first = draw.random() < 0.5
        a, b = (good, bad) if first else (bad, good)
        verdict = "tie" if i < ties else ("a" if first else "b")
        rows.append(comparison(f"q {seed} {i}", a, b, verdict))
    return rows


def train(model, tokenizer, training, test, **options):
    config = Reward(**({"epochs": 2, "optimizer": FAST} | options))
    work = Workspace("reward", quiet=True)
    return reward_model.train(model, tokenizer, training, test, config, work, bootstrap=100)


def test_learns_a_planted_rule_and_stores_its_normalisation(model, tokenizer):
    training, test = planted(160, 1), planted(50, 2)
    card = train(model, tokenizer, training, test)
    assert card["accuracy"] > 0.9
    assert (card["pairs_train"], card["pairs_test"]) == (160, 50)
    # normalised scores of the training responses: mean 0, deviation 1
    scorer = RewardModelScorer(model, tokenizer)
    asked = [row.prompt for row in training for _ in "ab"]
    texts = [r.text for row in training for r in (row.pair.a, row.pair.b)]
    scores = torch.tensor(scorer.score(asked, texts))
    assert_close(scores.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    assert_close(scores.std(), torch.tensor(1.0), atol=1e-4, rtol=0)
    # the accuracy, counted here from single scores
    right = 0
    for row in test:
        chosen, rejected = (scorer.score([row.prompt], [r.text])[0] for r in (row.chosen, row.rejected))
        right += chosen > rejected
    assert right / 50 == card["accuracy"]


def test_scores_do_not_depend_on_the_batch(model, tokenizer):
    scorer = RewardModelScorer(model, tokenizer)
    texts = ["a", "some longer text", "", "é" * 20, "x y"]
    asked = [Prompt.from_text("p" * n) for n in (1, 30, 4, 2, 9)]
    together = torch.tensor(scorer.score(asked, texts))
    alone = torch.tensor([scorer.score([p], [t])[0] for p, t in zip(asked, texts, strict=True)])
    assert_close(together, alone, atol=1e-5, rtol=0)
    assert_close(together.flip(0), torch.tensor(scorer.score(asked[::-1], texts[::-1])), atol=1e-5, rtol=0)


def test_loss_by_plain_scores(model, tokenizer):
    rows = planted(6, 3)
    trainer = RewardTrainer(model, tokenizer, Reward(ties="half", centering=0.1), 1)
    examples, _ = encode(tokenizer, [*rows, comparison("t", "one", "two", "tie")], trainer.config)
    scorer = RewardModelScorer(model, tokenizer)
    total = 0.0
    for row, example in zip([*rows, None], examples, strict=True):
        prompt = row.prompt if row else Prompt.from_text("t")
        texts = [row.pair.a.text, row.pair.b.text] if row else ["one", "two"]
        a, b = torch.tensor(scorer.score([prompt, prompt], texts))
        nats = {0: -logsigmoid(a - b), 1: -logsigmoid(b - a)}
        tie = -(logsigmoid(a - b) + logsigmoid(b - a)) / 2
        total += nats.get(example.outcome, tie) + 0.1 * ((a + b) / 2) ** 2
    assert_close(trainer.step(examples)["loss"], float(total) / 7, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ties", ["drop", "half", "rao_kupper", "davidson"])
def test_ties_by_the_configured_choice(model, tokenizer, ties):
    rows = planted(60, 4, ties=20)
    card = train(model, tokenizer, rows, planted(10, 5), ties=ties, epochs=1, minimum_pairs=30)
    assert card["pairs_train"] == (40 if ties == "drop" else 60)
    assert card["ties"]["count"] == 20
    assert ("parameter" in card["ties"]) == (ties in ("rao_kupper", "davidson"))
    if ties == "rao_kupper":
        assert card["ties"]["parameter"] > 0


def test_what_is_not_a_preference_is_left_out(tokenizer):
    rows = [
        comparison("p", "a", "b", "skip"),
        comparison("p", "a", "b", "both_bad"),
        comparison("p", "same", "same", "a"),
        comparison("p", "x" * 600, "b", "a"),
        comparison("p", "a", "b", "b"),
    ]
    examples, kept = encode(tokenizer, rows, Reward())
    assert kept == rows[-1:]
    assert examples[0].outcome == 1


def test_sampled_tokens_are_not_encoded_again(tokenizer):
    pair = Pair(Prompt.from_text("p"), Response("ab", tokens=(9, 9, 2)), Response("cd"))
    examples, _ = encode(tokenizer, [Comparison(pair, "a")], Reward())
    assert examples[0].group.responses[0] == (9, 9, 2)
    assert examples[0].group.responses[1][-1] == 2


def test_too_few_pairs_are_refused(model, tokenizer):
    with pytest.raises(BadInput, match="30 usable pairs of 30, at least 50"):
        train(model, tokenizer, planted(30, 6), planted(5, 7))


def test_no_held_out_pair_is_refused(model, tokenizer):
    with pytest.raises(BadInput, match="no usable held-out pair"):
        train(model, tokenizer, planted(50, 6), [comparison("p", "a", "b", "tie")])


def test_constant_scores_are_refused(model, tokenizer):
    with torch.no_grad():
        model.score.weight.zero_()
    slow = Optimizer(learning_rate=1e-12)
    with pytest.raises(BadInput, match="gives every response the same score"):
        train(model, tokenizer, planted(50, 8), planted(5, 9), optimizer=slow, epochs=1)


def test_a_fitted_head_is_the_probe_and_is_where_training_starts(model, tokenizer):
    """With no epoch after it, the head separates the pairs by the model's own hidden states."""
    training, test = planted(80, 1), planted(50, 2)
    examples, kept = encode(tokenizer, training, Reward())
    trainer = RewardTrainer(model, tokenizer, Reward(), 1)
    found = trainer.fit_head(examples, [row.prompt.key for row in kept])
    plain = trainer.scorer.score_groups([e.group for e in examples]).view(-1, 2)
    # scores by an independent path: hidden states of plain transformers times the fitted weights
    for example, (a, b) in zip(examples[:3], plain.tolist(), strict=False):
        for response, score in zip(example.group.responses, (a, b), strict=True):
            ids = torch.tensor([[*example.group.prompt, *response]])
            with torch.no_grad():
                model.set_attn_implementation("eager")
                hidden = model.model(input_ids=ids).last_hidden_state[0, -1].double()
                model.set_attn_implementation("accord")
            assert_close(float(hidden @ torch.from_numpy(found.weight_H)), score, atol=1e-4, rtol=1e-4)
    card = train(model, tokenizer, training, test, head_start="probe", epochs=0)
    assert card["accuracy"] > 0.9
    assert card["probe"]["accuracy"] > 0.9


def test_a_random_head_needs_training():
    with pytest.raises(ValidationError, match="the head is random"):
        Reward(epochs=0)
