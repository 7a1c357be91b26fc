"""What one step learns from: losses against arithmetic on plain scores, and which weights they move."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel

from accord import reward_model
from accord.batches import Group
from accord.config import Ensemble, Optimizer, Reward
from accord.records import BadInput
from accord.reward_examples import Example
from accord.reward_trainer import RewardTrainer, _right, resample, voices

A, B, TIE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
GROUP = Group((5, 6), ((7, 8), (9,)))


def trainer_of(folder, tokenizer, **options):
    config = Reward(**({"centering": 0.0, "optimizer": Optimizer(learning_rate=1e-3)} | options))
    model = reward_model.new(str(folder), torch.float32, tokenizer, 0, config=config)
    return RewardTrainer(model, tokenizer, config, 1)


def nats(x):
    """−log σ(x)."""
    return math.log1p(math.exp(-x))


@pytest.fixture(scope="module")
def plain(tiny_folder, tokenizer):
    return trainer_of(tiny_folder, tokenizer)


def loss(trainer, examples, scores, times=None):
    score_BM = torch.tensor(scores)[:, None] if not isinstance(scores[0], list) else torch.tensor(scores)
    count = sum(e.weight for e in examples)
    return float(trainer.loss(score_BM, examples, count, times).detach())


def test_margin_soft_label_and_weight_by_hand(plain):
    won = Example(GROUP, 0, A, margin=0.5)
    lost = Example(GROUP, 1, B, margin=-0.5)
    # a leads by 1: with a margin of 0.5 it leads by 0.5; where b won it is behind by 1.5
    assert_close(loss(plain, [won], [1.0, 0.0]), nats(0.5), atol=1e-6, rtol=0)
    assert_close(loss(plain, [lost], [1.0, 0.0]), nats(-1.5), atol=1e-6, rtol=0)
    soft = Example(GROUP, 0, (0.5, 0.25, 0.25))
    assert_close(loss(plain, [soft], [2.0, 0.0]), 0.625 * nats(2) + 0.375 * nats(-2), atol=1e-6, rtol=0)
    heavy = replace(won, margin=0.0, weight=3.0)
    both = loss(plain, [heavy, Example(GROUP, 1, B)], [1.0, 0.0, 1.0, 0.0])
    assert_close(both, (3 * nats(1) + nats(-1)) / 4, atol=1e-6, rtol=0)


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_soft_labels_with_ties_by_hand(tiny_folder, tokenizer, ties):
    trainer = trainer_of(tiny_folder, tokenizer, ties=ties, label_smoothing=0.1)
    d, free = 0.7, 0.0
    if ties == "rao_kupper":
        eta = math.log(2) + 1e-4  # softplus(0)
        a, b = 1 / (1 + math.exp(eta - d)), 1 / (1 + math.exp(eta + d))
    else:
        total = math.exp(d / 2) + math.exp(-d / 2) + math.exp(free)
        a, b = math.exp(d / 2) / total, math.exp(-d / 2) / total
    tie = 1 - a - b
    # shares .6, .2, .2; one winner in ten is the wrong way round
    wanted = -(0.56 * math.log(a) + 0.24 * math.log(b) + 0.2 * math.log(tie))
    assert_close(loss(trainer, [Example(GROUP, 0, (0.6, 0.2, 0.2))], [d, 0.0]), wanted, atol=1e-6, rtol=0)


def test_a_ranking_beside_a_pair_by_hand(tiny_folder, tokenizer):
    trainer = trainer_of(tiny_folder, tokenizer, centering=0.1)
    three = Example(Group((5,), ((1,), (2,), (3,))), 2, (0, 0, 0), ranks=(2, 1, 3))
    pair = Example(GROUP, 1, B)
    scores = [0.5, 1.0, -0.5, 0.2, 0.4]
    e = math.exp
    first = math.log(e(0.5) + e(1) + e(-0.5)) - 1.0
    second = math.log(e(0.5) + e(-0.5)) - 0.5
    wanted = (first + second + nats(0.2) + 0.1 * ((1 / 3) ** 2 + 0.3**2)) / 2
    assert_close(loss(trainer, [three, pair], scores), wanted, atol=1e-6, rtol=0)


def test_members_have_their_own_resample_of_the_pairs(tiny_folder, tokenizer):
    trainer = trainer_of(tiny_folder, tokenizer, ensemble=Ensemble(members=2))
    examples = [Example(GROUP, 0, A), Example(GROUP, 1, B)]
    scores = [[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]
    times = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    # member 0 sees the first pair twice, member 1 the second once; both over 2 pairs, then their mean
    wanted = (2 * nats(1) / 2 + nats(-2) / 2) / 2
    assert_close(loss(trainer, examples, scores, times), wanted, atol=1e-6, rtol=0)


def test_heads_start_and_end_apart_and_one_member_is_not_moved_by_anothers_pairs(tiny_folder, tokenizer):
    trainer = trainer_of(
        tiny_folder, tokenizer, ensemble=Ensemble(members=2), weights={"train": "top", "top_layers": 1}
    )
    weight = trainer.scorer.model.score.weight
    before = weight.detach().clone()
    assert not torch.equal(before[0], before[1])
    figures = trainer.step([Example(GROUP, 0, A)], times_NM=torch.tensor([[1.0, 0.0]]))
    assert math.isfinite(figures["loss"])
    assert not torch.equal(weight[0], before[0])
    assert torch.equal(weight[1], before[1])


def test_resamples_differ_between_members_and_not_between_calls():
    one, two = resample(50, 0, 0, 0), resample(50, 0, 0, 1)
    assert one != two
    assert one == resample(50, 0, 0, 0)
    assert len(set(one)) < 50  # with replacement


def test_each_criterion_has_its_head(tiny_folder, tokenizer):
    trainer = trainer_of(tiny_folder, tokenizer, criteria=("helpful", "harmless"))
    scores = torch.tensor([[1.0, 5.0], [0.0, 3.0], [7.0, 0.0], [9.0, 2.0]])
    examples = [Example(GROUP, 0, A), Example(GROUP, 0, A, criterion=1)]
    found = trainer.loss(voices(scores, examples, trainer.config), examples, 2)
    assert_close(float(found), (nats(1) + nats(-2)) / 2, atol=1e-6, rtol=0)


def test_odin_in_microbatches_is_odin_in_one(tiny_folder, tokenizer, monkeypatch):
    """The gradient of a correlation over all answers, although they are scored in parts."""
    examples = [
        Example(Group((5, i), (tuple(range(7, 9 + i)), (9, i))), i % 2, (A, B)[i % 2]) for i in range(6)
    ]
    norms = []
    for budget in (4096, 12):
        monkeypatch.setattr("accord.batches.MICROBATCH_TOKENS", budget)
        trainer = trainer_of(tiny_folder, tokenizer, length="odin", length_weight=2.0)
        norms.append(trainer.step(examples)["grad_norm"])
    assert_close(norms[0], norms[1], rtol=1e-4, atol=0)


def test_a_bare_step_reports_the_share_of_decided_pairs(plain):
    scores = torch.tensor([[1.0], [0.0], [1.0], [0.0], [0.3], [0.2]])
    examples = [Example(GROUP, 0, A), Example(GROUP, 1, B), Example(GROUP, 2, TIE)]
    assert _right(scores, examples) == (1.0, 2)
    ranked = [Example(Group((5,), ((1,), (2,), (3,))), 2, (0, 0, 0), ranks=(1, 2, 2))]
    assert _right(torch.tensor([[1.0], [2.0], [0.0]]), ranked) == (1.0, 2)


def test_a_base_that_cannot_be_packed_is_named(tmp_path, tokenizer):
    config = GPT2Config(vocab_size=259, n_embd=8, n_layer=1, n_head=1, n_positions=16, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"GPT2ForSequenceClassification.*no decoder layers"):
        reward_model.new(str(tmp_path), torch.float32, tokenizer, 0)


def test_a_model_of_several_heads_has_no_score_by_itself(tiny_folder, tokenizer):
    trainer = trainer_of(tiny_folder, tokenizer, ensemble=Ensemble(members=2))
    with pytest.raises(ValueError, match="2 heads"):
        trainer.scorer.score_groups([GROUP])
