"""Six claims about over-optimisation, each measured over reward-model seeds and each able to fail.

Within a seed nothing is estimated: means over policies are exact. What varies is the seed (labels and
pretraining), so every interval here is a t interval over seeds, in this one world.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from accord.diagnostics.extrapolation import forecast
from accord.diagnostics.overoptimisation import fall_from_best
from accord.diagnostics.statistics import FloatArray, Interval, cluster_sum_draws, jackknife_interval, stream
from accord.lab.ensembles import AGGREGATIONS
from accord.lab.settings import LabSettings
from accord.lab.study import Study
from accord.lab.trial import Recipe
from accord.records import Finding

THE_RULE = (
    "pessimistic ensemble"  # chosen on development seeds: of the rules that cost no labels, it lost least
)
LABELLED_RULE = "predicted peak"


def over_seeds(value_S: FloatArray) -> Interval:
    """Mean with its t interval over S seeds."""
    count = len(value_S)
    left_out_S = (value_S.sum() - value_S) / (count - 1)
    return jackknife_interval(float(value_S.mean()), left_out_S)


def fall(gold_PS: FloatArray) -> Interval:
    """Gold at the peak minus gold at the end; each seed is read where the *other* seeds have their peak.

    A curve's own maximum is never below its end, so an interval around that could hardly include 0. The peak
    of the others' mean is chosen without the seed it is used on: this fall can be negative.
    """
    total_P = gold_PS.sum(axis=1)
    fall_S = np.array([one_P[np.argmax(total_P - one_P)] - one_P[-1] for one_P in gold_PS.T])
    return over_seeds(fall_S)


def best_fall(gold_PS: FloatArray) -> tuple[float, float]:
    """Fall of the mean curve from its best point, and its lower bound, as a real run is judged."""
    draws_SP = cluster_sum_draws(gold_PS.T, 2000, stream(0, "lab fall")) / gold_PS.shape[1]
    figure, lowest, _ = fall_from_best(gold_PS, draws_SP)
    return figure, lowest


def _finding(
    number: int,
    question: str,
    figure: Interval,
    unit: str,
    holds: bool,
    sentence: str,
    evidence: dict[str, Any],
) -> Finding:
    verdict: Literal["good", "bad"] = "good" if holds else "bad"
    name = f"lab_{number}"
    return Finding(name, question, figure.figure, figure.bounds, unit, verdict, sentence, evidence)


def _usual(study: Study, **changes: Any) -> Recipe:
    return replace(Recipe(study.settings.few_pairs, study.settings.usual_noise), **changes)


def needed(settings: LabSettings) -> list[Recipe]:
    """The curves that the six claims are read from: about a quarter of the page's."""
    few, most = Recipe(settings.few_pairs, settings.usual_noise), settings.members[-1]
    watched = [
        replace(few, pairs=pairs, misspecification=share, members=members)
        for pairs in settings.pairs
        for share in settings.misspecification
        if share > 0
        for members in (1, most)
    ]
    shared = ((False, 0.0), (True, 0.0), (False, settings.annotator_bias))
    together = [
        replace(few, members=most, shared=same, length_bias=bias, aggregation=how)
        for same, bias in shared
        for how in AGGREGATIONS
    ]
    return [replace(few, misspecification=0.0), *watched, *together]


def hacking(study: Study) -> Finding:
    """(1) With few pairs the proxy rises all the way; gold falls where the model is blind, and only there."""
    blind, knowing = _usual(study), _usual(study, misspecification=0.0)
    rises = bool((np.diff(study.proxy(blind), axis=0) > 0).all())
    falls, stays = fall(study.gold(blind)), fall(study.gold(knowing))
    holds = rises and falls.low > 0 and not stays.low > 0
    sentence = (
        f"With {blind.pairs} pairs the proxy {'rises' if rises else 'does not rise'} at every step for every"
        f" seed. Gold falls from its peak by {falls.show()} where the model is misspecified, by"
        f" {stays.show()} where it is not."
    )
    evidence = {
        "proxy_rises": rises,
        "fall_misspecified": falls,
        "fall_well_specified": stays,
        "mean_curve_fall_and_lower_bound_misspecified": best_fall(study.gold(blind)),
        "mean_curve_fall_and_lower_bound_well_specified": best_fall(study.gold(knowing)),
    }
    question = "Does gold fall while the proxy rises, and only where the reward model is blind to something?"
    return _finding(1, question, falls, "gold, peak minus end, misspecified", holds, sentence, evidence)


