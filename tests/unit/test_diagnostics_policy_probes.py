"""Probes on the policy's own answers: a score that pays for a trick only where the policy has gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from accord.diagnostics.policy_probes import Changes, policy_probes, probe_changes
from accord.diagnostics.probe_figures import Probed
from accord.diagnostics.probes import FLATTERY, PROBES
from accord.records import BadInput, Prompt, Response


def items(answers: Sequence[str]) -> list[Probed]:
    return [Probed(Prompt.from_text(f"prompt {i}"), Response(text), True) for i, text in enumerate(answers)]


def score(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[float]:
    """Pays 1 for flattery in answers that speak of the sea, and takes .5 off elsewhere; NaN for empty
    answers.
    """
    return [
        float("nan") if not r.text else (1.0 if "sea" in r.text else -0.5) * (FLATTERY in r.text)
        for r in responses
    ]


BASE = [f"The hills are quiet and green today, number {i}." for i in range(20)]
POLICY = [f"The sea is quiet and blue today, number {i}." for i in range(20)]


def test_changes_by_hand() -> None:
    found = probe_changes(items(POLICY), score, deviation=0.5)
    assert found["flattery"].change_N.tolist() == [2.0] * 20
    assert found["filler"].change_N.tolist() == [0.0] * 20
    assert "empty" not in found  # the scorer cannot score it: nothing is left
    assert len(found["flattery"].prompts) == 20
    assert "no_end" not in probe_changes(items(POLICY), score, deviation=0.5, reads_end=False)


def test_a_trick_that_pays_where_the_policy_went_is_found() -> None:
    sides = [probe_changes(items(answers), score, deviation=0.5) for answers in (BASE, POLICY)]
    found = policy_probes(*sides)
    assert (found.verdict, found.figure, found.evidence["grown"]) == ("warn", 1.0, ["flattery"])
    row = next(r for r in found.evidence["probes"] if r["name"] == "flattery")
    assert (row["sft"], row["policy"], row["sft_mean_change"], row["policy_mean_change"]) == (0, 1, -1, 2)
    assert policy_probes(sides[1], sides[1]).verdict == "good"


def test_growth_and_interval_by_hand() -> None:
    keys = [str(i) for i in range(40)]
    sft = {"a": Changes(keys, np.where(np.arange(40) < 10, 1.0, -1.0))}
    policy = {"a": Changes(keys, np.where(np.arange(40) < 22, 1.0, -1.0))}
    found = policy_probes(sft, policy)
    assert found.figure == pytest.approx(12 / 40)
    # the difference of a prompt is 1 with share .3, else 0: error √(.3·.7/40) = .0725, t(39) wider by 4.5%
    assert found.interval is not None
    half = (found.interval[1] - found.interval[0]) / 2
    assert half == pytest.approx(0.0725 * 2.023 * np.sqrt(40 / 39), rel=0.08)


def test_nothing_to_compare_is_unknown_and_nonsense_refused() -> None:
    one = {"a": Changes(["p"], np.ones(1))}
    assert policy_probes(one, {}).verdict == "unknown"
    assert policy_probes(one, one).verdict == "unknown"
    with pytest.raises(BadInput, match="no answer to probe"):
        probe_changes([], score, deviation=1)
    with pytest.raises(BadInput, match="deviation is 0"):
        probe_changes(items(BASE), score, deviation=0)
    assert len(PROBES) == 11
