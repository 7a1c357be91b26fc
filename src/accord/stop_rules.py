"""When to stop, and which checkpoint to keep: small rules that can be combined. Pure functions of
evaluations.

A rule takes the evaluations so far, SFT first, and returns a ``Decision``. It never looks at gold that a real
run would not have: what it may read is what the caller puts into ``Evaluation.scores``.

    rule = any_of(kl_budget(10.0), turned_down("other_half"), alarm("mode_collapse"))
    decision = rule(evaluations)      # after every evaluation
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from accord.diagnostics.overoptimisation import MINIMUM_POINTS, fall_from_best, fitted_curves
from accord.diagnostics.statistics import FloatArray, cluster_sum_draws, finite, stream
from accord.records import BadInput, Finding

DRAWS = 2000
FALSE_STOP = 0.05  # chance that a rule on a noisy series stops a run whose series never fell


@dataclass(frozen=True)
class Evaluation:
    """One look at the policy on held-out prompts.

    Attributes:
        step: optimiser step.
        kl: to SFT, nats a response, mean over held-out samples.
        scores: by name, the mean over each held-out prompt's samples, prompts in the same order at every
            evaluation: ``proxy``, ``other_half`` (reward model of the other half of the pairs),
            ``pessimistic`` (ensemble), ``gold`` (people's or simulated labels), whatever there is. A score
            that was not measured at an evaluation (labels are dear) is left out there.
        findings: diagnostics of this evaluation against SFT, by name.
    """

    step: int
    kl: float
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What a rule says: stop or go on, the checkpoint it would keep now, and why in one sentence."""

    stop: bool
    best_step: int
    rule: str
    why: str


Rule = Callable[[Sequence[Evaluation]], Decision]


def _checked(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    if not evaluations:
        raise BadInput("there is no evaluation yet: evaluate SFT at step 0 first")
    steps = [one.step for one in evaluations]
    if sorted(set(steps)) != steps:
        raise BadInput(f"evaluations are at steps {steps}: give each step once, in order")
    bad = [one.step for one in evaluations if not math.isfinite(one.kl)]
    if bad:
        raise BadInput(f"the KL at step {bad[0]} is not finite: leave that evaluation out")
    return evaluations


def _measured(evaluations: Sequence[Evaluation], name: str) -> tuple[list[Evaluation], FloatArray]:
    """The evaluations that have the score, and its means [P, G]."""
    having = [one for one in evaluations if name in one.scores]
    if not having:
        known = sorted({key for one in evaluations for key in one.scores})
        raise BadInput(
            f"no evaluation has the score {name!r}: measure it, or name one of {', '.join(known) or 'none'}"
        )
    sizes = {len(one.scores[name]) for one in having}
    if len(sizes) > 1:
        raise BadInput(f"{name} has {sorted(sizes)} prompts at different evaluations: give the same prompts")
    return having, finite([list(one.scores[name]) for one in having], name)


def kl_budget(limit: float) -> Rule:
    """Stop beyond ``limit`` nats a response; keep the last evaluation within it.

    KL is the price of reward, so a budget is the simplest guard: it needs no gold and knows nothing of
        quality.
    """
    if not limit > 0:
        raise BadInput(f"the KL budget is {limit:g} nats: give a number above 0")

    def rule(evaluations: Sequence[Evaluation]) -> Decision:
        _checked(evaluations)
        within = [one for one in evaluations if one.kl <= limit]
        best = within[-1] if within else evaluations[0]
        beyond = next((one for one in evaluations if one.kl > limit), None)
        if beyond is not None:
            before = [one for one in evaluations if one.step < beyond.step]
            best = before[-1] if before else evaluations[0]
            why = f"KL reached {beyond.kl:.1f} nats at step {beyond.step}, beyond the budget of {limit:g}"
            return Decision(True, best.step, "kl_budget", why)
        why = f"KL is {evaluations[-1].kl:.1f} of {limit:g} nats"
        return Decision(False, best.step, "kl_budget", why)

    return rule


def turned_down(name: str, *, looks: int = 1, seed: int = 0) -> Rule:
    """Stop when a score that the policy is not optimised for has fallen from its own best; keep that best.

    For ``name`` an ``other_half`` (a reward model of the other half of the pairs) or ``pessimistic`` (an
    ensemble's) score. A fall counts where it is more than chance and the choice of the best point explain
    (``overoptimisation.fall_from_best``, prompts resampled).

    Args:
        looks: how many evaluations are planned. The rule is asked at each of them, so the error of 5% is
            shared out (Bonferroni).
    """
    if looks < 1:
        raise BadInput(f"looks is {looks}: give the number of planned evaluations, 1 or more")

    def rule(evaluations: Sequence[Evaluation]) -> Decision:
        having, score_PG = _measured(_checked(evaluations), name)
        mean_P = score_PG.mean(axis=1)
        best = having[int(np.argmax(mean_P))]
        if len(having) < 2 or score_PG.shape[1] < 2:
            return Decision(
                False, best.step, f"turned_down {name}", f"{name} has one point or one prompt so far"
            )
        draws_SP = (
            cluster_sum_draws(score_PG.T, DRAWS, stream(seed, f"turned_down {name}")) / score_PG.shape[1]
        )
        fall, bound, _ = fall_from_best(score_PG, draws_SP, level=1 - 2 * FALSE_STOP / looks)
        if bound > 0:
            why = (
                f"{name} was highest at step {best.step} and has fallen by {fall:.2f} (at least {bound:.2f}"
                " with 95% certainty over all looks)"
            )
            return Decision(True, best.step, f"turned_down {name}", why)
        why = f"{name} has not fallen from its best by more than chance (fall {fall:.2f})"
        return Decision(False, best.step, f"turned_down {name}", why)

    return rule


def predicted_peak(name: str = "gold", *, seed: int = 0) -> Rule:
    """Stop when KL has passed the peak of a curve fitted to the labelled checkpoints; keep the one nearest
    it.

    Needs labels of 6 or more checkpoints (fewer cannot tell the forms apart). A peak counts only where
    ``overoptimisation.fitted_curves`` reports one: the best form has a peak, beats both monotone ones, and
    its bootstrap interval lies inside the observed range. So it never extrapolates, and it stops late rather
    than on a guess.
    """

    def rule(evaluations: Sequence[Evaluation]) -> Decision:
        having, gold_PG = _measured(_checked(evaluations), name)
        best = having[int(np.argmax(gold_PG.mean(axis=1)))]
        label = f"predicted_peak {name}"
        if len(having) < MINIMUM_POINTS or gold_PG.shape[1] < 2:
            why = f"{len(having)} checkpoints have {name}, {MINIMUM_POINTS} are needed for a curve"
            return Decision(False, best.step, label, why)
        distance_P = np.sqrt(np.maximum([one.kl for one in having], 0.0))
        draws_SP = cluster_sum_draws(gold_PG.T, DRAWS, stream(seed, label)) / gold_PG.shape[1]
        found = fitted_curves(distance_P, gold_PG.mean(axis=1), draws_SP)
        if found["peak"] is None:
            return Decision(False, best.step, label, f"no peak of {name}: {found['no_peak_because']}")
        peak = float(found["peak"])
        low, high = found["peak_interval"]
        kept = min(having, key=lambda one: abs(math.sqrt(max(one.kl, 0.0)) - peak))
        why = (
            f"the fitted curve of {name} peaks at √KL = {peak:.2f} (95% interval {low:.2f} to {high:.2f}),"
            f" and the policy is at {math.sqrt(max(evaluations[-1].kl, 0.0)):.2f}"
        )
        return Decision(True, kept.step, label, why)

    return rule


def alarm(name: str, *, verdicts: Sequence[str] = ("warn", "bad")) -> Rule:
    """Stop when the finding ``name`` raises an alarm; keep the evaluation before it.

    The alarm is the finding's own verdict: outside the 95% band of the run's own baseline. It is asked at
    every evaluation, each at its own 95%: a run with many of them will see false alarms.
    """

    def rule(evaluations: Sequence[Evaluation]) -> Decision:
        _checked(evaluations)
        before = evaluations[0]
        for one in evaluations:
            finding = one.findings.get(name)
            if finding is not None and finding.verdict in verdicts:
                return Decision(True, before.step, f"alarm {name}", f"at step {one.step}: {finding.sentence}")
            before = one
        if not any(name in one.findings for one in evaluations):
            return Decision(False, before.step, f"alarm {name}", f"{name} has not been measured yet")
        return Decision(False, before.step, f"alarm {name}", f"{name} has raised no alarm")

    return rule


def any_of(*rules: Rule) -> Rule:
    """Stop as soon as one rule says so; keep the earliest checkpoint that a stopping rule names.

    While none stops, the checkpoint is the earliest that any of them would keep.
    """
    if not rules:
        raise BadInput("any_of has no rule: give 1 or more")

    def rule(evaluations: Sequence[Evaluation]) -> Decision:
        decisions = [one(evaluations) for one in rules]
        stopping = [decision for decision in decisions if decision.stop]
        counted = stopping or decisions
        best = min(counted, key=lambda decision: decision.best_step)
        return Decision(bool(stopping), best.best_step, best.rule, "; ".join(d.why for d in counted))

    return rule


def all_of(*rules: Rule) -> Rule:
    """Stop only when every rule says so; keep the latest checkpoint that they name."""
    if not rules:
        raise BadInput("all_of has no rule: give 1 or more")

    def rule(evaluations: Sequence[Evaluation]) -> Decision:
        decisions = [one(evaluations) for one in rules]
        stop = all(decision.stop for decision in decisions)
        waiting = [decision for decision in decisions if not decision.stop]
        best = max(decisions, key=lambda decision: decision.best_step)
        return Decision(stop, best.best_step, best.rule, "; ".join(d.why for d in (waiting or decisions)))

    return rule


def first_stop(rule: Rule, evaluations: Sequence[Evaluation]) -> tuple[int, Decision]:
    """The rule asked after each evaluation, as a run would: (how many it saw, its decision at the stop or
    end).

    ``Decision.stop`` is False where it never stopped.
    """
    _checked(evaluations)
    for seen in range(1, len(evaluations) + 1):
        decision = rule(evaluations[:seen])
        if decision.stop:
            return seen, decision
    return len(evaluations), decision
