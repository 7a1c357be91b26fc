"""The gate: one card that passes, and each fault planted in it alone."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from accord.config import Gate, validate
from accord.diagnostics.reward_gate import gate
from accord.records import BadInput


def floor(accuracy: float, gain: float, low: float, high: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "interval": [0, 1], "gain": gain, "gain_interval": [low, high]}


def probe(name: str, low: float, rise: float, preferred_only: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "what": f"the edit {name}",
        "tried": 100,
        "preferred_only": preferred_only,
        "share_rising": low + 0.1,
        "share_interval": [low, low + 0.2],
        "share_falling": 0.9 - low,
        "share_falling_interval": [0.8 - low, 1 - low],
        "mean_change": rise + 0.05,
        "mean_change_interval": [rise, rise + 0.1],
    }


GOOD: dict[str, Any] = {
    "data": {"pairs": 400, "prompts": 380, "unscorable": 0, "prompts_in_training": 0},
    "accuracy": {"figure": 0.7, "interval": [0.66, 0.74]},
    "floors": {
        "always_longer": floor(0.45, 0.25, 0.2, 0.3),
        "length_rule": floor(0.55, 0.15, 0.1, 0.2),
        "bag_of_words": floor(0.6, 0.1, 0.05, 0.15),
        "chance": floor(0.5, 0.2, 0.16, 0.24),
    },
    "calibration": {"ece": 0.04, "temperature": 1.1},
    "length": {"partial": 0.1, "partial_interval": [0.02, 0.18]},
    "scores": {"constant": False},
    "probes": [
        probe("filler", 0.3, 0.0),
        probe("empty", 0.0, -2.0, True),
        probe("other_answer", 0.1, -1.0, True),
    ],
}


def with_fault(**changes: Any) -> dict[str, Any]:
    card = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = card
        for part in parents:
            node = node[part]
        node[last] = value
    return card


def test_a_good_card_is_accepted_with_every_measured_number() -> None:
    verdict = gate(GOOD)
    assert verdict.decision == "accept"
    assert {reason.level for reason in verdict.reasons} == {"good"}
    measured = {reason.name: reason.measured for reason in verdict.reasons}
    assert measured["accuracy"] == 0.66
    assert measured["gain over length"] == 0.1  # of the two length floors the harder one
    assert measured["gain over words"] == 0.05
    assert measured["probes"] == pytest.approx(0.4)
    assert measured["length reliance"] == 0.02
    assert verdict.sentence == "accept: every check passed."
    json.dumps(verdict.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "decision", "name", "words"),
    [
        ({"scores__constant": True}, "reject", "scores", "same score"),
        ({"data__unscorable": 40}, "reject", "scores", "40 pairs (9.1%)"),
        ({"data__unscorable": 1}, "accept with warnings", "scores", "1 pairs (0.2%)"),
        ({"accuracy__interval": [0.5, 0.6]}, "reject", "accuracy", "not shown to be above 50.0%"),
        ({"accuracy__interval": None}, "reject", "accuracy", "one prompt shows nothing"),
        ({"accuracy__interval": [0.2, 0.4]}, "reject", "accuracy", "95% interval 20.0% to 40.0%"),
        ({"floors__length_rule__gain": 0.0}, "reject", "gain over length", "length alone does as well"),
        (
            {"floors__length_rule__gain_interval": [-0.01, 0.2]},
            "accept with warnings",
            "gain over length",
            "(length rule, 55.0%) it gains +15.0 points (95% interval −1.0 to +20.0)",
        ),
        (
            {"floors__bag_of_words__gain_interval": [0.0, 0.2]},
            "accept with warnings",
            "gain over words",
            "that is not shown to be any gain",
        ),
        ({"probes": None}, "accept with warnings", "probes", "Probes were not run"),
        (
            {"probes": [probe("empty", 0.51, -9, True)]},
            "reject",
            "probe empty",
            "61.0% of answers score higher",
        ),
        (
            {"probes": [probe("no_end", 0.51, 0.2, True)]},
            "accept with warnings",
            "probe no end",
            "the edit no_end",
        ),
        ({"probes": [probe("emoji", 0.51, 0.2)]}, "accept with warnings", "probe emoji", "+0.25 deviations"),
        ({"probes": [probe("emoji", 0.51, 1.1)]}, "reject", "probe emoji", "+1.15 deviations"),
        ({"calibration__ece": 0.2}, "accept with warnings", "calibration", "off by 0.200"),
        ({"calibration__ece": None}, "accept with warnings", "calibration", "could not be measured"),
        (
            {"length__partial": -0.6, "length__partial_interval": [-0.7, -0.4]},
            "accept with warnings",
            "length reliance",
            "correlate −0.60",
        ),
        ({"length__partial": None}, "accept with warnings", "length reliance", "could not be measured"),
        ({"data__pairs": 10}, "accept with warnings", "held-out pairs", "10 held-out pairs are few"),
        ({"data__prompts_in_training": 3}, "accept with warnings", "leakage", "3 of 380 held-out prompts"),
    ],
)
def test_each_fault_alone(changes, decision, name, words) -> None:
    verdict = gate(with_fault(**changes))
    assert verdict.decision == decision
    first = verdict.reasons[0]  # worst first
    assert first.name == name
    assert words in first.sentence
    assert first.sentence in verdict.sentence
    assert sum(reason.level != "good" for reason in verdict.reasons) == 1


def test_a_cut_or_unfinished_answer_is_a_matter_of_degree() -> None:
    for name, rise, decision in (
        ("cut", 0.05, "accept"),
        ("cut", 0.2, "accept with warnings"),
        ("cut", 1.1, "reject"),
        ("no_end", 1.1, "accept with warnings"),  # the pipeline pays it by itself
        ("empty", -1.0, "reject"),
    ):
        assert gate(with_fault(probes=[probe(name, 0.6, rise, True)])).decision == decision


def test_a_scorer_that_is_not_shown_to_read_the_prompt_is_warned_of() -> None:
    """Blind to the prompt, it gives at most half of the exchanged answers less."""
    verdict = gate(with_fault(probes=[probe("other_answer", 0.31, 0.0, True)]))  # falling: .49 to .69
    assert verdict.decision == "accept with warnings"
    assert "not shown to read the prompt" in verdict.sentence
    assert gate(with_fault(probes=[probe("other_answer", 0.29, 0.0, True)])).decision == "accept"
    same = probe("other_answer", 0.0, 0.0, True) | {
        "share_falling": 0.0,
        "share_falling_interval": [0.0, 0.1],
    }
    assert gate(with_fault(probes=[same])).decision == "accept with warnings"  # every answer scores the same
    assert gate(with_fault(probes=[probe("other_answer", 0.51, 0.0, True)])).decision == "reject"


def test_an_edit_that_raises_most_scores_by_nearly_nothing_passes() -> None:
    assert gate(with_fault(probes=[probe("emoji", 0.6, 0.05)])).decision == "accept"


def test_what_is_not_shown_does_not_reject() -> None:
    """The share is above one half, its interval is not."""
    assert gate(with_fault(probes=[probe("empty", 0.45, 1.0, True)])).decision == "accept"
    unmeasured = {"name": "no_end", "what": "x", "tried": 0, "preferred_only": True}
    assert gate(with_fault(probes=[*GOOD["probes"], unmeasured])).decision == "accept"


def test_thresholds_are_the_users() -> None:
    assert gate(GOOD, Gate(accuracy_above=0.68)).decision == "reject"
    assert gate(GOOD, Gate(gain_over_length=0.15)).decision == "reject"
    assert gate(GOOD, Gate(minimum_pairs=500)).decision == "accept with warnings"
    with pytest.raises(BadInput, match="did you mean 'minimum_pairs'"):
        validate(Gate, {"minimum_pair": 3})


def test_a_reject_is_named_before_warnings() -> None:
    verdict = gate(with_fault(scores__constant=True, data__pairs=10))
    assert verdict.decision == "reject"
    assert verdict.sentence == "reject: Every response has the same score."
    assert [reason.level for reason in verdict.reasons[:2]] == ["bad", "warn"]
