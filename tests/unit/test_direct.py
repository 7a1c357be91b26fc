"""The direct stage against plain transformers: log-probabilities, gradients, cached reference, bad input."""

from __future__ import annotations

import logging
import math
from functools import partial

import pytest
import torch
from torch.nn.functional import logsigmoid
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from accord import batches, direct, direct_examples, models, reference_logps
from accord.anchored import Anchored
from accord.batches import Group
from accord.config import Direct, Optimizer, Sampling, Weights
from accord.direct import DirectTrainer, load_examples
from accord.formats_unpaired import Unpaired
from accord.records import BadInput, Comparison, Pair, Prompt, Response
from accord.workspace import NumericalTrouble, Workspace

PAIRS = [
    ("hi", "hello", "go away"),
    ("how are you?", "fine", "bad!"),
    ("x", "yes x", "no"),
    ("tell", "a tale", "n"),
]
ALGORITHMS = ["dpo", "cdpo", "robust_dpo", "ipo", "kto", "orpo", "simpo"]


def comparison(prompt, chosen, rejected, verdict="a"):
    return Comparison(Pair(Prompt.from_text(prompt), Response(chosen), Response(rejected)), verdict)


ROWS = [comparison(*pair) for pair in PAIRS]


def config(algorithm="dpo", **options):
    base = {
        "pairs_per_step": 4,
        "sampling": Sampling(max_new_tokens=4),
        "optimizer": Optimizer(learning_rate=1e-3),
    }
    return Direct(algorithm=algorithm, **(base | options))


@pytest.fixture
def examples(tokenizer):
    return lambda settings, rows=ROWS, answers=(): load_examples(tokenizer, rows, answers, settings, 0)


def sums(plain_logps, example, **options):
    prompt, responses = example.group.prompt, example.group.responses
    return [float(plain_logps(prompt, response, **options).sum()) for response in responses]


def test_the_preferred_answer_comes_first_whatever_side_it_was_on(tokenizer):
    turned = [comparison("hi", "go away", "hello", "b")]
    (one,), _ = direct_examples.pairs(tokenizer, turned)
    assert models.decode(tokenizer, one.group.responses[0], frozenset({2})) == "hello"
    assert one.group.responses[0][-1] == 2  # the end token is learned


@pytest.mark.parametrize("weights", [Weights(), Weights(train="top", top_layers=2), Weights(train="lora")])
@pytest.mark.parametrize("reference", ["cached", "live"])
def test_at_the_start_the_margin_is_0_and_log_probabilities_are_those_of_transformers(
    policy, tokenizer, examples, plain_logps, weights, reference
):
    settings = config(weights=weights, reference=reference, sampling=Sampling(temperature=0.8))
    batch, trainer = examples(settings), DirectTrainer(policy, tokenizer, settings, 3)
    if reference == "cached":
        trainer.know([e.group for e in batch], None)
    first = trainer.step(batch)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-5)
    expected = [sums(plain_logps, e, temperature=0.8) for e in batch]
    assert first["chosen_logp"] == pytest.approx(sum(c for c, _ in expected) / 4, abs=1e-4)
    assert first["rejected_logp"] == pytest.approx(sum(r for _, r in expected) / 4, abs=1e-4)
    second = trainer.step(batch)
    assert second["margin"] > 0
    assert second["loss"] < first["loss"]
    # the reference has not moved with the policy
    assert second["chosen_log_ratio"] == pytest.approx(second["chosen_logp"] - first["chosen_logp"], abs=1e-4)


def plain_loss(model, batch, reference_N2):
    """DPO's loss by its definition, from whole unpadded forwards with gradient."""
    terms = []
    for example, reference in zip(batch, reference_N2, strict=True):
        prompt, ratios = example.group.prompt, []
        for response, held in zip(example.group.responses, reference, strict=True):
            logp_TV = model(torch.tensor([[*prompt, *response]])).logits[0].log_softmax(-1)
            logp_T = logp_TV[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0]
            ratios.append(logp_T.sum() - held)
        terms.append(-logsigmoid(0.1 * (ratios[0] - ratios[1])))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("budget", [4096, 40])  # one microbatch, and one for each pair
