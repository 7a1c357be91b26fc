"""Slots and leases: exactly k different people an item, nothing starved, sides drawn fairly."""

from __future__ import annotations

import json
import math
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sql

from accord.records import BadInput, Comparison, Prompt, Response
from accord.store import LabelStore, assigning, campaign, events, measuring, people, queue
from accord.store.campaign import Campaign
from accord.store.schema import assignments
from accord.store.schema import queue as queue_table
from accord.store.writer import Writer
from tests.stores import filled, pair

NOW = 1_000_000.0


@pytest.fixture
def store(location: str) -> Iterator[LabelStore]:
    with filled(location, 6) as store:
        store.write(lambda c: people.ensure(c, [(n, "annotator") for n in ("ann", "bob", "cy")], NOW))
        yield store


def settings(store: LabelStore, **changes: Any) -> Campaign:
    return store.write(lambda c: campaign.save(c, "op", NOW, **changes))


def take(store: LabelStore, who: str, count: int = 1, now: float = NOW) -> list[Any]:
    found = store.read(campaign.load)
    return store.write(lambda c: queue.next_items(c, who, found, now, count))


def say(store: LabelStore, who: str, row: Any, verdict: str = "left", now: float = NOW) -> events.Taken:
    found = store.read(campaign.load)
    body = events.Submission(id=str(uuid.uuid4()), assignment=row.id, verdict=verdict)  # type: ignore[arg-type]
    return store.write(lambda c: events.submit(c, who, body, found, now))


def questions(store: LabelStore, rows: list[Any]) -> list[str]:
    return [pair_text(store, row.item) for row in rows]


def pair_text(store: LabelStore, item: str) -> str:
    known = {pair(n).id: str(n) for n in range(20)}
    return known[item]


def test_first_come_first_served_and_what_is_held_stays(store: LabelStore) -> None:
    assert questions(store, take(store, "ann", 2)) == ["0", "1"]
    assert questions(store, take(store, "bob", 2)) == ["2", "3"]
    assert questions(store, take(store, "ann", 3)) == ["0", "1", "4"]  # the two that ann holds come first


def test_priority_goes_before_age(store: LabelStore) -> None:
    store.add_pairs([pair(9)], overlap=1, priority=5.0)
    assert questions(store, take(store, "ann", 2)) == ["9", "0"]


def test_an_item_goes_to_exactly_k_people(store: LabelStore) -> None:
    settings(store, overlap=2)
    for who in ("ann", "bob", "cy"):
        for row in take(store, who, 6):
            say(store, who, row)
    assert len(store.comparisons()) == 12
    assert set(Counter(c.prompt.text for c in store.comparisons()).values()) == {2}
    assert take(store, "cy", 6) == []


def test_nobody_judges_an_item_twice(store: LabelStore) -> None:
    settings(store, overlap=3)
    first = take(store, "ann", 6)
    for row in first:
        say(store, "ann", row)
    assert take(store, "ann", 6) == []


@pytest.mark.parametrize("lease", [15.0, 600.0])
def test_an_abandoned_item_is_back_within_the_lease_and_five_seconds(store: LabelStore, lease: float) -> None:
    settings(store, lease_seconds=lease)
    assert len(take(store, "ann", 6)) == 6
    assert take(store, "bob", 1, NOW + lease - 0.001) == []
    assert len(take(store, "bob", 6, NOW + lease)) == 6  # at the very moment; the promise is 5 s later
    assert store.read(lambda c: c.scalar(sql.select(sql.func.max(queue_table.c.taken)))) == 1


def test_a_heartbeat_keeps_a_lease_and_says_what_was_lost(store: LabelStore) -> None:
    found = settings(store, lease_seconds=60)
    mine = [row.id for row in take(store, "ann", 2)]
    assert set(store.write(lambda c: queue.heartbeat(c, "ann", mine, found, NOW + 59))) == set(mine)
    assert questions(store, take(store, "bob", 6, NOW + 100)) == ["2", "3", "4", "5"]
    assert len(take(store, "bob", 6, NOW + 119.5)) == 6
    assert store.write(lambda c: queue.heartbeat(c, "ann", mine, found, NOW + 120)) == []


def test_released_items_are_free_at_once(store: LabelStore) -> None:
    rows = take(store, "ann", 6)
    store.write(lambda c: queue.release(c, "ann", [rows[3].id]))
    assert questions(store, take(store, "bob", 6)) == ["3"]
    store.write(lambda c: queue.release(c, "bob"))
    assert [row.id for row in take(store, "ann", 6)] == [row.id for row in rows[:3] + rows[4:] + [rows[3]]]


