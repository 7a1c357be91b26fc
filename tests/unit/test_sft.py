"""Fine-tuning's loss is that of the reply alone, end token included, by plain transformers."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from accord import models, sft
from accord.config import Optimizer, Sft, Weights
from accord.records import BadInput, Demonstration, Prompt
from accord.workspace import Workspace

EOS = 2
TEXTS = [("hi", "hello"), ("how are you?", "fine, and you?"), ("hi", "x"), ("count", "1 2 3 4 5 6 7")]
ROWS = [Demonstration(Prompt.from_text(p), r) for p, r in TEXTS]


def trainer_of(policy, **options):
    return sft.SftTrainer(policy, Sft(**options), total_steps=10)


def test_replies_end_with_eos_and_prompts_with_the_answers_turn(tokenizer):
    groups = sft.encode(tokenizer, ROWS)
    for group, (_, reply) in zip(groups, TEXTS, strict=True):
        assert len(group.responses[0]) == len(reply) + 1
        assert group.responses[0][-1] == EOS
        assert tokenizer.decode(group.prompt).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("weights", [Weights(), Weights(train="top", top_layers=2), Weights(train="lora")])
def test_loss_is_that_of_the_reply_with_its_end(policy, plain_logps, tokenizer, weights):
    groups = sft.encode(tokenizer, ROWS)
    logp = torch.cat([plain_logps(g.prompt, g.responses[0]) for g in groups])
    assert len(logp) == sum(len(reply) + 1 for _, reply in TEXTS)
    figures = trainer_of(policy, weights=weights).step(groups)
    assert_close(figures["loss"], float(-logp.mean()), atol=1e-5, rtol=0)


def test_gradient_norm_is_that_of_the_plain_loss(policy, tiny_folder, tokenizer):
    group = sft.encode(tokenizer, ROWS)[1]
    model = models.AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    ids = torch.tensor([[*group.prompt, *group.responses[0]]])
    labels = ids.clone()
    labels[:, : len(group.prompt)] = -100
    model(ids, labels=labels).loss.backward()  # transformers shifts by itself
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert_close(trainer_of(policy).step([group])["grad_norm"], float(norm), atol=0, rtol=1e-4)


def test_plan_is_a_pure_function_that_covers_every_epoch(tokenizer):
    groups = sft.encode(tokenizer, ROWS * 5)
    config = Sft(epochs=3, tokens_per_step=150)
    steps = sft.plan(groups, config, 7)
    assert steps == sft.plan(groups, config, 7)
    assert steps != sft.plan(groups, config, 8)
    flat = [i for step in steps for i in step]
    epochs = [flat[i : i + 20] for i in (0, 20, 40)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    for step in steps:
        tokens = sum(len(groups[i].prompt) + len(groups[i].responses[0]) for i in step)
        assert tokens <= 150 or len(step) == 1


def test_training_learns_the_replies(policy, tokenizer):
    config = Sft(epochs=15, tokens_per_step=400, optimizer=Optimizer(learning_rate=1e-2))
    figures = sft.train(policy, tokenizer, ROWS, config, Workspace("sft", quiet=True))
    assert figures["last_loss"] < figures["first_loss"] / 2


@pytest.mark.parametrize(
    ("rows", "limits", "words"),
    [
        ([], {}, "no demonstrations"),
        ([ROWS[0], Demonstration(Prompt.from_text("hi"), "")], {}, "demonstration 2 has an empty reply"),
        (ROWS, {"max_response": 10}, r"demonstration 2 has \d+ \+ 15 tokens"),
    ],
)
def test_unusable_demonstrations_are_refused(tokenizer, rows, limits, words):
    with pytest.raises(BadInput, match=words):
        sft.encode(tokenizer, rows, **limits)
