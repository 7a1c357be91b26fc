"""Comparisons written in the field's formats, so that other programs can read them.

Most of these formats know a chosen and a rejected answer only. What such a format cannot say is left out by
a stated rule and counted, never silently: ``both_bad`` and ``skip`` always, a tie as ``ties`` says. And every
row is read again by accord's own reader before it counts as written: what would not come back as it was is a
reject with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from accord import formats_export_rows as layout
from accord.formats_comparison import Items, Reject
from accord.formats_messages import BadRow
from accord.formats_rows import COMPARISON_FORMATS
from accord.formats_write import RejectLog, write_rows
from accord.records import BadInput, Comparison

TIES = ("drop", "both_ways", "refuse")


@dataclass(frozen=True)
class Target:
    """One format to write.

    Attributes:
        mapping: what becomes what, for people.
        rows: a comparison as rows; None where rows are made of all judgements of a pair.
        group: the judgements of one pair as a row; None where each comparison is a row of its own.
        verdicts: what it can say; the rest is left out.
        both_ways: whether a tie can be two rows, each side chosen once.
        criteria: whether it says what was asked.
        voices: whether it says who judged.
        one: what the judgements of a row have in common besides the pair: who judged, or by which criterion.
    """

    mapping: str
    rows: Callable[[Comparison], list[layout.Row]] | None = None
    group: Callable[[Sequence[Comparison]], layout.Row] | None = None
    verdicts: frozenset[str] = frozenset({"a", "b"})
    both_ways: bool = True
    criteria: bool = False
    voices: bool = False
    one: Literal["annotator", "criterion"] = "criterion"


WITH_TIES = frozenset({"a", "b", "tie"})
TARGETS: dict[str, Target] = {
    "trl": Target("TRL, explicit prompt, messages", layout.trl),
    "trl-implicit": Target(
        "TRL, implicit prompt: chosen and rejected are conversations", layout.trl_implicit
    ),
    "trl-text": Target("TRL, explicit prompt, texts", layout.trl_text),
    "kto": Target("TRL, unpaired: one answer a row, label says if it is good", layout.kto, both_ways=False),
    "hh": Target("HH transcripts", layout.hh),
    "openai": Target("OpenAI preference fine-tuning", layout.openai),
    "alpaca": Target("LLaMA-Factory alpaca", layout.alpaca),
    "sharegpt": Target("LLaMA-Factory sharegpt", layout.sharegpt),
    "ultrainteract": Target("UltraInteract", layout.ultrainteract),
    "ultrafeedback": Target(
        "UltraFeedback, two completions with a rating", layout.ultrafeedback, verdicts=WITH_TIES
    ),
    "annotators": Target(
        "one row a pair, labels by annotator",
        group=layout.annotators,
        verdicts=WITH_TIES | {"both_bad", "skip"},
        criteria=True,
        voices=True,
    ),
    "argilla": Target(
        "Argilla records, one a pair, all submitted",
        group=layout.argilla,
        verdicts=WITH_TIES | {"both_bad"},
        voices=True,
    ),
    "saferlhf": Target(
        "PKU-SafeRLHF, helpful and harmless",
        group=layout.saferlhf,
        both_ways=False,
        criteria=True,
        one="annotator",
    ),
}


@dataclass(frozen=True)
class Exported:
    """What was written: comparisons, rows of the file, verdicts left out by the rule, rejects."""

    format: str
    mapping: str
    comparisons: int
    rows: int
    left_out: dict[str, int]
    rejects: int


def export_comparisons(
    path: str | Path,
    comparisons: Iterable[Comparison],
    to: str = "trl",
    *,
    ties: str = "drop",
    max_rejects: int = 0,
    rejects: str | Path | None = None,
) -> Exported:
    """Write comparisons as JSON Lines of another format, atomically.

    Args:
        to: a name in ``TARGETS``.
        ties: what becomes of ties where the format cannot say them: left out (``drop``), written as two
            rows, each answer chosen once (``both_ways``), or an error (``refuse``).
        max_rejects: how many comparisons the format may be unable to hold.
        rejects: a file to which those go, with their number and the reason.

    Raises:
        BadInput: an unknown format or rule, ties that are refused, more rejects than allowed, comparisons by
            several criteria for a format that cannot tell them apart, nothing to write, or a place that
            cannot be written.
    """
    check_target(to, ties)
    with RejectLog(rejects) as log:
        return write_target(path, comparisons, to, ties, max_rejects, log)


def check_target(to: str, ties: str) -> None:
    """Raises BadInput for an unknown format or rule, or a rule that the format cannot follow."""
    if to not in TARGETS:
        raise BadInput(f"{to!r} is no format to write: known are {', '.join(TARGETS)}")
    if ties not in TIES:
        raise BadInput(f"ties is {ties!r}: it must be one of {', '.join(TIES)}")
    if ties == "both_ways" and not TARGETS[to].both_ways:
        raise BadInput(f"{to} cannot say a tie both ways: choose drop or refuse")


def write_target(
    path: str | Path,
    comparisons: Iterable[Comparison],
    to: str,
    ties: str,
    max_rejects: int,
    log: RejectLog,
) -> Exported:
    """As `export_comparisons`, with rejects added to those that ``log`` has already."""
    target = TARGETS[to]
    left_out: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    kept = _kept(comparisons, to, target, ties, left_out)
    groups = ([item] for item in kept) if target.group is None else _grouped(kept, target)
    write_rows(path, _rows(groups, target, log, max_rejects, counts))
    return Exported(to, target.mapping, counts["comparisons"], counts["rows"], dict(left_out), log.count)


Numbered = tuple[int, Comparison]


def _kept(
    comparisons: Iterable[Comparison], to: str, target: Target, ties: str, left_out: Counter[str]
) -> Iterator[Numbered]:
    """What the format can say, with its number from 1; the rest is counted in ``left_out``."""
    criterion: str | None = None
    for number, one in enumerate(comparisons, start=1):
        if criterion is not None and one.criterion != criterion and not target.criteria:
            raise BadInput(
                f"comparison {number} is by the criterion {one.criterion!r}, those before by {criterion!r}, "
                f"and {to} cannot tell them apart: export one criterion at a time"
            )
        criterion = one.criterion
        if one.verdict in target.verdicts:
            yield number, one
        elif one.verdict == "tie" and ties == "both_ways":
            yield number, replace(one, verdict="a")
            yield number, replace(one, verdict="b")
        elif one.verdict == "tie" and ties == "refuse":
            raise BadInput(f"comparison {number} is a tie, which {to} cannot hold: choose drop or both_ways")
        else:
            left_out[one.verdict] += 1


def _grouped(numbered: Iterable[Numbered], target: Target) -> Iterator[list[Numbered]]:
    """The judgements of each pair, in the order of its first; a second one by the same voice starts a group
    of its own, because a row has one place for each.
    """
    groups: dict[Any, list[list[Numbered]]] = {}
    for number, one in numbered:
        pair = one.pair
        same = (pair.prompt, pair.a.text, pair.b.text, pair.a.policy, pair.b.policy, one.source, one.strength)
        candidates = groups.setdefault((*same, getattr(one, target.one)), [])
        voice = (one.annotator, one.criterion)
        for group in candidates:
            if all((other.annotator, other.criterion) != voice for _, other in group):
                group.append((number, one))
                break
        else:
            candidates.append([(number, one)])
    for found in groups.values():
        yield from found


def _rows(
    groups: Iterable[list[Numbered]],
    target: Target,
    log: RejectLog,
    max_rejects: int,
    counts: Counter[str],
) -> Iterator[layout.Row]:
    for group in groups:
        judgements = [one for _, one in group]
        try:
            if target.group is not None:
                rows = [target.group(judgements)]
            else:
                assert target.rows is not None  # a target has one of the two
                rows = target.rows(judgements[0])
            _comes_back(rows, judgements, target)
        except BadRow as error:
            for number, one in group:
                log.add("what was to be written", "comparison", Reject(number, str(error), one.to_json()))
            continue
        counts["comparisons"] += len(judgements)
        counts["rows"] += len(rows)
        yield from rows
    log.refuse(max_rejects, bool(counts["rows"]))
    if not counts["rows"]:
        raise BadInput("there is no comparison that the format can hold: nothing was written")


def _comes_back(rows: list[layout.Row], judgements: Sequence[Comparison], target: Target) -> None:
    """Raises BadRow where accord's reader would not find in the rows what was put in."""
    form = next((form for form in COMPARISON_FORMATS if form.matches(rows[0])), None)
    if form is None:
        raise BadRow("the row would not be recognised as one of the format")
    items: Items = ((number, form.records(row, "")) for number, row in enumerate(rows))
    found: list[Comparison] = []
    for item in items if form.gather is None else form.gather(items):
        if isinstance(item, Reject):
            raise BadRow(item.reason)
        found.extend(item[1])
    if sorted(_said(one, target) for one in found) != sorted(_said(one, target) for one in judgements):
        raise BadRow("read again, the row would not say the same: the format cannot hold this text")


def _said(one: Comparison, target: Target) -> tuple[str, ...]:
    """What must survive: prompt, texts, verdict, and who said it by which criterion where the row tells.

    A format that names a chosen answer makes it side a, so a winner is compared as (winner, loser).
    """
    pair, verdict = one.pair, str(one.verdict)
    first, second = (pair.b, pair.a) if verdict == "b" else (pair.a, pair.b)
    prompt = repr([(m.role, m.content, m.extra) for m in pair.prompt.messages]) + pair.prompt.tools
    said = (prompt, first.text, second.text, "won" if verdict in ("a", "b") else verdict)
    return (*said, one.annotator if target.voices else "", one.criterion if target.criteria else "")
