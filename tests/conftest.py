"""A tiny random Llama with SmolLM2's special-token quirks, and its plain transformers twin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord import models
from accord.records import Message, Prompt

torch.set_num_threads(1)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte; bos <|im_start|>, eos and pad <|im_end|>, as in SmolLM2-Instruct."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=models.TEMPLATES["chatml"],
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, 4 layers, 4 heads on 2 key heads, tied embeddings, about 100,000 float32 parameters."""
    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.1,  # far from uniform, so that attention and positions matter
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        with torch.no_grad():  # transformers zeroes the pad row, which is the end token's here
            model.model.embed_tokens.weight[2].normal_(0, 0.1)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tiny_folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(tiny_folder)


@pytest.fixture
def policy(tiny_folder: Path):
    """A fresh one each time: tests train it."""
    return models.load_policy(tiny_folder, torch.float32)


@pytest.fixture(scope="session")
def plain(tiny_folder: Path):
    """The same weights through plain transformers, never touched by accord."""
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()


def reference_logps(
    model, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float = 1.0
) -> Tensor:
    """log π of each response token by one unpadded transformers forward and log_softmax."""
    with torch.no_grad():
        logits_TV = model(torch.tensor([[*prompt, *response]])).logits[0]
    logp_TV = (logits_TV / temperature).log_softmax(-1)
    return logp_TV[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0]


@pytest.fixture(scope="session")
def plain_logps(plain) -> Callable[..., Tensor]:
    return lambda prompt, response, temperature=1.0: reference_logps(plain, prompt, response, temperature)


@pytest.fixture(scope="session")
def logps_of() -> Callable[..., Tensor]:
    """(model, prompt, response, temperature) → log-probabilities, for any plain transformers model."""
    return reference_logps


def ask(text: str) -> Prompt:
    return Prompt((Message("user", text),))


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    return [ask(text) for text in ("hi", "how are you?", "tell me a story", "x")]
