"""Judges that are no people, on the pairs of a labelling store: a language model, or a Python function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accord.config import FunctionJudge, LlmJudge
from accord.judging import judge_from
from accord.judging.endpoint import Spending
from accord.judging.llm import OrderReport, order_report, tokens_of
from accord.labelling import open_store
from accord.records import BadInput
from accord.store import LabelStore
from accord.store.standing import chunks

PART = 20  # pairs between two words on how far it is


@dataclass(frozen=True)
class Judged:
    """How far a judge is on a store.

    Attributes:
        annotator: what its labels are signed with.
        pairs: those of the store that are to be judged; gold and practice items are not.
        judged: of them those that it has judged, in earlier calls too.
        orders: of a model: how its answers in the two orders compare. None for a function.
        tokens: (sent, received) in all, as far as the endpoint counts them.
        cost: of these tokens at the given prices; None where no price is known.
    """

    annotator: str
    pairs: int
    judged: int
    orders: OrderReport | None
    tokens: tuple[int, int]
    cost: float | None


def judge(
    target: str,
    config: LlmJudge | FunctionJudge,
    *,
    store: str | None = None,
    limit: int | None = None,
    tell: Callable[[Judged], None] = lambda _: None,
) -> Judged:
    """Let the judge say its word on every pair of ``target`` on which it has none yet.

    Labels are stored as they arrive and signed as no person's, so they fill no place of a person; a call that
    was stopped goes on where it was.

    Args:
        target, store: as in `labelling.open_store`.
        limit: pairs at most in this call.
        tell: hears at the start, at the end, also of a failure, and from time to time how far the judge is.

    Raises:
        BadInput: there is no pair, or as the judge's ``label``: what was judged until then is kept.
    """
    asked = judge_from(config, seed=0, run_folder=".")
    (annotator,) = asked.annotators
    with open_store(target, store=store) as opened:
        pairs = opened.pairs()
        if not pairs:
            raise BadInput(f"{target} holds no pair to judge: give a file of pairs, or a run that made some")
        waiting = opened.pending(pairs, by=lambda name: name == annotator)[:limit]
        total = len(opened.pending(pairs, by=lambda _: False))

        def far() -> Judged:
            return _far(opened, config, annotator, total)

        tell(far())
        try:
            for part in chunks(waiting, PART):
                asked.label(part, opened)
                if part[-1] is not waiting[-1]:
                    tell(far())
        finally:
            tell(found := far())
        return found


def _far(store: LabelStore, config: LlmJudge | FunctionJudge, annotator: str, total: int) -> Judged:
    said = [one for one in store.comparisons() if one.annotator == annotator]
    if isinstance(config, FunctionJudge):
        return Judged(annotator, total, len(said), None, (0, 0), None)
    tokens = [tokens_of(one) for one in said]
    spending = Spending(config)
    spending.add(tokens)
    sums = sum(sent for sent, _ in tokens), sum(received for _, received in tokens)
    cost = spending.spent if config.price_in or config.price_out else None
    return Judged(annotator, total, len(said), order_report(said), sums, cost)
