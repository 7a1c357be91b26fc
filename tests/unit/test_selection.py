"""Strategies take the prompts that the reward model learns from, random pairs those that it is tested on."""

from __future__ import annotations

import numpy as np
import pytest

from accord import probe
from accord.config import Collect, Run, validate
from accord.records import BadInput, Prompt, Response
from accord.selection import bootstrap_heads, pairs_of


def answers(prompts=10, count=4):
    return [
        (Prompt.from_text(f"ask {i}"), [Response(f"answer {k} of {i}", (k + 1,)) for k in range(count)])
        for i in range(prompts)
    ]


def disagreeing(prompts=10, count=4):
    """Two members that agree on all answers but the last two, which they order the other way round."""
    first = np.arange(count, dtype=float)
    second = first.copy()
    second[-2:] = second[-2:][::-1]
    return [np.stack([first, second]) * 3 for _ in range(prompts)]


def test_the_strategy_takes_what_the_members_disagree_about_and_the_test_prompts_stay_random():
    asked = answers()
    tested = {prompt.key for prompt, _ in asked[:4]}
    config = Collect(strategy="disagreement", random_share=0.4)
    pairs = pairs_of(asked, disagreeing(), 10, config, tested, 0, 1)
    on_test = [(p, a, b) for p, a, b in pairs if p.key in tested]
    chosen = [(p, a, b) for p, a, b in pairs if p.key not in tested]
    assert len(on_test) == 4
    assert len(chosen) == 6
    assert {p.key for p, _, _ in chosen} == {p.key for p, _ in asked[4:]}  # one of each prompt
    for prompt, a, b in chosen:
        assert {a.text[:8], b.text[:8]} == {"answer 2", "answer 3"}, prompt
    other = pairs_of(asked, disagreeing(), 10, Collect(strategy="random", random_share=0.4), tested, 0, 1)
    assert [one for one in other if one[0].key in tested] == on_test  # the same whatever the strategy


def test_answers_that_are_the_same_or_empty_are_no_candidates():
    asked = answers(prompts=2)
    asked[0] = (
        asked[0][0],
        [Response("same", (1,)), Response("same", (1,)), Response(" ", (2,)), Response("x", (3,))],
    )
    pairs = pairs_of(asked, disagreeing(prompts=2), 12, Collect(strategy="information_gain"), (), 0, 1)
    texts = [{a.text, b.text} for prompt, a, b in pairs if prompt == asked[0][0]]
    assert texts == [{"same", "x"}, {"same", "x"}]


def test_without_test_prompts_all_go_to_the_strategy():
    asked = answers()
    pairs = pairs_of(asked, disagreeing(), 10, Collect(strategy="disagreement"), (), 0, 1)
    assert len(pairs) == 10
    assert all({a.text[:8], b.text[:8]} == {"answer 2", "answer 3"} for _, a, b in pairs)


def test_heads_of_bootstrap_draws_agree_where_labels_are_many_and_spread_where_there_are_none():
    """Feature 0 decides every pair, feature 1 never differs, so nothing is known of it."""
    rng = np.random.default_rng(0)
    a_NH, b_NH = (rng.normal(size=(60, 3)) for _ in range(2))
    a_NH[:, 2] = b_NH[:, 2]
    won_N = a_NH[:, 0] + 0.3 * rng.normal(size=60) > b_NH[:, 0]
    prompts = [f"p{i // 2}" for i in range(60)]
    head_EH = bootstrap_heads(a_NH, b_NH, won_N, prompts, 6, seed=0)
    assert head_EH.shape == (6, 3)
    assert (head_EH[:, 0] > 0).all()
    assert np.allclose(head_EH[:, 2], 0, atol=1e-9)
    assert len({float(one) for one in head_EH[:, 0]}) == 6  # each of its own draw
    assert np.array_equal(head_EH, bootstrap_heads(a_NH, b_NH, won_N, prompts, 6, seed=0))
    whole = probe.fit(a_NH, b_NH, won_N, prompts)
    assert probe.fit_one(a_NH, b_NH, won_N, whole.strength) == pytest.approx(whole.weight_H)


def test_a_strategy_without_a_later_round_is_refused():
    with pytest.raises(BadInput, match="rounds is 1 and the first round has no labels to choose by"):
        validate(Run, {"collect": {"strategy": "information_gain"}})
    assert validate(Run, {"collect": {"strategy": "information_gain"}, "rounds": 2}).rounds == 2
