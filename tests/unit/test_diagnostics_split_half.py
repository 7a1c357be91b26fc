"""A second reward model in gold's place: by hand, and where it must not be fooled."""

from __future__ import annotations

import json

import numpy as np
import pytest

from accord.diagnostics.split_half import split_half, split_half_selection
from accord.records import BadInput

PROMPTS = np.arange(30)


def test_transfer_by_hand() -> None:
    # every prompt gains 2 under the trained half and 1 under the other: half is confirmed, without any spread
    trained = np.stack([0.1 * PROMPTS, 0.1 * PROMPTS + 2])
    other = np.stack([0.3 * PROMPTS, 0.3 * PROMPTS + 1])
    finding = split_half([0, 4], trained, other)
    assert (finding.figure, finding.verdict) == (pytest.approx(1), "good")
    assert finding.evidence["transfer"] == pytest.approx(0.5)
    assert finding.evidence["transfer_interval"] == pytest.approx((0.5, 0.5))
    assert finding.evidence["distance"] == [0, 2]
    assert "moved by 2.00" in finding.sentence
    assert "errors that both halves share stay unseen" in finding.sentence
    json.dumps(finding.to_json(), allow_nan=False)


def test_a_gain_that_the_other_half_does_not_see_is_hacked() -> None:
    rng = np.random.default_rng(0)
    trained = np.arange(4.0)[:, None] + rng.normal(size=(4, 30))
    noise = rng.normal(size=(4, 30))
    assert split_half([0, 1, 4, 9], trained, noise).verdict == "bad"
    fell = np.array([0, 1.5, 3, 1])[:, None] + 0.3 * noise
    finding = split_half([0, 1, 4, 9], trained, fell)
    assert (finding.verdict, finding.evidence["reason"], finding.evidence["best_point"]) == (
        "bad",
        "gold_fell",
        2,
    )
    flat = split_half([0, 1, 4, 9], noise, noise)
    assert (flat.verdict, flat.evidence["transfer"]) == ("warn", None)


def test_one_prompt_and_other_shapes() -> None:
    assert split_half([0, 1], [[0.0], [1.0]], [[0.0], [1.0]]).verdict == "unknown"
    with pytest.raises(BadInput, match=r"the trained half scored \(2, 2\), the other \(2, 1\)"):
        split_half([0, 1], [[0.0, 1], [1.0, 1]], [[0.0], [1.0]])


def test_selection_by_hand() -> None:
    # Two samples a prompt. First half: best is sample 1 (gain over the mean of both: .5); the second scores
    # them 0 and .4, so it confirms .2. The other way round: its best is sample 1 too, gain .2; first says .5.
    first, second = np.tile([0.0, 1.0], (20, 1)), np.tile([0.0, 0.4], (20, 1))
    finding = split_half_selection(first, second)
    assert finding.evidence["own_gain"] == pytest.approx((0.5 + 0.2) / 2)
    assert finding.evidence["confirmed_gain"] == pytest.approx((0.2 + 0.5) / 2)
    assert (finding.figure, finding.verdict) == (pytest.approx(1), "good")


def test_selection_tells_signal_from_noise() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=(200, 8))
    halves = common + rng.normal(size=(2, 200, 8))
    finding = split_half_selection(*halves)
    # equal parts of signal and noise: the regression of one half on the other is 1/2
    assert finding.figure == pytest.approx(0.5, abs=0.06)
    assert split_half_selection(*rng.normal(size=(2, 200, 8))).verdict == "bad"
    assert split_half_selection(*(common + 0.2 * rng.normal(size=(2, 200, 8)))).verdict == "good"


def test_selection_refuses_what_makes_no_sense() -> None:
    with pytest.raises(BadInput, match=r"best of 9 needs 2 to 8"):
        split_half_selection(np.ones((3, 8)), np.ones((3, 8)), size=9)
    with pytest.raises(BadInput, match="the same samples to both"):
        split_half_selection(np.ones((3, 8)), np.ones((3, 7)))
    flat = split_half_selection(np.ones((3, 8)), np.ones((3, 8)))
    assert (flat.verdict, flat.figure) == ("unknown", None)