def test_the_gradient_is_that_of_the_definition(
    policy, tokenizer, tiny_folder, examples, plain_logps, monkeypatch, budget
):
    monkeypatch.setattr(batches, "MICROBATCH_TOKENS", budget)
    batch = examples(config())
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    loss = plain_loss(model, batch, [sums(plain_logps, e) for e in batch])
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    figures = DirectTrainer(policy, tokenizer, config(), 1).step(batch)
    assert figures["loss"] == pytest.approx(float(loss.detach()), abs=1e-5)
    assert figures["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_raises_the_margin(policy, tokenizer, examples, algorithm):
    settings = config(algorithm)
    batch, trainer = examples(settings), DirectTrainer(policy, tokenizer, settings, 6)
    steps = [trainer.step(batch) for _ in range(6)]
    assert steps[-1]["margin"] > steps[0]["margin"]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert steps[-1]["accuracy"] == 1


@pytest.mark.parametrize("ties", ["rao_kupper", "davidson"])
def test_ties_are_learned_from_and_their_parameter_moves(policy, tokenizer, examples, ties):
    rows = [*ROWS[:2], comparison("x", "yes x", "no", "tie")]
    settings = config(ties=ties)
    batch, trainer = examples(settings, rows), DirectTrainer(policy, tokenizer, settings, 3)
    first, second = trainer.step(batch), trainer.step(batch)
    # margin 0. ν = 3: η = log 3, P(win) = 1/4, P(tie) = 8/16. Davidson, ν = 1: 1/3 each
    expected = (2 * math.log(4) + math.log(2)) / 3 if ties == "rao_kupper" else math.log(3)
    assert first["loss"] == pytest.approx(expected, abs=1e-3)
    assert second["tie_parameter"] != first["tie_parameter"]
    assert len(batch) == 3


def test_simpo_and_orpo_use_means_over_tokens(policy, tokenizer, examples, plain_logps):
    batch = examples(config("simpo"))
    means = [
        [total / len(r) for total, r in zip(sums(plain_logps, e), e.group.responses, strict=True)]
        for e in batch
    ]
    simpo = sum(math.log1p(math.exp(-(2 * (c - r) - 1))) for c, r in means) / 4
    assert DirectTrainer(policy, tokenizer, config("simpo"), 1).step(batch)["loss"] == pytest.approx(
        simpo, abs=1e-5
    )


def test_ktos_baseline_is_the_mean_over_answers_to_other_prompts(policy, tokenizer, examples, plain_logps):
    settings = config("kto")
    batch, trainer = examples(settings), DirectTrainer(policy, tokenizer, settings, 3)
    for example in batch:
        assert example.mismatched.prompt == example.group.prompt
        assert example.mismatched.responses != example.group.responses
    for group in [g for e in batch for g in (e.group, e.mismatched)]:  # a reference 3 nats below the policy
        held = [float(plain_logps(group.prompt, r).sum()) - 3.0 for r in group.responses]
        trainer.known[group] = torch.tensor(held)
    first = trainer.step(batch)
    assert first["kl_baseline"] == pytest.approx(3.0, abs=1e-4)
    assert first["loss"] == pytest.approx(0.5, abs=1e-4)  # every answer is at the baseline: 1 − σ(0)


def test_kto_learns_from_answers_that_were_judged_alone(policy, tokenizer, examples):
    answers = [
        Unpaired(Prompt.from_text(p), text, good, {}, "f")
        for p, text, good in [("hi", "hello", True), ("x", "no", False), ("y", "well", True)]
    ]
    settings = config("kto", good_weight=2.0)
    batch, trainer = examples(settings, (), answers), DirectTrainer(policy, tokenizer, settings, 4)
    steps = [trainer.step(batch) for _ in range(4)]
    assert steps[0]["loss"] == pytest.approx((2 * 0.5 * 2 + 0.5) / 3, abs=1e-4)
    assert steps[-1]["chosen_log_ratio"] > steps[-1]["rejected_log_ratio"]
    assert "margin" not in steps[0]  # there are no pairs


def test_the_reference_is_computed_once_and_kept_by_model_and_data(
    tiny_folder, tokenizer, examples, tmp_path, monkeypatch
):
    computed = []
    real = Anchored.reference_logps
    monkeypatch.setattr(
        Anchored, "reference_logps", lambda self, *given: computed.append(1) or real(self, *given)
    )
    groups = [e.group for e in examples(config())]

    def known(model, of=groups, settings=config()):
        trainer = DirectTrainer(model, tokenizer, settings, 1)
        trainer.know(of, tmp_path)
        return torch.cat([trainer.known[g] for g in of])

    first = known(models.load_policy(tiny_folder, torch.float32))
    assert computed == [1]
    assert_close(known(models.load_policy(tiny_folder, torch.float32), settings=config(beta=0.5)), first)
    assert computed == [1]  # another β: the same numbers
    other = models.load_policy(tiny_folder, torch.float32)
    with torch.no_grad():
        other.model.norm.weight[0] += 1
    assert not torch.equal(known(other), first)
    assert len(computed) == 2
    known(models.load_policy(tiny_folder, torch.float32), groups[:3])
    known(models.load_policy(tiny_folder, torch.float32), settings=config(sampling=Sampling(temperature=0.5)))
    assert len(computed) == 4
    assert len(list(tmp_path.iterdir())) == 4
    data = next(tmp_path.glob("*/logps.safetensors"))  # a damaged file is computed again
    data.write_bytes(b"nonsense")
    for path in tmp_path.iterdir():
        if path != data.parent:
            path.rename(path.with_suffix(".aside"))
    known(models.load_policy(tiny_folder, torch.float32))
    assert len(computed) == 5


def test_the_key_depends_on_every_token():
    one, two = Group((1, 2), ((3,), (4,))), Group((1,), ((2, 3), (4,)))
    key = partial(reference_logps.content_key, "model", temperature=1.0)
    assert key([one]) != key([two])
    assert key([one, two]) != key([two, one])


def test_the_key_depends_on_the_device_and_the_number_format(policy, monkeypatch):
    key = partial(reference_logps.content_key, "model", [Group((1,), ((2,),))], 1.0)
    here = key()
    assert key() == here
    monkeypatch.setattr(reference_logps.models, "device", lambda: torch.device("meta"))
    assert key() != here
    digest = reference_logps.weights_digest(policy)
    assert reference_logps.weights_digest(policy.to(torch.bfloat16)) != digest


def prompts_and_work(tmp_path):
    return [Prompt.from_text("hold out")], Workspace("direct", 0, 0, tmp_path / "states", "k", quiet=True)


def test_both_falling_is_said_with_what_to_try(policy, tokenizer, examples, tmp_path, caplog, plain_logps):
    settings = config(epochs=5, evaluate_every=100)
    batch = examples(settings)
    trainer = DirectTrainer(policy, tokenizer, settings, 5, scorer=None)
    trainer.held.evaluate = lambda *_: [{"kl": 0.0}]
    for e in batch:  # a reference far above: every log ratio is below 0
        trainer.known[e.group] = torch.tensor([s + 50 for s in sums(plain_logps, e)])
    trainer.know = lambda *_: None
    prompts, work = prompts_and_work(tmp_path)
    with caplog.at_level(logging.WARNING, logger="accord"):
        trained = direct.train(trainer, batch, (batch, ROWS), prompts, work, bootstrap=20)
    said = [r.message for r in caplog.records if "both lost probability" in r.message]
    assert len(said) == 1
    assert "the limit is 0" in caplog.text
    assert {f.name for f in trained.findings} == {"implicit_accuracy", "likelihood_shift"}
    assert trained.findings[0].figure == 1.0


def test_repeated_nan_stops_the_stage_and_keeps_the_weights(
    policy, tokenizer, examples, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        direct.direct_objective, "objective", lambda config, logp_B, *_, **__: logp_B.sum() * math.nan
    )
    settings = config(epochs=9, evaluate_every=100)
    batch, trainer = examples(settings), DirectTrainer(policy, tokenizer, settings, 9)
    trainer.held.evaluate = lambda *_: [{"kl": 0.0}]
    before = policy.model.norm.weight.clone()
    prompts, work = prompts_and_work(tmp_path)
    with pytest.raises(NumericalTrouble, match="direct stopped at step 2: 3 updates in a row"):
        direct.train(trainer, batch, (batch, ROWS), prompts, work)
    assert_close(policy.model.norm.weight, before)


def test_bad_input_is_one_sentence(tokenizer, policy):
    def load(rows, answers=(), **options):
        return load_examples(tokenizer, rows, answers, config(**options), 0)

    with pytest.raises(BadInput, match="prompts alone are enough for online algorithms only"):
        load([])
    ties = [comparison("hi", "a", "b", "tie"), comparison("x", "c", "d", "tie")]
    with pytest.raises(BadInput, match=r"all 2 comparisons are ties and direct\.ties is drop"):
        load(ties)
    assert len(load(ties, ties="davidson")) == 2
    with pytest.raises(BadInput, match="1 of 2 comparisons can be learned from, at least 2 are needed"):
        load([ROWS[0], comparison("x", "c", "d", "skip")])
    good = [Unpaired(Prompt.from_text(f"p{i}"), "yes", True, {}, "f") for i in range(3)]
    with pytest.raises(BadInput, match="all 3 answers are good ones"):
        load([], good, algorithm="kto")
    one_prompt = [comparison("hi", "a", "b"), comparison("hi", "c", "d")]
    with pytest.raises(BadInput, match="all to one prompt"):
        load(one_prompt, algorithm="kto")
    other = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=260,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    )
    with pytest.raises(BadInput, match="vocabulary of 260 tokens, the policy one of 259"):
        DirectTrainer(policy, tokenizer, config(), 1, reference=other)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"beta": 0}, "greater than 0"),
        ({"label_smoothing": 0.1}, "dpo has none: use algorithm: cdpo"),
        ({"algorithm": "ipo", "ties": "davidson"}, "ipo has no model of ties"),
    ],
)
def test_nonsense_is_refused_where_it_is_written(options, expected):
    with pytest.raises(ValueError, match=expected):
        Direct(**options)


def test_what_is_not_given_is_the_papers():
    assert config().strength == 0.1
    assert config("simpo").strength == 2.0
    assert config("cdpo").smoothing == 0.1
    assert config().smoothing == 0.0
