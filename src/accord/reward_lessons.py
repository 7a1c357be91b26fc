"""What people's judgements teach a reward model: shares of a, b and tie, a margin, a weight. No torch here.

A lesson is one label, or all labels of one pair pooled, or one ranking of K answers. Annotators who differ
change lessons (`by_annotators`, `softened`); the loss does not know annotators.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from accord.annotators import Annotators
from accord.config import Reward
from accord.records import BadInput, Comparison, Response
from accord.reward_annotators import label_terms, soft_labels

SHARES = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "tie": (0.0, 0.0, 1.0)}


@dataclass(frozen=True)
class Lesson:
    """One thing to learn.

    Attributes:
        rows: the labels behind it; the first one's pair says which answer is a and which is b.
        shares: probability of a, of b, and of a tie; they sum to 1.
        margin: nats by which a's score should lead b's before the loss counts them as equal; below 0 where b
            should lead.
        weight: how much it counts; 1 is one pair.
        scale: how much the label follows the difference of the scores, of which the margin is then taken: the
            annotator's inverse temperature over that of all; below 0 for one who answers the opposite.
        criterion: which of the configured criteria it is about.
        answers, ranks: of a ranking, the K answers and their places (1 the best, equal ones tie); else empty.
    """

    rows: tuple[Comparison, ...]
    shares: tuple[float, float, float]
    margin: float = 0.0
    weight: float = 1.0
    criterion: int = 0
    answers: tuple[Response, ...] = ()
    ranks: tuple[int, ...] = ()
    scale: float = 1.0

    @property
    def row(self) -> Comparison:
        return self.rows[0]

    @property
    def responses(self) -> tuple[Response, ...]:
        return self.answers or (self.row.pair.a, self.row.pair.b)


def says_something(row: Comparison, config: Reward) -> bool:
    """Skips and "both bad" carry no preference; ties by the configured choice."""
    return row.verdict in SHARES and not (row.verdict == "tie" and config.ties == "drop")


def lessons(comparisons: Sequence[Comparison], config: Reward) -> list[Lesson]:
    """The lessons in the order of their first labels.

    Raises:
        BadInput: a weight that is no number above 0, or a strength below 0.
    """
    ranked: list[Lesson] = []
    rows = [row for row in comparisons if _asked(row, config)]
    if config.rankings == "plackett_luce":
        ranked, rows = _rankings(rows, config)
    rows = [row for row in rows if says_something(row, config)]
    each = _pooled(rows, config) if config.labels == "pooled" else [_lesson([row], config) for row in rows]
    if not ranked:
        return each
    place = {id(row): number for number, row in enumerate(comparisons)}
    return sorted([*ranked, *each], key=lambda lesson: place[id(lesson.row)])


def by_annotators(taught: Sequence[Lesson], annotators: Annotators) -> list[Lesson]:
    """Each label through its annotator: P(a) = σ(scale · difference − margin). Rankings stay as they are.

    A side bias towards a is a margin that a's score need not lead by.
    """
    terms = label_terms([lesson.row for lesson in taught], annotators)
    return [
        lesson if lesson.ranks else replace(lesson, scale=float(scale), margin=lesson.margin - float(offset))
        for lesson, scale, offset in zip(taught, terms.scale_N, terms.offset_N, strict=True)
    ]


def softened(taught: Sequence[Lesson], annotators: Annotators, config: Reward) -> list[Lesson]:
    """One lesson a pair, its shares what an average annotator would say after all of the pair's labels."""
    ranked = [lesson for lesson in taught if lesson.ranks]
    rows = [lesson.row for lesson in taught if not lesson.ranks]
    pairs = []
    for rows_of_pair, a_better in soft_labels(rows, annotators):
        pooled = _lesson([rows[n] for n in rows_of_pair], config)
        pairs.append(replace(pooled, shares=(a_better, 1 - a_better, 0.0)))
    return [*ranked, *pairs]


def _asked(row: Comparison, config: Reward) -> bool:
    return not config.criteria or row.criterion in config.criteria


