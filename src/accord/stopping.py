"""Stop rules in a run: asked after every evaluation, with a checkpoint kept at each, until one is chosen.

What the rules may read is measured here, on the samples of the evaluation: the score of a second reward model
of the held-out labels, the ensemble's lowest member, labels against SFT's samples, findings against SFT's
samples. Never the hidden gold of simulated annotators.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from accord import stop_rules
from accord.config import Evaluate
from accord.config_stop import Alarm, KlBudget, PredictedPeak, Stop, TurnedDown
from accord.evidence import alarm_findings, rule_evaluations
from accord.records import Finding
from accord.stop_rules import Decision, Rule

Row = dict[str, Any]
ScoreRows = Callable[[Sequence[Row], Sequence[Row]], list[float]]  # of rows, given SFT's


def rule_of(stop: Stop, looks: int, seed: int) -> Rule:
    """The recipe's rules as one; ``looks`` is how many evaluations are planned."""
    rules: list[Rule] = []
    for one in stop.rules:
        match one:
            case KlBudget():
                rules.append(stop_rules.kl_budget(one.limit))
            case TurnedDown():
                rules.append(stop_rules.turned_down(one.score, looks=looks, seed=seed))
            case PredictedPeak():
                rules.append(stop_rules.predicted_peak("labelled", seed=seed))
            case Alarm():
                rules.append(stop_rules.alarm(one.finding))
    return stop_rules.all_of(*rules) if stop.when == "all" else stop_rules.any_of(*rules)


class StopWatch:
    """Called with the evaluations so far; True means stop.

    Args:
        folder: where the trained weights of each evaluation are kept until one is chosen.
        policy: the model that is trained.
        other_half: scores of rows by the held-out labels' model, where a rule reads them.
        labelled: how often the judge prefers the rows to SFT's, by prompt, where a rule reads it.
    """

    def __init__(
        self,
        stop: Stop,
        folder: Path,
        policy: Any,
        evaluate: Evaluate,
        looks: int,
        seed: int,
        *,
        other_half: ScoreRows | None = None,
        labelled: ScoreRows | None = None,
    ) -> None:
        self.rule, self.folder, self.policy, self.evaluate = (
            rule_of(stop, looks, seed), folder, policy, evaluate,
        )  # fmt: skip
        self.watched = [one.finding for one in stop.rules if isinstance(one, Alarm)]
        self.other_half, self.labelled = other_half, labelled
        self.decision: Decision | None = None

    def __call__(self, evaluations: Sequence[Row]) -> bool:
        newest = evaluations[-1]
        self._keep(newest["step"])
        self._measure(newest, evaluations[0])
        findings = [
            [Finding(**(one | {"interval": _ends(one["interval"])})) for one in e.get("findings", [])]
            for e in evaluations
        ]
        self.decision = self.rule(rule_evaluations(evaluations, findings))
        return self.decision.stop

    def restore(self, step: int) -> None:
        """The trained weights as they were at the evaluation after ``step``, into the policy."""
        kept = load_file(self.folder / f"step-{step}.safetensors")
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(kept[name])

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.policy.named_parameters() if p.requires_grad}

    def _keep(self, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step}.safetensors"
        writing = path.with_suffix(".writing")
        save_file({n: p.detach().contiguous() for n, p in self._trained().items()}, writing)
        writing.replace(path)

    def _measure(self, newest: Row, first: Row) -> None:
        """Into the evaluation itself, so that a run that goes on after a kill does not measure again."""
        rows = newest["rows"]
        if self.other_half is not None and "other_half" not in rows[0]:
            for row, score in zip(rows, self.other_half(rows, first["rows"]), strict=True):
                row["other_half"] = score
        if self.labelled is not None:
            first.setdefault("labelled", [0.5] * len({row["key"] for row in first["rows"]}))  # against itself
            if "labelled" not in newest:
                newest["labelled"] = self.labelled(rows, first["rows"])
        if self.watched and "findings" not in newest and newest is not first:
            found = alarm_findings(first["rows"], rows, self.watched, self.evaluate)
            newest["findings"] = [one.to_json() | {"evidence": {}} for one in found]


def _ends(value: Sequence[float] | None) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])


def stop_finding(decision: Decision, last: int, planned: int) -> Finding:
    """Which checkpoint is the result, and why.

    Args:
        last: the step that was reached; ``planned``: the one that the recipe asked for.
    """
    ended = f"RL was stopped at step {last} of {planned}" if decision.stop else f"RL ran to step {last}"
    sentence = f"The result is the policy of step {decision.best_step}; {ended}: {decision.why}."
    evidence = {
        "stopped": decision.stop,
        "rule": decision.rule,
        "last_step": last,
        "planned_steps": planned,
        "best_step": decision.best_step,
    }
    return Finding(
        "stop_rule", "When did it stop, and which checkpoint is the result?", float(decision.best_step), None,
        "optimiser step", "warn" if decision.stop else "good", sentence, evidence,
    )  # fmt: skip
