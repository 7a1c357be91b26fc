"""Runs beside each other: what differs between them, with intervals over the prompts that both answered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.diagnostics.matched_kl import matched_kl
from accord.diagnostics.seeds import LEAST_SEEDS, over_seeds, seed_difference
from accord.diagnostics.statistics import (
    FloatArray,
    Interval,
    by_prompt,
    cluster_bootstrap,
    cluster_sum_draws,
    percentile_interval,
    stream,
)
from accord.records import BadInput
from accord.report.answers import headline_round
from accord.report.artefacts import Artefacts, Round, clean, interval, mapping, mappings, number, numbers

DRAWS = 2000
ROUND_OFF = 1e-12
# figure of a sample pair -> (what it is called, unit). Differences are of the policies' answers.
FIGURES = {
    "gold": ("gold of the policy’s answers", "gold, mean over prompts"),
    "win": ("win rate against its own SFT", "share of samples, ties one half"),
    "tokens": ("length of the policy’s answers", "tokens"),
    "proxy": ("proxy of the policy’s answers", "normalised reward-model score"),
}


@dataclass(frozen=True)
class Compared:
    """A run and the round that speaks for it. ``label`` is unique on the page."""

    label: str
    run: Artefacts
    round: Round | None


@dataclass(frozen=True)
class Difference:
    """One figure of ``label`` minus that of the first run.

    ``paired``: over the same prompts, else over each run's own (wider, and other prompts may be harder).
    ``note`` says why there is no interval, where there is none.
    """

    label: str
    figure: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    prompts: int
    paired: bool
    note: str = ""


def labels(runs: Sequence[Artefacts]) -> list[str]:
    """Names for a page: the run's name; its folder where names repeat; the path where folders repeat too."""
    names = [clean(run.config.get("name")) or run.path.resolve().name for run in runs]
    for better in (
        [run.path.resolve().name for run in runs],
        ["/".join(run.path.resolve().parts[-2:]) for run in runs],
        [str(run.path.resolve()) for run in runs],
        [f"{name} ({place})" for place, name in enumerate(names, 1)],
    ):
        count = Counter(names)
        names = [better[i] if count[name] > 1 else name for i, name in enumerate(names)]
    return names


def compared(runs: Sequence[Artefacts]) -> list[Compared]:
    return [Compared(label, run, headline_round(run)) for label, run in zip(labels(runs), runs, strict=True)]


def _value(sample: Mapping[str, Any], kind: str) -> float | None:
    policy, sft = mapping(sample.get("policy")), mapping(sample.get("sft"))
    if kind != "win":
        return number(policy.get(kind))
    new, old = number(policy.get("gold")), number(sft.get("gold"))
    return None if new is None or old is None else 0.5 + 0.5 * ((new > old) - (new < old))


def by_key(one: Round | None, kind: str) -> dict[str, float]:
    """Mean of a figure over each held-out prompt's samples, by the prompt's key."""
    known = [
        (sample["key"], value)
        for sample in (one.samples if one else [])
        if sample["key"] and (value := _value(sample, kind)) is not None
    ]
    if not known:
        return {}
    mean_G, keys = by_prompt([value for _, value in known], [key for key, _ in known])
    return dict(zip(keys, mean_G.tolist(), strict=True))


def comparable(first: Compared, other: Compared, kind: str) -> str:
    """Why a figure of two runs cannot be compared; empty where it can."""
    if kind in ("gold", "win"):
        names = {clean(c.round.curve.get("gold_name")) if c.round else "" for c in (first, other)}
        if "" in names:
            return "there is no gold in both"
        if len(names) > 1:
            return f"their golds differ ({' and '.join(sorted(names))})"
    if kind == "proxy":
        keys = [
            mapping(c.run.commits.get(f"round-{c.round.index}/reward")).get("key") if c.round else None
            for c in (first, other)
        ]
        if keys[0] is None or keys[0] != keys[1]:
            return "each run has its own reward model, whose scores have a unit of their own"
    return ""


