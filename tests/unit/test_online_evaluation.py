"""What an evaluation's rows say, against plain transformers."""

from __future__ import annotations

import pytest
import torch

from accord import models
from accord.config import Online, Sampling
from accord.online import OnlineTrainer
from accord.scoring.function import FunctionScorer


def test_entropy_is_the_mean_over_the_answers_tokens_at_the_sampling_temperature(
    policy, plain, tokenizer, prompts
):
    sampling = Sampling(max_new_tokens=6, temperature=0.7)
    scorer = FunctionScorer(lambda prompts, texts: [0.0] * len(texts))
    trainer = OnlineTrainer(policy, tokenizer, scorer, Online(algorithm="rloo", sampling=sampling))
    for row, prompt in zip(trainer.evaluate(prompts, 1, 3), prompts, strict=True):
        asked = models.encode_prompt(tokenizer, prompt)
        assert len(row["ids"]) == row["tokens"]
        with torch.no_grad():
            logits_TV = plain(torch.tensor([[*asked, *row["ids"]]])).logits[0] / 0.7
        p_TV = logits_TV[len(asked) - 1 : -1].softmax(-1)
        assert row["entropy"] == pytest.approx(float(-(p_TV * p_TV.log()).sum(-1).mean()), abs=1e-4)
