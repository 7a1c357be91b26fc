"""Pairs of the final samples: disjoint, different, one of each prompt first; margins by hand."""

from __future__ import annotations

from accord.fresh_labels import fresh_margins, fresh_pairs
from accord.records import Comparison, Prompt


def rows(texts_by_prompt: dict[str, list[str]]) -> list[dict]:
    out = []
    for name, texts in texts_by_prompt.items():
        prompt = Prompt.from_text(name)
        for place, text in enumerate(texts):
            out.append(
                {
                    "prompt": prompt.to_json(), "key": prompt.key, "text": text, "ids": [place + 3],
                    "finished": True, "proxy": float(place),
                }
            )  # fmt: skip
    return out


def test_one_pair_of_each_prompt_before_a_second_one():
    given = rows({"p": ["a", "b", "c", "d"], "q": ["e", "f"], "r": ["same", "same"], "s": ["", "x"]})
    every = fresh_pairs(given, 10, "round-0", 0)
    assert len(every) == 3  # p twice, q once; r has no difference, s has one answer only
    assert {pair.prompt.text for pair in every[:2]} == {"p", "q"}
    assert every[2].prompt.text == "p"
    sides = [(pair.a.text, pair.b.text) for pair in every if pair.prompt.text == "p"]
    assert sides == [("a", "b"), ("c", "d")]  # disjoint
    assert fresh_pairs(given, 2, "round-0", 0) == every[:2]
    assert every[0].a.policy == "round-0"
    assert every[0].a.tokens == (3,)


def test_margins_are_chosen_minus_rejected_in_raw_units():
    given = rows({"p": ["a", "b"], "q": ["c", "d"], "r": ["e", "f"]})
    pairs = {pair.prompt.text: pair for pair in fresh_pairs(given, 3, "round-0", 0)}
    labels = [
        Comparison(pairs["p"], "b", "ann"),  # proxy 1 − 0, times the deviation 2
        Comparison(pairs["q"], "a", "ann"),
        Comparison(pairs["r"], "tie", "ann"),
    ]
    margins, keys = fresh_margins(labels, given, 2.0)
    assert margins == [2.0, -2.0]
    assert keys == [pairs["p"].prompt.key, pairs["q"].prompt.key]
    other = Comparison(fresh_pairs(rows({"p": ["u", "v"]}), 1, "round-0", 0)[0], "a", "ann")
    assert fresh_margins([other], given, 2.0) == ([], [])  # answers that nobody scored
