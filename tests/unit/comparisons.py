"""Short ways to write comparisons in tests."""

from __future__ import annotations

from accord.records import Comparison, Pair, Prompt, Response, Verdict


def compared(
    prompt: str, a: str, b: str, verdict: Verdict = "a", annotator: str = "", **more: object
) -> Comparison:
    pair = Pair(Prompt.from_text(prompt), Response(a), Response(b))
    return Comparison(pair, verdict, annotator, **more)  # type: ignore[arg-type]
