"""The seam between rewards and whoever gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from accord.records import Prompt


class Scorer(Protocol):
    """Higher is better; units are the scorer's own unless it says that it is normalised."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """One score for each response to the prompt at the same place."""
        ...