def difference(first: Compared, other: Compared, kind: str) -> Difference:
    """The figure of ``other`` minus that of ``first``, paired over shared prompts where there are two or
    more.
    """
    name, unit = FIGURES[kind]
    reason = comparable(first, other, kind)
    one, two = by_key(first.round, kind), by_key(other.round, kind)
    shared = sorted(set(one) & set(two))
    if not reason and not (one and two):
        reason = "one of them has no held-out samples"
    if reason:
        return Difference(other.label, name, unit, None, None, None, 0, False, reason)
    # Pairing takes out how hard a prompt is, but leaves out the prompts that are not shared
    if len(shared) > 1 and 2 * len(shared) >= max(len(one), len(two)):
        gaps = [two[key] - one[key] for key in shared]
        found = cluster_bootstrap(gaps, shared, samples=DRAWS)
        if np.ptp(gaps) < ROUND_OFF:  # draws of one and the same number would look like certainty
            note = "every prompt has the same difference"
            return Difference(other.label, name, unit, found.figure, None, None, len(shared), True, note)
        return Difference(other.label, name, unit, *_ends(found), len(shared), True)
    found = _unpaired(np.array(list(one.values())), np.array(list(two.values())))
    note = "" if found.bounds else "one prompt gives no interval"
    return Difference(other.label, name, unit, *_ends(found), min(len(one), len(two)), False, note)


def _ends(found: Interval) -> tuple[float, float | None, float | None]:
    low, high = found.bounds or (None, None)
    return found.figure, low, high


def _unpaired(one_G: FloatArray, two_H: FloatArray) -> Interval:
    """Difference of means over prompts that are not shared, each side drawn on its own."""
    rng = stream(0, "unpaired difference")
    draws = [cluster_sum_draws(v[:, None], DRAWS, rng)[:, 0] / len(v) for v in (one_G, two_H)]
    figure = float(two_H.mean() - one_G.mean())
    return percentile_interval(figure, draws[1] - draws[0], min(len(one_G), len(two_H)))


def matched_gold(first: Compared, other: Compared) -> Difference:
    """Gold of the policies at the largest KL that both reached, over the prompts that both evaluated."""
    name, unit = "gold at the same KL", "gold, mean over prompts"
    reason = comparable(first, other, "gold")
    sides = [_curve_by_prompt(c.round) for c in (first, other)]
    shared = sorted(set(sides[0][1]) & set(sides[1][1]))
    if not reason and len(shared) < 2:
        reason = "their evaluations have no two prompts in common"
    if reason:
        return Difference(other.label, name, unit, None, None, None, 0, True, reason)
    tables = [np.array([[row[key] for key in shared] for row in rows]) for _, _, rows in sides]
    try:
        found = matched_kl(sides[0][0], tables[0], sides[1][0], tables[1], shared, samples=DRAWS)
    except BadInput as error:
        return Difference(other.label, name, unit, None, None, None, 0, True, str(error))
    low, high = found.interval or (None, None)
    note = f"at {found.evidence['kl']:.1f} nats"
    return Difference(other.label, name, unit, found.figure, low, high, len(shared), True, note)


def _curve_by_prompt(one: Round | None) -> tuple[list[float], list[str], list[dict[str, float]]]:
    """KL of each evaluation, the prompts' keys, and each evaluation's gold by key; empty where not kept."""
    curve = one.curve if one else {}
    table = mapping(curve.get("by_prompt"))
    keys = [clean(key) for key in table.get("keys") or []]
    kl = [number(point.get("kl")) for point in mappings(curve.get("points"))]
    gold = [numbers(row) for row in table.get("gold") or []]
    whole = len(gold) == len(kl) > 0 and all(len(row) == len(keys) for row in gold)
    if not whole or any(one is None for one in kl):
        return [], [], []
    return [one or 0.0 for one in kl], keys, [dict(zip(keys, row, strict=True)) for row in gold]


def accuracy_difference(first: Compared, other: Compared) -> Difference:
    """Reward-model accuracy, each on its own test set: from both intervals, taken as independent."""
    name, unit = "reward-model accuracy", "share of held-out pairs"
    found = [_accuracy(c.round) for c in (first, other)]
    if found[0] is None or found[1] is None:
        return Difference(other.label, name, unit, None, None, None, 0, False, "one of them has no accuracy")
    value = found[1].figure - found[0].figure
    half = math.hypot(*((f.high - f.low) / 2 for f in found if f is not None))
    pairs = [number(c.round.reward.get("prompts_test")) or 0 for c in (first, other) if c.round]
    low, high = (value - half, value + half) if math.isfinite(half) else (None, None)
    note = "each on its own test set"
    return Difference(other.label, name, unit, value, low, high, int(min(pairs)), False, note)


