"""What the one who runs the labelling wants to know, counted from the store.

Gold, practice and repeated items measure people; agreement and sides are counted on the labels alone. Models,
functions and simulated annotators stand in a table of their own and count in no figure of people.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import Any

import sqlalchemy as sql

from accord.records import is_person
from accord.store import people
from accord.store.queue import ORDINARY
from accord.store.schema import assignments, gold, items, judgements, queue
from accord.store.standing import standing
from accord.web import agreement, identity
from accord.web.conversation import excerpt
from accord.web.judges import Machine, machines, most

SHARED_ITEMS = 5  # two people are compared from so many items on
RECENT_SECONDS = 3600.0


@dataclass
class Worker:
    """One annotator's figures. Shares are None where nothing was counted."""

    name: str
    labels: int = 0
    seconds: float | None = None  # median of an item
    left: int = 0
    right: int = 0
    ties: int = 0
    skips: int = 0
    gold_right: int = 0
    gold_total: int = 0
    same: int = 0  # repeated items answered as before
    repeated: int = 0
    agree: int = 0  # with the majority of the others, where there is one
    compared: int = 0
    kappa: float | None = None  # mean with the people who judged the same items
    last: float | None = None
    holds: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Overview:
    total: int
    done: int
    items: int
    finished: int
    held: int
    labels: int
    last_hour: int
    alpha: float | None
    kappa: float | None
    pairs_of_people: list[tuple[str, str, int, float]]
    left: int
    right: int
    left_interval: tuple[float, float] | None
    workers: list[Worker]
    disagreements: list[dict[str, Any]]
    disagreement_count: int
    shared: int  # items with two voices or more
    named: int
    verdicts: dict[str, int]
    machines: list[Machine]  # judges that are no people


def wilson(count: int, total: int) -> tuple[float, float] | None:
    """95% interval of a share (Wilson 1927); None without a trial."""
    if total == 0:
        return None
    z, p = 1.959964, count / total
    middle = (p + z * z / 2 / total) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / 4 / total / total)
    return middle - half, middle + half


def overview(connection: sql.Connection, now: float, disagreements: int = 50) -> Overview:
    """Everything on the dashboard, from one state of the store."""
    total, done, count, finished = connection.execute(
        sql.select(
            sql.func.coalesce(sql.func.sum(queue.c.overlap), 0),
            sql.func.coalesce(sql.func.sum(queue.c.done), 0),
            sql.func.count(),
            sql.func.coalesce(sql.func.sum(sql.case((queue.c.done >= queue.c.overlap, 1), else_=0)), 0),
        ).where(ORDINARY)
    ).one()
    workers = {person.name: Worker(person.name) for person in people.everybody(connection)}
    by_item: dict[str, dict[str, str]] = defaultdict(dict)
    times: dict[str, list[float]] = defaultdict(list)
    verdicts: Counter[str] = Counter()
    last_hour = 0
    first_said: dict[tuple[str, str], str] = {}
    by_machine: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for (item, name, criterion, _), row in standing(connection, None).items():
        body = json.loads(row.body)
        if criterion:
            continue
        if not is_person(name):
            by_machine[name].append((item, body))
            continue
        verdict = _said(body)
        worker = workers.setdefault(name, Worker(name))
        worker.labels += 1
        worker.last = max(worker.last or 0.0, row.created)
        last_hour += row.created > now - RECENT_SECONDS
        verdicts[body["verdict"]] += 1
        worker.ties += body["verdict"] == "tie"
        worker.skips += body["verdict"] == "skip"
        # Only where somebody saw sides: of labels from files nobody knows them for sure.
        if body["verdict"] in ("a", "b") and row.assignment is not None:
            on_left = body["verdict"] == body["shown_left"]
            worker.left += on_left
            worker.right += not on_left
        if body.get("milliseconds"):
            times[name].append(body["milliseconds"] / 1000)
        if body["verdict"] != "skip":
            by_item[item][name] = verdict
            first_said[item, name] = verdict
    for name, seconds in times.items():
        workers[name].seconds = median(seconds)
    _measure(connection, workers, first_said)
    pairs_of_people = _pairs(by_item, workers)
    _majorities(by_item, workers)
    for name, held in connection.execute(
        sql.select(assignments.c.annotator, sql.func.count())
        .where(assignments.c.state.in_(("leased", "assigned")))
        .group_by(assignments.c.annotator)
    ):
        workers.setdefault(name, Worker(name)).holds = held
    split = {item: said for item, said in by_item.items() if len(set(said.values())) > 1}
    for worker in workers.values():
        worker.notes = _notes(worker)
    left, right = sum(w.left for w in workers.values()), sum(w.right for w in workers.values())
    kappas = [value for _, _, _, value in pairs_of_people]
    labels = [(item, name, said) for item, voices in by_item.items() for name, said in voices.items()]
    return Overview(
        total=int(total),
        done=int(done),
        items=count,
        finished=int(finished),
        held=sum(w.holds for w in workers.values()),
        labels=sum(w.labels for w in workers.values()),
        last_hour=last_hour,
        alpha=agreement.alpha(labels),
        kappa=sum(kappas) / len(kappas) if kappas else None,
        pairs_of_people=pairs_of_people,
        left=left,
        right=right,
        left_interval=wilson(left, left + right),
        workers=sorted(workers.values(), key=lambda w: (-w.labels, w.name)),
        disagreements=_described(connection, split, disagreements),
        disagreement_count=len(split),
        shared=sum(len(said) > 1 for said in by_item.values()),
        named=_named(connection),
        verdicts=dict(verdicts),
        machines=machines(by_machine, by_item),
    )


