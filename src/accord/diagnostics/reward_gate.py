"""Accept, accept with warnings, or reject: a reward-model card read against thresholds, each reason measured.

A reject is for what makes optimisation pointless or surely exploited: scores that carry no shown information,
or none beyond length; good answers that lose to nothing at all, or to an answer to another prompt; an edit
that pays a whole deviation. All else that a user should know is a warning, and so is what a card does not
hold: not measured is not good.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from accord.config import Gate
from accord.diagnostics.reward_floors import LENGTH_FLOORS

Level = Literal["good", "warn", "bad"]
Decision = Literal["accept", "accept with warnings", "reject"]

# Losing to nothing at all, or to an answer that is not to the question, is no matter of degree.
FATAL = ("empty", "other_answer")
# The pipeline pays a missing end of its own (online.missing_end), so this probe alone does not reject.
PAID_ELSEWHERE = ("no_end",)


@dataclass(frozen=True)
class Reason:
    """One check: what was asked, what was measured, what the limit is, and how it came out."""

    name: str
    level: Level
    sentence: str
    measured: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The decision and every check behind it, worst first."""

    decision: Decision
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        return {"decision": self.decision, "reasons": [asdict(reason) for reason in self.reasons]}

    @property
    def sentence(self) -> str:
        """The decision with the sentences that led to it."""
        worst = [
            r.sentence for r in self.reasons if r.level == ("bad" if self.decision == "reject" else "warn")
        ]
        return f"{self.decision}: {' '.join(worst)}" if worst else f"{self.decision}: every check passed."


def gate(card: Mapping[str, Any], thresholds: Gate | None = None) -> Verdict:
    """The verdict on a card (of `reward_evaluation.evaluate`, with ``probes`` where they were measured)."""
    limits = thresholds or Gate()
    reasons = [
        *_scores(card, limits),
        _accuracy(card, limits),
        _length(card, limits),
        _words(card, limits),
        *_probes(card, limits),
        _calibration(card, limits),
        _correlation(card, limits),
        *_data(card, limits),
    ]
    order = {"bad": 0, "warn": 1, "good": 2}
    reasons.sort(key=lambda reason: order[reason.level])
    worst = reasons[0].level
    decision: Decision = (
        "reject" if worst == "bad" else "accept with warnings" if worst == "warn" else "accept"
    )
    return Verdict(decision, tuple(reasons))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _points(value: float) -> str:
    return _signed(100 * value, 1)


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _range(interval: Sequence[float] | None, show: Callable[[float], str]) -> str:
    return f"95% interval {show(interval[0])} to {show(interval[1])}" if interval else "no interval"


def _not_shown(limit: float) -> str:
    return (
        "that is not shown to be any gain."
        if not limit
        else f"not shown to be above {_points(limit)} points."
    )


def _scores(card: Mapping[str, Any], limits: Gate) -> list[Reason]:
    if card["scores"]["constant"]:
        return [Reason("scores", "bad", "Every response has the same score.", 0.0)]
    data = card["data"]
    share = data["unscorable"] / max(1, data["unscorable"] + data["pairs"])
    if not share:
        return [Reason("scores", "good", "Every pair was scored.", 0.0, limits.maximum_unscorable)]
    level: Level = "bad" if share > limits.maximum_unscorable else "warn"
    sentence = f"{data['unscorable']} pairs ({_percent(share)}) have a score that is NaN or infinite."
    return [Reason("scores", level, sentence, share, limits.maximum_unscorable)]


def _accuracy(card: Mapping[str, Any], limits: Gate) -> Reason:
    figure, interval = card["accuracy"]["figure"], card["accuracy"]["interval"]
    shown = f"{_percent(figure)} of held-out pairs are right ({_range(interval, _percent)})"
    if interval is None:
        return Reason("accuracy", "bad", f"{shown}: one prompt shows nothing.", figure, limits.accuracy_above)
    if not interval[0] > limits.accuracy_above:
        sentence = f"{shown}: that is not shown to be above {_percent(limits.accuracy_above)}."
        return Reason("accuracy", "bad", sentence, interval[0], limits.accuracy_above)
    return Reason("accuracy", "good", f"{shown}.", interval[0], limits.accuracy_above)


def _length(card: Mapping[str, Any], limits: Gate) -> Reason:
    """Against the length floor that is hardest to beat."""
    name, row = min(
        ((name, card["floors"][name]) for name in LENGTH_FLOORS), key=lambda item: item[1]["gain"]
    )
    shown = (
        f"Over length alone ({name.replace('_', ' ')}, {_percent(row['accuracy'])}) it gains"
        f" {_points(row['gain'])} points ({_range(row['gain_interval'], _points)})"
    )
    limit = limits.gain_over_length
    if not row["gain"] > limit:
        return Reason("gain over length", "bad", f"{shown}: length alone does as well.", row["gain"], limit)
    if row["gain_interval"] is None or not row["gain_interval"][0] > limit:
        sentence = f"{shown}: {_not_shown(limit)}"
        return Reason("gain over length", "warn", sentence, row["gain"], limit)
    return Reason("gain over length", "good", f"{shown}.", row["gain_interval"][0], limit)


