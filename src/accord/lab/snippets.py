"""The very lines that compute a picture, read from the running source so that they cannot go stale."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEFT_OUT = "⋯"
AROUND = 1  # lines kept before and after a marked one


@dataclass(frozen=True, slots=True)
class Snippet:
    """Part of a function: (text, whether to look at it) and the number of the first line to look at."""

    file: str
    line: int
    lines: tuple[tuple[str, bool], ...]


def snippet(function: Callable[..., Any], *marked: str) -> Snippet:
    """A function's head and its lines that hold one of ``marked``, with neighbours, without docstring.

    Raises:
        ValueError: one of ``marked`` is no longer in the source: the page's text wants looking at.
    """
    source, first = inspect.getsourcelines(function)
    text = textwrap.dedent("".join(source))
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    documented = ast.get_docstring(node) is not None
    body = node.body[1:] if documented else node.body
    start = body[0].lineno - 1  # of the body; the head is what stands before the docstring
    head_end = node.body[0].lineno - 1
    lines = text.splitlines()
    chosen = {i for i in range(start, len(lines)) if any(fragment in lines[i] for fragment in marked)}
    for fragment in marked:
        if not any(fragment in lines[i] for i in chosen):
            raise ValueError(
                f"{function.__qualname__} no longer holds {fragment!r}: mend the page's snippets"
            )
    near = {j for i in chosen for j in range(i - AROUND, i + AROUND + 1) if start <= j < len(lines)}
    shown: list[tuple[str, bool]] = [(line, False) for line in lines[node.lineno - 1 : head_end]]
    before = start - 1
    for i in sorted(near):
        if i > before + 1:
            indent = " " * (len(lines[i]) - len(lines[i].lstrip()))
            shown.append((indent + LEFT_OUT, False))
        shown.append((lines[i], i in chosen))
        before = i
    if before < len(lines) - 1:
        shown.append(("    " + LEFT_OUT, False))
    return Snippet(function.__module__.replace(".", "/") + ".py", first + min(chosen), tuple(shown))
