"""What `data_report.check` counts while the rows of a file go by: hashes and lengths, never the texts."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from accord.records import Comparison, Demonstration, Prompt, content_hash

Record = Comparison | Demonstration | Prompt
KEPT = 1000  # problems and warnings kept with their lines; further ones are only counted


@dataclass(frozen=True)
class Lengths:
    """Lengths of the texts of one role, in the report's ``length_unit``."""

    minimum: int
    median: float
    p95: float
    maximum: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths:
        values = np.asarray(lengths)
        median, p95 = (float(value) for value in np.percentile(values, (50, 95)))
        return cls(int(values.min()), median, p95, int(values.max()))


@dataclass(frozen=True)
class Problem:
    file: str
    line: int
    reason: str


@dataclass
class Found:
    """A count with the first `KEPT` of what it counts."""

    count: int = 0
    kept: list[Problem] = field(default_factory=list)

    def add(self, file: str, line: int, reason: str) -> None:
        if self.kept and self.kept[-1] == Problem(file, line, reason):
            return  # said once for a row with several annotators
        self.count += 1
        if self.count <= KEPT:
            self.kept.append(Problem(file, line, reason))


@dataclass
class Tally:
    """What is counted while the rows go by."""

    length: Callable[[str], int]
    rows: int = 0
    records: int = 0
    duplicates: int = 0
    contradictions: int = 0
    longer: int = 0
    equal: int = 0
    decided: int = 0
    prompts: dict[str, int] = field(default_factory=dict)  # key to its first line
    lengths: dict[str, array[int]] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    annotators: Counter[str] = field(default_factory=Counter)
    seen: dict[str, int] = field(default_factory=dict)  # identity of a record to its first line
    winners: dict[str, tuple[int, bool]] = field(default_factory=dict)  # pair to line, smaller side won
    contradicted: set[str] = field(default_factory=set)

    def add(self, line: int, record: Record, path: str, warnings: Found) -> None:
        self.records += 1
        prompt = record if isinstance(record, Prompt) else record.prompt
        key = prompt.key
        warned = warnings.count
        self.prompts.setdefault(key, line)
        self._measure("prompt", sum(self.length(message.content) for message in prompt.messages))
        if isinstance(record, Comparison):
            identity = self._compare(line, record, key, path, warnings)
        elif isinstance(record, Demonstration):
            self._measure("response", self.length(record.response))
            identity = content_hash(key, record.response)
        else:
            identity = key
        first = self.seen.setdefault(identity, line)
        if self.records > len(self.seen) + self.duplicates:
            self.duplicates += 1
            if warnings.count == warned:  # a contradiction of the same two lines has said more already
                warnings.add(path, line, f"repeats line {first}")

    def _measure(self, name: str, length: int) -> None:
        self.lengths.setdefault(name, array("q")).append(length)

    def _compare(self, line: int, one: Comparison, key: str, path: str, warnings: Found) -> str:
        """Count a comparison; return its identity: pair (either way round) and annotator, no verdict."""
        self.verdicts[one.verdict] += 1
        self.annotators[one.annotator] += 1
        sides = sorted((one.pair.a.text, one.pair.b.text))
        # Another criterion is another question: a different answer to it is no contradiction.
        pair = content_hash(key, *sides, *([one.criterion] if one.criterion else []))
        if one.chosen is not None and one.rejected is not None:
            chosen, rejected = self.length(one.chosen.text), self.length(one.rejected.text)
            self._measure("chosen", chosen)
            self._measure("rejected", rejected)
            self.decided += 1
            self.longer += chosen > rejected
            self.equal += chosen == rejected
            smaller_won = one.chosen.text == sides[0]
            first, smaller_won_first = self.winners.setdefault(pair, (line, smaller_won))
            if smaller_won != smaller_won_first and pair not in self.contradicted:
                self.contradicted.add(pair)
                self.contradictions += 1
                warnings.add(path, line, f"contradicts line {first}: same prompt and sides, opposite verdict")
        return content_hash(pair, one.annotator)
