"""Samples are plain draws from the model: frequencies, log-probabilities, end tokens and seeds."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from accord import models, products
from accord.config import Sampling, Weights
from accord.records import BadInput
from accord.sampling import local
from accord.sampling.local import LocalSampler, _Cache, inverse_cdf, truncate

PROMPTS = [(1, 40, 50, 60), (1, 99), (1, *range(60, 90)), (7,)]
ENDS = frozenset({2})


def rows(rollouts):
    return [(g.prompt, r) for g in rollouts.groups for r in g.responses]


def test_inverse_cdf_frequencies_are_the_softmax():
    # evenly spaced uniforms: each token's share is its probability to within 1/N, with no chance involved
    draw, count = torch.Generator().manual_seed(0), 10_000
    logits = torch.randn(1, 700, generator=draw) * 2  # three blocks, the last one partly filled
    logits[0, 256:512] = float("-inf")  # a whole block that cannot be drawn
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    token, logp = inverse_cdf(logits.expand(count, -1).clone(), uniform)
    expected = logits[0].double().softmax(0)
    share = torch.bincount(token, minlength=700).double() / count
    assert_close(share, expected, atol=2 / count, rtol=0)
    assert_close(logp.double(), expected.log()[token], atol=1e-5, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_inverse_cdf_at_the_edges_picks_a_possible_token(uniform):
    logits = torch.full((1, 600), float("-inf"))
    logits[0, [3, 300]] = 0.0
    token, logp = inverse_cdf(logits, torch.tensor([uniform], dtype=torch.float64))
    assert token.item() == (3 if uniform == 0 else 300)
    assert_close(logp.item(), -0.6931472, atol=1e-6, rtol=0)


@pytest.mark.parametrize("lean", [True, False])  # the decode step of our own, and the model's modules
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_sampled_logp_is_the_models(policy, plain_logps, temperature, lean, monkeypatch):
    assert local.fits(policy.model)
    monkeypatch.setattr(local, "fits", lambda base: lean)
    sampling = Sampling(max_new_tokens=24, temperature=temperature)
    rollouts = LocalSampler(policy, ENDS).sample(PROMPTS, 3, sampling, 5)
    for row, (prompt, response) in enumerate(rows(rollouts)):
        expected = plain_logps(prompt, response, temperature)
        assert_close(rollouts.sampled_logp_BT[row, : len(response)], expected, atol=1e-5, rtol=0)
        assert not rollouts.sampled_logp_BT[row, len(response) :].any()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_those_of_the_tempered_softmax(policy, plain, temperature):
    # generation settings that would change every draw if they were inherited
    policy.generation_config.top_k, policy.generation_config.temperature = 1, 0.01
    policy.generation_config.do_sample, policy.generation_config.repetition_penalty = True, 5.0
    count = 2000
    sampling = Sampling(max_new_tokens=1, temperature=temperature, batch_size=count)
    rollouts = LocalSampler(policy, ENDS).sample([PROMPTS[0]], count, sampling, 3)
    token = torch.tensor([r[0] for _, r in rows(rollouts)])
    share = torch.bincount(token, minlength=259) / count
    with torch.no_grad():
        expected = (plain(torch.tensor([PROMPTS[0]])).logits[0, -1] / temperature).softmax(-1)
    deviation = (expected * (1 - expected) / count).sqrt()
    assert ((share - expected).abs() <= 5 * deviation + 1 / count).all()


def test_all_end_tokens_stop(policy, tokenizer):
    policy.generation_config.eos_token_id = [2, 0]
    policy.config.eos_token_id = [2, 77]
    ends = models.end_tokens(policy, tokenizer)
    assert ends == {0, 2, 77}
    many = ends | set(range(100, 200))  # so that every kind of stop happens
    rollouts = LocalSampler(policy, frozenset(many)).sample(PROMPTS, 16, Sampling(max_new_tokens=12), 0)
    seen = [r for _, r in rows(rollouts)]
    for response, finished in zip(seen, rollouts.finished_B.tolist(), strict=True):
        assert not set(response[:-1]) & many
        assert finished == (response[-1] in many)
        assert finished or len(response) == 12
    assert len({r[-1] for r in seen if r[-1] in many}) > 5


def test_seed_decides_and_batch_size_does_not(policy):
    ends = frozenset(range(30))  # finished rows leave the batch at different steps
    sampler = LocalSampler(policy, ends)
    one = sampler.sample(PROMPTS, 4, Sampling(batch_size=64), 7)
    again = sampler.sample(PROMPTS, 4, Sampling(batch_size=64), 7)
    assert one.groups == again.groups
    assert torch.equal(one.sampled_logp_BT, again.sampled_logp_BT)
    for size in (1, 4, 8, 12):
        other = sampler.sample(PROMPTS, 4, Sampling(batch_size=size), 7)
        assert other.groups == one.groups
        assert_close(other.sampled_logp_BT, one.sampled_logp_BT, atol=1e-5, rtol=0)
    assert sampler.sample(PROMPTS, 4, Sampling(), 8).groups != one.groups


@pytest.mark.parametrize("slots", [64, 3])  # 3: the cache grows while the batch shrinks
def test_logps_survive_compaction_and_growth(policy, plain_logps, slots, monkeypatch):
    monkeypatch.setattr(_Cache, "SLOTS", slots)
    # ends so common that the batch shrinks at almost every step
    sampler = LocalSampler(policy, frozenset(range(60)))
    rollouts = sampler.sample(PROMPTS, 16, Sampling(max_new_tokens=20), 1)
    lengths = {len(r) for _, r in rows(rollouts)}
    assert len(lengths) > 6
    for row, (prompt, response) in enumerate(rows(rollouts)):
        expected = plain_logps(prompt, response)
        assert_close(rollouts.sampled_logp_BT[row, : len(response)], expected, atol=1e-5, rtol=0)


def test_compact_moves_the_last_rows_into_the_gaps():
    cache = _Cache(2, 5, 1, 3, 2, torch.zeros(1))
    cache.key += torch.arange(5.0)[None, :, None, None, None]
    cache.value -= torch.arange(5.0)[None, :, None, None, None]
    cache.length_B = torch.arange(5)
    cache.active = 5
    order = cache.compact([1, 3, 4])
    assert sorted(order) == [1, 3, 4]
    assert order[1] == 1  # a row that has a place keeps it
    assert cache.length_B[:3].tolist() == order
    assert cache.key[1, :3, 0, 0, 0].tolist() == order
    assert cache.value[1, :3, 0, 0, 0].tolist() == [-row for row in order]


def test_a_prompt_without_room_is_refused(policy):
    with pytest.raises(BadInput, match="context of 512"):
        LocalSampler(policy, ENDS).sample([(5,) * 500], 1, Sampling(max_new_tokens=24), 0)


def test_truncate_by_hand():
    # probabilities .5, .3, .15, .05
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = lambda **o: torch.isfinite(truncate(logits, **({"top_p": 1.0, "top_k": 0} | o)))[0].tolist()  # noqa: E731
    assert kept(top_k=2) == [True, True, False, False]
    assert kept(top_p=0.6) == [True, True, False, False]  # the first token past .6 is kept
    assert kept(top_p=0.4) == [True, False, False, False]
    assert kept() == [True] * 4


def test_truncation_says_that_ratios_are_biased(policy, caplog):
    LocalSampler(policy, ENDS).sample([PROMPTS[0]], 1, Sampling(top_k=5, max_new_tokens=2), 0)
    assert "biased" in caplog.text


SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES), True),
    "llama with biases": (LlamaForCausalLM, LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True), True),
    "llama with wide heads": (LlamaForCausalLM, LlamaConfig(**SIZES, head_dim=16), True),
    "llama with scaled positions": (
        LlamaForCausalLM,
        LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE),
        True,
    ),
    "mistral": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=None), True),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES), True),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=8), False),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_samples_with_its_own_log_probabilities(name, logps_of, tmp_path):
    kind, config, lean = FAMILIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for parameter in model.parameters():  # norm weights and biases that would be missed if left out
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    policy = models.load_policy(tmp_path, torch.float32)
    assert local.fits(policy.model) == lean
    prompts = [(1, 40, 50, 60), (1, *range(60, 90)), (7,)]
    rollouts = LocalSampler(policy, ENDS).sample(prompts, 2, Sampling(max_new_tokens=20), 3)
    plain = kind.from_pretrained(tmp_path, dtype=torch.float32).eval()
    for row, (prompt, response) in enumerate(rows(rollouts)):
        expected = logps_of(plain, prompt, response)
        assert_close(rollouts.sampled_logp_BT[row, : len(response)], expected, atol=2e-5, rtol=0)


def test_a_model_with_lora_goes_through_its_own_modules(policy):
    models.select_weights(policy, Weights(train="lora", lora_rank=2))
    assert not local.fits(policy.model)


@pytest.mark.parametrize(
    ("dtype", "atol", "rtol"), [(torch.bfloat16, 0.1, 0.01), (torch.float32, 1e-4, 1e-5)]
)
@pytest.mark.parametrize("rows", [1, 8, 64])
def test_blocked_order_changes_no_product(rows, dtype, atol, rtol):
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, generator=draw).to(dtype) for shape in ((rows, 96), (80, 96), (80,))
    )
    got = products.product(weight, bias, rows)(x)
    exact = x.double() @ weight.double().t() + bias.double()
    assert_close(got.double(), exact, atol=atol, rtol=rtol)  # bfloat16 has 8 bits
    if torch.backends.mkldnn.is_available():  # else the plain product was taken, which is as right
        has = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        assert products.blocked_order_pays(weight) == has
    assert not products.blocked_order_pays(weight.double())
