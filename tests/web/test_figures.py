"""The overview counts right, and finds somebody who does not look."""

from __future__ import annotations

import dataclasses
import json
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accord.records import Comparison
from accord.store import LabelStore, campaign, events, measuring, people, queue
from accord.web import agreement, figures
from tests.stores import pair

NOW = 1_000_000.0


def judge(
    store: LabelStore,
    name: str,
    choose: Callable[[str, list[int]], str],
    count: int,
    milliseconds: int = 5000,
) -> None:
    """``choose`` gets the better answer and the order on the page, and gives a side of the page."""
    found = store.read(campaign.load)
    store.write(lambda c: people.ensure(c, [(name, "annotator")], NOW))
    for n in range(count):
        rows = store.write(lambda c, n=n: queue.next_items(c, name, found, NOW + n, 1))
        if not rows:
            return
        order = json.loads(rows[0].shown)
        said = events.Submission(
            id=str(uuid.uuid4()),
            assignment=rows[0].id,
            verdict=choose(better(rows[0].item), order),
            milliseconds=milliseconds,  # type: ignore[arg-type]
        )
        store.write(lambda c, said=said, n=n: events.submit(c, name, said, found, NOW + n))


def better(item: str) -> str:
    """Which answer of a pair is the better one: as often a as b."""
    return "ab"[int(item, 16) % 2]


def side(answer: str, order: list[int]) -> str:
    return "left" if order[0] == {"a": 0, "b": 1}[answer] else "right"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(n) for n in range(80)], overlap=4)
        # The seed of the sides is drawn for each store; a fixed one makes every draw of these tests the same.
        store.write(lambda c: campaign.save(c, "op", NOW, overlap=4, gold_every=2, seed="planted"))
        for n in range(60, 80):
            store.write(
                lambda c, n=n: measuring.set_gold(c, "op", pair(n).id, "gold", better(pair(n).id), "", NOW)
            )
        yield store


def test_a_planted_bad_annotator_is_found_and_good_ones_are_not(store: LabelStore) -> None:
    """Three answer well (90% the better one, in seconds), one takes the left at once."""
    chance = random.Random(1)

    def good(better: str, order: list[int]) -> str:
        return side(better if chance.random() < 0.9 else chance.choice("ab"), order)

    for name in ("ann", "bob", "cy"):
        judge(store, name, good, 80)
    judge(store, "lazy", lambda better, order: "left", 80, milliseconds=700)
    found = store.read(lambda c: figures.overview(c, NOW + 100))
    workers = {worker.name: worker for worker in found.workers}
    assert set(workers["lazy"].notes) >= {
        "takes the left more often",
        "misses gold items",
        "judges in under two seconds",
    }
    for name in ("ann", "bob", "cy"):
        assert workers[name].notes == [], name
        assert workers[name].kappa is not None
    assert all("lazy" in row[:2] for row in found.pairs_of_people[:3])  # the three lowest of six
    assert found.labels == 240  # 60 items by four people; 20 gold items are none


def test_counts_by_hand(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(n) for n in range(4)], overlap=2)
        store.add(
            [
                Comparison(pair(0), "a", "ann"),
                Comparison(pair(0), "a", "bob"),
                Comparison(pair(1), "a", "ann"),
                Comparison(pair(1), "tie", "bob"),
                Comparison(pair(2), "skip", "ann"),
                Comparison(pair(2), "b", "bob", criterion="safe"),
            ]
        )
        found = store.read(lambda c: figures.overview(c, NOW))
    assert (found.total, found.items, found.labels, found.shared) == (8, 4, 5, 2)
    assert found.verdicts == {"a": 3, "tie": 1, "skip": 1}
    assert (found.left, found.right) == (0, 0)  # of labels from files nobody knows the side that was seen
    assert [d["said"] for d in found.disagreements] == [[("ann", "a"), ("bob", "tie")]]
    ann = next(worker for worker in found.workers if worker.name == "ann")
    assert (ann.labels, ann.skips, ann.agree, ann.compared) == (3, 1, 1, 2)


def test_judges_that_are_no_people_count_in_no_figure_of_people(tmp_path: Path) -> None:
    """Three people on four items; a model, with both orders, and a function beside them."""
    orders = [["first", "second"], ["first", "first"], ["tie", "tie"], ["second", None]]
    said = ["a", "tie", "tie", "skip"]
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(n) for n in range(4)], overlap=3)
        store.add([Comparison(pair(n), "a", who) for n in range(4) for who in ("ann", "bob", "cy")])
        before = store.read(lambda c: figures.overview(c, NOW))
        store.add(
            Comparison(pair(n), said[n], "judge:m", meta={"orders": orders[n], "tokens": [100, 10 * n]})  # type: ignore[arg-type]
            for n in range(4)
        )
        store.add([Comparison(pair(n), "b", "function:f", meta={"tokens": 7}) for n in range(3)])
        after = store.read(lambda c: figures.overview(c, NOW))
    model, function = after.machines
    assert dataclasses.replace(after, machines=[]) == before
    # It says a, tie, tie where all say a: 1 of 3; expected by chance 1/3 as well, so κ = 0.
    assert (model.name, model.labels, model.agree, model.compared) == ("judge:m", 4, 1, 3)
    assert model.kappa == pytest.approx(0)
    assert (model.ties, model.skips) == (2, 1)
    assert (model.consistent, model.both_orders) == (2, 3)  # the fourth has one order only
    assert (model.first, model.decided) == (3, 4)
    assert (model.tokens_in, model.tokens_out) == (400, 60)
    assert (function.name, function.agree, function.compared, function.tokens_in) == ("function:f", 0, 3, 0)


def test_repeated_items_measure_the_same_person(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(n) for n in range(30)], overlap=1)
        store.write(lambda c: campaign.save(c, "op", NOW, repeat_every=2, repeat_after=1, seed="lefty"))
        judge(store, "lefty", lambda better, order: "left", 45)
        found = store.read(lambda c: figures.overview(c, NOW))
    (worker,) = [w for w in found.workers if w.name == "lefty"]
    assert worker.repeated >= 10
    assert worker.same == 0  # the sides are exchanged: who takes the left contradicts himself every time
    assert "answers repeated items differently" in worker.notes


def test_the_interval_of_a_share() -> None:
    # Wilson 1927 for 8 of 10, by hand: centre (.8 + .19207)/(1.38415) = .71674, half width .22670.
    low, high = figures.wilson(8, 10) or (0, 0)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert figures.wilson(0, 0) is None


def test_the_seam_to_the_statistics_says_none_where_nothing_is_defined() -> None:
    assert agreement.kappa(["a", "b", "a", "b"], ["a", "b", "b", "b"]) == pytest.approx(0.5)
    assert agreement.kappa(["a", "a"], ["a", "a"]) is None
    assert agreement.alpha([("1", "x", "a")]) is None
    assert agreement.alpha(
        [("1", "x", "a"), ("1", "y", "a"), ("2", "x", "b"), ("2", "y", "b")]
    ) == pytest.approx(1)
