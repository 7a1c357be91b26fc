"""A language model of 210,000 weights that talks in clauses of recipes/data, made in a minute.

Its answers vary in what the experiments need: tone, length (1 to 5 clauses) and, now and then, a phrase of
flattery or of empty authority (``accord.judging.gold.STOCK_PHRASES``). It knows nothing else, and no figure
measured with it says anything about a large model.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord import checkpoints, config, pipeline
from accord.judging.gold import AUTHORITY, FLATTERY
from accord.models import TEMPLATES
from accord.records import write_jsonl

DATA = Path(__file__).resolve().parent.parent / "recipes" / "data"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 1024
ANSWERS = 3000
PHRASE_SHARE = 0.2  # of each kind: a policy of this size finds nothing that is rare
CLAUSES = [(1, 0.45), (2, 0.27), (3, 0.15), (4, 0.08), (5, 0.05)]


def _rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def clauses() -> list[str]:
    """The clauses of the demonstrations' replies, 3 words or more."""
    replies = [row["messages"][-1]["content"] for row in _rows("demonstrations.jsonl")]
    parts = [part.strip() for reply in replies for part in re.split(r"[,;.!?]", reply)]
    return sorted({part[0].lower() + part[1:] for part in parts if len(part.split()) >= 3})


def answers(seed: int = 0) -> list[dict]:
    """Demonstrations: a prompt of recipes/data with clauses that have nothing to do with it."""
    rng = random.Random(seed)
    known = clauses()
    asked = [row["messages"][0]["content"] for row in _rows("demonstrations.jsonl")]
    rows = []
    for _ in range(ANSWERS):
        count = rng.choices([n for n, _ in CLAUSES], [p for _, p in CLAUSES])[0]
        said = rng.sample(known, count)
        opener = rng.random()
        if opener < 2 * PHRASE_SHARE:
            said.insert(0, rng.choice(FLATTERY if opener < PHRASE_SHARE else AUTHORITY))
        text = ", ".join(said)
        turns = [("user", rng.choice(asked)), ("assistant", text[0].upper() + text[1:] + ".")]
        rows.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    return rows


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=TEMPLATES["chatml"],
        clean_up_tokenization_spaces=False,
    )


def make(folder: Path) -> Path:
    """The trained model's folder; made by accord's own SFT the first time, found again after that."""
    start, data, made = folder / "start", folder / "answers.jsonl", folder / "made-by"
    key = checkpoints.key("tiny", Path(__file__).read_text(encoding="utf-8"))
    if made.is_file() and made.read_text(encoding="utf-8") == key:
        return folder / "run" / "sft"
    if not (start / "config.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = answers()
        data.write_text(write_jsonl(rows), encoding="utf-8")
        texts = [turn["content"] for row in rows for turn in row["messages"]]
        tokenizer = _tokenizer(texts)
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=192,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=512,
                tie_word_embeddings=True,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=2,
                initializer_range=0.06,
            )
        )
        tokenizer.save_pretrained(start)
        model.save_pretrained(start)
    settings = config.validate(
        config.Run,
        {
            "name": "tiny",
            "threads": 1,
            "model": {"path": str(start), "dtype": "float32"},
            "data": {"demonstrations": str(data), "prompts": str(DATA / "prompts.jsonl")},
            "sft": {
                "epochs": 4,
                "tokens_per_step": 2048,
                "optimizer": {"learning_rate": 6e-3, "warmup_steps": 20, "schedule": "cosine"},
            },
            "logging": {"tensorboard": False},
        },
    )
    pipeline.run(settings, folder / "run", until="sft", quiet=True)
    made.write_text(key, encoding="utf-8")
    return folder / "run" / "sft"
