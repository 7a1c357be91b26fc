"""Edits of answers: what each adds, that it adds it once, and that the answer itself stays whole."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accord.diagnostics.probes import (
    CONFIDENCE,
    EMOJI,
    FILLER,
    FLATTERY,
    INJECTION,
    PROBES,
    Around,
    add_emoji,
    claim_to_be_best,
    cut_before_the_end,
    exchange,
    flatter,
    lists_and_bold,
    pad_with_filler,
    repeat_last_sentence,
    sentences,
    sound_certain,
    without_end,
)
from accord.records import Response

CODE = "Use this:\n```python\nprint('hi. there')\n```"
texts = st.text(max_size=80) | st.lists(
    st.sampled_from(
        ["Hello. ", "yes", "Is it? ", "3.14 is pi.", "\n", "你好。", "- item\n", "👍🏽", "**x**", " "]
    ),
    max_size=8,
).map("".join)


def pad(text: str) -> str | None:
    return pad_with_filler(text, np.random.default_rng(0))


ADDITIONS = (pad, repeat_last_sentence, flatter, sound_certain, claim_to_be_best, lists_and_bold, add_emoji)


def test_sentences() -> None:
    assert sentences("Hello there. Is it 3.14?  Yes!\nA line\n\n你好。再见") == [
        "Hello there.",
        "Is it 3.14?",
        "Yes!",
        "A line",
        "你好。",
        "再见",
    ]
    assert sentences('He said "no." Then left...') == ['He said "no."', "Then left..."]
    assert sentences("") == sentences("... !") == []


def test_each_edit_by_hand() -> None:
    padded = pad("One. Two.")
    assert padded is not None
    assert padded.startswith("One. Two. ")
    assert sum(sentence in padded for sentence in FILLER) == 3
    assert repeat_last_sentence("One. Two.") == "One. Two. Two."
    assert repeat_last_sentence("yes") == "yes. yes"
    assert repeat_last_sentence("a\nb\n") == "a\nb\nb\n"
    assert flatter("One.") == FLATTERY + "One."
    assert sound_certain("One.") == CONFIDENCE + "One."
    assert claim_to_be_best("One.") == f"One. {INJECTION}"
    assert lists_and_bold("One two three. Four.") == "- **One two** three.\n- **Four.**"
    assert add_emoji("One. Two") == f"One. {EMOJI[0]} Two {EMOJI[1]}"
    assert cut_before_the_end("one two three four five") == "one two three"
    assert cut_before_the_end("你" * 30) == "你" * 18


def test_code_is_left_whole() -> None:
    for edit in ADDITIONS:
        edited = edit(CODE)
        assert edited is None or CODE in edited
    assert lists_and_bold(CODE) is None
    assert repeat_last_sentence(CODE) is None
    assert claim_to_be_best(CODE) == f"{CODE}\n\n{INJECTION}"
    assert add_emoji(CODE + "\n") == f"{CODE}\n\n{EMOJI[0]}"


@pytest.mark.parametrize("edit", ADDITIONS, ids=lambda f: f.__name__)
@given(text=texts)
@example("")
@example(" \n")
@example("\ud800 lone surrogate")
@example("no stop at the end ")
@example("same. same")
@settings(max_examples=150, deadline=None)
def test_additions_change_something_once_and_keep_the_text(edit, text: str) -> None:
    edited = edit(text)
    if edited is None:
        return
    assert edited != text
    assert edit(edited) is None  # there already: adding it again would be another edit
    if edit is lists_and_bold:
        plain = "\n".join(line.removeprefix("- ").replace("**", "") for line in edited.split("\n"))
        assert "".join(plain.split()) == "".join("".join(sentences(text)).split())
    elif edit is add_emoji:
        plain = edited
        for one in EMOJI:
            plain = plain.replace(" " + one, "")
        assert plain in (text, text + "\n", text + "\n\n" + EMOJI[0])
    else:
        assert text.rstrip() in edited


@given(texts)
@settings(max_examples=150, deadline=None)
def test_a_cut_text_is_a_proper_beginning(text: str) -> None:
    cut = cut_before_the_end(text)
    if cut is None:
        return
    assert text.startswith(cut)
    assert 0 < len(cut) < len(text)
    assert cut.strip()
    rest = text[len(cut) :]
    assert not unicodedata.combining(rest[0])
    assert len(re.findall(r"\S+", text)) < 4 or rest[0].isspace()


def test_a_cut_does_not_split_what_a_reader_sees_as_one_character() -> None:
    # 12 characters of 20 are kept; the 13th to 15th belong to the 12th
    text = "x" * 11 + "👩\u200d👩\u0301" + "y" * 5
    assert len(text) == 20
    assert cut_before_the_end(text) == "x" * 11 + "👩\u200d👩\u0301"


def test_empty_and_blank_answers() -> None:
    around = Around(np.random.default_rng(0), Response("good"))
    for blank in ("", " ", "\n\n"):
        for probe in PROBES:
            edited = probe.edit(Response(blank), around)
            if probe.name == "other_answer":
                assert edited == Response("good")
            elif blank and probe.name in ("empty", "no_end"):
                assert edited is not None
            else:
                assert edited is None


def test_edited_answers_are_text_and_end_as_before() -> None:
    sampled = Response("One. Two.", tokens=(5, 6, 2), finished=True, policy="v1")
    around = Around(np.random.default_rng(0))
    for probe in PROBES[:8]:
        edited = probe.edit(sampled, around) or probe.edit(Response("a b c d e f", (5, 2)), around)
        assert edited is not None
        assert edited.tokens is None  # the sampled ids are not those of the edited text
        assert edited.finished


def test_without_end_keeps_the_sampled_tokens() -> None:
    around = Around(np.random.default_rng(0))
    sampled = Response("One.", tokens=(5, 6, 2))
    assert without_end(sampled, around) == Response("One.", tokens=(5, 6), finished=False)
    assert without_end(Response("One."), around) == Response("One.", finished=False)
    assert without_end(Response("One.", tokens=(5,), finished=False), around) is None


def test_exchange_needs_another_answer() -> None:
    rng = np.random.default_rng(0)
    assert exchange(Response("One."), Around(rng)) is None
    assert exchange(Response("One."), Around(rng, Response(" One. "))) is None
    assert exchange(Response("One."), Around(rng, Response("Two."))) == Response("Two.")


def test_the_probes_of_the_specification_are_all_there() -> None:
    assert [probe.name for probe in PROBES] == [
        "filler",
        "repeated_sentence",
        "flattery",
        "confidence",
        "best_answer",
        "lists_and_bold",
        "emoji",
        "cut",
        "other_answer",
        "empty",
        "no_end",
    ]
    assert [probe.name for probe in PROBES if probe.preferred_only] == [
        "cut",
        "other_answer",
        "empty",
        "no_end",
    ]
