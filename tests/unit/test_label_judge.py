"""`accord label judge`: a model and a function beside the people, from the command line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from accord import cli, labelling
from accord.judging.fake_endpoint import FakeEndpoint
from accord.records import Comparison, write_jsonl
from accord.store import LabelStore, measuring
from tests.stores import pair

Call = Callable[..., tuple[int, str, str]]
LONG = {"a": "yes and more", "b": "no"}  # the longer answer is a


@pytest.fixture
def accord(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["accord", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text(write_jsonl(pair(n, **LONG).to_json() for n in range(5)), encoding="utf-8")
    return path


def model(url: str, *more: str) -> list[str]:
    return ["--model", "wise-1", "--url", url, "--key-variable", "", "--concurrency", "1", *more]


def test_a_model_judges_beside_people_in_both_orders_and_says_what_it_cost(
    accord: Call, pairs_file: Path, tmp_path: Path
) -> None:
    with labelling.open_store(pairs_file) as store:
        store.add([Comparison(pair(0, **LONG), "b", "ann"), Comparison(pair(1, **LONG), "a", "ann")])
        store.write(lambda c: measuring.set_gold(c, "op", pair(4, **LONG).id, "gold", "a", "", 0.0))
    (tmp_path / "guide.txt").write_text("Short beats long.")
    prices = ("--price-in", "2", "--price-out", "30", "--guidelines", str(tmp_path / "guide.txt"))
    with FakeEndpoint() as fake:  # prefers the longer answer; 100 tokens in and 10 out a reply
        code, out, err = accord("label", "judge", str(pairs_file), *model(fake.url, *prices))
        assert (code, err) == (0, "")
        assert len(fake.requests) == 8  # 4 pairs, both orders; the gold item is not asked
        assert all("Short beats long." in one["messages"][0]["content"] for one in fake.requests)
        again = accord("label", "judge", str(pairs_file), *model(fake.url, *prices))
        assert len(fake.requests) == 8
    assert out.splitlines()[0] == "judge:wise-1: 0 of 4 pairs judged, cost 0"
    # 8 replies: 800 tokens at 2 and 80 at 30 a million.
    assert out.splitlines()[1:] == [
        "judge:wise-1: 4 of 4 pairs judged, cost 0.004",
        "the same answer in both orders for 100% of 4 pairs; where it chose one, 50% of the time the answer "
        "that it read first",
        "800 tokens sent, 80 received",
    ]
    assert again[1].splitlines()[-3:] == out.splitlines()[-3:]
    with labelling.open_store(pairs_file) as store:
        assert labelling.remaining(store) == 2  # two pairs have no person's word yet
    code, out, _ = accord("label", "status", str(pairs_file), "--json")
    found = json.loads(out)
    assert (code, found["done"], found["total"], found["labels"]) == (3, 2, 4, 2)  # the gold item is none
    (row,) = found["judges"]
    assert (row["name"], row["labels"], row["agree"], row["compared"]) == ("judge:wise-1", 4, 1, 2)
    shown = accord("label", "status", str(pairs_file))[1]
    assert re.search(r"judge:wise-1 │ +4 │ +1/2 │", shown)
    assert "most people and judge:wise-1" in accord("label", "agreement", str(pairs_file))[1]
    with labelling.open_store(pairs_file) as store:
        store.add([Comparison(pair(n, **LONG), "a", "ann") for n in (2, 3)])
    target = tmp_path / "out.jsonl"
    out = accord("label", "export", str(pairs_file), str(target))[1]
    assert "8 comparisons (4 of them by people) written" in out
    out = accord("label", "export", str(pairs_file), str(target), "--people-only")[1]
    assert "4 comparisons written" in out
    assert {json.loads(line)["annotator"] for line in target.read_text().splitlines()} == {"ann"}
    assert accord("label", "status", str(pairs_file))[0] == 0  # all is judged: gold is not waited for


def test_orders_that_disagree_make_a_tie_and_the_command_says_so(accord: Call, pairs_file: Path) -> None:
    with FakeEndpoint(judge=lambda first, second: "[[1]]") as fake:
        out = accord("label", "judge", str(pairs_file), *model(fake.url, "--limit", "2"))[1]
    assert "the same answer in both orders for 0% of 2 pairs; where it chose one, 100% of the time" in out
    assert {one.verdict for one in labelling.to_dataset(pairs_file)} == {"tie"}
    assert "cost" not in out  # no price is known


def test_a_budget_stops_the_judge_and_the_next_call_goes_on(accord: Call, pairs_file: Path) -> None:
    prices = ("--price-in", "1000", "--budget", "0.45")  # a pair sends 200 tokens: 0.2
    with FakeEndpoint() as fake:
        code, out, err = accord("label", "judge", str(pairs_file), *model(fake.url, *prices))
        assert code == 2
        assert "has spent 0.4 of its budget of 0.45, and 3 pairs have no label yet" in err
        assert "judge:wise-1: 2 of 5 pairs judged, cost 0.4" in out
        assert len(fake.requests) == 4
        prices = ("--price-in", "1000", "--budget", "5")
        code, out, _ = accord("label", "judge", str(pairs_file), *model(fake.url, *prices))
        assert (code, len(fake.requests)) == (0, 10)
    assert "judge:wise-1: 5 of 5 pairs judged, cost 1" in out


def test_a_function_judges_too(accord: Call, pairs_file: Path, tmp_path: Path) -> None:
    (tmp_path / "shorter.py").write_text(
        "def shorter(pairs):\n    return ['a' if len(p.a.text) < len(p.b.text) else 'b' for p in pairs]\n"
    )
    place = f"{tmp_path}/shorter.py:shorter"
    code, out, _ = accord("label", "judge", str(pairs_file), "--function", place)
    assert code == 0
    assert out.splitlines()[-1] == "function:shorter: 5 of 5 pairs judged"
    with LabelStore(labelling.location_of(pairs_file)) as store:
        assert {(one.annotator, one.verdict) for one in store.comparisons()} == {("function:shorter", "b")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nobody is to judge"),
        (("--model", "m", "--function", "f.py:g"), "or two are"),
        (("--model", "m"), "--model m has no endpoint: give --url"),
        (("--model", "m", "--url", "localhost:8000"), "url"),
        (("--model", "m", "--url", "http://h/v1", "--key-variable", "ACCORD_NO_SUCH_KEY"), "--key-variable"),
        (("--model", "m", "--url", "http://h/v1", "--budget", "1"), "give prices"),
        (("--model", "m", "--url", "http://h/v1", "--guidelines", "nowhere.txt"), "guidelines nowhere.txt"),
        (("--function", "nowhere.py:f"), "cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    accord: Call, pairs_file: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, _, err = accord("label", "judge", str(pairs_file), *arguments)
    assert code == 2
    assert sentence in err


def test_a_store_without_pairs_is_refused(accord: Call, tmp_path: Path) -> None:
    LabelStore(tmp_path / "empty.db").close()
    code, _, err = accord("label", "judge", str(tmp_path / "empty.db"), *model("http://h/v1"))
    assert (code, "holds no pair to judge" in err) == (2, True)
