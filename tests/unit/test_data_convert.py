"""Converting a file: to accord's own form and to other programs', whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.data_convert import convert
from accord.formats import read_comparisons, read_demonstrations, read_prompts
from accord.records import BadInput


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(prompt: str, a: str, b: str, **labels: str) -> dict[str, Any]:
    return {"prompt": prompt, "response_a": a, "response_b": b, "labels": labels}


def test_convert_writes_what_it_read(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "d.jsonl", row("one", "a b ", "c", ann="a", bob="tie"), row("x", "", "y", ann="a")
    )
    out = tmp_path / "out.jsonl.gz"
    with pytest.raises(BadInput, match="max_rejects=1"):
        convert(path, out)
    assert not out.exists()
    done = convert(path, out, max_rejects=1, rejects=tmp_path / "rejects.jsonl")
    again = read_comparisons(out)
    assert again.rows == read_comparisons(path, max_rejects=1).rows
    assert again.format == "accord"
    assert (done.records, done.rows, done.rejects, done.format) == (2, 2, 1, "annotators")
    assert json.loads((tmp_path / "rejects.jsonl").read_text())["reason"] == "response_a is empty"
    convert(path, out, kind="prompts")
    assert len(read_prompts(out).rows) == 2
    convert(lines(path, {"prompt": "q", "completion": "x"}), out)
    assert read_demonstrations(out).rows[0].response == "x"


def test_convert_to_another_programs_form(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "d.jsonl",
        row("q", "x", "y", ann="b", bob="tie"),
        row("q\n\nHuman: r", "x", "y", ann="a"),
        row("r", "", "y", ann="a"),
    )
    out, listed = tmp_path / "out.jsonl", tmp_path / "rejects.jsonl"
    done = convert(path, out, to="hh", max_rejects=2, rejects=listed)
    assert (
        out.read_text()
        == json.dumps({"chosen": "\n\nHuman: q\n\nAssistant: y", "rejected": "\n\nHuman: q\n\nAssistant: x"})
        + "\n"
    )
    assert (done.records, done.left_out, done.rejects) == (1, {"tie": 1}, 2)
    assert [json.loads(line)["line"] for line in listed.read_text().splitlines()] == [3, 3]  # both the third
    text = "\n".join(done.lines())
    for part in (
        "comparisons, format annotators",
        "1 comparisons written",
        "rows of format hh",
        "left out, because the format cannot say it: tie 1",
        "rows that cannot be used: 2",
    ):
        assert part in text
    with pytest.raises(BadInput, match="max_rejects=2"):
        convert(path, out, to="hh", max_rejects=1)
    with pytest.raises(BadInput, match="is a format of comparisons"):
        convert(path, out, to="hh", kind="prompts")
    with pytest.raises(BadInput, match="'tlr' is no format to write"):
        convert(path, out, to="tlr")


def test_convert_never_writes_over_its_own_input(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"prompt": "q"})
    with pytest.raises(BadInput, match="is the file to convert"):
        convert(path, tmp_path / "." / "d.jsonl")
    with pytest.raises(BadInput, match=r"must end in \.jsonl"):
        convert(path, tmp_path / "d.csv")
