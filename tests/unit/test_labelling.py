"""Files in, labels out, waiting: labelling from Python and from the command line."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accord import cli, label_import, labelling
from accord.config import FileJudge, HumanJudge
from accord.judging import FunctionJudge, LabelFile, People
from accord.records import (
    BadInput,
    Comparison,
    Prompt,
    Ranking,
    Response,
    Span,
    WaitingForLabels,
    write_jsonl,
)
from accord.store import LabelStore, campaign, measuring, queue
from accord.store.people import ensure
from tests.stores import pair


@pytest.fixture
def accord(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
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
    path.write_text(write_jsonl(pair(n).to_json() for n in range(4)), encoding="utf-8")
    return path


def labels(path: Path, *rows: tuple[int, str, str]) -> Path:
    said = [Comparison(pair(n), verdict, who).to_json() for n, verdict, who in rows]  # type: ignore[arg-type]
    path.write_text(write_jsonl(said), encoding="utf-8")
    return path


def test_where_the_labels_of_a_target_are(tmp_path: Path, pairs_file: Path) -> None:
    assert labelling.location_of(pairs_file) == str(tmp_path / "pairs.labels.db")
    assert labelling.location_of("postgresql://h/d") == "postgresql://h/d"
    with pytest.raises(BadInput, match="no run"):
        labelling.location_of(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert labelling.location_of(tmp_path) == str(tmp_path / "labels.db")
    with pytest.raises(BadInput, match="nothing at"):
        labelling.location_of(tmp_path / "none.jsonl")


def test_a_file_of_pairs_and_of_rankings_comes_onto_the_queue_once(tmp_path: Path, pairs_file: Path) -> None:
    for _ in range(2):
        with labelling.open_store(pairs_file, overlap=2) as store:
            assert labelling.remaining(store) == 8
    rankings = tmp_path / "sets.jsonl"
    rows = [{"prompt": "q", "responses": ["x", "y", {"text": "z", "policy": "p"}]}]
    rankings.write_text(write_jsonl(rows))
    with labelling.open_store(rankings) as store:
        assert labelling.remaining(store) == 1
    chosen = tmp_path / "chosen.jsonl"
    chosen.write_text('{"prompt": "q", "chosen": "yes", "rejected": "no"}\n')
    with labelling.open_store(chosen) as store:  # any format of comparisons: its verdicts are not looked at
        assert labelling.remaining(store) == 1
        assert store.comparisons() == []
    pairs_file.write_text(pairs_file.read_text() + '{"prompt": "q", "a": 3, "b": "x"}\n')
    with pytest.raises(BadInput, match="line 5: not a pair"):
        labelling.open_store(pairs_file)


def test_a_run_that_waits_goes_on_when_people_have_judged(tmp_path: Path) -> None:
    judge = People(HumanJudge(labels_per_pair=2), tmp_path / "runs" / "x")
    with LabelStore(tmp_path / "labels.db") as store:
        with pytest.raises(
            WaitingForLabels, match=r"3 of 3 pairs have fewer than 2 labels.*accord label .*x`"
        ):
            judge.label([pair(n) for n in range(3)], store)
        assert labelling.remaining(store) == 6
        store.add([Comparison(pair(n), "a", who) for n in range(3) for who in ("ann", "bob")])
        judge.label([pair(n) for n in range(3)], store)
        assert labelling.remaining(store) == 0
    assert not judge.simulated


MACHINES = ("judge:gpt", "function:longer", "simulated:0")


def test_models_functions_and_simulations_fill_no_place_of_a_person(tmp_path: Path) -> None:
    asked = [pair(n) for n in range(3)]
    people = People(HumanJudge(labels_per_pair=2), tmp_path)
    written = LabelFile(FileJudge(path=str(tmp_path / "labels.jsonl")), tmp_path)
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs(asked, overlap=2)
        store.add([Comparison(one, "a", who) for one in asked for who in MACHINES])
        assert labelling.remaining(store) == 6
        with pytest.raises(WaitingForLabels, match="3 of 3 pairs have fewer than 2"):
            people.label(asked, store)
        with pytest.raises(WaitingForLabels, match="3 of 3 pairs have no label yet"):
            written.label(asked, store)
        # And the other way round: a person's word is not the model's.
        store.add([Comparison(one, "b", who) for one in asked for who in ("ann", "bob")])
        assert labelling.remaining(store) == 0
        people.label(asked, store)
        later = FunctionJudge(lambda pairs: ["tie"] * len(pairs), "later")
        later.label(asked, store)
        assert [one.annotator for one in store.comparisons()[-3:]] == list(later.annotators) * 3


def test_waiting_ends_when_the_last_label_is_there(tmp_path: Path, pairs_file: Path) -> None:
    labelling.open_store(pairs_file).close()
    assert not labelling.wait(pairs_file, seconds=0)
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(labelling.wait(pairs_file, every=0.05)))
    waiting.start()
    with LabelStore(labelling.location_of(pairs_file)) as store:
        store.add([Comparison(pair(n), "a", "ann") for n in range(4)])
    waiting.join(timeout=220)
    assert done == [True]


def test_gold_items_are_not_waited_for(pairs_file: Path) -> None:
    with labelling.open_store(pairs_file) as store:
        store.write(lambda c: measuring.set_gold(c, "op", pair(0).id, "gold", "a", "", 0.0))
        assert labelling.remaining(store) == 3


def test_to_dataset_makes_pairs_of_rankings(tmp_path: Path) -> None:
    location = str(tmp_path / "labels.db")
    with LabelStore(location) as store:
        store.add([Comparison(pair(0), "tie", "ann"), Comparison(pair(1), "a", "ann", criterion="safe")])
    assert [c.verdict for c in labelling.to_dataset(location)] == ["tie"]
    assert len(labelling.to_dataset(location, criterion=None)) == 2
    answers = tuple(Response(text) for text in "xyz")
    ranking = Ranking(Prompt.from_text("q"), answers, (2, 1, 2), "ann")
    assert [(c.pair.a.text, c.pair.b.text, c.verdict) for c in ranking.comparisons()] == [
        ("x", "y", "b"),
        ("x", "z", "tie"),
        ("y", "z", "a"),
    ]
    assert len({c.meta["ranking"] for c in ranking.comparisons()}) == 1


def test_import_is_whole_or_not_at_all_and_a_second_one_changes_nothing(
    accord: Any, tmp_path: Path, pairs_file: Path
) -> None:
    file = labels(tmp_path / "in.jsonl", (0, "a", "ann"), (1, "tie", "ann"), (0, "b", "bob"))
    code, out, _ = accord("label", "import", str(pairs_file), str(file))
    assert code == 0
    assert "3 comparisons, 3 of them new" in out
    assert "3 comparisons, 0 of them new" in accord("label", "import", str(pairs_file), str(file))[1]
    bad = tmp_path / "bad.jsonl"
    bad.write_text(labels(tmp_path / "more.jsonl", (2, "a", "ann")).read_text() + '{"prompt": "q"}\n')
    code, _, err = accord("label", "import", str(pairs_file), str(bad))
    assert code == 2
    assert "bad.jsonl, line 2" in err
    assert len(labelling.to_dataset(pairs_file)) == 3
    assert json.loads((tmp_path / "rejects.jsonl").read_text())["line"] == 2
    code, out, _ = accord("label", "import", str(pairs_file), str(bad), "--max-rejects", "1")
    assert (code, len(labelling.to_dataset(pairs_file))) == (0, 4)
    assert "1 rows cannot be used" in out


def test_gold_can_be_imported(accord: Any, tmp_path: Path, pairs_file: Path) -> None:
    file = tmp_path / "gold.jsonl"
    rows = [Comparison(pair(n), "b", "op", meta={"note": "because"}).to_json() for n in range(2)]
    file.write_text(write_jsonl(rows))
    code, out, _ = accord("label", "import", str(pairs_file), str(file), "--as", "practice")
    assert code == 0
    assert "2 of them new" in out
    with labelling.open_store(pairs_file) as store:
        assert labelling.remaining(store) == 2
        assert store.comparisons() == []
        row = store.write(
            lambda c: (
                ensure(c, [("a", "annotator")], 0.0),
                queue.next_items(c, "a", campaign.load(c), 0.0, 1),
            )[1]
        )
        assert row[0].purpose == "practice"
    assert accord("label", "import", str(pairs_file), str(file), "--as", "nonsense")[0] == 2


def test_status_agreement_and_export(accord: Any, tmp_path: Path, pairs_file: Path) -> None:
    labelling.open_store(pairs_file, overlap=2).close()
    said = [(n, "a", "ann") for n in range(4)] + [(0, "a", "bob"), (1, "b", "bob"), (2, "a", "bob")]
    accord("label", "import", str(pairs_file), str(labels(tmp_path / "in.jsonl", *said)))
    code, out, _ = accord("label", "status", str(pairs_file), "--json")
    assert code == 3  # not finished yet
    found = json.loads(out)
    assert (found["done"], found["total"]) == (7, 8)
    code, out, _ = accord("label", "agreement", str(pairs_file), "--json")
    found = json.loads(out)
    # Units aa, ab, aa. Observed disagreement 2/6; expected 2·5·1/(6·5) = 1/3. Alpha = 1 − 1 = 0.
    assert found["alpha"] == pytest.approx(0.0)
    assert found["shared"] == 3
    assert found["disagreements"][0]["said"] == [["ann", "a"], ["bob", "b"]]
    assert "Krippendorff" in accord("label", "agreement", str(pairs_file))[1]
    assert "7 of 8 judgements" in accord("label", "status", str(pairs_file))[1]
    target = tmp_path / "out.jsonl"
    assert accord("label", "export", str(pairs_file), str(target))[0] == 0
    assert len(target.read_text().splitlines()) == 7
    empty = tmp_path / "empty.db"
    LabelStore(empty).close()
    code, _, err = accord("label", "export", str(empty), str(target))
    assert code == 2
    assert "no judgement" in err


def test_an_export_comes_back_whole(accord: Any, tmp_path: Path) -> None:
    span = Span("a", 0, 3, "yes", "good", (0, 3))
    full = Comparison(
        pair(0), "a", "ann", 2.0, "people (labelling app)", {}, "", "ü < b\u2028", (span,), 1234, "1"
    )
    with LabelStore(tmp_path / "one.db") as store:
        store.add([full, Comparison(pair(1), "both_bad", "ann", criterion="safe")])
    target = tmp_path / "out.jsonl"
    assert accord("label", "export", str(tmp_path / "one.db"), str(target))[0] == 0
    assert accord("label", "import", str(tmp_path / "two.db"), str(target))[0] == 0
    assert labelling.to_dataset(tmp_path / "two.db", criterion=None)[0] == full
    assert labelling.to_dataset(tmp_path / "two.db") == [full]


@pytest.mark.parametrize("command", ["", "serve", "judge", "import", "export", "agreement", "status"])
def test_help_shows_an_example(accord: Any, command: str) -> None:
    code, out, _ = accord("label", *command.split(), "--help")
    assert code == 0
    assert f"Example: accord label {command if command != 'serve' else ''}".strip() in " ".join(out.split())


def test_a_server_for_others_needs_accounts(pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nobody has an account"):
        labelling.serve(pairs_file, host="0.0.0.0")
    with pytest.raises(BadInput, match="nobody has an account"):
        labelling.serve(pairs_file, public_url="https://label.example.org")
    with labelling.serve(pairs_file, host="0.0.0.0", annotators=["ann"]) as server:
        assert [name for name, _ in server.address.links][1:] == ["ann"]
    with labelling.serve(pairs_file, host="0.0.0.0") as server:  # the accounts are known now
        assert server.address.links
    with pytest.raises(BadInput, match="cannot listen"), labelling.serve(pairs_file, host="203.0.113.7"):
        pass


def test_serving_from_the_command_line_prints_links_and_stops(pairs_file: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ann\nbob, admin\n")
    command = [
        sys.executable,
        "-m",
        "accord.cli",
        "label",
        str(pairs_file),
        "--port",
        "0",
        "--annotators",
        str(names),
    ]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert "4 judgements to be made" in lines[0]
    assert "ann  http://127.0.0.1:" in lines[2]
    assert "/enter#" in lines[3]
    assert "stopped; 4 judgements are still missing" in rest
    assert process.returncode == 0


def test_the_app_imports_no_torch() -> None:
    code = (
        "import sys, accord.web.server, accord.labelling, accord.cli_label; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_import_keeps_its_memory_small(tmp_path: Path) -> None:
    """A tenth of the promise (100,000 rows below 500 MB, benchmarks/labelling/import_.py): 10,000 rows."""
    file = tmp_path / "many.jsonl"
    with file.open("w") as out:
        for n in range(10_000):
            row = {
                "prompt": f"q {n} " + "x" * 300,
                "a": "a" * 300,
                "b": "b" * 300,
                "verdict": "a",
                "annotator": "ann",
            }
            out.write(json.dumps(row) + "\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with LabelStore(tmp_path / "labels.db") as store:
        found = label_import.import_file(store, file)
        assert (found.rows, found.new) == (10_000, 10_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
