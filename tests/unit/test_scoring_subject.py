"""A scorer under evaluation: what it is given, in which units it answers, and the end token."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from accord import reward_model
from accord.records import BadInput, Prompt, Response
from accord.scoring.function import FunctionScorer
from accord.scoring.reward_model import RewardModelScorer
from accord.scoring.subject import Subject

PROMPTS = [Prompt.from_text(text) for text in ("why", "why", "tell me", "why")]


@pytest.fixture
def scorer(tiny_folder, tokenizer):
    model = reward_model.new(str(tiny_folder), torch.float32, tokenizer, seed=0)
    model.config.accord = {"score_mean": 0.5, "score_std": 4.0}
    return RewardModelScorer(model, tokenizer)


@torch.no_grad()
def by_hand(scorer, prompt: Prompt, ids: list[int]) -> float:
    """The raw score by a plain forward over unpacked ids."""
    text = f"<|im_start|>user\n{prompt.text}<|im_end|>\n<|im_start|>assistant\n"
    asked = scorer.tokenizer(text, add_special_tokens=False)["input_ids"]
    model = scorer.model
    model.set_attn_implementation("eager")
    hidden = model.model(input_ids=torch.tensor([[*asked, *ids]]), use_cache=False).last_hidden_state[0, -1]
    return float(model.score.weight[0] @ hidden)


def test_scores_are_raw_and_see_the_end_token(scorer) -> None:
    subject = Subject(scorer, "x", "x")
    assert subject.reads_end
    answers = [Response("ab"), Response("ab", finished=False), Response("c"), Response("")]
    found = subject.score(PROMPTS, answers)
    letters = {text: scorer.tokenizer(text)["input_ids"] for text in ("ab", "c")}
    ids = [[*letters["ab"], 2], letters["ab"], [*letters["c"], 2], [2]]
    expected = [by_hand(scorer, p, one) for p, one in zip(PROMPTS, ids, strict=True)]
    assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-4, rtol=0)


def test_nothing_without_an_end_has_no_score(scorer) -> None:
    (score,) = Subject(scorer, "x", "x").score(PROMPTS[:1], [Response("", finished=False)])
    assert math.isnan(score)


def test_sampled_tokens_count_where_they_are_this_tokenizers(scorer) -> None:
    subject = Subject(scorer, "x", "x")
    a, b = scorer.tokenizer("ab")["input_ids"]
    text = subject.score(PROMPTS[:1], [Response("ab")])[0]
    own = subject.score(PROMPTS[:1], [Response("ab", tokens=(a, b))])[0]  # sampled without an end
    assert own == pytest.approx(by_hand(scorer, PROMPTS[0], [a, b]), abs=1e-4)
    assert own != pytest.approx(text, abs=1e-4)
    for other in ((5, 6, 2), (70_000, 2)):  # another vocabulary's ids
        assert subject.score(PROMPTS[:1], [Response("ab", tokens=other)])[0] == pytest.approx(text, abs=1e-5)


def test_what_fits(scorer) -> None:
    subject = Subject(scorer, "x", "x")
    assert subject.fits(PROMPTS[0], Response("ab"))
    assert not subject.fits(PROMPTS[0], Response("a" * 512))  # 512 positions, the prompt and the end besides


def test_a_scorer_of_texts() -> None:
    subject = Subject(FunctionScorer(lambda p, r: [len(text) for text in r]), "x", "x")
    assert not subject.reads_end
    assert subject.score(PROMPTS, [Response("a" * n) for n in range(4)]) == [0.0, 1.0, 2.0, 3.0]
    assert subject.fits(PROMPTS[0], Response("a" * 10_000))
    with pytest.raises(BadInput, match="1 answers have no end"):
        subject.score(PROMPTS[:1], [Response("a", finished=False)])
