"""Any Python function as a scorer, its result checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from accord.records import BadInput, Prompt


class FunctionScorer:
    """Wraps ``f(prompts, responses) -> scores``; conversation in, texts in, one finite number each out."""

    def __init__(self, function: Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]) -> None:
        self.function = function

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """Scores of the function.

        Raises:
            BadInput: another number of scores than responses, or one that is not finite.
        """
        scores = [float(value) for value in self.function(prompts, responses)]
        if len(scores) != len(responses):
            raise BadInput(f"the reward function gave {len(scores)} scores for {len(responses)} responses")
        bad = [i for i, value in enumerate(scores) if not math.isfinite(value)]
        if bad:
            raise BadInput(
                f"the reward function gave {scores[bad[0]]} for response {bad[0]}: scores must be finite"
            )
        return scores
