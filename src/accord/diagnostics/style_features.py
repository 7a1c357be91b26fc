"""Style of an answer as numbers: what reward models are known to pay for whether or not it helps anybody.

Word lists are English. An answer in another language has rates near 0 there, and the finding then says
nothing about it; length, lists, repetition, emphasis, emoji and exclamation marks count in any language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from accord.diagnostics.length import repetition, words
from accord.diagnostics.statistics import FloatArray

FLATTERY = frozenset(
    words(
        "amazing brilliant excellent fantastic genius great impressive incredible insightful lovely"
        " magnificent perfect remarkable smart splendid superb talented terrific thoughtful wise"
        " wonderful"
    )
)
CERTAINTY = frozenset(
    words(
        "absolutely always certain certainly clearly completely definitely doubtless entirely"
        " guarantee guaranteed never obviously surely undoubtedly unquestionably"
    )
)
_LIST = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s")
_EMPHASIS = re.compile(r"\*\*|__|^\s*#{1,6}\s", re.MULTILINE)
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")


def _share(text: str, stock: frozenset[str]) -> float:
    found = words(text)
    return sum(word in stock for word in found) / len(found) if found else 0.0


def _rate(text: str, pattern: re.Pattern[str]) -> float:
    """Matches for each word; a text without words has none to speak of."""
    return len(pattern.findall(text)) / max(1, len(words(text)))


def _list_lines(text: str) -> float:
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(bool(_LIST.match(line)) for line in lines) / len(lines) if lines else 0.0


FEATURES: dict[str, tuple[str, Callable[[str], float]]] = {
    "length": ("words", lambda text: float(len(words(text)))),
    "lists": ("share of lines that are list items", _list_lines),
    "repetition": ("share of word 4-grams that repeat an earlier one", repetition),
    "flattery": ("share of words of praise", lambda text: _share(text, FLATTERY)),
    "certainty": ("share of words of certainty", lambda text: _share(text, CERTAINTY)),
    "exclamation": ("exclamation marks a word", lambda text: text.count("!") / max(1, len(words(text)))),
    "emphasis": ("bold marks and headings a word", lambda text: _rate(text, _EMPHASIS)),
    "emoji": ("emoji a word", lambda text: _rate(text, _EMOJI)),
}


def style_features(texts: Sequence[str]) -> FloatArray:
    """One row an answer, one column a feature, in the order of ``FEATURES`` -> [N, F]."""
    rows = [[measure(text) for _, measure in FEATURES.values()] for text in texts]
    return np.array(rows, dtype=np.float64).reshape(len(texts), len(FEATURES))
