"""A reward-model card as Markdown: tables and sentences, no pictures, readable as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from accord.report.reward_card_words import CardPanel, Table, signed

MARKS = {"good": "✓", "warn": "!", "bad": "✕"}
EXAMPLES_EACH = 1


def cell(text: str) -> str:
    """Text that stays within its cell: no pipe, no line break, no markup of its own."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(text.split()))


def _table(table: Table) -> list[str]:
    lines = [f"### {cell(table.title)}", ""] if table.title else []
    lines.append("| " + " | ".join(cell(column) for column in table.columns) + " |")
    lines.append("|" + "---|" * len(table.columns))
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in table.rows]
    return [*lines, ""]


def fenced(text: str) -> list[str]:
    """A block whose fence is longer than any run of backticks within it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + "text", text, fence, ""]


def _examples(card: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for row in card.get("probes") or []:
        for one in row["examples"][:EXAMPLES_EACH]:
            lines += [
                f"**{cell(row['what'])}**: {signed(one['change'])} deviations. Prompt, answer, edited:",
                "",
            ]
            for text in (one["prompt"], one["before"], one["after"] or "(no answer at all)"):
                lines += fenced(text)
    return ["### The largest rises", "", *lines] if lines else []


def markdown(
    card: Mapping[str, Any],
    panels: Sequence[CardPanel],
    answers: Sequence[Mapping[str, str]],
    thresholds: Table,
    origin: Sequence[tuple[str, str]],
) -> str:
    """The whole card."""
    gate = card["gate"]
    lines = [
        f"# {cell(card['name'])}: reward-model card",
        "",
        f"Labels from {cell(card['data']['label_source'])}.",
        "",
    ]
    lines += [f"**Can a policy be optimised against it? {gate['decision'].capitalize()}.**", ""]
    lines += [f"- {MARKS[r['level']]} {cell(r['name'])}: {cell(r['sentence'])}" for r in gate["reasons"]]
    lines += [
        "",
        *(f"- {cell(a['question'])} **{cell(a['word'])}** {cell(a['sentence'])}" for a in answers),
        "",
    ]
    for panel in panels:
        lines += [f"## {cell(panel.title)}", "", cell(panel.sentence), ""]
        if panel.figures:
            lines += _table(Table("", ("figure", "value", "meaning"), tuple(panel.figures)))
        for chart in panel.charts:
            if not panel.tables:
                lines += _table(Table(chart.title, chart.columns, chart.rows))
        for table in panel.tables:
            lines += _table(table)
        if panel.anchor == "probes":
            lines += _examples(card)
        if panel.note:
            lines += [cell(panel.note), ""]
    lines += ["## Origin", ""]
    lines += _table(Table("", ("", "value"), tuple(origin)))
    lines += _table(Table("Thresholds of the verdict", thresholds.columns, thresholds.rows))
    return "\n".join(lines).rstrip() + "\n"
