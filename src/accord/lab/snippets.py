"""The very lines that compute what a picture shows, read from the running source so that they cannot go stale."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Snippet:
    """A function without its docstring; ``lines`` are (text, whether it is the one to look at)."""

    file: str
    first_line: int
    lines: tuple[tuple[str, bool], ...]


def snippet(function: Callable[..., Any], *marked: str) -> Snippet:
    """The source of a function with the lines marked that contain one of ``marked``.

    Raises:
        ValueError: one of ``marked`` is no longer in the source: whoever changed the code must look at the page's text.
    """
    lines, first = inspect.getsourcelines(function)
    text = textwrap.dedent("".join(lines))
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    kept = text.splitlines()
    if ast.get_docstring(node) is not None:
        end = node.body[0].end_lineno or 0
        kept[node.body[0].lineno - 1 : end] = []
    while kept and kept[0].startswith("@"):  # a decorator says nothing about the figure
        kept.pop(0)
    for fragment in marked:
        if not any(fragment in line for line in kept):
            raise ValueError(f"{function.__qualname__} no longer holds {fragment!r}: mend the page's snippets")
    shown = tuple((line, any(fragment in line for fragment in marked)) for line in kept)
    return Snippet(function.__module__.replace(".", "/") + ".py", first, shown)
