"""What a run costs: operations counted by hand on a tiny model, room on the disk, lengths from the data."""

from __future__ import annotations

import pytest
import torch

from accord import estimate as costs
from accord.config import Run, Weights, validate
from accord.estimate import Sizes, checkpoint_bytes, estimate, sizes
from accord.records import Comparison, Demonstration, Pair, Prompt, Response

# Hidden 48, MLP 96, 4 layers, 2 key heads of 4, vocabulary 259: in a layer 48² (2 + 2 · 1/2) for q, o, k, v
# and 3 · 48 · 96 for the MLP.
BODY_WEIGHTS = 4 * (48**2 * 3 + 3 * 48 * 96)
HEAD_WEIGHTS = 259 * 48
FOUND = Sizes(10, 30.0, 12.0, 20.0, 0, 0.0)


@pytest.fixture
def run(tiny_folder, monkeypatch):
    monkeypatch.setattr(costs, "_matrix_speed", lambda dtype: 1e6)
    monkeypatch.setattr(costs, "EFFICIENCY", {"train": 1.0, "forward": 1.0, "sample": 1.0})

    def made(**changes):
        base = {"model": {"path": str(tiny_folder), "dtype": "float32"}, "data": {"prompts": "p"}}
        return validate(Run, base | changes)

    return made


def test_room_for_the_weights_and_one_state(run):
    count = BODY_WEIGHTS + HEAD_WEIGHTS
    assert checkpoint_bytes(run(), Weights()) == count * (4 + 12)
    assert checkpoint_bytes(run(), Weights(train="top", top_layers=1)) == count * (4 + 3)


def test_sft_by_hand(run):
    # 2 operations a weight forward, 4 backward: 6 · body on every token, 8 · head on replies (it is computed
    # twice)
    operations = 2 * (6 * BODY_WEIGHTS * 300 + 8 * HEAD_WEIGHTS * 120)
    assert estimate(run(sft={"epochs": 2}), FOUND).seconds["sft"] == pytest.approx(operations / 1e6)


def test_a_kept_trunk_is_counted_once(run):
    # half of the layers frozen: one forward of them for all epochs, three passes of the others in each
    top = run(sft={"epochs": 4, "weights": {"train": "top", "top_layers": 2}})
    body = 2 * BODY_WEIGHTS * 300 * (0.5 + 3 * 0.5 * 4)
    assert estimate(top, FOUND).seconds["sft"] == pytest.approx((body + 4 * 8 * HEAD_WEIGHTS * 120) / 1e6)


def test_rounds_repeat_all_but_sft_and_the_reward_model_learns_from_all_labels_so_far(run):
    plain = {"gate": {"probed_answers": 0}}
    one, three = (estimate(run(rounds=r, **plain), FOUND).seconds for r in (1, 3))
    assert three["sft"] == one["sft"]
    assert all(three[name] == pytest.approx(3 * one[name]) for name in ("collect", "optimize"))
    assert three["reward"] == pytest.approx((1 + 2 + 3) * one["reward"])
    # a direct method learns from all of them too; its few evaluations do not grow
    quiet = plain | {"direct": {"evaluate_every": 10_000}, "evaluate": {"prompts": 1, "best_of_prompts": 1}}
    one, two = (estimate(run(rounds=r, **quiet), FOUND).seconds["optimize"] for r in (1, 2))
    assert 2.8 * one < two < 3 * one