def test_a_judgement_after_the_lease_takes_its_slot_back_or_is_kept_beside(store: LabelStore) -> None:
    settings(store, lease_seconds=15)
    late, later = take(store, "ann", 2)
    take(store, "bob", 6, NOW + 20)  # bob now holds both, and answers the first
    held = {row.item: row for row in take(store, "bob", 6, NOW + 20)}
    assert say(store, "bob", held[late.item], now=NOW + 21).counted
    surplus = say(store, "ann", late, now=NOW + 22)
    assert (surplus.counted, surplus.purpose) == (False, "surplus")  # kept, not counted: k is 1
    assert say(
        store, "ann", later, now=NOW + 22
    ).counted  # typed goes before not typed: bob's lease gives way
    assert not say(store, "bob", held[later.item], now=NOW + 23).counted
    said = sorted((c.prompt.text, c.annotator) for c in store.comparisons())
    assert said == [("question 0", "bob"), ("question 1", "ann")]


def test_paused_people_and_campaigns_get_nothing_new(store: LabelStore) -> None:
    row = take(store, "ann", 1)[0]
    store.write(lambda c: people.set_paused(c, "op", "ann", True, NOW))
    assert take(store, "ann", 3) == []
    assert questions(store, take(store, "bob", 1)) == ["0"]  # what ann held went back
    store.write(lambda c: people.set_paused(c, "op", "ann", False, NOW))
    settings(store, paused=True)
    assert take(store, "cy", 1) == []
    assert say(store, "ann", row).counted  # typed already: it goes before bob's untouched lease
    settings(store, paused=False)
    assert len(take(store, "ann", 1)) == 1


def test_assign_reassign_withdraw(store: LabelStore) -> None:
    found = settings(store)
    ids = [pair(n).id for n in (4, 5)]
    assert store.write(lambda c: assigning.assign(c, "cy", ids, found, NOW)) == 2
    assert questions(store, take(store, "ann", 6)) == ["0", "1", "2", "3"]
    assert questions(store, take(store, "cy", 2, NOW + 1e8)) == ["4", "5"]  # assigned does not run out
    moved = store.write(lambda c: assigning.withdraw(c, "cy"))
    assert sorted(moved) == sorted(ids)
    assert store.write(lambda c: assigning.assign(c, "bob", moved, found, NOW)) == 2
    assert sorted(questions(store, take(store, "bob", 2))) == ["4", "5"]
    say(store, "bob", take(store, "bob", 1)[0])
    done = store.comparisons()[0].pair.id
    assert store.write(lambda c: assigning.assign(c, "bob", [done], found, NOW)) == 0  # judged it already
    assert (
        store.write(lambda c: assigning.assign(c, "ann", [done], found, NOW)) == 1
    )  # one more voice, on request
    row = next(row for row in take(store, "ann", 9) if row.item == done)
    assert say(store, "ann", row).counted


def test_labels_from_files_fill_slots(store: LabelStore) -> None:
    settings(store, overlap=2)
    store.add(
        [Comparison(pair(0), "a", "file"), Comparison(pair(0), "b", "other"), Comparison(pair(1), "a", "ann")]
    )
    assert questions(store, take(store, "ann", 6)) == ["2", "3", "4", "5"]  # 0 is full, 1 ann has judged
    assert questions(store, take(store, "bob", 6)) == ["1", "2", "3", "4", "5"]


def test_items_that_came_without_the_app_can_be_queued(location: str) -> None:
    with LabelStore(location) as store:
        store.add_pairs([pair(0), pair(1)])
        store.add([Comparison(pair(0), "a", "file")])
        assert store.write(lambda c: queue.enqueue_rest(c, 1)) == 2
        assert questions(store, take(store, "ann", 5)) == ["1"]
        assert store.write(lambda c: queue.enqueue_rest(c, 1)) == 0


def test_gold_is_mixed_in_unseen_and_teaches_no_model(store: LabelStore) -> None:
    settings(store, gold_every=2)
    store.write(lambda c: measuring.set_gold(c, "op", pair(5).id, "gold", "a", "", NOW))
    seen = Counter()
    for row in take(store, "ann", 6):
        seen[row.purpose] += 1
        taken = say(store, "ann", row)
        assert taken.expected is None  # nobody is told
    assert seen == {"label": 5, "gold": 1}
    assert len(store.comparisons()) == 5
    assert store.pending([pair(5)]) == []  # no run waits for it
    assert store.rankings() == []


def test_practice_comes_first_and_is_explained(store: LabelStore) -> None:
    settings(store)
    store.write(lambda c: measuring.set_gold(c, "op", pair(3).id, "practice", "b", "because", NOW))
    first, second = take(store, "ann", 2)
    assert (first.purpose, second.purpose) == ("practice", "label")
    b_side = "left" if json.loads(first.shown) == [1, 0] else "right"
    taken = say(store, "ann", first, b_side)
    assert (taken.expected, taken.right, taken.note, taken.counted) == (b_side, True, "because", False)
    assert questions(store, take(store, "bob", 1)) == ["3"]  # everybody practises


