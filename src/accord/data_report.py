"""`accord data check`: is this file what you think it is?

The file is read row by row; only hashes and lengths are kept. What makes a row unusable, or an evaluation
dishonest, is a problem (exit code 2): rejects, and prompts that are also in the other split. What real data
holds by nature is a warning: repeated rows, and annotators who disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from accord.data_tally import Found, Lengths, Problem, Record, Tally
from accord.formats import (
    Kind,
    Reject,
    Stream,
    detect_kind,
    prompt_key,
    stream_kind,
    stream_prompts,
)
from accord.formats_write import RejectLog
from accord.records import BadInput

Tokenizer = Callable[[str], Sequence[int]]
PRINTED = 10
WORDS = "words (by white space: no tokenizer was given)"
TOKENS = "tokens (of the texts alone, without a chat template's own)"


@dataclass(frozen=True)
class DataReport:
    """What a file holds, and what is wrong with it.

    Attributes:
        rows: usable rows of the file; one row may hold several records (an annotator each).
        prompts: different prompts, after normalising white space and case.
        lengths: of ``prompt``, and of ``chosen`` and ``rejected`` (where there is a winner) or ``response``.
        duplicates: records that repeat an earlier one: same prompt, sides (in either order) and annotator.
        contradictions: pairs (unordered) of which one verdict prefers one side, and another the other.
        chosen_longer: share of decided comparisons whose chosen side is longer, None without any;
            ``equal_length`` is the share in which the sides are of one length.
        shared_prompts: prompts that are also in ``against``; None where no other split was given.
        problem_count, warning_count: all of them, also those beyond the `KEPT` that are listed.
        rejects: problems that are rows of this file which cannot be used; ``max_rejects`` are allowed.
    """

    path: str
    kind: Kind
    unit: str
    format: str
    mapping: str
    rows: int
    records: int
    prompts: int
    length_unit: str
    lengths: dict[str, Lengths]
    verdicts: dict[str, int]
    annotators: dict[str, int]
    duplicates: int
    contradictions: int
    chosen_longer: float | None
    equal_length: float | None
    against: str | None
    shared_prompts: int | None
    problem_count: int
    warning_count: int
    rejects: int
    max_rejects: int
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def ties(self) -> int:
        return self.verdicts.get("tie", 0)

    @property
    def acceptable(self) -> bool:
        """Whether there is no problem but rejects that are allowed."""
        return self.rejects <= self.max_rejects and self.problem_count == self.rejects

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"acceptable": self.acceptable}

    def lines(self) -> list[str]:
        """The report as plain lines for a terminal."""
        out = [
            f"{self.path}: {self.kind}, format {self.format}",
            f"  read as: {self.mapping}",
            f"  {self.rows} usable rows, {self.records} {self.kind}, {self.prompts} different prompts",
            f"  lengths in {self.length_unit}:",
        ]
        for name, one in self.lengths.items():
            out.append(
                f"    {name:<9} min {one.minimum}, median {one.median:g}, p95 {one.p95:g}, max {one.maximum}"
            )
        if self.kind == "comparisons":
            verdicts = ", ".join(f"{name} {count}" for name, count in self.verdicts.items())
            out.append(f"  verdicts: {verdicts or 'none'}")
            out.append(f"  annotators: {_annotators(self.annotators)}")
            if self.chosen_longer is not None:
                longer, equal = f"{self.chosen_longer:.1%}", f"{self.equal_length:.1%}"
                out.append(f"  chosen is longer in {longer}, equally long in {equal}")
            out.append(f"  contradicted pairs: {self.contradictions}")
        out.append(f"  duplicates: {self.duplicates}")
        if self.against is not None:
            out.append(f"  prompts that are also in {self.against}: {self.shared_prompts}")
        out += _listed("warnings", self.unit, self.warnings, self.warning_count)
        out += _listed("problems", self.unit, self.problems, self.problem_count)
        if self.rejects and self.max_rejects:
            out.append(f"  rows that cannot be used: {self.rejects}, allowed {self.max_rejects}")
        return out


def _annotators(counts: dict[str, int]) -> str:
    names = [f"{name or '(not named)'} {count}" for name, count in counts.items()]
    more = f" and {len(names) - PRINTED} more" if len(names) > PRINTED else ""
    return (", ".join(names[:PRINTED]) or "none") + more


def _listed(title: str, unit: str, found: Sequence[Problem], count: int) -> list[str]:
    out = [f"  {title}: {count}"]
    out += [f"    {one.file}, {unit} {one.line}: {one.reason}" for one in found[:PRINTED]]
    return out + ([f"    and {count - PRINTED} more"] if count > PRINTED else [])


def _usable(
    stream: Stream[Any], problems: Found, log: RejectLog | None = None
) -> Iterator[tuple[int, tuple[Record, ...]]]:
    for item in stream.items:
        if isinstance(item, Reject):
            problems.add(stream.path, item.line, item.reason)
            if log is not None:
                log.add(stream.path, stream.unit, item)
        else:
            yield item


def check(
    path: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    against: str | Path | None = None,
    kind: Kind | Literal["auto"] = "auto",
    criterion: str | None = None,
    max_rejects: int = 0,
    rejects: str | Path | None = None,
) -> DataReport:
    """Read a whole file and say what it holds; rows that cannot be used are problems, not errors.

    Args:
        path: the file, or a hub data set.
        tokenizer: text to token ids; without one, words are counted, and the report says so.
        against: the other split (any kind of file); prompts that are in both are problems.
        kind: what to read the file as; ``auto`` takes the most that it can be.
        criterion: of comparisons that answer several questions, which one (`formats.stream_comparisons`).
        max_rejects: how many unusable rows are acceptable.
        rejects: a file to which unusable rows go, with line and reason.

    Raises:
        BadInput: the file cannot be opened, is damaged, or is of no known format.
    """
    kind = detect_kind(path) if kind == "auto" else kind
    stream = stream_kind(path, kind, criterion)
    problems, warnings = Found(), Found()

    def length(text: str) -> int:
        return len(text.split() if tokenizer is None else tokenizer(text))

    tally = Tally(length)
    with RejectLog(rejects) as log:
        for line, records in _usable(stream, problems, log):
            tally.rows += 1
            for record in records:
                tally.add(line, record, stream.path, warnings)
    if not tally.rows and not problems.count:
        raise BadInput(f"{path} holds no row: it must hold at least one")
    shared = None if against is None else _leaks(tally.prompts, stream.path, against, problems)
    return DataReport(
        path=stream.path,
        kind=kind,
        unit=stream.unit,
        format=stream.format,
        mapping=stream.mapping,
        rows=tally.rows,
        records=tally.records,
        prompts=len(tally.prompts),
        length_unit=WORDS if tokenizer is None else TOKENS,
        lengths={name: Lengths.of(values) for name, values in tally.lengths.items()},
        verdicts=dict(tally.verdicts.most_common()),
        annotators=dict(tally.annotators.most_common()),
        duplicates=tally.duplicates,
        contradictions=tally.contradictions,
        chosen_longer=tally.longer / tally.decided if tally.decided else None,
        equal_length=tally.equal / tally.decided if tally.decided else None,
        against=None if against is None else str(against),
        shared_prompts=shared,
        problem_count=problems.count,
        warning_count=warnings.count,
        rejects=log.count,
        max_rejects=max_rejects,
        problems=tuple(problems.kept),
        warnings=tuple(warnings.kept),
    )


def _leaks(prompts: dict[str, int], path: str, against: str | Path, problems: Found) -> int:
    """Count prompts of ``path`` (key to first line) that ``against`` holds too; each becomes a problem.

    Unusable rows of ``against`` are problems as well: what cannot be read cannot be cleared of leakage.
    """
    other: dict[str, int] = {}
    for line, records in _usable(stream_prompts(against), problems):
        other.setdefault(prompt_key(records[0]), line)
    shared = [(line, other[key]) for key, line in prompts.items() if key in other]
    for line, other_line in shared:
        problems.add(path, line, f"its prompt is also in {against}, line {other_line}: take it out of one")
    return len(shared)