def foresight(study: Study) -> Finding:
    """(2) Gao et al.'s forms, fitted to the first 60% of the distances, predict the rest."""
    gain_by: dict[str, list[float]] = {"constant": [], "line": [], "form": []}
    for one in study.seeds:
        made = [
            forecast(c.distance_P, c.gold_P)
            for c in (one.curves[_usual(study, pairs=n)] for n in study.settings.pairs)
        ]
        gain_by["form"].append(float(np.mean([f.form_error for f in made])))
        gain_by["constant"].append(float(np.mean([f.constant_error for f in made])))
        gain_by["line"].append(float(np.mean([f.line_error for f in made])))
    error_S = {name: np.array(values) for name, values in gain_by.items()}
    over_constant, over_line = (
        over_seeds(error_S[other] - error_S["form"]) for other in ("constant", "line")
    )
    sentence = (
        f"Root mean squared error on the unseen 40% of the distances: form {error_S['form'].mean():.3f},"
        f" constant {error_S['constant'].mean():.3f}, line {error_S['line'].mean():.3f}; the form's error is"
        f" smaller by {over_constant.show(3)} and {over_line.show(3)}."
    )
    evidence = {"less_than_constant": over_constant, "less_than_line": over_line}
    evidence |= {f"error_{name}": over_seeds(values) for name, values in error_S.items()}
    worst = min(over_constant, over_line, key=lambda gain: gain.figure)
    holds = over_constant.low > 0 and over_line.low > 0
    question = "Does a curve fitted to the first 60% of the distances predict the rest?"
    return _finding(
        2, question, worst, "gold, error saved against the better simple guess", holds, sentence, evidence
    )


def more_labels(study: Study) -> Finding:
    """(3) Peak gold rises with the number of pairs; labels that mean nothing teach nothing."""
    peak_NS = np.stack([study.gold(_usual(study, pairs=n)).max(axis=0) for n in study.settings.pairs])
    gain = over_seeds(peak_NS[-1] - peak_NS[0])
    rises = bool((np.diff(peak_NS.mean(axis=1)) > 0).all())
    chance = over_seeds(np.array([one.shuffled_accuracy for one in study.seeds]))
    at_end = over_seeds(np.array([one.shuffled_curve.gold_P[-1] for one in study.seeds]))
    nothing = chance.low <= 0.5 <= chance.high and not at_end.low > 0
    sentence = (
        f"Mean peak gold goes {' → '.join(f'{v:.2f}' for v in peak_NS.mean(axis=1))} over"
        f" {', '.join(str(n) for n in study.settings.pairs)} pairs, {gain.show()} in all. With shuffled"
        f" labels accuracy is {chance.show(3)} and gold moves by {at_end.show()}."
    )
    evidence = {
        "peak_rises_at_every_level": rises,
        "peak_by_pairs": {str(n): over_seeds(v) for n, v in zip(study.settings.pairs, peak_NS, strict=True)},
        "shuffled_accuracy": chance,
        "shuffled_gold_at_end": at_end,
    }
    question = (
        "Does the best reachable gold rise with the number of labels, and is nothing learned from noise?"
    )
    holds = rises and gain.low > 0 and nothing
    return _finding(3, question, gain, "gold at the peak, most pairs minus fewest", holds, sentence, evidence)


def together(study: Study) -> Finding:
    """(4) An ensemble of different pretraining runs does not fall; what its members share survives it: the
    pretraining under the mean, the annotators' bias under every aggregation.
    """
    most, bias = study.settings.members[-1], study.settings.annotator_bias
    single_PS = study.gold(_usual(study))
    own_PS, shared_PS = (study.gold(_usual(study, members=most, shared=same)) for same in (False, True))
    own, shared = fall(own_PS), fall(shared_PS)
    biased = {
        how: fall(study.gold(_usual(study, members=most, length_bias=bias, aggregation=how)))
        for how in AGGREGATIONS
    }
    better = over_seeds(own_PS[-1] - single_PS[-1])
    sentence = (
        f"Peak minus end for the mean of {most} members: {own.show()} with a pretraining run each,"
        f" {shared.show()} where all share one. Where annotators share a taste for length it is"
        f" {biased['mean'].show()}, and no other way of putting members together stops it: worst case"
        f" {biased['worst_case'].show()}, mean minus variance {biased['uncertainty_weighted'].show()}. At the"
        f" end the ensemble's gold is {better.show()} above the single model's."
    )
    evidence = {
        "fall_own": own,
        "fall_shared_pretraining": shared,
        "fall_biased_annotators": biased,
        "gold_at_end_over_single": better,
        "gold_at_end": {
            f"{name}, {how}": over_seeds(
                study.gold(_usual(study, members=most, aggregation=how, **shares))[-1]
            )
            for name, shares in (("own", {}), ("shared", {"shared": True}), ("biased", {"length_bias": bias}))
            for how in AGGREGATIONS
        },
        "mean_curve_fall_and_lower_bound_own": best_fall(own_PS),
        "mean_curve_fall_and_lower_bound_shared": best_fall(shared_PS),
    }
    question = "Does an ensemble stop the fall, and does what its members share survive it?"
    holds = not own.low > 0 and shared.low > 0 and all(one.low > 0 for one in biased.values())
    return _finding(4, question, own, "gold, peak minus end, ensemble", holds, sentence, evidence)