def test_a_repeated_item_has_its_sides_exchanged(store: LabelStore) -> None:
    settings(store, repeat_every=2, repeat_after=2)
    orders: dict[str, list[list[int]]] = {}
    for _ in range(12):
        rows = take(store, "ann", 1)
        if not rows:
            break
        orders.setdefault(rows[0].item, []).append(json.loads(rows[0].shown))
        say(store, "ann", rows[0])
    repeated = [shown for shown in orders.values() if len(shown) == 2]
    assert repeated
    assert all(first == second[::-1] for first, second in repeated)
    assert len(store.comparisons()) == 6  # the second answer measures the person


def test_gold_needs_a_pair_and_a_right_verdict(store: LabelStore) -> None:
    with pytest.raises(BadInput, match="not 'skip'"):
        store.write(lambda c: measuring.set_gold(c, "op", pair(0).id, "gold", "skip", "", NOW))
    store.add_rankings([(Prompt.from_text("q"), [Response("x"), Response("y"), Response("z")], 0)], overlap=1)
    ranking = store.read(lambda c: c.scalar(sql.text("SELECT id FROM accord_items WHERE kind = 'ranking'")))
    with pytest.raises(BadInput, match="only a pair can serve as gold"):
        store.write(lambda c: measuring.set_gold(c, "op", ranking, "gold", "a", "", NOW))


def test_overlap_can_be_raised_and_lowered_but_never_below_what_is_held(store: LabelStore) -> None:
    settings(store, overlap=3)
    for who in ("ann", "bob"):
        take(store, who, 1)
    settings(store, overlap=1)
    slots = store.read(lambda c: c.execute(sql.select(queue_table.c.overlap, queue_table.c.taken)).all())
    assert sorted(slots) == [(1, 0)] * 5 + [(2, 2)]


def test_sides_are_even_over_ten_thousand_showings(store: LabelStore) -> None:
    """Left share 50% within three standard deviations: 5000 ± 150 of 10,000 showings through the queue."""
    left = 0
    for item in range(100):
        for who in range(100):
            left += queue.shown_order("a seed", f"person {who}", f"item {item}", 2, "label") == [0, 1]
    assert abs(left - 5000) <= 3 * math.sqrt(10_000) / 2
    # All orders of three answers are as likely: chi-square with 5 degrees of freedom, 99.9% point 20.5.
    orders = Counter(tuple(queue.shown_order("s", f"p{n}", "i", 3, "label")) for n in range(6000))
    assert sum((count - 1000) ** 2 / 1000 for count in orders.values()) < 20.5
    assert len(orders) == 6


def test_fifty_workers_at_once_give_every_item_exactly_three_people(location: str) -> None:
    """k = 3, 50 people, one thread each, all through one writer; some give up or lose their leases."""
    with filled(location, 40, overlap=3) as store:
        names = [f"person {n}" for n in range(50)]
        store.write(lambda c: people.ensure(c, [(n, "annotator") for n in names], NOW))
        found = settings(store, overlap=3, lease_seconds=15)
        writer = Writer(store)
        clock = iter(range(10_000))

        def work(name: str) -> None:
            chance = random.Random(name)
            for _ in range(30):
                now = NOW + next(clock) * 0.5
                rows = writer.submit(lambda c, now=now: queue.next_items(c, name, found, now, 2)).result()
                if not rows:
                    if chance.random() < 0.5:
                        break
                    continue
                if chance.random() < 0.2:
                    writer.submit(lambda c: queue.release(c, name)).result()
                elif chance.random() < 0.9:  # else: abandoned
                    body = events.Submission(id=str(uuid.uuid4()), assignment=rows[0].id, verdict="tie")
                    writer.submit(
                        lambda c, body=body, now=now: events.submit(c, name, body, found, now)
                    ).result()

        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close()
        for round_ in range(20):  # whoever is left finishes what was abandoned
            for name in names:
                for row in take(store, name, 9, NOW + 1e6 + round_ * 100):
                    say(store, name, row, "left", NOW + 1e6 + round_ * 100)
        voices = Counter(c.pair.id for c in store.comparisons())
        assert set(voices.values()) == {3}
        assert len(voices) == 40
        both = sql.select(assignments.c.item, sql.func.count()).where(assignments.c.state == "done")
        assert {n for _, n in store.read(lambda c: c.execute(both.group_by(assignments.c.item)).all())} == {3}
