"""Labels as records: pairs and rankings in, the judgements that count out.

Rows are never changed or removed. Somebody who judges the same pair again adds a row, and the latest row of
each (item, annotator, criterion) counts; what was undone or retracted does not, nor do answers to gold,
practice and repeated items, which measure people and teach no model.
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sql

from accord.records import VERDICTS, BadInput, Comparison, Pair, Prompt, Ranking, Response, Span, content_hash
from accord.store import queue
from accord.store.database import Database
from accord.store.schema import gold, items, judgements
from accord.store.standing import chunks, standing, voice


def _body(comparison: Comparison) -> str:
    """What the annotator said, canonical; the pair and the annotator are columns of their own."""
    if comparison.verdict not in VERDICTS:
        raise BadInput(f"verdict {comparison.verdict!r} is not one of {', '.join(VERDICTS)}")
    row = {
        "verdict": comparison.verdict,
        "strength": comparison.strength,
        "shown_left": comparison.pair.shown_left,
        "source": comparison.source,
        "meta": dict(comparison.meta),
    }
    # Only what there is: content ids of judgements without these are those of the first version of the store.
    return json.dumps(row | comparison.extras(), sort_keys=True, allow_nan=False)


def label_id(comparison: Comparison) -> str:
    """Content identity of one judgement: pair, annotator and everything that was said."""
    return content_hash(comparison.pair.id, comparison.annotator, _body(comparison))


def ranking_id(prompt: Prompt, responses: Sequence[Response], round: int) -> str:
    """Identity of a set of answers to be ranked."""
    return content_hash("ranking", prompt.key, *(r.text for r in responses), str(round))


class LabelStore(Database):
    """Pairs, rankings and judgements in one database; a context manager. Raises as `Database` does."""

    def add_pairs(self, pairs: Iterable[Pair], *, overlap: int | None = None, priority: float = 0.0) -> int:
        """Store pairs that are new by ``Pair.id``, the first of equal ones. Returns how many were new.

        With ``overlap`` they are also put on the queue of the labelling app, for so many different people;
        what is there already keeps its place and gets the larger overlap.
        """
        wanted: dict[str, tuple[str, int, str]] = {}
        for pair in pairs:
            wanted.setdefault(pair.id, ("pair", pair.round, json.dumps(pair.to_json())))

        def job(connection: sql.Connection) -> int:
            new = _add_items(connection, dict(wanted))
            if overlap is not None:
                queue.enqueue(connection, list(wanted), overlap, priority)
            return new

        return self.write(job)

    def add_rankings(
        self, sets: Iterable[tuple[Prompt, Sequence[Response], int]], *, overlap: int, priority: float = 0.0
    ) -> int:
        """Queue sets of (prompt, two or more answers, round) that people are to rank. Returns how many are
        new.
        """
        wanted: dict[str, tuple[str, int, str]] = {}
        for prompt, responses, round in sets:
            if len(responses) < 2:
                raise BadInput(f"a ranking needs 2 answers or more, got {len(responses)}: give more, or none")
            body = {"prompt": prompt.to_json(), "responses": [r.to_json() for r in responses], "round": round}
            wanted[ranking_id(prompt, responses, round)] = ("ranking", round, json.dumps(body))

        def job(connection: sql.Connection) -> int:
            new = _add_items(connection, dict(wanted))
            queue.enqueue(connection, list(wanted), overlap, priority)
            return new

        return self.write(job)

    def add(self, comparisons: Iterable[Comparison]) -> int:
        """Store judgements (and their pairs) in one transaction. Returns how many were new.

        Adding what is already there changes nothing. A named annotator who now says something else gets a new
        row, and the latest row counts (the last one, where a call holds several). An empty annotator means
        *unknown*, so such rows are never taken for a change of mind: only equal content is dropped.

        Raises:
            BadInput: a verdict that does not exist.
        """
        said: dict[tuple[str, str, str, str], tuple[str, str, Comparison]] = {}
        wanted: dict[str, tuple[str, int, str]] = {}
        for comparison in comparisons:
            pair, body = comparison.pair.id, _body(comparison)
            content = content_hash(pair, comparison.annotator, body)
            who = voice(pair, comparison.annotator, comparison.criterion, content)
            said[who] = (content, body, comparison)
            if pair not in wanted:
                wanted[pair] = ("pair", comparison.pair.round, json.dumps(comparison.pair.to_json()))
        return self.write(lambda connection: _add_labels(connection, said, wanted, time.time()))

    def pairs(self) -> list[Pair]:
        """Every stored pair, in the order in which they came."""
        query = sql.select(items.c.body).where(items.c.kind == "pair").order_by(items.c.sequence)
        return [Pair.from_json(json.loads(body)) for body in self.read(lambda c: c.scalars(query).all())]

    def comparisons(
        self, rounds: Collection[int] | None = None, criterion: str | None = ""
    ) -> list[Comparison]:
        """The judgements that count, in the order of their insertion; ``rounds`` None takes every round.

        ``criterion`` picks one question: "" the overall one, None all of them. Rankings are `rankings`.
        """
        query = sql.select(items.c.id, items.c.body).where(items.c.kind == "pair")
        if rounds is not None:
            query = query.where(items.c.round.in_(sorted(set(rounds))))
        with self.transaction(write=False) as connection:
            pairs = {row.id: Pair.from_json(json.loads(row.body)) for row in connection.execute(query)}
            everything = rounds is None
            found = standing(connection, None if everything else list(pairs)).values()
        out: list[Comparison] = []
        for row in sorted(found, key=lambda row: int(row.sequence)):
            if row.item in pairs:
                out += _comparisons(pairs[row.item], row)
        return [c for c in out if criterion is None or c.criterion == criterion]

    def rankings(self, rounds: Collection[int] | None = None) -> list[Ranking]:
        """The rankings that count, in the order of their insertion."""
        query = sql.select(items.c.id, items.c.body, items.c.round).where(items.c.kind == "ranking")
        if rounds is not None:
            query = query.where(items.c.round.in_(sorted(set(rounds))))
        with self.transaction(write=False) as connection:
            sets = {row.id: json.loads(row.body) for row in connection.execute(query)}
            found = standing(connection, list(sets)).values()
        out: list[Ranking] = []
        for row in sorted(found, key=lambda row: int(row.sequence)):
            said = json.loads(row.body)
            if said.get("ranks"):  # a skip has none
                value = sets[row.item] | {"ranks": said["ranks"], "annotator": row.annotator}
                out.append(Ranking.from_json(value | {"source": said.get("source", "")}))
        return out

    def pending(
        self, pairs: Iterable[Pair], labels_per_pair: int = 1, *, by: Callable[[str], bool] | None = None
    ) -> list[Pair]:
        """Those of ``pairs`` with fewer than ``labels_per_pair`` judgements, each once, order kept.

        A skip counts: somebody looked and declined, and one person alone must be able to finish. Pairs that
        serve as gold or practice items are not waited for.

        Args:
            by: whose judgements count, by the annotator's name, such as `records.is_person`; None: anybody's.
        """
        wanted: dict[str, Pair] = {}
        for pair in pairs:
            wanted.setdefault(pair.id, pair)
        with self.transaction(write=False) as connection:
            found = standing(connection, list(wanted))
            voices: set[tuple[str, str, str]] = {
                (item, who, said) for item, who, _, said in found if by is None or by(who)
            }
            counts = Counter(item for item, _, _ in voices)
            measuring = set(connection.scalars(sql.select(gold.c.item).where(gold.c.purpose != "none")))
        return [
            pair for key, pair in wanted.items() if key not in measuring and counts[key] < labels_per_pair
        ]

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _add_items(connection: sql.Connection, wanted: dict[str, tuple[str, int, str]]) -> int:
    """Store what is new of id: (kind, round, body). Returns how many were new."""
    for ids in chunks(list(wanted)):
        for known in connection.scalars(sql.select(items.c.id).where(items.c.id.in_(ids))).all():
            del wanted[known]
    rows = [
        {"id": key, "kind": kind, "round": round, "body": body} for key, (kind, round, body) in wanted.items()
    ]
    if rows:
        connection.execute(sql.insert(items), rows)
    return len(rows)


def _add_labels(
    connection: sql.Connection,
    said: Mapping[tuple[str, str, str, str], tuple[str, str, Comparison]],
    wanted: dict[str, tuple[str, int, str]],
    now: float,
) -> int:
    ids = list(wanted)
    _add_items(connection, wanted)
    there = {who: row.content for who, row in standing(connection, ids).items()}
    rows = [
        {
            "event": str(uuid.uuid4()),
            "kind": "judgement",
            "item": comparison.pair.id,
            "annotator": comparison.annotator,
            "content": content,
            "purpose": "label",
            "created": now,
            "body": body,
        }
        for who, (content, body, comparison) in said.items()
        if there.get(who) != content
    ]
    if rows:
        connection.execute(sql.insert(judgements), rows)
        queue.recount_elsewhere(connection, list(dict.fromkeys(str(row["item"]) for row in rows)))
    return len(rows)


def _comparisons(pair: Pair, row: sql.Row[Any]) -> list[Comparison]:
    """The overall verdict of one judgement, and a comparison for each criterion that was asked beside it."""
    body = json.loads(row.body)
    # Sides are drawn for each showing, so the label's record of them outranks the pair's.
    pair = dataclasses.replace(pair, shown_left=body["shown_left"])
    overall = Comparison(
        pair,
        body["verdict"],
        row.annotator,
        body["strength"],
        body["source"],
        body["meta"],
        body.get("criterion", ""),
        body.get("reason", ""),
        tuple(Span.from_json(span) for span in body.get("spans", ())),
        body.get("milliseconds"),
        body.get("ui", ""),
    )
    asked = body.get("criteria") or {}
    return [overall] + [
        dataclasses.replace(overall, verdict=verdict, criterion=name, strength=None, reason="", spans=())
        for name, verdict in asked.items()
    ]
