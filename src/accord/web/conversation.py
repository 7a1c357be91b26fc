"""A conversation as turns on a page: who speaks, and the safe HTML of what is said; tool calls as code."""

from __future__ import annotations

import json
from typing import Any

from accord.records import Prompt
from accord.web.rendering import render


def turns(prompt: Any) -> list[dict[str, str]]:
    """``prompt`` as `Prompt.to_json` wrote it. Functions that the assistant could call come first."""
    found = Prompt.from_json(prompt)
    out = []
    if found.tools:
        names = [str((tool.get("function") or tool).get("name", "?")) for tool in found.tool_list or []]
        out.append({"role": "system", "html": render("Functions: " + ", ".join(names)).html})
    for message in found.messages:
        html = render(message.content).html if message.content else ""
        calls = json.loads(message.extra).get("tool_calls") if message.extra else None
        if calls:
            html += render("```\n" + json.dumps(calls, indent=1, ensure_ascii=False) + "\n```").html
        out.append({"role": message.role, "html": html})
    return out


def excerpt(prompt: Any, length: int = 140) -> str:
    """The beginning of the last turn, on one line."""
    text = " ".join(Prompt.from_json(prompt).text[:2000].split())
    return text if len(text) <= length else text[: length - 1] + "…"
