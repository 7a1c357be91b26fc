"""Stop rules on hand-made sequences: where they stop, which checkpoint they keep, and why."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.records import BadInput, Finding
from accord.stop_rules import (
    Decision,
    Evaluation,
    alarm,
    all_of,
    any_of,
    first_stop,
    kl_budget,
    predicted_peak,
    turned_down,
)

PROMPTS = 40


def scores(level: float, spread: float = 0.1) -> list[float]:
    """PROMPTS values with the given mean: prompts differ, in the same way at every evaluation."""
    return [level + spread * math.sin(i) - spread * math.sin(0.5 * PROMPTS) / PROMPTS for i in range(PROMPTS)]


def sequence(kls: list[float], **levels: list[float | None]) -> list[Evaluation]:
    return [
        Evaluation(
            10 * i,
            kl,
            {name: scores(value) for name, values in levels.items() if (value := values[i]) is not None},
        )
        for i, kl in enumerate(kls)
    ]


def finding(name: str, verdict: str) -> Finding:
    return Finding(name, "?", 1.0, None, "", verdict, f"{name} says {verdict}.")  # type: ignore[arg-type]


def test_kl_budget_keeps_the_last_evaluation_within_it() -> None:
    found = kl_budget(5.0)(sequence([0, 2, 4.9, 5.1, 8]))
    assert found == Decision(True, 20, "kl_budget", "KL reached 5.1 nats at step 30, beyond the budget of 5")
    going = kl_budget(5.0)(sequence([0, 2, 4.9]))
    assert (going.stop, going.best_step, going.why) == (False, 20, "KL is 4.9 of 5 nats")


def test_kl_budget_is_not_fooled_by_a_policy_that_came_back() -> None:
    # step 20 broke the budget; step 30 is within it again, but the run would have ended at 20
    assert kl_budget(5.0)(sequence([0, 3, 6, 4])).best_step == 10
    assert kl_budget(5.0)(sequence([0, 9])).best_step == 0


def test_a_score_that_turned_down_stops_at_its_best() -> None:
    rule = turned_down("other_half", looks=6)
    run = sequence([0, 1, 4, 9, 16, 25], other_half=[0, 0.5, 0.9, 0.8, 0.5, 0.1])
    seen, found = first_stop(rule, run)
    # every prompt falls by the same .1 from step 20 to step 30: no chance about it
    assert (seen, found.stop, found.best_step) == (4, True, 20)
    assert "other_half was highest at step 20 and has fallen by 0.10" in found.why


def test_a_rising_or_flat_score_goes_on() -> None:
    assert not turned_down("other_half")(sequence([0, 1, 4], other_half=[0, 0.5, 0.9])).stop
    assert not turned_down("other_half")(sequence([0, 1, 4], other_half=[0.5, 0.5, 0.5])).stop
    assert not turned_down("other_half")(sequence([0], other_half=[0.5])).stop


def test_noise_alone_stops_about_as_often_as_it_may() -> None:
    """A flat score with noise at each of 6 looks: 5% of runs may stop, a bound that is 2.5 times that fails.

    Plainly comparing the best point with the end at 95% stops far more often (checked below).
    """
    rng = np.random.default_rng(4)
    stops = plain = 0
    for _ in range(60):
        noise_PG = rng.normal(size=(6, PROMPTS))
        run = [Evaluation(i, float(i), {"other_half": row.tolist()}) for i, row in enumerate(noise_PG)]
        stops += first_stop(turned_down("other_half", looks=5), run)[1].stop
        gaps = [noise_PG[b] - noise_PG[e] for e in range(1, 6) for b in range(e)]
        plain += any(g.mean() > 1.96 * g.std(ddof=1) / math.sqrt(PROMPTS) for g in gaps)
    assert stops / 60 <= 0.125
    assert plain / 60 > 0.2


def test_a_score_measured_only_sometimes_is_compared_where_it_was() -> None:
    run = sequence([0, 1, 4, 9], proxy=[0, 1, 2, 3], gold=[0, None, 0.9, 0.2])
    found = turned_down("gold")(run)
    assert (found.stop, found.best_step) == (True, 20)


def test_predicted_peak_of_a_known_curve() -> None:
    # gold = d(2 - d/2): peak at d = α/2β = 2, KL 4
    distance = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    run = sequence([d * d for d in distance], gold=[d * (2 - d / 2) for d in distance])
    found = predicted_peak()(run)
    assert found.stop
    assert found.best_step == 40
    assert "peaks at √KL = 2.00 (95% interval 2.00 to 2.00), and the policy is at 3.50" in found.why


def test_predicted_peak_needs_six_labelled_checkpoints_and_a_peak() -> None:
    few = predicted_peak()(sequence([0, 1, 4, 9, 16], gold=[0, 1, 1.5, 1, 0]))
    assert (few.stop, few.best_step) == (False, 20)
    assert "5 checkpoints have gold, 6 are needed" in few.why
    rising = predicted_peak()(sequence([i * i for i in range(8)], gold=[0.3 * i for i in range(8)]))
    assert not rising.stop
    assert "no peak of gold: a monotone curve describes gold as well" in rising.why
    assert rising.best_step == 70


def test_an_alarm_keeps_the_checkpoint_before_it() -> None:
    run = [
        Evaluation(0, 0.0),
        Evaluation(10, 1.0, findings={"mode_collapse": finding("mode_collapse", "good")}),
        Evaluation(20, 2.0, findings={"mode_collapse": finding("mode_collapse", "warn")}),
        Evaluation(30, 3.0, findings={"mode_collapse": finding("mode_collapse", "good")}),
    ]
    found = alarm("mode_collapse")(run)
    assert (found.stop, found.best_step, found.why) == (True, 10, "at step 20: mode_collapse says warn.")
    assert not alarm("mode_collapse", verdicts=["bad"])(run).stop
    unmeasured = alarm("style_reliance")(run)
    assert (unmeasured.stop, unmeasured.why) == (False, "style_reliance has not been measured yet")


def test_rules_compose() -> None:
    run = sequence([0, 1, 4, 9, 16], other_half=[0, 0.5, 0.9, 0.5, 0.1])
    budget, half = kl_budget(10.0), turned_down("other_half")
    either = first_stop(any_of(budget, half), run)
    assert (either[0], either[1].best_step, either[1].rule) == (4, 20, "turned_down other_half")
    both = first_stop(all_of(budget, half), run)
    # the budget breaks at the fifth evaluation and keeps step 30; the other keeps step 20: the latest counts
    assert (both[0], both[1].best_step, both[1].rule) == (5, 30, "kl_budget")
    assert ";" in both[1].why
    going = any_of(budget, half)(run[:3])
    assert (going.stop, going.best_step) == (False, 20)
    assert first_stop(kl_budget(100), run) == (5, kl_budget(100)(run))


@pytest.mark.parametrize(
    ("rule", "run", "message"),
    [
        (kl_budget(1), [], "there is no evaluation yet"),
        (kl_budget(1), [Evaluation(5, 0.0), Evaluation(5, 1.0)], r"at steps \[5, 5\]: give each step once"),
        (kl_budget(1), [Evaluation(0, math.nan)], "the KL at step 0 is not finite"),
        (turned_down("halves"), sequence([0], proxy=[1.0]), "no evaluation has the score 'halves'.*proxy"),
        (
            turned_down("proxy"),
            [Evaluation(0, 0.0, {"proxy": [1.0]}), Evaluation(1, 0.0, {"proxy": [1.0, 2.0]})],
            r"proxy has \[1, 2\] prompts",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(rule, run, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput, match=message):
        rule(run)


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadInput, match="budget is 0 nats"):
        kl_budget(0)
    with pytest.raises(BadInput, match="looks is 0"):
        turned_down("other_half", looks=0)
    with pytest.raises(BadInput, match="any_of has no rule"):
        any_of()
    with pytest.raises(BadInput, match="all_of has no rule"):
        all_of()
