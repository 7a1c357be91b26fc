"""Benchmarks of reward models as they are published: RewardBench, RewardBench 2, RM-Bench, LLMBar.

Each row becomes comparisons whose ``meta`` says the benchmark, subset and item, and which of several answers
are compared; `diagnostics.benchmarks` makes the usual tables of them. Read are the files that the authors
publish (JSON, JSON Lines, Parquet), a folder as the hub has it (``data/SPLIT-00000-of-00001.parquet``), one
that ``datasets`` saved, and LLMBar's tree of ``dataset.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accord.formats_comparison import Columns, Reject, pair_of
from accord.formats_files import open_rows
from accord.formats_messages import BadRow, prompt_of, response_of, text_of
from accord.formats_write import RejectLog
from accord.records import BadInput, Comparison, Response, Verdict

Name = Literal["rewardbench", "rewardbench2", "rmbench", "llmbar"]
STYLES = ("concise", "detailed", "markdown")  # RM-Bench's order of the three answers of each kind
PREFERRED_SPLITS = ("filtered", "test")  # RewardBench's own evaluation set; RewardBench 2's only one


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that was read: its comparisons, in the order of the files, and unusable rows."""

    name: Name
    rows: tuple[Comparison, ...]
    rejects: tuple[Reject, ...]
    path: str


def level_of(chosen_style: int, rejected_style: int) -> str:
    """RM-Bench: hard where the rejected answer has the fancier style, easy where the chosen one has."""
    return "hard" if chosen_style < rejected_style else "easy" if chosen_style > rejected_style else "normal"


def _rewardbench(row: Columns, place: str) -> list[Comparison]:
    prompt = prompt_of(row["prompt"])
    sides = (
        Response(response_of(row[side], side), policy=str(row.get(f"{side}_model") or ""))
        for side in ("chosen", "rejected")
    )
    meta = {"benchmark": "rewardbench", "subset": text_of(row["subset"], "subset"), "item": _id(row, place)}
    return [Comparison(pair_of(prompt, *sides), "a", source="rewardbench", meta=meta)]


def _many(
    row: Columns,
    name: Name,
    meta: dict[str, Any],
    more: Callable[[int, int], dict[str, Any]] = lambda i, j: {},
) -> list[Comparison]:
    """Every chosen answer against every rejected one; ``more`` is added to the meta of the two."""
    prompt = prompt_of(row["prompt"])
    chosen, rejected = (
        [Response(response_of(text, f"{side}[{i}]")) for i, text in enumerate(row[side])]
        for side in ("chosen", "rejected")
    )
    if not chosen or not rejected:
        raise BadRow("there must be a chosen and a rejected answer")
    return [
        Comparison(
            pair_of(prompt, a, b), "a", source=name, meta=meta | {"chosen": i, "rejected": j} | more(i, j)
        )
        for i, a in enumerate(chosen)
        for j, b in enumerate(rejected)
    ]


def _rewardbench2(row: Columns, place: str) -> list[Comparison]:
    meta = {"benchmark": "rewardbench2", "subset": text_of(row["subset"], "subset"), "item": _id(row, place)}
    if row.get("num_correct") not in (None, len(row["chosen"])):
        raise BadRow(f"num_correct is {row['num_correct']}, but {len(row['chosen'])} answers are chosen")
    return _many(row, "rewardbench2", meta)


def _rmbench(row: Columns, place: str) -> list[Comparison]:
    if len(row["chosen"]) != len(STYLES) or len(row["rejected"]) != len(STYLES):
        raise BadRow("RM-Bench has three chosen and three rejected answers: concise, detailed, markdown")
    subset = text_of(row.get("domain") or row.get("subset"), "domain")
    meta = {"benchmark": "rmbench", "subset": subset, "item": _id(row, place)}

    def styles(i: int, j: int) -> dict[str, Any]:
        return {"style": STYLES[i], "rejected_style": STYLES[j], "level": level_of(i, j)}

    return _many(row, "rmbench", meta, styles)


def _llmbar(row: Columns, place: str) -> list[Comparison]:
    if row["label"] not in (1, 2):
        raise BadRow(f"label is {str(row['label'])[:20]!r}: it must be 1 or 2")
    sides = (Response(response_of(row[f"output_{i}"], f"output_{i}")) for i in (1, 2))
    verdict: Verdict = "a" if row["label"] == 1 else "b"
    subset = place.rsplit(":", 1)[0]
    meta = {"benchmark": "llmbar", "subset": subset, "item": place}
    pair = pair_of(prompt_of(row["input"], "input"), *sides)
    return [Comparison(pair, verdict, source="llmbar", meta=meta)]


