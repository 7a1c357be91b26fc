"""Sameness across prompts: similarity by hand and by scikit-learn, jackknife against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from accord.diagnostics.entropy import entropy_shift
from accord.diagnostics.length import ngrams, words
from accord.diagnostics.mode_collapse import mode_collapse, modes, nearest_elsewhere, similarities
from accord.diagnostics.statistics import jackknife_interval
from accord.records import BadInput

TEXTS = ["a b c", "a b d", "x y", "a b c", "", "?!"]


def test_similarity_by_hand_and_by_scikit_learn() -> None:
    found = similarities(TEXTS)
    # {a, b, c, ab, bc} and {a, b, d, ab, bd}: 3 of 7
    assert found[0, 1] == pytest.approx(3 / 7)
    assert found[0, 2] == 0
    assert found[0, 3] == 1
    assert (found[4, 5], found[4, 0]) == (1, 0)  # both without a word; one without
    grams = [{*ngrams(words(t), 1), *ngrams(words(t), 2)} for t in TEXTS[:2]]
    every = sorted(grams[0] | grams[1])
    expected = jaccard_score(*([gram in g for gram in every] for g in grams))
    assert found[0, 1] == pytest.approx(expected)


def test_nearest_looks_at_other_prompts_only_and_leaves_one_out_as_a_loop_does() -> None:
    rng = np.random.default_rng(0)
    table = rng.random((9, 9))
    table = (table + table.T) / 2
    index = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3])
    nearest, without = nearest_elsewhere(table, index, 4)
    for row in range(9):
        assert nearest[row] == max(table[row, c] for c in range(9) if index[c] != index[row])
        for left in range(4):
            others = [table[row, c] for c in range(9) if index[c] not in (index[row], left)]
            if left == index[row]:
                assert np.isnan(without[left, row])
            else:
                assert without[left, row] == max(others)


def test_the_finding_by_hand() -> None:
    sft = ["a b", "c d", "e f", "g h"]
    policy = ["same here", "same here", "same here", "g h"]
    found = mode_collapse(sft, policy, list("pqrs"))
    assert found.figure == pytest.approx(0.75)  # three answers with a twin, one without
    # left out one of the twins: (1 + 1 + 0)/3; left out the fourth: 1. SFT stays 0.
    expected = jackknife_interval(0.75, np.array([2 / 3, 2 / 3, 2 / 3, 1]))
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.evidence["near_duplicates"] == pytest.approx(0.75)
    assert found.evidence["modes"]["policy"] == [{"text": "same here", "prompts": 3}]
    assert found.evidence["modes"]["sft"] == []


def test_answers_of_one_prompt_may_be_alike() -> None:
    texts = ["alpha beta", "alpha beta", "gamma delta", "gamma delta", "epsilon zeta", "epsilon zeta"]
    found = mode_collapse(texts, texts, list("ppqqrr"))
    assert (found.figure, found.verdict) == (0, "good")
    assert modes(texts, list("ppqqrr")) == []


def test_collapse_warns_and_variety_does_not() -> None:
    rng = np.random.default_rng(0)
    stock = [f"w{i}" for i in range(300)]

    def varied() -> list[str]:
        return [" ".join(rng.choice(stock, 10)) for _ in range(60)]

    collapsed = [f"great plan {w}" for w in rng.choice(stock, 60)]
    prompts = np.repeat(np.arange(30), 2)
    assert mode_collapse(varied(), collapsed, prompts).verdict == "warn"
    assert mode_collapse(varied(), varied(), prompts).verdict == "good"
    assert mode_collapse(["a", "b"], ["a", "a"], ["p", "q"]).verdict == "unknown"
    with pytest.raises(BadInput, match="1 answers of SFT, 2 of the policy"):
        mode_collapse(["a"], ["a", "b"], ["p"])


def test_entropy_by_hand() -> None:
    found = entropy_shift([2.0, 2.0, 3.0, 3.0], [1.5, 1.5, 2.5, 2.5], ["p", "p", "q", "q"])
    assert (found.figure, found.verdict) == (pytest.approx(-0.5), "warn")
    assert found.evidence == {"sft_mean": 2.5, "policy_mean": 2.0, "prompts": 2}
    assert entropy_shift([2.0, 3.0], [3.0, 4.0], ["p", "q"]).verdict == "good"
    assert entropy_shift([2.0], [1.0], ["p"]).verdict == "unknown"
    with pytest.raises(BadInput, match="give the same number"):
        entropy_shift([2.0], [1.0, 1.0], ["p"])
