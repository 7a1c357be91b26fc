"""Win rate: counted by hand, and its verdict's false alarms counted in a simulation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from accord.diagnostics.win_rate import win_rate
from accord.records import BadInput


def test_ties_count_half() -> None:
    # gaps .3 win, .05 tie, -.05 tie, -.2 loss, .1 (the margin itself) tie, .4 win: (2 + 3/2) / 6
    base = np.zeros(6)
    finding = win_rate([0.3, 0.05, -0.05, -0.2, 0.1, 0.4], base, list("ppqqrr"), tie_margin=0.1)
    assert finding.figure == pytest.approx(3.5 / 6)
    assert (finding.evidence["wins"], finding.evidence["ties"], finding.evidence["losses"]) == (2, 3, 1)
    assert finding.evidence["mean_gain"] == pytest.approx(0.1)
    assert finding.evidence["prompts"] == 3
    json.dumps(finding.to_json(), allow_nan=False)


@pytest.mark.parametrize(("shift", "verdict"), [(1.0, "good"), (-1.0, "bad")])
def test_verdict_follows_the_interval(shift: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    base, prompts = rng.normal(size=200), np.repeat(np.arange(100), 2)
    finding = win_rate(base + rng.normal(shift, 1, size=200), base, prompts, gold_name="positivity")
    assert finding.verdict == verdict
    assert "by positivity" in finding.sentence
    assert "100 prompts" in finding.sentence


def test_equal_policies_are_seldom_called_better() -> None:
    """Samples of a prompt share luck: 300 runs with no difference, at most about 2.5% called good."""
    rng = np.random.default_rng(1)
    prompts = np.repeat(np.arange(40), 4)
    called = [
        win_rate(
            rng.normal(size=160) + np.repeat(rng.normal(size=40), 4), np.zeros(160), prompts, samples=300
        )
        for _ in range(300)
    ]
    assert np.mean([finding.verdict == "good" for finding in called]) < 0.05
    assert np.mean([finding.verdict == "warn" for finding in called]) > 0.92


def test_no_gold_and_one_prompt_are_unknown() -> None:
    finding = win_rate(None, None, ["p"])
    assert (finding.verdict, finding.figure) == ("unknown", None)
    assert "no gold" in finding.sentence
    assert win_rate([1.0, 1.0], [0.0, 2.0], ["p", "p"]).verdict == "unknown"


def test_rows_must_match() -> None:
    with pytest.raises(BadInput, match="2 answers of the policy but 1 of SFT"):
        win_rate([1.0, 2.0], [1.0], ["p", "q"])
    with pytest.raises(BadInput, match="tie_margin is -1"):
        win_rate([1.0], [1.0], ["p"], tie_margin=-1)