def _id(row: Columns, place: str) -> str:
    return str(row["id"]) if row.get("id") is not None else place


def _texts(row: Columns, listed: bool) -> bool:
    return all(isinstance(row.get(side), list) == listed for side in ("chosen", "rejected"))


LAYOUTS: dict[Name, tuple[tuple[str, ...], Callable[[Columns], bool], Callable[..., list[Comparison]]]] = {
    "rmbench": (
        ("prompt", "chosen", "rejected"),
        lambda row: _texts(row, True) and "num_correct" not in row and len(row["chosen"]) == len(STYLES),
        _rmbench,
    ),
    "rewardbench2": (
        ("prompt", "chosen", "rejected", "subset"),
        lambda row: _texts(row, True),
        _rewardbench2,
    ),
    "rewardbench": (
        ("prompt", "chosen", "rejected", "subset"),
        lambda row: _texts(row, False),
        _rewardbench,
    ),
    "llmbar": (("input", "output_1", "output_2", "label"), lambda row: True, _llmbar),
}


def read_benchmark(
    path: str | Path,
    name: Name | None = None,
    *,
    max_rejects: int = 0,
    rejects: str | Path | None = None,
) -> Benchmark:
    """Read a benchmark from a file, a folder, or a hub data set (``owner/name:split``).

    Args:
        name: which one it is; found from the first row's columns where not given.
        max_rejects, rejects: as in `formats.read_comparisons`.

    Raises:
        BadInput: no such file, rows of no benchmark's layout, or too many unusable rows.
    """
    found: list[Comparison] = []
    refused: list[Reject] = []
    with RejectLog(rejects) as log:
        for file, subset in _files(path):
            source = open_rows(file)
            for row in source.rows:
                try:
                    if row.value is None:
                        raise BadRow(row.fault)
                    name = name or _layout(row.value, source.path)
                    columns, fits, read = LAYOUTS[name]
                    if not all(column in row.value for column in columns) or not fits(row.value):
                        raise BadRow(f"it is not of {name}'s layout ({', '.join(columns)})")
                    found += read(row.value, f"{subset}:{row.line}")
                except BadRow as error:
                    reject = Reject(row.line, str(error), row.value)
                    log.add(source.path, source.unit, reject)
                    refused.append(Reject(row.line, str(error)))
    log.refuse(max_rejects, bool(found))
    if not found or name is None:
        raise BadInput(f"{path} holds no row: it must hold at least one")
    return Benchmark(name, tuple(found), tuple(refused), str(path))


def _layout(row: Columns, path: str) -> Name:
    for name, (columns, fits, _) in LAYOUTS.items():
        if all(column in row for column in columns) and fits(row):
            return name
    seen = ", ".join(sorted(map(str, row))[:12])
    raise BadInput(
        f"{path}: the columns ({seen}) are those of no benchmark that accord reads "
        f"({', '.join(LAYOUTS)}): give the file that its authors publish"
    )


def _files(path: str | Path) -> list[tuple[str, str]]:
    """(file, subset) of everything to read; the subset is LLMBar's folder, else the file's name."""
    folder = Path(path)
    if not folder.is_dir():
        return [(str(path), _subset(folder))]
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        return _files(folder / _split(splits, folder))
    if (folder / "state.json").is_file():
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return [(str(folder / one["filename"]), folder.name) for one in state["_data_files"]]
    trees = sorted(folder.rglob("dataset.json"))
    if trees:
        return [(str(file), _subset(file)) for file in trees]
    tables = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    if tables:
        split = _split(sorted({file.name.split("-")[0] for file in tables}), folder)
        return [(str(file), split) for file in tables if file.name.split("-")[0] == split]
    files = sorted([*folder.glob("*.json"), *folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])
    whole = [file for file in files if file.name.startswith("total")]  # RM-Bench: all domains in one
    if not files:
        raise BadInput(f"{folder} holds no benchmark file (JSON, JSON Lines, Parquet): name the file itself")
    return [(str(file), _subset(file)) for file in whole or files]


def _subset(file: Path) -> str:
    return file.parent.name if file.name == "dataset.json" else file.name.split(".")[0]


def _split(names: list[str], folder: Path) -> str:
    chosen = next((name for name in PREFERRED_SPLITS if name in names), None)
    if chosen is None and len(names) == 1:
        chosen = names[0]
    if chosen is None:
        raise BadInput(f"{folder} has the splits {', '.join(names)}: name the file or folder of one")
    return chosen
