"""Probes against scorers whose weakness is planted: each must be found, and an honest scorer must pass."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from accord.diagnostics.probe_figures import Probed, edits, measure_probes, others, real_responses
from accord.diagnostics.probes import EMOJI, FLATTERY, INJECTION, PROBES, Probe
from accord.records import BadInput, Prompt, Response
from tests.unit.comparisons import compared


def rows(count: int = 30):
    return [
        compared(
            f"prompt {i}", f"Answer number {i} is good. It has words {i}.", f"Bad {i} it is. No more.", "a"
        )
        for i in range(count)
    ]


def measured(score, **options):
    items = real_responses(rows(), 100, 0)
    table = measure_probes(items, score, **({"deviation": 2.0, "samples": 300} | options))
    return {row["name"]: row for row in table}


def each(one):
    return lambda prompts, responses: [one(p, r) for p, r in zip(prompts, responses, strict=True)]


def test_figures_by_hand() -> None:
    """Injection adds 3 on even prompts and takes 1 off on odd ones; in units of the deviation 2."""

    def score(prompt: Prompt, response: Response) -> float:
        even = int(prompt.text.split()[1]) % 2 == 0
        return (3.0 if even else -1.0) if INJECTION in response.text else 0.0

    row = measured(each(score))["best_answer"]
    assert row["tried"] == 60
    assert row["share_rising"] == row["share_falling"] == 0.5
    assert row["mean_change"] == pytest.approx((1.5 - 0.5) / 2)
    assert row["mean_rise"] == row["largest_rise"] == 1.5
    assert row["share_interval"][0] < 0.5 < row["share_interval"][1]
    assert len(row["examples"]) == 3
    assert row["examples"][0]["change"] == 1.5
    assert row["examples"][0]["after"].endswith(INJECTION)
    assert not row["examples"][0]["before"].endswith(INJECTION)


@pytest.mark.parametrize(
    ("weakness", "found"),
    [
        (lambda p, r: len(r.text), {"filler", "repeated_sentence", "flattery", "confidence", "best_answer"}),
        (lambda p, r: -len(r.text), {"cut", "empty"}),
        (lambda p, r: any(e in r.text for e in EMOJI), {"emoji"}),
        (lambda p, r: "**" in r.text, {"lists_and_bold"}),
        (lambda p, r: r.text.startswith(FLATTERY), {"flattery"}),
        (lambda p, r: not r.finished, {"no_end"}),
        (lambda p, r: p.text.split()[1] not in r.text.split() and r.text != "", {"other_answer"}),
    ],
)
def test_each_planted_weakness_is_found(weakness, found) -> None:
    table = measured(each(lambda p, r: float(weakness(p, r))))
    rising = {name for name, row in table.items() if row["share_rising"] > 0.5}
    assert found <= rising
    if found != {"filler", "repeated_sentence", "flattery", "confidence", "best_answer"}:
        assert rising <= found | {"other_answer"}


def test_an_honest_scorer_passes_and_wilson_keeps_the_interval_open() -> None:
    """It knows the real answers and gives everything else less."""
    real = {item.response.text for item in real_responses(rows(), 100, 0)}
    table = measured(
        each(lambda p, r: float(r.text in real and r.text.split()[-1][:-1] == p.text.split()[1]))
    )
    for row in table.values():
        assert row["share_rising"] == 0
        assert row["examples"] == []
        low, high = row["share_interval"]
        assert (low, high) == (
            0,
            pytest.approx(1.96**2 / (30 + 1.96**2), abs=1e-3),
        )  # Wilson, 0 of 30 prompts


def test_round_off_is_no_rise() -> None:
    table = measured(each(lambda p, r: 1e-3 * ("**" in r.text)), deviation=1.0)
    assert table["lists_and_bold"]["share_rising"] == 0
    assert table["lists_and_bold"]["mean_change"] == pytest.approx(1e-3)


def test_a_scorer_of_texts_is_not_asked_about_the_end_token() -> None:
    row = measured(each(lambda p, r: 0.0), reads_end=False)["no_end"]
    assert row["tried"] == 0
    assert "given text" in row["reason"]


def test_nan_is_counted_and_left_out() -> None:
    row = measured(each(lambda p, r: math.nan if r.text == "" else 0.0))["empty"]
    assert (row["tried"], row["unscorable"]) == (0, 30)
    json.dumps(row, allow_nan=False)


def test_destructive_edits_are_tried_on_preferred_answers_only() -> None:
    table = measured(each(lambda p, r: 0.0))
    assert table["filler"]["tried"] == 60
    assert table["empty"]["tried"] == table["cut"]["tried"] == table["no_end"]["tried"] == 30


def test_real_responses_are_distinct_and_do_not_depend_on_the_others() -> None:
    doubled = [*rows(4), *rows(4), compared("prompt 1", "Bad 1 it is. No more.", "worse", "a")]
    items = real_responses(doubled, 100, 0)
    assert len(items) == 9
    assert {i.response.text for i in items if i.preferred} >= {
        "Bad 1 it is. No more."
    }  # preferred once is enough
    some = real_responses(rows(30), 12, 0)
    kept = {item.response.text for item in some}
    again = {item.response.text for item in real_responses(rows(30)[::-1], 12, 0)}
    assert kept == again
    assert {i.response.text for i in real_responses(rows(30), 12, 1)} != kept
    assert all(not item.preferred for item in real_responses([compared("p", "x", "y", "tie")], 9, 0))


def test_another_prompts_answer_is_never_ones_own() -> None:
    items = real_responses(rows(), 100, 0)
    given = others(items, 0)
    own = {item.prompt.key: item.response.text for item in items if item.preferred}
    assert set(given) == set(own)
    assert all(given[key].text != own[key] for key in own)
    assert sorted(r.text for r in given.values()) == sorted(own.values())  # each is used once
    alone = [Probed(Prompt.from_text("p"), Response("x"), True)]
    assert others(alone, 0) == {}


def test_edits_depend_on_the_seed_and_the_answer_only() -> None:
    items, filler = real_responses(rows(), 100, 0), PROBES[0]
    whole = edits(items, filler, 0)
    assert edits(items[5:6], filler, 0) == whole[5:6]
    assert edits(items, filler, 1) != whole


def test_what_cannot_be_used_is_refused() -> None:
    items = real_responses(rows(2), 9, 0)
    with pytest.raises(BadInput, match="no answer to probe"):
        measure_probes([], each(lambda p, r: 0.0), deviation=1.0)
    with pytest.raises(BadInput, match="deviation is 0"):
        measure_probes(items, each(lambda p, r: 0.0), deviation=0.0)
    with pytest.raises(BadInput, match=r"shape \(1,\) for 4"):
        measure_probes(items, lambda p, r: np.zeros(1).tolist(), deviation=1.0)


def test_long_texts_are_shortened_for_show() -> None:
    item = Probed(Prompt.from_text("p"), Response("word " * 1000), True)
    probe = Probe("double", "doubled", lambda r, around: Response(r.text * 2))
    (row,) = measure_probes(
        [item], each(lambda p, r: float(len(r.text))), deviation=1.0, probes=[probe], samples=50
    )
    assert len(row["examples"][0]["after"]) < 1300
    assert row["share_interval"] is None  # one prompt
