"""Models, functions and simulated annotators on the overview: beside the people, never among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.web import agreement

Said = Mapping[str, str]  # annotator: what they said of one item


@dataclass(frozen=True)
class Machine:
    """One judge that is no person. Counts only; a share of nothing is the reader's to show.

    Attributes:
        agree, compared: items on which it says what most people say, of those on which most people agree.
        kappa: Cohen's κ with what most people say, on these items; None where it is not defined.
        consistent, both_orders: pairs with the same verdict in both orders, of those asked in both.
        first, decided: replies that chose the answer shown first, of those that chose one.
        tokens_in, tokens_out: what its endpoint counted.
    """

    name: str
    labels: int
    ties: int
    skips: int
    agree: int
    compared: int
    kappa: float | None
    consistent: int
    both_orders: int
    first: int
    decided: int
    tokens_in: int
    tokens_out: int


def machines(
    bodies: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]], people_said: Mapping[str, Said]
) -> list[Machine]:
    """The figures of every judge that is no person, the one with most labels first.

    Args:
        bodies: of each judge its (item, what it said, as the store has it).
        people_said: of each item what every person said.
    """
    majority = {item: said for item, voices in people_said.items() if (said := most(voices.values()))}
    return sorted(
        (_machine(name, rows, majority) for name, rows in bodies.items()), key=lambda m: (-m.labels, m.name)
    )


def most(said: Iterable[str]) -> str | None:
    """What more voices say than anything else; None where two things are said as often."""
    counts = Counter(said).most_common(2)
    return counts[0][0] if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]) else None


def _machine(
    name: str, rows: Sequence[tuple[str, Mapping[str, Any]]], majority: Mapping[str, str]
) -> Machine:
    verdicts = Counter(str(body["verdict"]) for _, body in rows)
    both = [
        (str(body["verdict"]), majority[item])
        for item, body in rows
        if item in majority and body["verdict"] != "skip"
    ]
    whole = [said for _, body in rows if (said := _two(body, "orders", str))]
    tokens = [sent for _, body in rows if (sent := _two(body, "tokens", int))]
    replies = Counter(reply for said in whole for reply in said)
    return Machine(
        name=name,
        labels=len(rows),
        ties=verdicts["tie"],
        skips=verdicts["skip"],
        agree=sum(mine == theirs for mine, theirs in both),
        compared=len(both),
        kappa=agreement.kappa([mine for mine, _ in both], [theirs for _, theirs in both]),
        consistent=sum(said in SAME for said in whole),
        both_orders=len(whole),
        first=replies["first"],
        decided=replies["first"] + replies["second"],
        tokens_in=sum(sent for sent, _ in tokens),
        tokens_out=sum(received for _, received in tokens),
    )


def _two(body: Mapping[str, Any], name: str, kind: type) -> tuple[Any, Any] | None:
    """A pair of values from ``meta``; of labels from a file that may hold anything, hence None."""
    found = (body.get("meta") or {}).get(name)
    if isinstance(found, list) and len(found) == 2 and all(isinstance(one, kind) for one in found):
        return found[0], found[1]
    return None


# The same answer named in both orders stands first once and second once.
SAME = {("first", "second"), ("second", "first"), ("tie", "tie")}