def _said(body: dict[str, Any]) -> str:
    """What counts as the same answer: the verdict, or the whole order."""
    return "order " + " ".join(map(str, body["ranks"])) if body.get("ranks") else str(body["verdict"])


def _measure(
    connection: sql.Connection, workers: dict[str, Worker], first_said: dict[tuple[str, str], str]
) -> None:
    """Gold items against what is expected, repeated items against the first answer."""
    gone = judgements.alias()
    taken_back = sql.exists().where(gone.c.target == judgements.c.event, gone.c.kind != "judgement")
    corrected = sql.exists().where(gone.c.target == judgements.c.event, gone.c.kind == "judgement")
    rows = connection.execute(
        sql.select(judgements.c.item, judgements.c.annotator, judgements.c.purpose, judgements.c.body).where(
            judgements.c.kind == "judgement",
            judgements.c.purpose.in_(("gold", "repeat")),
            ~taken_back,
            ~corrected,
        )
    ).all()
    known = connection.execute(sql.select(gold.c.item, gold.c.verdict))
    expected = {row.item: row.verdict for row in known}
    for row in rows:
        worker, said = workers.setdefault(row.annotator, Worker(row.annotator)), _said(json.loads(row.body))
        if row.purpose == "gold" and row.item in expected:
            worker.gold_total += 1
            worker.gold_right += said == expected[row.item]
        elif row.purpose == "repeat" and (row.item, row.annotator) in first_said:
            worker.repeated += 1
            worker.same += said == first_said[row.item, row.annotator]


def _pairs(
    by_item: dict[str, dict[str, str]], workers: dict[str, Worker]
) -> list[tuple[str, str, int, float]]:
    """κ of every two people with enough items in common, the lowest first."""
    both: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in by_item.values():
        for a, b in combinations(sorted(said), 2):
            both[a, b].append((said[a], said[b]))
    out: list[tuple[str, str, int, float]] = []
    mine: dict[str, list[float]] = defaultdict(list)
    for (a, b), rows in both.items():
        if len(rows) < SHARED_ITEMS:
            continue
        value = agreement.kappa([x for x, _ in rows], [y for _, y in rows])
        if value is not None:
            out.append((a, b, len(rows), value))
            mine[a].append(value)
            mine[b].append(value)
    for name, values in mine.items():
        workers[name].kappa = sum(values) / len(values)
    return sorted(out, key=lambda row: row[3])


def _majorities(by_item: dict[str, dict[str, str]], workers: dict[str, Worker]) -> None:
    """How often each agrees with what most of the others say, where most of them say one thing."""
    for said in by_item.values():
        for name, mine in said.items():
            others = most(verdict for other, verdict in said.items() if other != name)
            if others is not None:
                workers[name].compared += 1
                workers[name].agree += mine == others


def _notes(worker: Worker) -> list[str]:
    """What is worth a talk, each with its evidence; intervals keep small counts quiet."""
    notes = []
    sides = wilson(worker.left, worker.left + worker.right)
    if sides and (sides[0] > 0.5 or sides[1] < 0.5) and worker.left + worker.right >= 20:
        notes.append("takes the left more often" if sides[0] > 0.5 else "takes the right more often")
    right = wilson(worker.gold_right, worker.gold_total)
    if right and right[1] < 0.8:
        notes.append("misses gold items")
    same = wilson(worker.same, worker.repeated)
    if same and same[1] < 0.7:
        notes.append("answers repeated items differently")
    agrees = wilson(worker.agree, worker.compared)
    if agrees and agrees[1] < 0.5 and worker.compared >= 10:
        notes.append("mostly differs from the others")
    if worker.seconds is not None and worker.seconds < 2 and worker.labels >= 10:
        notes.append("judges in under two seconds")
    return notes


def _described(
    connection: sql.Connection, split: dict[str, dict[str, str]], limit: int
) -> list[dict[str, Any]]:
    """The items on which people differ most: the most even split first."""

    def evenness(said: dict[str, str]) -> tuple[float, int]:
        counts = Counter(said.values()).most_common(1)
        return counts[0][1] / len(said), -len(said)

    chosen = sorted(split, key=lambda item: (evenness(split[item]), item))[:limit]
    bodies = {}
    if chosen:
        rows = connection.execute(sql.select(items.c.id, items.c.body).where(items.c.id.in_(chosen)))
        bodies = {row.id: json.loads(row.body) for row in rows}
    return [
        {"item": item, "prompt": excerpt(bodies[item]["prompt"]), "said": sorted(split[item].items())}
        for item in chosen
    ]


def _named(connection: sql.Connection, looked_at: int = 2000) -> int:
    """Answers among the newest items that name their own model."""
    rows = connection.scalars(sql.select(items.c.body).order_by(items.c.sequence.desc()).limit(looked_at))
    found = 0
    for body in rows:
        item = json.loads(body)
        for answer in item.get("responses") or [item["a"], item["b"]]:
            names = [answer.get("policy", ""), str((answer.get("lineage") or {}).get("model", ""))]
            found += identity.names_itself(answer["text"], names)
    return found


def share(count: int, total: int) -> str:
    return f"{count / total:.0%}" if total else "–"


def interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.0%} to {bounds[1]:.0%}"
