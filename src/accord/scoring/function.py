"""Any Python function as a scorer: called on batches, and each way in which it can fail has one outcome."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from accord.records import BadInput, Prompt

RewardFunction = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]


class FunctionScorer:
    """Wraps ``f(prompts, responses) -> scores``; conversations and texts in, one number each out.

    | the function… | by default | with ``skip_failures`` |
    |---|---|---|
    | gives NaN, infinity or None for a response | BadInput | its score is NaN |
    | raises | BadInput, caused by the error | the batch is tried one by one; who raises again is NaN |
    | gives another number of scores, or no numbers | BadInput | BadInput: it is not known whose they are |
    | does not come back in time | BadInput, and the scorer is closed | the same |

    A function that hangs cannot be stopped, only left behind (its thread ends with the process), so it is not
    called again. Give calls to services a time limit of their own inside the function.

    Args:
        function: pure in what it is given: it gets copies of the lists.
        batch_size: responses a call; None gives it all at once.
        timeout_seconds: for one call; None waits for ever, and calls in the caller's thread.
        skip_failures: NaN for responses that cannot be scored, counted in ``failed``, in place of stopping.
    """

    def __init__(
        self,
        function: RewardFunction,
        *,
        batch_size: int | None = None,
        timeout_seconds: float | None = None,
        skip_failures: bool = False,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise BadInput(f"batch_size is {batch_size}: give 1 or more, or none for all at once")
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise BadInput(
                f"timeout_seconds is {timeout_seconds}: give a time above 0, or none to wait for ever"
            )
        self.function = function
        self.batch_size = batch_size
        self.timeout_seconds = timeout_seconds
        self.skip_failures = skip_failures
        self.failed = 0
        self._closed = False

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        """Scores of the function, in order; finite, or NaN where ``skip_failures`` allows it.

        Raises:
            BadInput: see the table above; prompts and responses that differ in number.
        """
        if len(prompts) != len(responses):
            raise BadInput(
                f"there are {len(prompts)} prompts for {len(responses)} responses: give one for each"
            )
        size = self.batch_size or max(1, len(responses))
        scores: list[float] = []
        for start in range(0, len(responses), size):
            scores += self._batch(prompts[start : start + size], responses[start : start + size], start)
        self.failed += sum(math.isnan(score) for score in scores)
        return scores

    def _batch(self, prompts: Sequence[Prompt], responses: Sequence[str], start: int) -> list[float]:
        try:
            values = self._call(list(prompts), list(responses))
        except BadInput:
            raise
        except Exception as error:
            if not self.skip_failures:
                raise BadInput(
                    f"the reward function raised {type(error).__name__}: {error} (on responses {start} to"
                    f" {start + len(responses) - 1}): mend it, or allow failures with skip_failures"
                ) from error
            if len(responses) == 1:
                return [math.nan]
            pairs = enumerate(zip(prompts, responses, strict=True), start)
            return [score for i, (p, r) in pairs for score in self._batch([p], [r], i)]
        return self._checked(values, len(responses), start)

    def _checked(self, values: Any, count: int, start: int) -> list[float]:
        try:
            scores = [math.nan if value is None else float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise BadInput(f"the reward function must give a list of numbers, and gave: {error}") from error
        if len(scores) != count:
            raise BadInput(f"the reward function gave {len(scores)} scores for {count} responses")
        bad = [i for i, score in enumerate(scores) if not math.isfinite(score)]
        if bad and not self.skip_failures:
            raise BadInput(
                f"the reward function gave {scores[bad[0]]} for response {start + bad[0]}: scores must be"
                " finite, or allow failures with skip_failures"
            )
        return [score if math.isfinite(score) else math.nan for score in scores]

    def _call(self, prompts: list[Prompt], responses: list[str]) -> Any:
        if self._closed:
            raise BadInput(
                "the reward function did not come back from an earlier call and is not called again"
            )
        if self.timeout_seconds is None:
            return self.function(prompts, responses)
        outcome: list[Any] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(self.function(prompts, responses))
            except BaseException as error:  # handed over to the caller's thread, SystemExit included
                failure.append(error)

        # A daemon: the process does not wait for it. A pool's threads would keep it from ending.
        thread = threading.Thread(target=work, name="accord reward function", daemon=True)
        thread.start()
        thread.join(self.timeout_seconds)
        if thread.is_alive():
            self._closed = True
            raise BadInput(
                f"the reward function gave no scores for {len(responses)} responses within"
                f" {self.timeout_seconds:g} s: raise timeout_seconds, lower batch_size, or mend the function"
            )
        if failure:
            raise failure[0]
        return outcome[0]
