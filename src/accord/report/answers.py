"""The first screen: is it better, by how much and how surely, is it hacked, what should be done next?

The verdicts are the findings' own; nothing is measured here. What to do next follows from them by the rules
written out in ``next_steps``, in the order in which the faults spoil each other's evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accord.report.artefacts import Artefacts, Round, clean, interval, mapping, mappings, number
from accord.report.charts import show

STAND_IN = "simulated annotators (a stand-in for people)"
BETTER = {"good": "Yes", "warn": "Not certain", "bad": "No", "unknown": "Not measured"}
HACKED = {"good": "No sign of it", "warn": "Perhaps", "bad": "Yes", "unknown": "Not measured"}


# What each alarm is about, in the words of the first screen.
ALARMS = {
    "length_shift": "length",
    "length_share": "gain beyond length",
    "repetition_shift": "repetition",
    "diversity_shift": "variety",
    "mode_collapse": "sameness across prompts",
    "entropy_shift": "entropy",
    "classifier_drift": "drift of the answers",
    "mmd_drift": "drift of the answers",
    "latent_outliers": "answers unlike the reward model’s",
    "ensemble_spread": "agreement of the members",
    "on_policy_accuracy": "accuracy on fresh labels",
    "style_reliance": "pay for style",
    "policy_probes": "pay for tricks",
}


@dataclass(frozen=True)
class Answer:
    """One question of the first screen. ``word`` is the answer in at most three words."""

    question: str
    word: str
    verdict: str
    sentence: str
    figure: str = ""
    certainty: str = ""


def verdict_of(finding: Mapping[str, Any] | None) -> str:
    value = (finding or {}).get("verdict")
    return value if value in BETTER else "unknown"


def is_share(finding: Mapping[str, Any]) -> bool:
    """Whether the figure is a share of something, to be shown in per cent."""
    words = f"{finding.get('name')} {finding.get('unit')}".casefold()
    figure = number(finding.get("figure"))
    return (
        figure is not None
        and -1 <= figure <= 1
        and any(w in words for w in ("share", "win_rate", "rate of", "accuracy", "per cent"))
    )


def shown(finding: Mapping[str, Any]) -> tuple[str, str]:
    """(figure, interval) as a reader sees them: per cent for shares, three digits otherwise."""
    scale, unit = (100.0, "%") if is_share(finding) else (1.0, "")
    figure, ends = number(finding.get("figure")), interval(finding.get("interval"))
    text = f"{show(figure * scale)}{unit}" if figure is not None else "–"
    return text, f"{show(ends[0] * scale)} to {show(ends[1] * scale)}{unit}" if ends else ""


def is_finished(run: Artefacts) -> bool:
    """Every planned round has its findings; a lock without an end time belongs to a killed run."""
    planned = number(run.config.get("rounds")) or 1
    done = sum(1 for r in run.rounds if r.findings)
    return done >= planned and (not run.lock or bool(run.lock.get("finished")))


def headline_round(run: Artefacts) -> Round | None:
    """The latest round that has findings; else the latest that has started."""
    found = [r for r in run.rounds if r.findings] or run.rounds
    return found[-1] if found else None


def label_source(run: Artefacts) -> tuple[str, bool]:
    """(the banner's sentence, whether any label is simulated). A hidden gold exists only for the stand-in."""
    judge, data = mapping(run.config.get("judge")), mapping(run.config.get("data"))
    sources = {clean(r.reward.get("label_source")) for r in run.rounds} - {""}
    gold = next((clean(r.curve.get("gold_name")) for r in run.rounds if r.curve.get("gold_name")), "")
    file = clean(
        data.get("comparisons") or judge.get("path") or "a file that the configuration does not name"
    )
    people = bool(data.get("comparisons")) or judge.get("kind") == "file"
    simulated = judge.get("kind") == "simulated" and (not people or number(run.config.get("rounds")) != 1)
    if sources:  # what was really used says more than what was planned
        simulated = any("simulated" in s for s in sources)
        people = any(s.startswith("people") for s in sources)
    unnamed = any("annotators who are not named" in s for s in sources)
    machine = _machine(judge, sources)
    if simulated:
        others = [f"people ({file})"] * people + [f"annotators who are not named ({file})"] * unnamed
        text = f"Labels come from {' and from '.join([*others, STAND_IN])}."
    elif people and any("no person" in s for s in sources):
        return f"Labels come from people and from models or functions as judges: {file}.", False
    elif people and unnamed:
        return f"Labels come from people and from annotators who are not named: {file}.", False
    elif people:
        return f"Labels come from people: {file}; no hidden gold exists.", False
    elif unnamed:
        return f"Labels come from {file}, which does not say who judged; no hidden gold exists.", False
    elif machine:
        return f"Labels come from {machine}. Results say what it prefers, not what people want.", False
    else:
        return "Where the labels come from is not recorded: config.yaml names no judge.", False
    hidden = f" They follow a hidden gold utility, “{gold}”, that no training stage may read." if gold else ""
    return text + hidden + " Results say nothing about what people want.", True


def _machine(judge: Mapping[str, Any], sources: set[str]) -> str:
    """A language model or a function as judge, in words; empty where there is none."""
    named = next((source for source in sorted(sources) if "no person" in source), "")
    kinds = {"llm": "a language model as judge", "function": "a Python function as judge"}
    known = kinds.get(clean(judge.get("kind")), "")
    return named or (f"{known} ({clean(judge.get('model') or judge.get('path'))})" if known else "")


def _better(current: Round | None) -> tuple[Answer, Answer]:
    finding = current.finding("win_rate", "is it better") if current else None
    questions = ("Is it better?", "By how much, with what certainty?")
    if finding is None or number(finding.get("figure")) is None:
        reason = clean((finding or {}).get("sentence")) or "No win rate has been measured in this run yet."
        missing = Answer(questions[0], "Not measured", "unknown", reason)
        return missing, Answer(
            questions[1], "No figure", "unknown", "There is no figure without a measurement."
        )
    verdict = verdict_of(finding)
    figure, ends = shown(finding)
    first = Answer(questions[0], BETTER[verdict], verdict, clean(finding.get("sentence")))
    certainty = f"95% interval {ends}" if ends else "no interval was computed"
    evidence = mapping(finding.get("evidence"))
    gain, gain_ends = number(evidence.get("mean_gain")), interval(evidence.get("mean_gain_interval"))
    sentence = ""
    if gain is not None:
        sentence = f"Mean gain in gold {show(gain)}"
        sentence += f" (95% interval {show(gain_ends[0])} to {show(gain_ends[1])}). " if gain_ends else ". "
    seeds = current.finding("seeds") if current else None
    if seeds is not None and number(seeds.get("figure")) is not None:
        sentence += clean(seeds.get("sentence"))
    else:
        sentence += "The interval resamples held-out prompts; another seed may lie outside it."
    return first, Answer(questions[1], figure, verdict, sentence, "win rate against SFT", certainty)


def hacked_finding(current: Round | None) -> dict[str, Any] | None:
    """Gold against proxy; where there is no gold, the second reward model stands in for it."""
    if current is None:
        return None
    finding = current.finding("overoptimisation", "is it hacked")
    if verdict_of(finding) == "unknown":
        for name in ("split_half", "split_half_selection"):
            other = current.finding(name)
            if verdict_of(other) != "unknown":
                return other
    return finding


def alarms(current: Round | None) -> list[str]:
    """Findings outside the band of the run's own baseline, in plain words; not those that have an answer."""
    found = [
        ALARMS[clean(f.get("name"))]
        for f in (current.findings if current else [])
        if verdict_of(f) in ("warn", "bad") and clean(f.get("name")) in ALARMS
    ]
    return list(dict.fromkeys(found))


def _hacked(current: Round | None) -> Answer:
    question = "Is it hacked?"
    finding = hacked_finding(current)
    if finding is None:
        return Answer(
            question, "Not measured", "unknown", "No over-optimisation finding has been written yet."
        )
    verdict = verdict_of(finding)
    sentence = clean(finding.get("sentence"))
    raised = alarms(current)
    if raised:
        sentence += f" Outside the run’s own 95% band: {', '.join(raised)}."
    return Answer(question, HACKED[verdict], verdict, sentence)


def answers(run: Artefacts) -> list[Answer]:
    """The three measured answers, in the order in which they are asked."""
    current = headline_round(run)
    return [*_better(current), _hacked(current)]


def best_gold_step(curve: Mapping[str, Any]) -> int | None:
    """The evaluated step with the highest mean gold, where it is neither the first nor the last."""
    points = sorted(mappings(curve.get("points")), key=lambda p: number(p.get("step")) or 0.0)
    golds = [number(p.get("gold")) for p in points]
    if len(points) < 3 or None in golds:
        return None
    best = max(range(len(golds)), key=lambda i: golds[i] or 0.0)
    step = number(points[best].get("step"))
    return int(step) if step is not None and 0 < best < len(points) - 1 else None


def _floor_reached(reward: Mapping[str, Any]) -> str | None:
    """The floor that the reward model's accuracy interval does not clear, by name."""
    ends = interval(reward.get("accuracy_interval"))
    for name, floor in mapping(reward.get("floors")).items():
        accuracy = number(mapping(floor).get("accuracy"))
        if ends and accuracy is not None and ends[0] <= accuracy:
            return clean(name).replace("_", "-")
    return None


def waiting_for_labels(run: Artefacts) -> str | None:
    """What people have to do, where the run has stopped for their labels; None where it has not."""
    judge = mapping(run.config.get("judge"))
    open_rounds = [one for one in run.rounds if one.pairs and not one.reward]
    if judge.get("kind") in (None, "simulated") or not open_rounds or is_finished(run):
        return None
    one = open_rounds[-1]
    where = f" into {clean(judge.get('path'))}" if judge.get("path") else ""
    return (
        f"Label the {one.pairs} pairs in round-{one.index}/pairs.jsonl{where}: the run waits for them, and"
        " the same `accord run` command then goes on."
    )


def next_steps(run: Artefacts) -> list[str]:
    """At most three things to do, most urgent first.

    1. A run that has not finished is finished first: nothing else is known. One that waits for people says
    so. 2. Hacked: stop earlier or hold the policy closer, and label its own samples.
    3. A reward model that does not clear its floors: more labels, because all that follows rests on it.
    4. Not better, or not certain: more pressure or more prompts to measure on.
    5. Longer or more repetitive: look, because annotators may pay for it.
    6. The reward model knows less about the policy's samples, or the policy says the same to everyone.
    7. No gold: let people compare the samples. Otherwise: another seed, then another round.
    """
    current = headline_round(run)
    steps = []
    rounds = len(run.rounds)
    waiting = waiting_for_labels(run)
    if waiting:
        steps.append(waiting)
    elif not is_finished(run):
        steps.append("Finish the run: the same `accord run` command goes on from the last completed step.")
    if current is None:
        return steps
    better = current.finding("win_rate", "is it better")
    hacked = verdict_of(hacked_finding(current))
    if hacked in ("bad", "warn"):
        best = best_gold_step(current.curve)
        where = f" (gold was highest at step {best} of those evaluated)" if best is not None else ""
        steps.append(
            f"Hold the policy closer: fewer steps{where} or a larger `online.kl.coefficient`,"
            f" then label the new policy’s own samples with `rounds: {rounds + 1}`."
        )
    floor = _floor_reached(current.reward)
    if floor:
        steps.append(
            f"Collect more labels: the reward model’s accuracy interval does not clear the {floor} floor."
        )
    measured = better is not None and number(better.get("figure")) is not None
    if measured and verdict_of(better) in ("warn", "unknown"):
        steps.append("Measure on more held-out prompts (`evaluate.prompts`), or train for more steps.")
    elif measured and verdict_of(better) == "bad":
        steps.append("Do not use this policy: compare the samples below before changing anything.")
    longer = current.finding("length_shift")
    words = "longer" if (number((longer or {}).get("figure")) or 0.0) > 0 else "shorter"
    for finding, word in ((longer, words), (current.finding("repetition_shift"), "more repetitive")):
        if verdict_of(finding) in ("bad", "warn"):
            steps.append(f"Read the samples: answers became {word}, and labels may pay for that alone.")
            break
    if verdict_of(current.finding("on_policy_accuracy")) in ("bad", "warn"):
        steps.append(
            f"Label the new policy’s own samples (`rounds: {rounds + 1}`): the reward model knows less of"
            " them."
        )
    if verdict_of(current.finding("mode_collapse")) in ("bad", "warn"):
        steps.append(
            "Look at the answers that many prompts share: raise `online.kl.coefficient` or the sampling"
            " temperature."
        )
    if current.curve and not current.curve.get("gold_name"):
        steps.append(
            "Have people compare SFT and policy samples: without a gold only they can say it is better."
        )
    elif measured and verdict_of(better) == "good" and hacked == "good" and not floor:
        steps.append(
            "Repeat with another `--seed`: the intervals here do not contain the spread between seeds."
        )
        steps.append(f"Then label the new policy’s own samples: `rounds: {rounds + 1}`.")
    return steps[:3]
