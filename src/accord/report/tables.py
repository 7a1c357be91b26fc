"""Everything on a page as one table: one figure a row, unrounded, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from accord.report.artefacts import Artefacts, Round, clean, interval, mapping, mappings, number, numbers
from accord.report.charts import Chart

COLUMNS = (
    "part", "round", "table", "series", "x", "x_to", "value", "low", "high", "n", "unit", "verdict", "text",
)  # fmt: skip
SAMPLE_COLUMNS = (
    "round", "key", "prompt", "side", "text", "proxy", "gold", "tokens", "finished",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet runs as a formula
Row = dict[str, Any]


def text_cell(value: object) -> str:
    """Text that a spreadsheet shows and does not run: a leading sign that starts a formula gets an
    apostrophe.

    Answers come from models and strangers; a cell that begins with ``=`` would be executed when opened.
    """
    text = clean(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def written(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV with a header (RFC 4180, lines end in a line feed); numbers in full, None and NaN as empty
    cells.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return value if number(value) is not None else ""
    return text_cell(value)


def chart_rows(part: str, charts: Iterable[Chart], round: int | None = None) -> Iterator[Row]:
    """The figures of charts; ``part`` is the panel that they stand in."""
    for chart in charts:
        for one in chart.data:
            row: Row = {"part": part, "round": round, "table": chart.title, "unit": chart.y_label}
            row |= one._asdict()
            row["text"] = f"x is {chart.x_label}" if chart.x_label and one.x is not None else None
            yield row


def finding_rows(findings: Iterable[Mapping[str, Any]], round: int | None = None) -> Iterator[Row]:
    """One row a finding, and one for each number and interval of its evidence."""
    for finding in findings:
        low, high = interval(finding.get("interval")) or (None, None)
        name = clean(finding.get("name"))
        yield {
            "part": "finding", "round": round, "table": name, "series": "figure",
            "value": number(finding.get("figure")), "low": low, "high": high, "unit": finding.get("unit"),
            "verdict": finding.get("verdict"), "text": finding.get("sentence"),
        }  # fmt: skip
        evidence = mapping(finding.get("evidence"))
        for key, value in evidence.items():
            if number(value) is not None:
                low, high = interval(evidence.get(f"{key}_interval")) or (None, None)
                yield {
                    "part": "evidence", "round": round, "table": name, "series": key, "value": value,
                    "low": low, "high": high,
                }  # fmt: skip
            yield from _evidence_list(name, key, value, round)
            for inner, figure in mapping(value).items():
                if number(figure) is not None:
                    low, high = interval(mapping(value).get(f"{inner}_interval")) or (None, None)
                    yield {
                        "part": "evidence", "round": round, "table": f"{name}: {key}", "series": inner,
                        "value": figure, "low": low, "high": high,
                    }  # fmt: skip


def _evidence_list(name: str, key: str, value: object, round: int | None) -> Iterator[Row]:
    """Numbers in lists, and in lists of objects (length buckets, features, probes); the place is the x."""
    if not key.endswith("interval"):
        for place, figure in enumerate(numbers(value)):
            yield {
                "part": "evidence", "round": round, "table": name, "series": key, "x": place, "value": figure,
            }  # fmt: skip
    for place, entry in enumerate(mappings(value)):
        label = clean(entry.get("name") or entry.get("text") or "")
        for column, figure in entry.items():
            if number(figure) is not None:
                low, high = interval(entry.get(f"{column}_interval")) or (None, None)
                yield {
                    "part": "evidence", "round": round, "table": f"{name}: {key}", "series": column,
                    "x": place, "value": figure, "low": low, "high": high, "text": label or None,
                }  # fmt: skip


def sample_rows(rounds: Iterable[Round]) -> Iterator[Row]:
    """Every held-out sample of both sides, two rows a pair."""
    for one in rounds:
        for sample in one.samples:
            prompt = "\n".join(f"{turn['role']}: {turn['content']}" for turn in sample["prompt"])
            for side in ("sft", "policy"):
                answer = mapping(sample.get(side))
                yield {
                    "round": one.index, "key": sample["key"], "prompt": prompt, "side": side,
                    **{name: answer.get(name) for name in ("text", "proxy", "gold", "tokens", "finished")},
                }  # fmt: skip


def training_rows(run: Artefacts) -> Iterator[Row]:
    """Every figure of every training step, as metrics.jsonl has it."""
    for row in run.metrics:
        for name, value in row.items():
            if name not in ("stage", "round", "step", "time") and number(value) is not None:
                yield {
                    "part": f"training: {clean(row.get('stage'))}", "round": number(row.get("round")),
                    "table": name, "x": number(row.get("step")), "value": value,
                }  # fmt: skip
