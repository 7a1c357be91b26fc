"""The algorithms inside the trainer: credit by hand, gradients by other routes, choices that are refused."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch.testing import assert_close

from accord import batches, models, towers
from accord.config import Aggregation, Online, Optimizer, Weights
from accord.drawn_rollouts import StaleRollouts
from accord.online import OnlineTrainer
from accord.records import BadInput
from accord.rewards import WeightedScorer
from accord.scoring.ensemble import TextEnsembleScorer
from accord.scoring.function import FunctionScorer
from accord.scoring.reward_model import RewardModelScorer

from .test_online import ascii_share, by_order, config, encoded, sample, trainer_of

NEW = ["reinforce", "reinforce++", "gspo", "online_dpo"]


def settings_of(algorithm, **options):
    base = {"gspo": {"aggregation": "sequence"}}.get(algorithm, {})
    return config(algorithm, **(base | options))


@pytest.mark.parametrize("algorithm", NEW)
def test_one_step_with_minibatches_and_microbatches(policy, tokenizer, prompts, algorithm, monkeypatch):
    monkeypatch.setattr(batches, "MICROBATCH_TOKENS", 60)
    settings = settings_of(algorithm, minibatches=2, epochs=2, weights=Weights(train="top", top_layers=2))
    trainer = trainer_of(policy, tokenizer, settings, by_order)
    figures = trainer.step(prompts, encoded(tokenizer, prompts))
    assert figures["ratio_max_error"] <= 1e-5
    assert figures["grad_norm"] > 0
    assert figures["staleness"] == 0
    assert 0 < figures["effective_share"] <= 1


@pytest.mark.parametrize("algorithm", NEW)
def test_a_trivial_reward_goes_up(policy, tokenizer, prompts, algorithm):
    settings = settings_of(
        algorithm,
        samples_per_prompt=16,
        steps=12,
        optimizer=Optimizer(learning_rate=3e-3, epsilon=1e-5),
        kl={"coefficient": 0.1 if algorithm == "online_dpo" else 0.01},
    )
    trainer = trainer_of(policy, tokenizer, settings)
    scores = [trainer.step(prompts, encoded(tokenizer, prompts))["score_mean"] for _ in range(settings.steps)]
    assert sum(scores[-3:]) / 3 > sum(scores[:2]) / 2 + 0.1


def gradient_of(trainer, prompts, rollouts):
    """Gradient of the head (tied to the embedding) by one whole batch, before any optimiser step."""
    scored = trainer.score(prompts, rollouts)
    kept = []
    trainer.execution.step = lambda: kept.append(towers.head_of(trainer.policy).grad.clone()) or 0.0
    trainer.update(scored)
    towers.head_of(trainer.policy).grad = None
    return kept[0], scored


def test_kl_as_a_loss_has_the_gradient_of_kl_in_the_reward_without_baseline(
    policy, tokenizer, prompts, tiny_folder
):
    """REINFORCE against the baseline 0, a policy away from its reference, two aggregations."""
    for aggregation in ("token", "constant"):
        found = []
        for placement in ("reward", "loss"):
            policy = models.load_policy(tiny_folder, torch.float32)
            settings = config(
                "reinforce",
                baseline="running",
                aggregation=aggregation,
                kl={"placement": placement, "coefficient": 0.3},
            )
            trainer = trainer_of(policy, tokenizer, settings, by_order)
            trainer.credit.baseline = 0.0
            with torch.no_grad():
                policy.model.layers[0].mlp.down_proj.weight.mul_(1.5)
            gradient, scored = gradient_of(trainer, prompts, sample(trainer, encoded(tokenizer, prompts)))
            assert scored.kl_BT.abs().max() > 0.01
            found.append(gradient)
        assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_reinforce_plus_plus_credit_by_hand(policy, tokenizer, prompts):
    settings = config("reinforce++", kl={"placement": "none"})
    trainer = trainer_of(policy, tokenizer, settings, by_order)
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    # without KL: the score at every token, whitened over all tokens of the batch
    score = torch.tensor(by_order(prompts, range(16)))
    weight = scored.packed.length_B.float()
    mean = (score * weight).sum() / weight.sum()
    deviation = ((score - mean).square() * weight).sum().div(weight.sum()).sqrt()
    mask = scored.packed.mask_BT
    assert_close(scored.advantage_BT, ((score - mean) / deviation)[:, None] * mask, atol=1e-4, rtol=1e-4)


def test_online_dpo_takes_best_and_worst_and_its_gradient_is_dpos(policy, tokenizer, prompts):
    for labels in ("hard", "soft"):
        settings = config("online_dpo", pair_labels=labels, kl={"coefficient": 0.5})
        trainer = trainer_of(policy, tokenizer, settings, by_order)
        scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
        # scores 0 1 4 2 | 2 4 1 0 | 1 4 2 2 | 4 1 0 1: the first of equals
        assert scored.pair_P2.tolist() == [[2, 0], [5, 7], [9, 8], [12, 14]]
        figures = trainer.update(scored)
        # at the reference every margin is 0, the loss ln 2 whatever the labels
        assert figures["policy_loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert figures["grad_norm"] > 0


def test_online_dpo_leaves_groups_without_a_pair_out(policy, tokenizer, prompts):
    trainer = trainer_of(policy, tokenizer, config("online_dpo"), lambda p, t: [1.0] * len(t))
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    assert scored.figures["no_spread_share"] == 1
    figures = trainer.update(scored)
    assert (figures["policy_loss"], figures["grad_norm"]) == (0, 0)


def test_running_baseline_is_the_batches_before(policy, tokenizer, prompts):
    settings = config("reinforce", baseline="running", kl={"placement": "none"})
    trainer = trainer_of(policy, tokenizer, settings, by_order)
    scores = torch.tensor(by_order(prompts, range(16)))
    for expected in (None, float(scores.mean())):
        scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
        others = (scores.sum() - scores) / 15 if expected is None else expected
        assert_close(scored.advantage_BT[:, 0], scores - others, atol=1e-4, rtol=0)
    assert trainer.credit.baseline == pytest.approx(float(scores.mean()), abs=1e-4)


def test_the_average_is_the_reference_of_the_penalty_and_sft_that_of_the_report(policy, tokenizer, prompts):
    for weights in (Weights(), Weights(train="top", top_layers=2), Weights(train="lora")):
        settings = config("rloo", reference_ema=0.5, weights=weights, optimizer={"learning_rate": 1e-2})
        trainer = trainer_of(policy, tokenizer, settings, by_order)
        first = trainer.step(prompts, encoded(tokenizer, prompts))
        assert first["kl_penalised"] == pytest.approx(first["kl"], abs=1e-5)
        one = [p.detach().clone() for p in trainer.average._trained]
        mean = [m.clone() for m in trainer.average.state()]
        second = trainer.step(prompts, encoded(tokenizer, prompts))
        assert abs(second["kl_penalised"]) < abs(second["kl"])  # the average has gone half of the way
        for now, before, parameter in zip(
            trainer.average.state(), mean, trainer.average._trained, strict=True
        ):
            assert_close(now, 0.5 * before + 0.5 * parameter.detach())
        assert any(not torch.equal(a, b) for a, b in zip(one, trainer.average._trained, strict=True))


def test_stale_rollouts_are_refused_beyond_the_bound(policy, tokenizer, prompts):
    tokens = encoded(tokenizer, prompts)
    trainer = trainer_of(policy, tokenizer, config())
    old = sample(trainer, tokens)
    trainer.step(prompts, tokens)
    with pytest.raises(StaleRollouts, match=r"policy v0, the trainer is at v1, online.max_staleness is 0"):
        trainer.score(prompts, old)
    allowed = trainer_of(policy, tokenizer, config(max_staleness=1))
    allowed.step(prompts, tokens)
    scored = allowed.score(prompts, old)
    assert scored.figures["staleness"] == 1
    assert scored.importance_BT.max() <= 2.0


def test_dynamic_sampling_draws_again_and_leaves_out(policy, tokenizer, prompts):
    calls = []

    def flat_at_first(asked, texts):
        """Prompt "hi" never has spread, "x" only from its second draw on, the others always."""
        calls.append([p.text for p in asked])
        again = len(calls) > 1
        return [
            float(i % 2) if p.text not in ("hi", "x") or (p.text == "x" and again) else 1.0
            for i, p in enumerate(asked)
        ]

    settings = config("grpo", dynamic_sampling={"tries": 3}, samples_per_prompt=2)
    trainer = trainer_of(policy, tokenizer, settings, flat_at_first)
    drawn = trainer.draw(prompts, encoded(tokenizer, prompts))
    assert drawn.kept == (1, 2, 3)
    assert [sorted(set(names)) for names in calls] == [
        ["hi", "how are you?", "tell me a story", "x"],
        ["hi", "x"],
        ["hi"],
    ]
    assert drawn.figures == {"left_out_share": 0.25, "drawn_again": 3.0, "tries": 3.0}
    assert drawn.rollouts.response_count == 6
    figures = trainer.step(prompts, encoded(tokenizer, prompts))
    assert figures["left_out_share"] == 0.25
    flat = trainer_of(policy, tokenizer, settings, lambda p, t: [1.0] * len(t))
    assert flat.draw(prompts, encoded(tokenizer, prompts)).kept == (0, 1, 2, 3)


def two_rewards(policy, tokenizer, scorer, **options):
    settings = config(rewards=[{"path": "m:length", "weight": -2.0}], **options)
    other = WeightedScorer("length", FunctionScorer(scorer, skip_failures=True), -2.0)
    return OnlineTrainer(policy, tokenizer, FunctionScorer(by_order), settings, others=[other], seed=1)


def test_several_rewards_shaping_and_penalties_by_hand(policy, tokenizer, prompts):
    trainer = two_rewards(
        policy,
        tokenizer,
        lambda p, t: [0.5] * len(t),
        shaping={"kind": "clip", "centre": 0.0, "limit": 2.0},
        length_penalty=0.25,
        overlong={"buffer_tokens": 4, "penalty": 1.0},
    )
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    length = scored.packed.length_B.float()
    score = (torch.tensor(by_order(prompts, range(16))) - 1.0).clamp(-2, 2)
    expected = score - 0.25 * length - ((length - 4) / 4).clamp(0, 1)
    assert_close(scored.score_B, expected)
    assert scored.figures["reward_length"] == 0.5
    assert scored.figures["paid_mean"] == pytest.approx(float(expected.mean()), abs=1e-5)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "reinforce", "reinforce++"])
def test_a_response_that_cannot_be_scored_is_left_out(policy, tokenizer, prompts, algorithm):
    trainer = two_rewards(
        policy, tokenizer, lambda p, t: [math.nan, *[0.0] * (len(t) - 1)], algorithm=algorithm
    )
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    assert not scored.advantage_BT[0].any()
    assert not scored.importance_BT[0].any()
    assert scored.figures["unscored_share"] == pytest.approx(1 / 16)
    if algorithm == "rloo":  # the siblings' scores are 1, 4, 2: 1 − 3, 4 − 1.5, 2 − 2.5
        assert_close(scored.advantage_BT[1:4, 0], torch.tensor([-2.0, 2.5, -0.5]), atol=1e-4, rtol=0)
    assert math.isfinite(trainer.update(scored)["grad_norm"])


def test_a_constraint_raises_its_multiplier_until_it_is_kept(policy, tokenizer, prompts):
    constraint = {"path": "m:f", "threshold": 1.0, "rate": 0.5}
    settings = config(constraint=constraint)
    scorer = FunctionScorer(lambda p, t: [0.0] * len(t))
    trainer = OnlineTrainer(policy, tokenizer, FunctionScorer(by_order), settings, constrained=scorer, seed=1)
    for expected in (0.0, 0.5, 1.0):
        figures = trainer.step(prompts, encoded(tokenizer, prompts))
        assert figures["constraint_multiplier"] == expected
    again = OnlineTrainer(policy, tokenizer, FunctionScorer(by_order), settings, constrained=scorer, seed=1)
    again.load(trainer.state())
    assert again.rewards.multiplier.multiplier == 1.5
    with pytest.raises(BadInput, match="go together"):
        OnlineTrainer(policy, tokenizer, FunctionScorer(by_order), settings)


def test_gradient_noise_needs_two_microbatches(policy, tokenizer, prompts, monkeypatch):
    trainer = trainer_of(policy, tokenizer, config(), by_order)
    assert "gradient_noise" not in trainer.step(prompts, encoded(tokenizer, prompts))
    monkeypatch.setattr(batches, "MICROBATCH_TOKENS", 60)
    trainer = trainer_of(policy, tokenizer, config(), by_order)
    norms = []
    plain = trainer.noise.update
    trainer.noise.update = lambda *given: norms.append(given) or plain(*given)
    figures = trainer.step(prompts, encoded(tokenizer, prompts))
    ((part_norm, part, whole_norm, whole),) = norms
    assert (part, whole) == (8, 16)
    assert whole_norm == figures["grad_norm"]
    assert part_norm > 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kl": {"placement": "loss", "estimator": "k1"}}, "expected gradient is zero: use k2"),
        ({"kl": {"placement": "loss", "estimator": "k3"}}, r"gradient is that of KL\(reference"),
        ({"kl": {"placement": "reward", "estimator": "k2"}}, "use k1, or placement: loss"),
        ({"kl": {"placement": "none", "controller": "budget"}}, "steers nothing"),
        ({"kl": {"coefficient": 0}}, "to leave the penalty out, set placement: none"),
        ({"kl": {"coefficient": -0.1}}, "must be above 0"),
        ({"algorithm": "gspo"}, "set aggregation: sequence"),
        ({"algorithm": "online_dpo", "kl": {"placement": "loss"}}, "holds the KL in its own loss"),
        ({"algorithm": "gspo", "aggregation": "sequence", "clip_high": 0.3}, "sequence_clip"),
        ({"algorithm": "online_dpo", "samples_per_prompt": 1}, "samples_per_prompt is 1"),
        ({"dynamic_sampling": {}, "samples_per_prompt": 1}, "spread between a prompt's samples"),
        ({"algorithm": "reinforce", "samples_per_prompt": 1, "prompts_per_step": 1}, "no baseline"),
        (
            {"overlong": {"buffer_tokens": 25}},
            r"buffer_tokens is 25, more than sampling.max_new_tokens \(24\)",
        ),
        ({"reward_weight": 0}, "nothing would be optimised"),
        ({"reference_ema": 1.0}, "less than 1"),
        ({"reference_ema": 0.9, "kl": {"placement": "none"}}, "nothing is held to the average"),
    ],
)
def test_choices_that_do_not_fit_are_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        Online(**values)


def test_right_choices_are_taken():
    assert Online(kl={"placement": "loss", "estimator": "k2"}).kl.placement == "loss"
    assert Online(algorithm="gspo", aggregation="sequence").sequence_clip == (3e-4, 4e-4)


def test_all_rewards_equal_is_said_and_teaches_nothing(policy, tokenizer, prompts):
    """PPO, REINFORCE++ and the group algorithms: advantages of exactly equal scores are 0 up to rounding."""
    for algorithm in ("rloo", "grpo", "reinforce", "reinforce++"):
        settings = config(algorithm, kl={"placement": "none"})
        trainer = trainer_of(policy, tokenizer, settings, lambda p, t: [1.0] * len(t))
        scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
        assert scored.advantage_BT.abs().max() <= 1e-5


def test_a_reward_function_that_fails_is_one_sentence(policy, tokenizer, prompts):
    tokens = encoded(tokenizer, prompts)
    for function, said in (
        (lambda p, t: 1 / 0, "the reward function raised ZeroDivisionError"),
        (lambda p, t: [1.0], "gave 1 scores for 16 responses"),
        (lambda p, t: [math.inf] * len(t), "gave inf for response 0"),
    ):
        with pytest.raises(BadInput, match=said):
            trainer_of(policy, tokenizer, config(), function).step(prompts, tokens)
    nothing = two_rewards(policy, tokenizer, lambda p, t: [math.nan] * len(t))
    with pytest.raises(BadInput, match="no response of the step could be scored"):
        nothing.step(prompts, tokens)


def test_ascii_share_is_the_trivial_reward():
    assert ascii_share(None, ["ab", "aé"]) == [1.0, 0.5]


def test_members_of_an_ensemble_have_figures_of_their_own(policy, tokenizer, prompts):
    first = FunctionScorer(lambda p, t: [float(i) for i in range(len(t))])
    second = FunctionScorer(lambda p, t: [2.0 * i + 1 for i in range(len(t))])
    worst = TextEnsembleScorer([first, second], Aggregation(rule="worst"))
    trainer = OnlineTrainer(policy, tokenizer, worst, config(), seed=1)
    scored = trainer.score(prompts, sample(trainer, encoded(tokenizer, prompts)))
    assert_close(scored.score_B, torch.arange(16.0))  # the worst case
    assert (scored.figures["member_0"], scored.figures["member_1"]) == (7.5, 16.0)
    assert scored.figures["member_spread"] == 4.25  # half the difference i + 1, on average


def test_a_reward_model_of_another_vocabulary_is_given_text(policy, tokenizer, tiny_folder, prompts):
    reward = models.new_reward(tiny_folder, torch.float32, tokenizer, torch.Generator().manual_seed(0))
    other = type(tokenizer).from_pretrained(tiny_folder)
    other.add_tokens(["<|more|>"])
    theirs = RewardModelScorer(reward, other)
    trainer = OnlineTrainer(policy, tokenizer, theirs, config())
    assert not trainer.scores.reads_tokens
    rollouts = sample(trainer, encoded(tokenizer, prompts))
    scored = trainer.score(prompts, rollouts)
    assert_close(scored.score_B, torch.tensor(theirs.score(*trainer.scores.texts(prompts, rollouts))))