def _accuracy(one: Round | None) -> Interval | None:
    figure = number(one.reward.get("accuracy")) if one else None
    if one is None or figure is None:
        return None
    low, high = interval(one.reward.get("accuracy_interval")) or (math.nan, math.nan)
    return Interval(figure, low, high)


def differences(runs: Sequence[Compared]) -> list[Difference]:
    """Every other run against the first, figure by figure."""
    out = []
    for kind in FIGURES:
        out += [difference(runs[0], other, kind) for other in runs[1:]]
    out += [matched_gold(runs[0], other) for other in runs[1:]]
    return out + [accuracy_difference(runs[0], other) for other in runs[1:]]


def settings(run: Artefacts) -> dict[str, Any]:
    """The configuration as dotted keys, without what differs between seeds of one recipe."""
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        else:
            flat[path] = value

    walk(run.config, "")
    for key in ("seed", "name", "threads"):
        flat.pop(key, None)
    return {key: value for key, value in flat.items() if not key.startswith("logging.")}


def changed_settings(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in every run: (key, value in each)."""
    every = [settings(one.run) for one in runs]
    keys = sorted({key for one in every for key in one})
    shown = [(key, [clean(one.get(key, "–")) for one in every]) for key in keys]
    return [(key, values) for key, values in shown if len(set(values)) > 1]


@dataclass(frozen=True)
class Group:
    """Runs of one configuration with different seeds; the figures of the first line of `seed_groups`."""

    label: str
    members: tuple[str, ...]
    figure: str
    spread: Interval
    difference: Interval | None


def seed_groups(runs: Sequence[Compared]) -> list[Group]:
    """Interquartile mean of win rate and gold over seeds, for configurations that were run with several.

    The difference is to the first configuration, where both have 3 seeds or more.
    """
    by_settings: dict[str, list[Compared]] = {}
    for one in runs:
        by_settings.setdefault(repr(sorted(settings(one.run).items(), key=lambda item: item[0])), []).append(
            one
        )
    groups = list(by_settings.values())
    if all(len(group) < 2 for group in groups):
        return []
    out = []
    for kind in ("win", "gold"):
        values = [
            [float(np.mean(list(found.values()))) for c in group if (found := by_key(c.round, kind))]
            for group in groups
        ]
        for group, own in zip(groups, values, strict=True):
            if not own or any(comparable(groups[0][0], c, kind) for c in group):
                continue
            spread = (
                over_seeds({"runs": own})
                if len(own) >= LEAST_SEEDS
                else Interval(float(np.mean(own)), math.nan, math.nan)
            )
            gap = None
            if group is not groups[0] and min(len(own), len(values[0])) >= LEAST_SEEDS:
                gap = seed_difference({"runs": values[0]}, {"runs": own})
            members = tuple(c.label for c in group)
            out.append(
                Group(
                    members[0] if len(members) == 1 else f"{members[0]} and {len(members) - 1} more",
                    members,
                    FIGURES[kind][0],
                    spread,
                    gap,
                )
            )
    return out


def signed(value: float, width: float | None) -> str:
    """With its sign, and no more decimals than its interval's width makes sense of."""
    places = 3 if not width else min(max(2 - math.floor(math.log10(width)), 0), 6)
    return f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")


def shown(one: Difference) -> str:
    """+0.12 (95% interval +0.05 to +0.19)"""
    assert one.value is not None
    if one.low is None or one.high is None:
        return signed(one.value, None)
    low, high = (signed(end, one.high - one.low) for end in (one.low, one.high))
    return f"{signed(one.value, one.high - one.low)} (95% interval {low} to {high})"


def sentence(differences_of: Sequence[Difference], first: str) -> list[str]:
    """Which is better, one sentence a run; nothing is ranked where intervals hold 0."""
    out = []
    for one in differences_of:
        if one.figure != FIGURES["gold"][0]:
            continue
        if one.value is None:
            out.append(f"{one.label} and {first} cannot be compared by gold: {one.note}.")
            continue
        if one.low is None or one.high is None:
            out.append(f"{one.label} differs from {first} by {shown(one)} in gold: {one.note}.")
            continue
        where = shown(one)
        on = (
            f"on {one.prompts} prompts that both answered"
            if one.paired
            else "on prompts that are mostly not the same"
        )
        if one.low > 0 or one.high < 0:
            word = "better" if one.value > 0 else "worse"
            out.append(f"{one.label} is {word} than {first} by gold, {where}, {on}.")
        else:
            out.append(f"{one.label} cannot be told apart from {first} by gold: {where}, {on}.")
    return out