def _words(card: Mapping[str, Any], limits: Gate) -> Reason:
    row, limit = card["floors"]["bag_of_words"], limits.gain_over_words
    shown = (
        f"Over a bag of words ({_percent(row['accuracy'])}) it gains {_points(row['gain'])} points"
        f" ({_range(row['gain_interval'], _points)})"
    )
    if row["gain_interval"] is None or not row["gain_interval"][0] > limit:
        sentence = f"{shown}: {_not_shown(limit)}"
        return Reason("gain over words", "warn", sentence, row["gain"], limit)
    return Reason("gain over words", "good", f"{shown}.", row["gain_interval"][0], limit)


def _probes(card: Mapping[str, Any], limits: Gate) -> list[Reason]:
    probes = card.get("probes")
    if not probes:
        return [Reason("probes", "warn", "Probes were not run: how it can be exploited is not known.")]
    reasons = [found for row in probes if (found := _probe(row, limits) or _reads_prompt(row, limits))]
    if reasons:
        return reasons
    known = [row for row in probes if row["tried"]]
    worst = max(known, key=lambda row: row["share_rising"], default=None)
    if worst is None:
        return [Reason("probes", "warn", "No probe applied to any answer.")]
    sentence = (
        f"None of {len(known)} probes raises most scores; the most raising, {worst['what']},"
        f" does so for {_percent(worst['share_rising'])}."
    )
    return [Reason("probes", "good", sentence, worst["share_rising"], limits.exploitable_share)]


def _probe(row: Mapping[str, Any], limits: Gate) -> Reason | None:
    """A reason where an edit raises most scores; None where it is not shown to."""
    share = row.get("share_interval")
    if not row["tried"] or share is None or not share[0] > limits.exploitable_share:
        return None
    rise, name = row["mean_change_interval"], "probe " + row["name"].replace("_", " ")
    sentence = (
        f"{_percent(row['share_rising'])} of answers score higher with this edit: {row['what']}"
        f" ({_range(share, _percent)}); {_signed(row['mean_change'])} deviations on average."
    )
    if row["name"] in FATAL:
        return Reason(name, "bad", sentence, share[0], limits.exploitable_share)
    if rise is None or not rise[0] > limits.warned_rise:
        return None
    rejected = rise[0] > limits.rejected_rise and row["name"] not in PAID_ELSEWHERE
    limit = limits.rejected_rise if rejected else limits.warned_rise
    return Reason(name, "bad" if rejected else "warn", sentence, rise[0], limit)


def _reads_prompt(row: Mapping[str, Any], limits: Gate) -> Reason | None:
    """A scorer that never looks at the prompt lowers at most half of the exchanged answers, by symmetry."""
    if row["name"] != "other_answer" or not row["tried"]:
        return None
    falling = row["share_falling_interval"]
    if falling is not None and falling[0] > limits.exploitable_share:
        return None
    sentence = (
        f"{_percent(row['share_falling'])} of good answers score lower when exchanged for a good answer to"
        f" another prompt ({_range(falling, _percent)}): it is not shown to read the prompt."
    )
    measured = falling[0] if falling else row["share_falling"]
    return Reason("probe other answer", "warn", sentence, measured, limits.exploitable_share)


def _calibration(card: Mapping[str, Any], limits: Gate) -> Reason:
    error, limit = card["calibration"]["ece"], limits.maximum_calibration_error
    if error is None:
        return Reason("calibration", "warn", "Calibration could not be measured.", None, limit)
    temperature = card["calibration"]["temperature"]
    shown = f"Its confidence is off by {error:.3f} (debiased ECE; fitted temperature {temperature:.2f})"
    if error > limit:
        return Reason(
            "calibration", "warn", f"{shown}: scale scores before reading them as odds.", error, limit
        )
    return Reason("calibration", "good", f"{shown}.", error, limit)


def _correlation(card: Mapping[str, Any], limits: Gate) -> Reason:
    """The end of the interval that is nearest to 0: what is shown at the least."""
    figure, interval = card["length"]["partial"], card["length"]["partial_interval"]
    limit = limits.maximum_length_correlation
    if figure is None or interval is None:
        return Reason("length reliance", "warn", "Reliance on length could not be measured.", None, limit)
    least = 0.0 if interval[0] <= 0 <= interval[1] else min(abs(interval[0]), abs(interval[1]))
    shown = (
        f"Beyond what the labels explain, score and length correlate {_signed(figure)}"
        f" ({_range(interval, _signed)})"
    )
    if least > limit:
        return Reason(
            "length reliance", "warn", f"{shown}: expect the policy's length to move.", least, limit
        )
    return Reason("length reliance", "good", f"{shown}.", least, limit)


def _data(card: Mapping[str, Any], limits: Gate) -> list[Reason]:
    data, reasons = card["data"], []
    if data["pairs"] < limits.minimum_pairs:
        sentence = f"{data['pairs']} held-out pairs are few: intervals are wide, collect more labels."
        reasons.append(Reason("held-out pairs", "warn", sentence, data["pairs"], limits.minimum_pairs))
    else:
        sentence = f"{data['pairs']} held-out pairs of {data['prompts']} prompts."
        reasons.append(Reason("held-out pairs", "good", sentence, data["pairs"], limits.minimum_pairs))
    if data["prompts_in_training"]:
        sentence = (
            f"{data['prompts_in_training']} of {data['prompts']} held-out prompts are also in the training"
            " pairs: the accuracy is too high."
        )
        reasons.append(Reason("leakage", "warn", sentence, data["prompts_in_training"], 0))
    return reasons
