"""Length, repetition and diversity: by hand, and on simulated gains whose length part is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from accord.diagnostics.length import (
    distinct_n,
    diversity_shift,
    length_share,
    length_shift,
    repetition,
    repetition_shift,
)
from accord.diagnostics.statistics import jackknife_interval
from accord.records import BadInput


def test_length_shift_by_hand() -> None:
    finding = length_shift([10, 20, 30, 40], [15, 25, 35, 46], list("pqrs"))
    assert finding.figure == pytest.approx(5.25)
    assert finding.interval == pytest.approx((5, 6), abs=0.51)
    assert finding.verdict == "warn"
    assert "from 25.0 to 30.2 tokens" in finding.sentence
    assert "longer" in finding.sentence


def test_no_shift_is_good_and_one_prompt_unknown() -> None:
    rng = np.random.default_rng(0)
    same = rng.integers(10, 30, size=100)
    assert length_shift(same, rng.permutation(same), np.arange(100)).verdict == "good"
    assert length_shift([1.0], [2.0], ["p"]).verdict == "unknown"
    with pytest.raises(BadInput, match="2 of sft, 1 of policy"):
        length_shift([1, 2], [1], ["p", "q"])


def test_repetition_by_hand() -> None:
    # a b c d a b c d: five 4-grams, abcd twice, so 1 of 5 repeats
    assert repetition("a b c d, A B C D!") == pytest.approx(0.2)
    assert repetition("a b c d e f g h") == 0
    assert repetition("a b c") == 0
    assert repetition("ha " * 12) == pytest.approx(8 / 9)


def test_repetition_shift() -> None:
    sft = ["one two three four five six seven eight"] * 3
    finding = repetition_shift(sft, ["very very very very very very good now"] * 3, list("pqr"))
    # 4-grams of the policy: vvvv three times, vvvg, vvgn: 2 of 5 repeat
    assert finding.figure == pytest.approx(0.4)
    assert finding.verdict == "warn"
    assert "more" in finding.sentence


def test_distinct_n_by_hand() -> None:
    assert distinct_n(["a b a b", "a b"]) == pytest.approx(2 / 4)  # ab ba ab | ab
    assert distinct_n(["a"]) is None


def test_diversity_jackknife_is_the_one_that_recounts() -> None:
    rng = np.random.default_rng(1)
    vocabulary = [f"w{i}" for i in range(12)]
    make = lambda: [" ".join(rng.choice(vocabulary, 9)) for _ in range(20)]  # noqa: E731
    sft, policy, prompts = make(), make(), np.arange(20) // 2
    finding = diversity_shift(sft, policy, prompts)

    def shift(keep: np.ndarray) -> float:
        return distinct_n([policy[i] for i in keep]) - distinct_n([sft[i] for i in keep])  # type: ignore[operator]

    brute = jackknife_interval(
        shift(np.arange(20)), np.array([shift(np.flatnonzero(prompts != g)) for g in range(10)])
    )
    assert finding.figure == pytest.approx(brute.figure)
    assert finding.interval == pytest.approx(brute.bounds)


def test_diversity_sees_one_answer_for_all_and_not_mere_length() -> None:
    rng = np.random.default_rng(2)
    vocabulary = [f"w{i}" for i in range(200)]
    sft = [" ".join(rng.choice(vocabulary, 12)) for _ in range(40)]
    same = diversity_shift(sft, ["I love this so much my friend"] * 40, np.arange(40))
    assert same.verdict == "warn"
    assert "more alike" in same.sentence
    longer = [" ".join(rng.choice(vocabulary, 60)) for _ in range(40)]
    assert diversity_shift(sft, longer, np.arange(40)).verdict == "good"
    assert diversity_shift(["a"], ["b"], ["p"]).verdict == "unknown"


def simulate(
    rng: np.random.Generator, per_token: float, quality: float, rows: int = 800
) -> tuple[np.ndarray, ...]:
    """Policy answers are 8 tokens longer; each token pays ``per_token``, and quality pays besides."""
    sft_length = rng.integers(5, 40, size=rows).astype(float)
    policy_length = rng.integers(13, 48, size=rows).astype(float)
    sft = per_token * sft_length + rng.normal(size=rows)
    policy = quality + per_token * policy_length + rng.normal(size=rows)
    return sft, policy, sft_length, policy_length, np.arange(rows) // 2


def test_a_gain_that_is_all_length_has_share_zero() -> None:
    finding = length_share(*simulate(np.random.default_rng(3), 0.1, 0.0), bucket=1)
    assert finding.evidence["gain"] == pytest.approx(0.8, abs=0.2)
    assert finding.figure == pytest.approx(0, abs=0.15)
    assert finding.verdict == "warn"
    json.dumps(finding.to_json(), allow_nan=False)


def test_a_gain_that_is_half_length_has_share_one_half() -> None:
    finding = length_share(*simulate(np.random.default_rng(4), 0.1, 0.8), bucket=1)
    assert finding.figure == pytest.approx(0.5, abs=0.1)
    assert finding.interval[0] < 0.5 < finding.interval[1]  # type: ignore[index]
    assert finding.verdict == "good"


def test_within_buckets_by_hand() -> None:
    # [0,10): sft 1, policy 2: gain 1, weight 2. [10,20): sft 3, policy 3 and 5: gain 1, weight 3.
    # [20,30): only sft, not compared. Means over all: sft 4/3, policy 10/3
    sft, sft_length = [1.0, 3.0, 0.0], [5, 15, 25]
    policy, policy_length = [2.0, 3.0, 5.0], [5, 15, 16]
    finding = length_share(sft, policy, sft_length, policy_length, list("pqr"), bucket=10)
    evidence = finding.evidence
    assert evidence["gain"] == pytest.approx(10 / 3 - 4 / 3)
    assert evidence["within_bucket_gain"] == pytest.approx((2 * 1 + 3 * 1) / 5)
    assert evidence["coverage"] == pytest.approx(5 / 6)
    assert [row["from"] for row in evidence["buckets"]] == [0, 10, 20]
    assert evidence["buckets"][2]["policy_mean"] is None


def test_short_answers_get_narrow_buckets() -> None:
    sft, policy, a, b, prompts = simulate(np.random.default_rng(5), 0.0, 1.0)
    assert length_share(sft, policy, a, b, prompts).evidence["bucket"] == 6  # 47 / 8
    assert length_share(sft, policy, a * 10, b * 10, prompts).evidence["bucket"] == 20


def test_no_gain_or_no_common_length_is_unknown() -> None:
    sft, policy, a, b, prompts = simulate(np.random.default_rng(6), 0.0, 0.0)
    finding = length_share(sft, policy - 1, a, b, prompts)
    assert (finding.verdict, finding.figure) == ("unknown", None)
    apart = length_share(sft, policy + 1, a, b + 1000, prompts)
    assert "no length is shared" in apart.sentence
    assert apart.evidence["within_bucket_gain"] is None
    json.dumps(apart.to_json(), allow_nan=False)