def test_labels_that_exist_are_followed_by_those_of_later_rounds(run):
    """100 pairs of 60 tokens, then 30 of 20 + 2 · 0.75 · 40 = 80: rounds of 6,000 and of 8,400 tokens."""
    collect = {"pairs": 30, "sampling": {"max_new_tokens": 40}}
    none = {"gate": {"probed_answers": 0}, "reward": {"epochs": 1, "test_fraction": 0.2}}
    found = Sizes(0, 0.0, 0.0, 20.0, 100, 60.0)
    seconds = estimate(run(rounds=2, collect=collect, **none), found).seconds
    # trained (6 · body a token), its scores, and a fifth of it for the gate
    operations = (6 + 2 + 2 * 0.2) * BODY_WEIGHTS * (6000 + 8400)
    assert seconds["reward"] == pytest.approx(operations / 1e6)
    prompts = 30 / (run().collect.samples_per_prompt // 2)
    answers = prompts * run().collect.samples_per_prompt * 0.75 * 40
    once = 2 * BODY_WEIGHTS * prompts * 20 + 2 * (BODY_WEIGHTS + HEAD_WEIGHTS) * answers
    assert seconds["collect"] == pytest.approx(once / 1e6)  # in round 1 alone


def test_the_control_repeats_later_rounds(run):
    asked = {"rounds": 3, "evaluate": {"fresh_pairs": 4}, "gate": {"probed_answers": 0}}
    plain, control = (estimate(run(equal_label_control=on, **asked), FOUND).seconds for on in (False, True))
    assert all(control[n] == pytest.approx(5 / 3 * plain[n]) for n in ("collect", "optimize"))
    assert control["reward"] == pytest.approx((1 + 2 * 2 + 2 * 3) / 6 * plain["reward"])
    assert control["evidence"] == pytest.approx(plain["evidence"])


def test_a_direct_methods_evaluations_are_its_own(run):
    """100 pairs in batches of 10: 10 steps, looked at after 0, 4, 8 and 10. online's steps play no part."""
    found = Sizes(0, 0.0, 0.0, 20.0, 100, 60.0)
    direct = {"pairs_per_step": 10, "evaluate_every": 4, "sampling": {"max_new_tokens": 40}}
    asked = {"direct": direct, "evaluate": {"prompts": 8, "probed_answers": 0}}
    seconds = estimate(run(**asked), found).seconds
    evaluate = run(**asked).evaluate
    read = 2 * 2 * 8 * (20 + evaluate.samples_per_prompt * 30)  # both ends, by both models
    read += 2 * 8 * (20 + evaluate.curve_samples_per_prompt * 30)  # the two evaluations in between
    read += evaluate.best_of_prompts * (20 + evaluate.best_of * 30)
    read += 0.15 * 6000 + 6000  # the reward model's test pairs; the second models' pairs
    assert seconds["evidence"] == pytest.approx(2 * BODY_WEIGHTS * read / 1e6)
    other = {"online": {"steps": 500, "evaluate_every": 1, "sampling": {"max_new_tokens": 7}}}
    assert estimate(run(**asked, **other), found).seconds == seconds


def test_labels_that_exist_need_no_samples(run):
    found = Sizes(0, 0.0, 0.0, 20.0, 100, 60.0)
    assert "collect" not in estimate(run(), found).seconds


def test_ppo_costs_more_than_rloo_in_time_and_memory(run):
    ppo, rloo = (estimate(run(online={"algorithm": a}), FOUND) for a in ("ppo", "rloo"))
    assert ppo.seconds["optimize"] > rloo.seconds["optimize"]
    assert ppo.memory_bytes > rloo.memory_bytes


def test_settings_that_cost_time_or_memory_are_counted(run):
    plain = estimate(run(), FOUND)
    for online in ({"epochs": 3}, {"minibatches": 2}, {"reference_ema": 0.9}, {"dynamic_sampling": {}}):
        assert estimate(run(online=online), FOUND).seconds["optimize"] > plain.seconds["optimize"], online
    trained = 2 * (BODY_WEIGHTS + HEAD_WEIGHTS)  # PPO: policy and critic
    average = estimate(run(online={"reference_ema": 0.9}), FOUND)
    assert average.memory_bytes - plain.memory_bytes == pytest.approx(4 * trained / 2, abs=1)
    rollback = estimate(run(online={"on_explosion": "rollback"}), FOUND)
    assert rollback.memory_bytes - plain.memory_bytes == pytest.approx(24 * trained, abs=1)


def test_lengths_are_counted_with_the_tokenizer(tokenizer):
    ask = Prompt.from_text("hi")  # a token a byte; the template adds the same to every prompt
    extra = len(tokenizer.apply_chat_template(ask.to_json(), tokenize=False, add_generation_prompt=True)) - 2
    template = extra - (len("<|im_start|>") - 1) * 2 - (len("<|im_end|>") - 1)
    pair = Comparison(Pair(ask, Response("abc"), Response("de")), "a")
    found = sizes(tokenizer, [Demonstration(ask, "four")], [ask, Prompt.from_text("hi you")], [pair])
    assert found == Sizes(1, 2 + template + 5, 5.0, 4 + template, 1, 2 + template + 5, 2)


def test_the_speed_is_measured():
    assert costs._matrix_speed(torch.float32) > 1e6


def test_evidence_is_counted_and_costs_less_without_second_models(run):
    """By hand, 4 prompts of 20 tokens, no edits, no second models: both sides and the test set."""
    none = run(evaluate={"prompts": 4, "samples_per_prompt": 2, "split_half": False, "probed_answers": 0})
    reply = none.online.sampling.max_new_tokens * 0.75
    pair_tokens = 20 + 2 * 0.75 * none.collect.sampling.max_new_tokens
    tokens = 2 * 4 * (20 + 2 * reply) + none.collect.pairs * none.reward.test_fraction * pair_tokens
    assert estimate(none, FOUND).seconds["evidence"] == pytest.approx(2 * BODY_WEIGHTS * tokens / 1e6)
    more = run(evaluate={"prompts": 4, "samples_per_prompt": 2})
    assert estimate(more, FOUND).seconds["evidence"] > estimate(none, FOUND).seconds["evidence"]
