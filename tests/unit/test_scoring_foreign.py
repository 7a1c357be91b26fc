"""Foreign reward models, tiny and random, against forwards written here from their own projects' rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.testing import assert_close
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerFast,
)

from accord.records import BadInput, Message, Prompt
from accord.scoring.foreign import label_index, load_foreign
from tests.conftest import byte_tokenizer

PROMPTS = [
    Prompt.from_text("Why?"),
    Prompt((Message("system", "Be short."), Message("user", "Tell me more, please"))),
    Prompt((Message("user", "a"), Message("assistant", "b"), Message("user", "c"))),
]
ANSWERS = ["Because.", "", "A much longer answer than the others, with é and 你好."]


def llama_config(**more: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )


def random(kind: Any, config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(config).eval()


def saved(folder: Path, model: Any, tokenizer: Any = None) -> Path:
    model.save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    return folder


def chat_ids(tokenizer: Any, prompt: Prompt, answer: str) -> list[int]:
    """ChatML by hand, without a template engine."""
    turns = [(m.role, m.content) for m in prompt.messages] + [("assistant", answer)]
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# TRL: AutoModelForSequenceClassification, num_labels 1, the template's whole text, pad = eos


@pytest.fixture
def trl_folder(tmp_path: Path) -> Path:
    model = random(LlamaForSequenceClassification, llama_config(num_labels=1, pad_token_id=2))
    return saved(tmp_path / "trl", model)


@torch.no_grad()
def test_trl_models_score_as_an_independent_forward(trl_folder: Path) -> None:
    scorer = load_foreign(trl_folder)
    plain = AutoModelForSequenceClassification.from_pretrained(trl_folder, dtype=torch.float32).eval()
    expected = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = chat_ids(byte_tokenizer(), prompt, answer)
        hidden = plain.model(torch.tensor([ids])).last_hidden_state[0]
        # transformers' rule, as in TRL's training: the rightmost token that is not the pad token
        last = max(i for i, token in enumerate(ids) if token != 2)
        expected.append(float(plain.score.weight[0] @ hidden[last]))
    found = scorer.score(PROMPTS, ANSWERS)
    assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-5, rtol=0)
    assert len(set(found)) == 3


def test_scores_do_not_depend_on_the_batch(trl_folder: Path) -> None:
    scorer = load_foreign(trl_folder)
    together = scorer.score(PROMPTS, ANSWERS)
    alone = [scorer.score([p], [a])[0] for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-5, rtol=0)
    assert_close(torch.tensor(scorer.score(PROMPTS[::-1], ANSWERS[::-1])), torch.tensor(together[::-1]))
    assert scorer.score([], []) == []


def test_without_a_pad_token_rows_are_scored_one_by_one(tmp_path: Path) -> None:
    model = random(LlamaForSequenceClassification, llama_config(num_labels=1))
    model.config.pad_token_id = None
    scorer = load_foreign(saved(tmp_path / "nopad", model))
    assert scorer.pad is None
    ids = chat_ids(byte_tokenizer(), PROMPTS[0], ANSWERS[0])
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, 0]
    assert_close(scorer.score(PROMPTS, ANSWERS)[0], float(expected), atol=1e-5, rtol=0)


def test_rows_are_padded_with_the_id_that_the_model_looks_for(tmp_path: Path) -> None:
    """The configuration's pad id is 0, the tokenizer's is 2: only the first hides the padding."""
    model = random(LlamaForSequenceClassification, llama_config(num_labels=1, pad_token_id=0))
    scorer = load_foreign(saved(tmp_path / "pads", model))
    together = scorer.score(PROMPTS, ANSWERS)
    alone = [scorer.score([p], [a])[0] for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert_close(torch.tensor(together), torch.tensor(alone), atol=1e-5, rtol=0)


# OpenRLHF: a linear head at the last real token, mean and deviation in config.json


def openrlhf_folder(folder: Path, head: str, config: dict[str, Any]) -> tuple[Path, Any, torch.Tensor]:
    base = random(LlamaModel, llama_config(pad_token_id=2))
    weight = torch.randn(1, 32, generator=torch.Generator().manual_seed(3))
    folder.mkdir()
    state = {f"model.{name}": tensor.contiguous() for name, tensor in base.state_dict().items()}
    save_file(state | {f"{head}.weight": weight}, folder / "model.safetensors", metadata={"format": "pt"})
    kept = base.config.to_dict() | {"architectures": ["RewardModel"]} | config
    (folder / "config.json").write_text(json.dumps(kept))
    byte_tokenizer().save_pretrained(folder)
    return folder, base, weight


@torch.no_grad()
def openrlhf_forward(base: Any, weight: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """As its reward model does it: left padding, positions from the mask, the last column masked in."""
    tokenizer = byte_tokenizer()
    rows = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = chat_ids(tokenizer, prompt, answer)
        rows.append(ids[:-1])  # the template's last line break goes, so that the end token is the last
    width = max(map(len, rows)) + 3
    ids = torch.tensor([[2] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    position = mask.cumsum(-1) - 1
    position.masked_fill_(mask == 0, 1)
    hidden = base(ids, attention_mask=mask, position_ids=position).last_hidden_state
    values = (hidden @ weight.T).squeeze(-1)
    last = mask.size(1) - 1 - mask.fliplr().argmax(dim=1, keepdim=True)
    return (values.gather(1, last).squeeze(1) - mean) / std


@pytest.mark.parametrize(
    ("head", "config", "mean", "std"),
    [
        ("value_head", {"mean": 0.3, "std": 2.0, "normalize_reward": True}, 0.3, 2.0),
        ("value_head", {"mean": 0.3, "std": 2.0, "normalize_reward": False}, 0.0, 1.0),
        (
            "score",
            {},
            0.0,
            1.0,
        ),  # its newer name; transformers' default of two labels is in the configuration
        ("score", {"mean": -0.1, "std": 0.5, "normalize_reward": True}, -0.1, 0.5),
        ("reward_head", {"value_head_prefix": "reward_head"}, 0.0, 1.0),
    ],
)
def test_openrlhf_value_heads(
    tmp_path: Path, head: str, config: dict[str, Any], mean: float, std: float
) -> None:
    folder, base, weight = openrlhf_folder(tmp_path / "openrlhf", head, config)
    scorer = load_foreign(folder)
    assert scorer.kind == "value head (OpenRLHF layout)"
    expected = openrlhf_forward(base, weight, mean, std)
    assert_close(torch.tensor(scorer.score(PROMPTS, ANSWERS)), expected, atol=1e-5, rtol=0)


def test_openrlhf_text_ends_with_the_end_token(tmp_path: Path) -> None:
    folder, _, _ = openrlhf_folder(tmp_path / "openrlhf", "value_head", {})
    scorer = load_foreign(folder)
    assert scorer.encode(PROMPTS[0], "x").ids[-1] == 2
    scorer.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ids = scorer.encode(PROMPTS[0], "x").ids
    assert byte_tokenizer().decode(ids) == "Why?x <|im_end|>"  # a blank before it, as there
    assert ids[-1] == 2


def test_a_deviation_of_nought_is_refused(tmp_path: Path) -> None:
    config = {"mean": 0.3, "std": 0.0, "normalize_reward": True}
    folder, _, _ = openrlhf_folder(tmp_path / "openrlhf", "value_head", config)
    with pytest.raises(BadInput, match=r"normalize_reward with a deviation of 0\.0"):
        load_foreign(folder)


# Generic classifiers: a pair of texts, several labels


def pair_tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "why", "because", "good", "bad", "?", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    given = ["input_ids", "token_type_ids", "attention_mask"]  # as BERT's own tokenizer class has it
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=32, model_input_names=given, **names
    )


def bert(folder: Path, **more: Any) -> tuple[Path, Any]:
    config = BertConfig(
        vocab_size=10,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
        max_position_embeddings=32,
        **({"id2label": {0: "negative", 1: "neutral", 2: "positive"}} | more),
    )
    model = random(BertForSequenceClassification, config)
    return saved(folder, model, pair_tokenizer()), model


PAIR_PROMPTS = [Prompt.from_text("why ?"), Prompt.from_text("why"), PROMPTS[0]]
PAIR_ANSWERS = ["because good .", "bad", "good good good bad"]


@torch.no_grad()
def pair_logits(model: Any) -> torch.Tensor:
    tokenizer = pair_tokenizer()
    rows = []
    for prompt, answer in zip(PAIR_PROMPTS, PAIR_ANSWERS, strict=True):
        given = tokenizer(prompt.text, answer, return_tensors="pt", return_token_type_ids=True)
        assert given["token_type_ids"].sum() > 0
        rows.append(model(**given).logits[0])
    return torch.stack(rows)


@pytest.mark.parametrize("label", ["positive", 2, "2"])
def test_of_exclusive_labels_the_score_is_the_log_odds(tmp_path: Path, label: str | int) -> None:
    folder, model = bert(tmp_path / "bert")
    p = pair_logits(model).softmax(-1)[:, 2]
    scorer = load_foreign(folder, label=label)
    assert scorer.inputs == "pair"
    expected = torch.log(p) - torch.log1p(-p)
    assert_close(torch.tensor(scorer.score(PAIR_PROMPTS, PAIR_ANSWERS)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_of_independent_labels_the_score_is_the_logit(tmp_path: Path, problem: str) -> None:
    folder, model = bert(tmp_path / "bert", problem_type=problem)
    found = load_foreign(folder, label="negative").score(PAIR_PROMPTS, PAIR_ANSWERS)
    assert_close(torch.tensor(found), pair_logits(model)[:, 0], atol=1e-5, rtol=0)


def test_which_label_is_the_score_must_be_said(tmp_path: Path) -> None:
    folder, _ = bert(tmp_path / "bert")
    with pytest.raises(BadInput, match=r"3 labels \(0 'negative', 1 'neutral', 2 'positive'\): say which"):
        load_foreign(folder)
    for wrong in ("great", 3, -1):
        with pytest.raises(BadInput, match="is none of the model's labels"):
            load_foreign(folder, label=wrong)
    assert label_index(BertConfig(num_labels=1), None) == 0


# What cannot be used


def test_a_language_model_has_no_score(tiny_folder: Path) -> None:
    with pytest.raises(BadInput, match=r"lacks weights \(score\.weight\): it holds no trained reward model"):
        load_foreign(tiny_folder, label=0)


def test_inputs_beyond_the_context_are_refused_and_can_be_asked_for(trl_folder: Path) -> None:
    scorer = load_foreign(trl_folder)
    assert scorer.limit == 256
    assert scorer.fits(PROMPTS[0], "short")
    assert not scorer.fits(PROMPTS[0], "x" * 256)
    with pytest.raises(BadInput, match="tokens, the reward model takes 256: leave it out"):
        scorer.score(PROMPTS[:1], ["x" * 256])


def test_a_template_that_refuses_a_conversation(trl_folder: Path) -> None:
    scorer = load_foreign(trl_folder)
    scorer.tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    with pytest.raises(BadInput, match="cannot write a conversation: no system turns"):
        scorer.score(PROMPTS[:1], ["x"])


def test_how_prompt_and_answer_become_one_text(trl_folder: Path, tmp_path: Path) -> None:
    plain = load_foreign(trl_folder, inputs="plain")
    assert byte_tokenizer().decode(plain.encode(PROMPTS[2], "d").ids) == "a\nb\ncd<|im_end|>"
    with pytest.raises(BadInput, match="inputs is 'both': use chat, pair or plain"):
        load_foreign(trl_folder, inputs="both")  # type: ignore[arg-type]
    folder, _ = bert(tmp_path / "bert")
    with pytest.raises(BadInput, match="has no chat template"):
        load_foreign(folder, label=0, inputs="chat")
    with pytest.raises(BadInput, match="has no end token"):
        load_foreign(folder, label=0, inputs="plain")


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no reward model at \./nowhere"):
        load_foreign("./nowhere")
    with pytest.raises(BadInput, match=r"has no config\.json"):
        load_foreign(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(llama_config().to_dict()))
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="holds no weights"):
        load_foreign(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot read"):
        load_foreign(tmp_path)


def test_weights_in_pytorch_files_are_read(tmp_path: Path) -> None:
    folder, base, weight = openrlhf_folder(tmp_path / "openrlhf", "value_head", {})
    state = {f"model.{name}": tensor for name, tensor in base.state_dict().items()}
    torch.save(state | {"value_head.weight": weight}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = torch.tensor(load_foreign(folder).score(PROMPTS, ANSWERS))
    assert_close(found, openrlhf_forward(base, weight, 0.0, 1.0), atol=1e-5, rtol=0)
