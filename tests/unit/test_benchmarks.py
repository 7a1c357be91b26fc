"""Benchmarks of reward models: files in the layouts of their authors, and tables worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from accord.diagnostics.benchmarks import SECTIONS, benchmark_table, correct_by_margin
from accord.formats import read_comparisons
from accord.formats_benchmarks import level_of, read_benchmark
from accord.records import BadInput, Comparison


def parquet(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# --- RewardBench -----------------------------------------------------------------------------------------


def rewardbench(subset: str, number: int) -> dict[str, Any]:
    """Columns of allenai/reward-bench."""
    return {
        "prompt": f"question {number}",
        "chosen": "good",
        "chosen_model": "m1",
        "rejected": "bad",
        "rejected_model": "m2",
        "subset": subset,
        "id": number,
    }


def test_rewardbench_from_a_hub_folder_takes_the_filtered_split(tmp_path: Path) -> None:
    parquet(tmp_path / "data/raw-00000-of-00001.parquet", [rewardbench("math-prm", 0)] * 3)
    parquet(tmp_path / "data/filtered-00000-of-00002.parquet", [rewardbench("math-prm", 1)])
    parquet(tmp_path / "data/filtered-00001-of-00002.parquet", [rewardbench("hep-go", 2)])
    found = read_benchmark(tmp_path)
    assert found.name == "rewardbench"
    assert [row.meta for row in found.rows] == [
        {"benchmark": "rewardbench", "subset": "math-prm", "item": "1"},
        {"benchmark": "rewardbench", "subset": "hep-go", "item": "2"},
    ]
    one = found.rows[0]
    assert (one.pair.a.text, one.pair.b.policy, one.verdict, one.prompt.text) == (
        "good",
        "m2",
        "a",
        "question 1",
    )


def test_rewardbench_table_by_hand(tmp_path: Path) -> None:
    rows = [rewardbench("alpacaeval-easy", n) for n in range(4)]
    rows += [rewardbench("mt-bench-easy", n) for n in range(4, 6)]
    rows += [rewardbench("math-prm", n) for n in range(6, 8)] + [rewardbench("hep-go", 8)]
    rows += [rewardbench("mine", 9)]
    found = read_benchmark(jsonl(tmp_path / "rb.jsonl", rows)).rows
    right = [1, 1, 1, 0, 0, 1, 1, 1, 0, 1]
    table = benchmark_table(found, right, samples=200)
    assert table.score("alpacaeval-easy") == 0.75
    assert table.score("mt-bench-easy") == 0.5
    chat = (0.75 * 100 + 0.5 * 28) / 128  # published counts, not those of the file
    reasoning = 984 / (984 + 164)
    assert table.score("Chat") == pytest.approx(chat)
    assert table.score("Reasoning") == pytest.approx(reasoning)
    assert table.score("overall") == pytest.approx((chat + reasoning) / 2)
    assert [line.name for line in table.lines] == [
        "alpacaeval-easy",
        "mt-bench-easy",
        "Chat",
        "math-prm",
        "hep-go",
        "Reasoning",
        "mine",
        "overall",
    ]
    assert "of no section, and not in the overall score: mine" in table.notes
    assert sum("no row of section" in note for note in table.notes) == 2
    line = table.lines[0]
    assert line.items == 4
    assert line.score.low < 0.75 < line.score.high
    # the authors' counts: 23 subsets, 330 + 456 + 740 + 1968
    assert [sum(counts.values()) for counts in SECTIONS.values()] == [358, 456, 740, 1968]


# --- RewardBench 2 ---------------------------------------------------------------------------------------


def rewardbench2(subset: str, item: str, right: int = 1, wrong: int = 3) -> dict[str, Any]:
    """Columns of allenai/reward-bench-2."""
    return {
        "id": item,
        "prompt": f"question {item}",
        "chosen": [f"good {i}" for i in range(right)],
        "rejected": [f"bad {j}" for j in range(wrong)],
        "num_correct": right,
        "num_incorrect": wrong,
        "total_completions": right + wrong,
        "models": ["m"] * (right + wrong),
        "subset": subset,
    }


def margins(rows: tuple[Comparison, ...], scores: dict[str, tuple[list[float], list[float]]]) -> list[float]:
    out = []
    for row in rows:
        right, wrong = scores[row.meta["item"]]
        out.append(right[row.meta["chosen"]] - wrong[row.meta["rejected"]])
    return out


def test_rewardbench2_items_count_once(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "data/test-00000-of-00001.parquet",
        [rewardbench2("Focus" if n == "4" else "Math", n) for n in "1234"],
    )
    found = read_benchmark(path.parent.parent)
    assert (found.name, len(found.rows)) == ("rewardbench2", 12)
    scores: dict[str, tuple[list[float], list[float]]] = {
        "1": ([2.0], [1.0, 0.0, -1.0]),  # right
        "2": ([2.0], [2.0, 2.0, 0.0]),  # three share the highest: a third
        "3": ([1.0], [0.0, 0.0, 2.0]),  # one wrong answer scores higher: nothing
        "4": ([1.0], [0.0, 0.0, 0.0]),
    }
    table = benchmark_table(found.rows, margin_N=margins(found.rows, scores), samples=200)
    assert table.score("Math") == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert table.score("Focus") == 1.0
    assert table.score("overall") == pytest.approx((4 / 9 + 1) / 2)
    assert {line.name: line.items for line in table.lines}["Math"] == 3
    # from verdicts: ½ is "equal"
    verdicts = [1, 1, 1, 0.5, 0.5, 1, 1, 1, 0, 1, 1, 1]
    assert benchmark_table(found.rows, verdicts, samples=200).score("Math") == pytest.approx(4 / 9)


def test_rewardbench2_ties_by_hand(tmp_path: Path) -> None:
    rows = [rewardbench2("Ties", "ref:0", 1, 2), rewardbench2("Ties", "tied:0", 2, 2)]
    rows += [rewardbench2("Ties", "ref:1", 1, 2), rewardbench2("Ties", "tied:1", 3, 2)]
    found = read_benchmark(jsonl(tmp_path / "rb2.jsonl", rows)).rows
    scores: dict[str, tuple[list[float], list[float]]] = {
        "ref:0": ([3.0], [0.0, 1.0]),  # right, by 2
        "tied:0": ([5.0, 4.0], [0.0, 2.0]),  # right: 4 − 2 = 2; spread 1
        "ref:1": ([1.0], [0.0, 2.0]),  # wrong, by 1
        "tied:1": ([4.0, 2.5, 3.0], [1.0, 2.0]),  # right: 2.5 − 2 = .5; spread 1.5
    }
    table = benchmark_table(found, margin_N=margins(found, scores), samples=200)
    # tied 2/2 right, ref 1/2; gap > spread: 2 > 1 yes, .5 > 1.5 no; least: 2 > 1 yes, −1 > 1.5 no
    expected = 0.3 * 1 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5
    expected += 0.01 * (math.tanh(2 / 1 - 1) + math.tanh(-1 / 1.5 - 1)) / 2
    assert table.score("Ties") == pytest.approx(expected)
    assert table.score("overall") == pytest.approx(expected)
    assert table.lines[0].score.low < expected < table.lines[0].score.high
    table = benchmark_table(found, [1] * len(found), samples=200)
    assert "Ties need scores" in table.notes[0]
    wrong = read_benchmark(jsonl(tmp_path / "x.jsonl", [rewardbench2("Ties", "7", 1, 1)])).rows
    with pytest.raises(BadInput, match="'7' of a Ties item must begin with ref: or tied:"):
        benchmark_table(wrong, margin_N=[1.0])


# --- RM-Bench --------------------------------------------------------------------------------------------


def rmbench(domain: str, number: int) -> dict[str, Any]:
    """Columns of THU-KEG/RM-Bench."""
    return {
        "id": f"{domain}/{number}",
        "prompt": f"question {number}",
        "chosen": ["c concise", "c detailed", "c markdown"],
        "rejected": ["r concise", "r detailed", "r markdown"],
        "domain": domain,
    }


def test_rmbench_levels_by_hand(tmp_path: Path) -> None:
    assert [level_of(i, j) for i in range(3) for j in range(3)] == [
        *("normal", "hard", "hard"),
        *("easy", "normal", "hard"),
        *("easy", "easy", "normal"),
    ]
    (tmp_path / "chat_filtered.json").write_text(json.dumps([rmbench("chat", 9)]))
    rows = [
        rmbench("chat", 0),
        rmbench("chat", 1),
        rmbench("safety-refuse", 2),
        rmbench("safety-response", 3),
    ]
    (tmp_path / "total_dataset.json").write_text(json.dumps(rows))
    found = read_benchmark(tmp_path)  # all domains are in the file called total
    assert (found.name, len(found.rows)) == ("rmbench", 36)
    assert found.rows[1].meta == {
        "benchmark": "rmbench",
        "subset": "chat",
        "item": "chat/0",
        "chosen": 0,
        "rejected": 1,
        "style": "concise",
        "rejected_style": "detailed",
        "level": "hard",
    }
    # A judge of style only: it prefers the fancier answer, and the chosen one among equals
    right = [{"easy": 1, "normal": 1, "hard": 0}[row.meta["level"]] for row in found.rows]
    right[1] = 1  # and once, by luck, a hard one: chat's hard is 1 of 6
    table = benchmark_table(found.rows, right, samples=200)
    assert (table.score("easy"), table.score("normal")) == (1.0, 1.0)
    assert table.score("hard") == pytest.approx((1 / 6 + 0) / 2)  # domains first: chat, safety
    assert table.score("chat") == pytest.approx((1 + 1 + 1 / 6) / 3)
    assert table.score("safety") == pytest.approx(2 / 3)
    assert table.score("overall") == pytest.approx((2 + 1 / 12) / 3)


def test_rmbench_with_messages_and_subsets(tmp_path: Path) -> None:
    row = rmbench("chat", 0) | {"prompt": [{"role": "user", "content": "Hi?"}], "subset": "math"}
    del row["domain"]
    found = read_benchmark(jsonl(tmp_path / "rm.jsonl", [row]))
    assert {one.meta["subset"] for one in found.rows} == {"math"}
    short = rmbench("chat", 1) | {"rejected": ["x"]}
    with pytest.raises(BadInput, match="line 2: RM-Bench has three chosen and three rejected"):
        read_benchmark(jsonl(tmp_path / "rm.jsonl", [row, short]))
    assert len(read_benchmark(tmp_path / "rm.jsonl", max_rejects=1).rejects) == 1


# --- LLMBar ----------------------------------------------------------------------------------------------


def test_llmbar_tree(tmp_path: Path) -> None:
    row = {"input": "Hi?", "output_1": "x", "output_2": "y"}
    for folder, labels in (("Natural", [1, 2]), ("Adversarial/Manual", [2]), ("Adversarial/GPTOut", [1, 1])):
        place = tmp_path / "LLMBar" / folder
        place.mkdir(parents=True)
        rows = [row | {"label": label, "input": f"{folder} {n}"} for n, label in enumerate(labels)]
        (place / "dataset.json").write_text(json.dumps(rows))
    found = read_benchmark(tmp_path)
    assert found.name == "llmbar"
    assert [(one.meta["item"], one.verdict) for one in found.rows] == [
        ("GPTOut:1", "a"),
        ("GPTOut:2", "a"),
        ("Manual:1", "b"),
        ("Natural:1", "a"),
        ("Natural:2", "b"),
    ]
    table = benchmark_table(found.rows, [1, 0, 1, 0, 0], samples=200)
    assert (table.score("GPTOut"), table.score("Manual"), table.score("Natural")) == (0.5, 1.0, 0.0)
    assert table.score("Adversarial") == 0.75
    assert table.score("mean of subsets") == 0.5


# --- files and faults ------------------------------------------------------------------------------------


def test_a_data_set_saved_to_disk(tmp_path: Path) -> None:
    """The layout of datasets.save_to_disk: a folder a split, Arrow streams named in state.json."""
    table = pa.Table.from_pylist([rewardbench("hep-go", 1), rewardbench("hep-go", 2)])
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        name = "data-00000-of-00001.arrow"
        with (
            pa.OSFile(str(tmp_path / split / name), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
        (tmp_path / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert len(read_benchmark(tmp_path).rows) == 2
    assert len(read_comparisons(tmp_path / "test" / "data-00000-of-00001.arrow").rows) == 2
    (tmp_path / "test" / "data-00000-of-00001.arrow").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="cannot be read as Arrow"):
        read_benchmark(tmp_path)


def test_what_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"columns \(prompt\) are those of no benchmark"):
        read_benchmark(jsonl(tmp_path / "x.jsonl", [{"prompt": "Hi?"}]))
    with pytest.raises(BadInput, match="it is not of llmbar's layout"):
        read_benchmark(jsonl(tmp_path / "y.jsonl", [rewardbench("hep-go", 1)]), "llmbar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no benchmark file"):
        read_benchmark(tmp_path / "empty")
    for split in ("raw", "other"):
        parquet(tmp_path / f"two/data/{split}-0-of-1.parquet", [rewardbench("hep-go", 1)])
    with pytest.raises(BadInput, match="has the splits other, raw"):
        read_benchmark(tmp_path / "two")
    bad = rewardbench2("Math", "1") | {"num_correct": 2}
    with pytest.raises(BadInput, match="num_correct is 2, but 1 answers are chosen"):
        read_benchmark(jsonl(tmp_path / "z.jsonl", [bad]))
    label = {"input": "Hi?", "output_1": "x", "output_2": "y", "label": 0}
    with pytest.raises(BadInput, match="label is '0'"):
        read_benchmark(jsonl(tmp_path / "l.jsonl", [label]))


def test_what_a_table_cannot_be_made_of(tmp_path: Path) -> None:
    rows = read_benchmark(jsonl(tmp_path / "rb.jsonl", [rewardbench("hep-go", 1)])).rows
    with pytest.raises(BadInput, match="give either correct or margin_N"):
        benchmark_table(rows)
    with pytest.raises(BadInput, match="give either correct or margin_N"):
        benchmark_table(rows, [1], margin_N=[1.0])
    with pytest.raises(BadInput, match="there are 1 rows: give one finite result for each, not 2"):
        benchmark_table(rows, [1, 0])
    with pytest.raises(BadInput, match="one finite result"):
        benchmark_table(rows, margin_N=[math.nan])
    with pytest.raises(BadInput, match="the rows are of nothing"):
        benchmark_table([], [])
    assert correct_by_margin([1.0, 0.0, -1.0]).tolist() == [1.0, 0.0, 0.0]
    assert benchmark_table(rows, margin_N=[0.0]).score("hep-go") == 0.0  # equal is wrong
