"""A prompt has one side for good: across rounds, and whatever a label store holds."""

from __future__ import annotations

import itertools

from accord import formats
from accord.config import Run, validate
from accord.records import Comparison, Pair, Prompt, Response
from accord.round_labels import counted_labels, prompts_tested_on, sides_of, split_over_rounds
from accord.store import LabelStore


def label(prompt: str, round: int = 0, annotator: str = "ann", left: str = "x") -> Comparison:
    pair = Pair(Prompt.from_text(prompt), Response(left), Response("y"), round=round)
    return Comparison(pair, "a", annotator)


def keys(rows) -> set[str]:
    return {one.prompt.text for one in rows}


def forced_seed() -> int:
    """A seed at which both first prompts would be trained on, so that one is forced to the test side, and
    at which a later prompt is tested on by its own hash."""
    for seed in itertools.count():
        first = [label("p"), label("q")]
        later = [*first, label("r", 1), label("s", 1)]
        if keys(formats.split_by_prompt(later, 0.3, seed=seed)[1]) == {"r"}:
            return seed
    raise AssertionError


def test_a_prompt_that_was_forced_to_one_side_stays_there():
    seed = forced_seed()
    first = [label("p"), label("q")]
    train, test = split_over_rounds(first, 0.3, seed)
    assert len(keys(test)) == 1
    forced = keys(test).pop()
    train, test = split_over_rounds([*first, label("r", 1), label("s", 1)], 0.3, seed)
    assert keys(test) == {forced, "r"}
    assert not keys(train) & keys(test)
    again = split_over_rounds([*first, label("r", 1), label(forced, 1, left="z")], 0.3, seed)
    assert sum(one.prompt.text == forced for one in again[1]) == 2  # a new pair of it is tested on, too


def test_labels_on_held_out_prompts_are_never_counted(tmp_path):
    """As after an edit of the recipe that moves a prompt to the test side, in a folder with its labels."""
    run = validate(Run, {"judge": {"kind": "file", "path": "labels.jsonl"}})
    with LabelStore(tmp_path / "labels.db") as store:
        store.add([label("kept"), label("held")])
        every = counted_labels(run, tmp_path, store, [0], [])
        assert keys(every) == {"kept", "held"}
        held = {Prompt.from_text("HELD ").key}  # the key does not see case and white space
        assert keys(counted_labels(run, tmp_path, store, [0], [], held_out=held)) == {"kept"}


def test_given_test_comparisons_are_the_test_set():
    run = validate(Run, {})
    assert sides_of(run, [label("p")], [label("q")]) == ([label("p")], [label("q")])


def test_the_prompts_that_will_be_tested_on_are_those_that_are():
    run = validate(Run, {"reward": {"test_fraction": 0.3}})
    old = [label(f"old {i}") for i in range(10)]
    asked = [Prompt.from_text(f"new {i}") for i in range(20)]
    tested = prompts_tested_on(run, old, asked, 1)
    later = [*old, *(label(prompt.text, 1) for prompt in asked)]
    assert {one.prompt.key for one in sides_of(run, later, [])[1]} == tested
    assert 0 < sum(prompt.key in tested for prompt in asked) < 20
