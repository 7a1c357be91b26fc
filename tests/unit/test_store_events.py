"""What was said is kept once, can be taken back, corrected and retracted, and none of it is ever erased."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.exc import DatabaseError

from accord.records import Comparison, Prompt, Ranking, Response, Span
from accord.store import LabelStore, campaign, events, people, queue
from accord.store.campaign import Campaign
from accord.store.schema import actions, judgements
from accord.store.writer import Writer
from tests.stores import filled, pair

NOW = 1_000_000.0
ASKED = {"criteria": [{"name": "safe", "question": "Which is safer?"}], "strength": True}


@pytest.fixture
def store(location: str) -> Iterator[LabelStore]:
    with filled(location, 15) as store:
        store.write(lambda c: people.ensure(c, [(n, "annotator") for n in ("ann", "bob")], NOW))
        store.write(lambda c: campaign.save(c, "op", NOW, **ASKED))
        yield store


def take(store: LabelStore, who: str = "ann", count: int = 1) -> list[Any]:
    found = store.read(campaign.load)
    return store.write(lambda c: queue.next_items(c, who, found, NOW, count))


def body(row: Any, verdict: str = "left", **more: Any) -> events.Submission:
    more.setdefault("id", str(uuid.uuid4()))
    return events.Submission(assignment=row.id, verdict=verdict, **more)  # type: ignore[arg-type]


def send(store: LabelStore, said: events.Submission, who: str = "ann") -> events.Taken:
    found = store.read(campaign.load)
    return store.write(lambda c: events.submit(c, who, said, found, NOW))


def undo(store: LabelStore, event: str, who: str = "ann", new: str | None = None) -> str:
    found = store.read(campaign.load)
    key = new or str(uuid.uuid4())
    return store.write(lambda c: events.undo(c, who, event, key, found, NOW))


def count(store: LabelStore) -> int:
    return store.read(lambda c: c.scalar(sql.select(sql.func.count()).select_from(judgements))) or 0


def test_everything_that_was_said_comes_back_as_a_record(store: LabelStore) -> None:
    row = take(store)[0]
    left = "a" if row.shown == "[0, 1]" else "b"
    right = "b" if left == "a" else "a"
    text = {"a": "yes 0", "b": "no 0"}
    spans = [{"place": 1, "start": 0, "end": 2, "quote": text[right][:2], "mark": "good"}]
    said = body(
        row,
        "left",
        strength=3,
        criteria={"safe": "right"},
        reason=" short ",
        spans=spans,
        milliseconds=4200,
        ui="7",
    )
    assert send(store, said).counted
    overall, safe = store.comparisons(criterion=None)
    assert overall == Comparison(
        pair_left(left), left, "ann", 3.0, events.SOURCE, {}, "", "short",
        (Span(right, 0, 2, text[right][:2], "good", (0, 2)),), 4200, "7",
    )  # fmt: skip
    assert (safe.criterion, safe.verdict, safe.strength, safe.reason) == ("safe", right, None, "")
    assert store.comparisons() == [overall]
    assert store.comparisons(criterion="safe") == [safe]
    assert Comparison.from_json(overall.to_json()) == overall


def pair_left(left: str) -> Any:
    import dataclasses

    return dataclasses.replace(pair(0), shown_left=left)


def test_the_same_id_again_changes_nothing_and_another_body_is_refused(store: LabelStore) -> None:
    row = take(store)[0]
    said = body(row)
    first, second = send(store, said), send(store, said)
    assert (first.repeated, second.repeated) == (False, True)
    assert first.model_copy(update={"repeated": True}) == second
    with pytest.raises(events.Refused) as refused:
        send(store, body(row, "right", id=said.id))
    assert refused.value.status == 409
    with pytest.raises(events.Refused) as refused:  # the same words of another person are another body
        send(store, said, "bob")
    assert refused.value.status == 409
    assert count(store) == 1


def test_only_ones_own_assignments(store: LabelStore) -> None:
    row = take(store)[0]
    with pytest.raises(events.Refused) as refused:
        send(store, body(row), "bob")
    assert refused.value.status == 404
    send(store, said := body(row))
    with pytest.raises(events.Refused) as refused:
        undo(store, said.id, "bob")
    assert refused.value.status == 404


@pytest.mark.parametrize(
    "said",
    [
        {"verdict": "ranked", "ranks": (1, 2)},
        {"verdict": "left", "criteria": {"unasked": "left"}},
        {"verdict": "left", "spans": [{"place": 2, "start": 0, "end": 1, "quote": "x", "mark": "bad"}]},
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_nothing_is_kept(store: LabelStore, said: Any) -> None:
    row = take(store)[0]
    with pytest.raises(events.Refused) as refused:
        send(store, body(row, **said))
    assert refused.value.status == 422
    assert count(store) == 0


def test_undo_is_ten_deep_and_each_once(store: LabelStore) -> None:
    said = [body(row) for row in take(store, count=12)]
    for one in said:
        send(store, one)
    with pytest.raises(events.Refused, match="last 10"):
        undo(store, said[1].id)
    for one in said[2:][::-1]:
        key = str(uuid.uuid4())
        assert undo(store, one.id, new=key) == undo(store, one.id, new=key) == one.assignment  # sent twice
    with pytest.raises(events.Refused) as refused:
        undo(store, said[11].id)
    assert refused.value.status == 409
    assert [c.prompt.text for c in store.comparisons()] == ["question 0", "question 1"]
    assert count(store) == 22  # nothing is erased
    assert {row.id for row in take(store, count=10)} == {one.assignment for one in said[2:]}  # back with ann
    assert {row.item for row in take(store, "bob", 9)}.isdisjoint({row.item for row in take(store, count=10)})


def test_after_undo_the_new_word_counts(store: LabelStore) -> None:
    row = take(store)[0]
    send(store, first := body(row, "tie"))
    undo(store, first.id)
    assert store.comparisons() == []
    send(store, body(row, "both_bad"))
    assert [c.verdict for c in store.comparisons()] == ["both_bad"]


def test_a_second_judgement_is_a_correction_and_its_undo_brings_the_first_back(store: LabelStore) -> None:
    row = take(store)[0]
    send(store, first := body(row, "tie"))
    send(store, second := body(row, "skip"))
    assert [c.verdict for c in store.comparisons()] == ["skip"]
    targets = store.read(
        lambda c: c.execute(sql.select(judgements.c.target).order_by(judgements.c.sequence)).scalars().all()
    )
    assert targets == [None, first.id]
    undo(store, second.id)
    assert [c.verdict for c in store.comparisons()] == ["tie"]


def test_retraction_frees_the_slot_and_keeps_the_history(store: LabelStore) -> None:
    row = take(store)[0]
    send(store, said := body(row))
    key = str(uuid.uuid4())
    assert store.write(lambda c: events.retract(c, "op", said.id, key, "too fast", NOW))
    assert not store.write(lambda c: events.retract(c, "op", said.id, str(uuid.uuid4()), "", NOW))
    assert store.comparisons() == []
    assert take(store, "bob")[0].item == row.item
    assert row.item not in {other.item for other in take(store, "ann", 9)}
    assert count(store) == 2
    logged = store.read(lambda c: c.execute(sql.select(actions.c.actor, actions.c.action)).all())
    assert logged[-1] == ("op", "retract")


def test_a_label_from_a_file_can_be_retracted_as_well(store: LabelStore) -> None:
    store.add([Comparison(pair(0), "a", "file")])
    event = store.read(lambda c: c.scalar(sql.select(judgements.c.event)))
    store.write(lambda c: events.retract(c, "op", event, str(uuid.uuid4()), "", NOW))
    assert store.comparisons() == []
    assert take(store)[0].item == pair(0).id
    assert store.add([Comparison(pair(0), "a", "file")]) == 1  # said again: it counts again


def test_a_ranking_is_kept_in_the_order_of_the_answers(store: LabelStore) -> None:
    answers = [Response(text) for text in ("one", "two", "three")]
    store.add_rankings([(Prompt.from_text("rank"), answers, 4)], overlap=1, priority=9)
    row = take(store)[0]
    order = [int(n) for n in row.shown.strip("[]").split(",")]
    with pytest.raises(events.Refused, match="3 answers need 3 ranks"):
        send(store, body(row, "ranked", ranks=(1, 2)))
    with pytest.raises(events.Refused, match="ranked"):
        send(store, body(row, "left"))
    wanted = (2, 1, 2)  # of one, two, three: two is the best, the others tie
    send(store, body(row, "ranked", ranks=tuple(wanted[answer] for answer in order)))
    assert store.rankings() == [
        Ranking(Prompt.from_text("rank"), tuple(answers), wanted, "ann", events.SOURCE, round=4)
    ]
    found = {(c.pair.a.text, c.pair.b.text): c.verdict for c in store.rankings()[0].comparisons()}
    assert found == {("one", "two"): "b", ("one", "three"): "tie", ("two", "three"): "a"}
    assert store.comparisons() == []


def test_rows_cannot_be_changed_or_removed_on_either_database(store: LabelStore) -> None:
    send(store, body(take(store)[0]))
    for statement in (
        "DELETE FROM accord_judgements",
        "UPDATE accord_judgements SET body = ''",
        "UPDATE accord_items SET round = 3",
        "DELETE FROM accord_actions",
    ):
        with pytest.raises(DatabaseError, match="append-only"), store.transaction(write=True) as connection:
            connection.execute(sql.text(statement))
    assert len(store.comparisons()) == 1


def test_the_writer_answers_after_the_commit_and_one_failure_harms_no_other(store: LabelStore) -> None:
    rows = take(store, count=9)
    found = store.read(campaign.load)
    writer = Writer(store)

    def fault(connection: sql.Connection) -> None:
        connection.execute(sql.text("INSERT INTO nowhere VALUES (1)"))

    jobs: list[Any] = [lambda c, row=row: events.submit(c, "ann", body(row), found, NOW) for row in rows]
    jobs.insert(4, fault)
    jobs.insert(6, lambda c: events.undo(c, "ann", str(uuid.uuid4()), str(uuid.uuid4()), found, NOW))
    futures = [writer.submit(job) for job in jobs]
    problems = [type(future.exception()).__name__ for future in futures if future.exception()]
    assert problems == ["BadInput", "Refused"]
    assert len(store.comparisons()) == 9
    writer.close()
    assert writer.commits <= writer.done


class Idempotent(RuleBasedStateMachine):
    """Submits and undos, sent ten times at once by ten threads: exactly one row each, the same answers."""

    @initialize()
    def begin(self) -> None:
        self.store = filled("sqlite://" + "/" + str(Path(self.folder) / f"{uuid.uuid4().hex}.db"), 4)
        self.store.write(lambda c: people.ensure(c, [("ann", "annotator")], NOW))
        self.writer = Writer(self.store)
        self.settings: Campaign = self.store.read(campaign.load)
        self.rows = self.store.write(lambda c: queue.next_items(c, "ann", self.settings, NOW, 4))
        self.said: list[events.Submission] = []
        self.undone: set[str] = set()
        self.expected = 0

    folder = ""

    def _ten(self, job: Any) -> list[Any]:
        with ThreadPoolExecutor(10) as pool:
            return list(pool.map(lambda _: _outcome(self.writer.submit(job)), range(10)))

    @rule(item=st.integers(0, 3), verdict=st.sampled_from(["left", "right", "tie", "both_bad", "skip"]))
    def submit(self, item: int, verdict: str) -> None:
        said = body(self.rows[item], verdict)
        answers = self._ten(lambda c: events.submit(c, "ann", said, self.settings, NOW))
        assert all(isinstance(answer, events.Taken) and answer.counted for answer in answers)
        assert sum(not answer.repeated for answer in answers) == 1
        self.said.append(said)
        self.expected += 1

    @rule(verdict=st.sampled_from(["left", "right"]), data=st.data())
    def the_same_id_with_another_body(self, verdict: str, data: st.DataObject) -> None:
        if not self.said:
            return
        earlier = data.draw(st.sampled_from(self.said))
        other = earlier.model_copy(update={"verdict": verdict, "reason": "another body"})
        answers = self._ten(lambda c: events.submit(c, "ann", other, self.settings, NOW))
        assert {answer.status for answer in answers} == {409}

    @rule()
    def undo(self) -> None:
        standing = [said for said in self.said if said.id not in self.undone]
        if not standing:
            return
        last, key = standing[-1], str(uuid.uuid4())
        answers = self._ten(lambda c: events.undo(c, "ann", last.id, key, self.settings, NOW))
        assert set(answers) == {last.assignment}
        self.undone.add(last.id)
        self.expected += 1

    @invariant()
    def one_row_each(self) -> None:
        if not hasattr(self, "store"):
            return
        assert count(self.store) == self.expected
        latest = {}
        for said in self.said:
            if said.id not in self.undone:
                latest[said.assignment] = said.verdict
        assert len(self.store.comparisons()) == len(latest)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.writer.close()
            self.store.close()


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except events.Refused as refused:
        return refused


def test_ten_times_at_once_is_once(tmp_path: Path) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Idempotent.folder = str(tmp_path)
    run_state_machine_as_test(
        Idempotent,
        settings=settings(
            max_examples=12, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
