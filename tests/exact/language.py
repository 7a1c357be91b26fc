"""A language so small that every response to every prompt can be listed, and with it the optimum.

The objective E[r(x, y)] − β KL(π ‖ π_ref) is greatest at π*(y|x) ∝ π_ref(y|x) exp(r(x, y)/β) (Rafailov et al.
2023, eq. 4). Responses are one to ``LONGEST`` tokens; those that reach ``LONGEST`` without an end token are
unfinished, and are responses as well, so that the probabilities of a prompt sum to 1.

Probabilities are read through plain transformers with eager attention, one padded batch, none of accord's
code: what is measured does not depend on what is tested.

Axes: P prompts, Y responses (the same list for each prompt).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord import models
from accord.records import Prompt

END = 0  # end and pad are one id, as in many chat models
LETTERS = "abcd"
LONGEST = 2  # tokens of a response, the end token among them
PROMPTS = ("ab", "dbc")  # of different lengths: positions and packing matter


def responses() -> list[tuple[int, ...]]:
    """All of them: those that end first, by length, then those that never do."""
    letters = range(1, len(LETTERS) + 1)
    ended = [(*body, END) for n in range(LONGEST) for body in itertools.product(letters, repeat=n)]
    return [*ended, *itertools.product(letters, repeat=LONGEST)]


def text(response: tuple[int, ...]) -> str:
    """A response's text; no two responses have the same."""
    return "".join(LETTERS[token - 1] for token in response if token != END)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter. The unknown token's id lies outside the model's vocabulary: nothing samples it."""
    vocabulary = {token: i for i, token in enumerate(["<end>", *LETTERS, "<unk>"])}
    made = Tokenizer(BPE(vocabulary, []))
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<end>", "<unk>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<unk>",
        chat_template=models.TEMPLATES["plain"],
        clean_up_tokenization_spaces=False,
    )


def save_policy(folder: Path, seed: int, width: int = 64) -> None:
    """A random transformer over the language, far from uniform, as a Hugging Face folder."""
    config = LlamaConfig(
        vocab_size=len(LETTERS) + 1,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=None,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            model.lm_head.weight.mul_(0.4)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def log_probabilities(policy: Any, temperature: float = 1.0) -> Tensor:
    """log π(y|x) of every response to every prompt, (P, Y) float64, by plain transformers."""
    plain = LlamaForCausalLM(policy.config.__class__.from_dict(policy.config.to_dict()))
    plain.set_attn_implementation("eager")
    plain.load_state_dict(policy.state_dict())
    plain = plain.double().eval()
    every = responses()
    rows = []
    for prompt in PROMPTS:
        asked = [LETTERS.index(letter) + 1 for letter in prompt]
        ids = torch.tensor([[*asked, *y, *[END] * (LONGEST - len(y))] for y in every])  # padded on the right
        with torch.no_grad():
            logp_YTV = (plain(ids).logits[:, len(asked) - 1 : -1] / temperature).log_softmax(-1)
        logp_YT = logp_YTV.gather(2, ids[:, len(asked) :, None])[..., 0]
        length_Y = torch.tensor([len(y) for y in every])
        rows.append((logp_YT * (torch.arange(LONGEST) < length_Y[:, None])).sum(1))
    return torch.stack(rows)


@dataclass(frozen=True)
class World:
    """Reference, rewards and β; everything else follows.

    ``reward_PY`` is what a response is paid, all in all: a penalty for not ending is part of it.
    """

    reference_PY: Tensor
    reward_PY: Tensor
    beta: float

    @property
    def optimum_PY(self) -> Tensor:
        """log π*."""
        return torch.log_softmax(self.reference_PY + self.reward_PY / self.beta, 1)

    def optimum_of_scaled_rewards(self) -> Tensor:
        """log π where rewards are divided by their deviation under π itself, as GRPO does, and the KL is not.

        π ∝ π_ref exp(r / (β σ(π))): the optimum of another penalty, β σ, for each prompt its own. Found by
        going from one to the other until nothing moves.
        """
        log_p_PY = self.reference_PY
        for _ in range(200):
            p_PY = log_p_PY.exp()
            mean_P1 = (p_PY * self.reward_PY).sum(1, keepdim=True)
            deviation_P1 = (p_PY * (self.reward_PY - mean_P1).square()).sum(1, keepdim=True).sqrt()
            log_p_PY = torch.log_softmax(self.reference_PY + self.reward_PY / (self.beta * deviation_P1), 1)
        return log_p_PY

    def scorer(self, penalty: float = 0.0) -> Table:
        """The reward without what the trainer itself takes off unfinished responses."""
        unfinished_Y = torch.tensor([y[-1] != END for y in responses()])
        return Table(self.reward_PY + penalty * unfinished_Y)


class Table:
    """A Scorer that looks scores up by prompt and text."""

    def __init__(self, reward_PY: Tensor) -> None:
        every = [text(y) for y in responses()]
        self.score_of = {
            (prompt, y): float(score)
            for prompt, row in zip(PROMPTS, reward_PY, strict=True)
            for y, score in zip(every, row, strict=True)
        }

    def score(self, prompts: Any, answers: Any) -> list[float]:
        return [self.score_of[prompt.text, answer] for prompt, answer in zip(prompts, answers, strict=True)]


def random_rewards(seed: int, deviation: float) -> Tensor:
    """Normal rewards about a level that is not 0."""
    rng = torch.Generator().manual_seed(seed)
    return 0.3 + deviation * torch.randn(len(PROMPTS), len(responses()), generator=rng, dtype=torch.float64)


def kl(log_p_PY: Tensor, log_q_PY: Tensor) -> float:
    """KL(p ‖ q) in nats of the prompt where it is largest."""
    return float((log_p_PY.exp() * (log_p_PY - log_q_PY)).sum(1).max())


def prompt_records() -> list[Prompt]:
    return [Prompt.from_text(text) for text in PROMPTS]