def _criterion(row: Comparison, config: Reward) -> int:
    return config.criteria.index(row.criterion) if config.criteria else 0


def _lesson(rows: Sequence[Comparison], config: Reward) -> Lesson:
    """One pair by its labels, all of them seen from the first one's side a."""
    first = rows[0]
    turned = [row.pair.a.text != first.pair.a.text for row in rows]
    signs = {"a": 1.0, "b": -1.0, "tie": 0.0}
    total = [0.0, 0.0, 0.0]
    margin = weight = 0.0
    for row, other_way in zip(rows, turned, strict=True):
        a, b, tie = SHARES[row.verdict]
        given = _weight(row, config)
        for i, share in enumerate((b, a, tie) if other_way else (a, b, tie)):
            total[i] += given * share
        margin += given * signs[row.verdict] * (-1 if other_way else 1) * _margin(row, config)
        weight += given
    if len(rows) == 1:  # no arithmetic on a single label: its shares are exactly 0 and 1
        return Lesson(tuple(rows), SHARES[first.verdict], margin / weight, weight, _criterion(first, config))
    shares = (total[0] / weight, total[1] / weight, total[2] / weight)
    # The mean, not the sum: a pair counts as one, however many people judged it.
    return Lesson(tuple(rows), shares, margin / weight, weight / len(rows), _criterion(first, config))


def _pooled(rows: Iterable[Comparison], config: Reward) -> list[Lesson]:
    """One lesson for each pair: the same two answers to the same prompt, whichever stands first."""
    groups: dict[tuple[str, str, frozenset[str]], list[Comparison]] = defaultdict(list)
    for row in rows:
        groups[row.criterion, row.prompt.key, frozenset((row.pair.a.text, row.pair.b.text))].append(row)
    return [_lesson(group, config) for group in groups.values()]


def _margin(row: Comparison, config: Reward) -> float:
    if not config.margin or row.strength is None:
        return 0.0
    if not row.strength >= 0:
        raise BadInput(
            f"a label has strength {row.strength}, it must be 0 or more to make a margin: mend the file or"
            " set reward.margin to 0"
        )
    return config.margin * row.strength


def _weight(row: Comparison, config: Reward) -> float:
    if config.pair_weights == "one" or row.meta.get("weight") is None:
        return 1.0
    weight = row.meta["weight"]
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
        raise BadInput(
            f"a label has weight {weight!r}, it must be a number above 0: mend it or set reward.pair_weights"
            " to one"
        )
    return float(weight)


def _rankings(rows: Sequence[Comparison], config: Reward) -> tuple[list[Lesson], list[Comparison]]:
    """The rankings that are whole, and the rows that belong to none (a part of a ranking stays pairs)."""
    groups: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
    for row in rows:
        if row.meta.get("ranking"):
            groups[str(row.meta["ranking"]), row.annotator, row.criterion].append(row)
    found, used = [], set()
    for group in groups.values():
        count = int(group[0].meta.get("of", 0))
        if (lesson := _ranking(group, count, config)) is not None:
            found.append(lesson)
            used |= {id(row) for row in group}
    return found, [row for row in rows if id(row) not in used]


def _ranking(rows: Sequence[Comparison], count: int, config: Reward) -> Lesson | None:
    """K(K−1)/2 comparisons in the order of `Ranking.comparisons` as the ranking that they came from."""
    if count < 3 or len(rows) != count * (count - 1) // 2:
        return None
    answers = (rows[0].pair.a, *(row.pair.b for row in rows[: count - 1]))
    beaten = [0] * count
    for (i, j), row in zip(combinations(range(count), 2), rows, strict=True):
        if (row.pair.a.text, row.pair.b.text) != (answers[i].text, answers[j].text):
            return None
        if row.verdict not in SHARES:
            return None
        beaten[j] += row.verdict == "a"
        beaten[i] += row.verdict == "b"
    ranks = tuple(1 + times for times in beaten)
    weight, criterion = _weight(rows[0], config), _criterion(rows[0], config)
    return Lesson(tuple(rows), (0.0, 0.0, 0.0), 0.0, weight, criterion, answers, ranks)