def fresh_labels(study: Study) -> Finding:
    """(5) The same number of labels teaches more about the policy when they are spent on its own answers."""
    fresh_S, control_S = (
        np.array([one.rounds[fresh][1].on_policy for one in study.seeds]) for fresh in (True, False)
    )
    gold_S = np.array([one.rounds[True][1].gold - one.rounds[False][1].gold for one in study.seeds])
    gain, gold = over_seeds(fresh_S - control_S), over_seeds(gold_S)
    before = over_seeds(np.array([one.rounds[True][0].on_policy for one in study.seeds]))
    sentence = (
        f"Accuracy on the policy's own answers: {before.figure:.3f} before, {control_S.mean():.3f} after as"
        f" many labels of the old answers, {fresh_S.mean():.3f} after labels of its own: {gain.show(3)} more."
        f" Gold at the same KL differs by {gold.show()}."
    )
    evidence = {
        "accuracy_before": before,
        "accuracy_fresh": over_seeds(fresh_S),
        "accuracy_control": over_seeds(control_S),
        "gold_fresh_minus_control": gold,
    }
    question = "Are fresh labels of the policy's own answers worth more than as many labels of the old ones?"
    return _finding(5, question, gain, "accuracy, fresh minus control", gain.low > 0, sentence, evidence)


def regrets(study: Study) -> dict[str, FloatArray]:
    """regret_S of each rule: the oracle's gold minus the rule's, mean over all recipes."""
    found: dict[str, list[float]] = {}
    for one in study.seeds:
        losses: dict[str, list[float]] = {}
        for recipe, places in one.stops.items():
            gold_P = one.curves[recipe].gold_P
            for rule, place in places.items():
                losses.setdefault(rule, []).append(float(gold_P[places["oracle"]] - gold_P[place]))
        for rule, values in losses.items():
            found.setdefault(rule, []).append(float(np.mean(values)))
    return {rule: np.array(values) for rule, values in found.items()}


def stopping_in_time(study: Study) -> Finding:
    """(6) The stop rule loses less gold than a fixed KL budget and than shipping the last checkpoint."""
    regret_S = regrets(study)
    against = {
        other: over_seeds(regret_S[other] - regret_S[THE_RULE]) for other in ("fixed KL", "last checkpoint")
    }
    labelled = over_seeds(regret_S["fixed KL"] - regret_S[LABELLED_RULE])
    instead = over_seeds(labels_in_training(study) - shipped(study, LABELLED_RULE))
    listed = ", ".join(f"{rule} {values.mean():.3f}" for rule, values in regret_S.items() if rule != "oracle")
    sentence = (
        f"Gold lost against the best checkpoint, mean over {len(study.seeds[0].stops)} reward models a seed:"
        f" {listed}. The {THE_RULE} needs no labels and loses less than a fixed KL by"
        f" {against['fixed KL'].show(3)}, than the last checkpoint by {against['last checkpoint'].show(3)}."
        f" The {LABELLED_RULE} loses less than a fixed KL by {labelled.show(3)}, but its labels, spent on"
        f" training the reward model instead, and then a fixed KL, give {instead.show()} more gold."
    )
    evidence: dict[str, Any] = {f"regret {rule}": over_seeds(values) for rule, values in regret_S.items()}
    evidence |= {f"less than {other}": gain for other, gain in against.items()}
    evidence |= {
        f"{LABELLED_RULE} less than fixed KL": labelled,
        "its labels in training, gold gained": instead,
    }
    question = "Does the stop rule lose less than a fixed KL budget and than the last checkpoint?"
    holds = all(gain.low > 0 for gain in against.values())
    worst = min(against.values(), key=lambda gain: gain.figure)
    return _finding(
        6, question, worst, "gold saved against the better simple rule", holds, sentence, evidence
    )


def shipped(study: Study, rule: str) -> FloatArray:
    """gold_S of the checkpoints that a rule ships, mean over recipes."""
    found = [
        [one.curves[recipe].gold_P[places[rule]] for recipe, places in one.stops.items()]
        for one in study.seeds
    ]
    gold_S: FloatArray = np.mean(found, axis=1)
    return gold_S


def labels_in_training(study: Study) -> FloatArray:
    """gold_S at the fixed KL if the checkpoints' labels teach the reward model, mean over recipes."""
    return np.array([np.mean(list(one.instead.values())) for one in study.seeds])


def acceptance(study: Study) -> list[Finding]:
    """The six claims in order."""
    claims = (hacking, foresight, more_labels, together, fresh_labels, stopping_in_time)
    return [claim(study) for claim in claims]
