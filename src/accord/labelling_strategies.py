"""What to label next: pairs of answers chosen by what an ensemble of reward models does not know yet.

Pure functions: member scores of the candidates in, choices out. A share of the budget is kept for random
pairs on prompts of their own, so that there is an unbiased test set: pairs that were chosen because they are
hard say nothing about accuracy in general.

Axes: E members, K answers of one prompt, C candidate pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from accord.diagnostics.statistics import FloatArray, finite, stream
from accord.records import BadInput

Strategy = Literal["random", "disagreement", "information_gain", "double_thompson"]
Candidate = tuple[int, int]
STRATEGIES: tuple[Strategy, ...] = ("random", "disagreement", "information_gain", "double_thompson")
TRIES = 30  # for a second member with another favourite, before the second answer is drawn at random


@dataclass(frozen=True)
class Choice:
    """One pair to be labelled: answers ``a`` and ``b`` of prompt number ``prompt``.

    Attributes:
        purpose: ``train``, or ``evaluation`` for the random pairs that are kept for an unbiased test set.
        utility: what the strategy expects of the label (its own units); None where it has no number.
    """

    prompt: int
    a: int
    b: int
    purpose: Literal["train", "evaluation"]
    utility: float | None


def disagreement(margin_EC: Any) -> FloatArray:
    """Variance over members of the probability that the first answer wins (Christiano et al. 2017, arXiv
    1706.03741, section 2.2.4) -> [C].

    Args:
        margin_EC: score of the first answer minus score of the second, in units of the Bradley-Terry logit.
    """
    probability_EC = special.expit(_members(margin_EC))
    variance: FloatArray = probability_EC.var(axis=0)
    return variance


def information_gain(margin_EC: Any) -> FloatArray:
    """What the label is expected to tell about the reward model, in nats -> [C].

    H(mean of p) - mean of H(p) over members, p = σ(margin): BALD (Houlsby et al. 2011, arXiv 1112.5745,
    equation 2) with the members as draws of the posterior. Unlike disagreement it does not prefer pairs that
    all members call a toss-up, and it is at most ln 2.
    """
    probability_EC = special.expit(_members(margin_EC))
    gain: FloatArray = _entropy(probability_EC.mean(axis=0)) - _entropy(probability_EC).mean(axis=0)
    return np.maximum(gain, 0.0)  # round-off where all members agree


def double_thompson(score_EK: Any, rng: np.random.Generator) -> Candidate:
    """The favourites of two members drawn at random (Wu and Liu 2016, arXiv 1604.07101, as in Dwaracherla et
    al. 2024, arXiv 2402.00396, algorithm 5).

    The second member is drawn again until its favourite differs, at most 30 times; then the second answer is
    any other. It spends labels on answers that may be the best, and none on telling bad ones apart.
    """
    score = _members(score_EK)
    members, answers = score.shape
    if answers < 2:
        raise BadInput(f"a pair needs 2 answers to one prompt, got {answers}")
    favourite_E = score.argmax(axis=1)
    first = int(favourite_E[rng.integers(members)])
    for _ in range(TRIES):
        second = int(favourite_E[rng.integers(members)])
        if second != first:
            return first, second
    others = [k for k in range(answers) if k != first]
    return first, others[int(rng.integers(len(others)))]


def _members(values: Any) -> FloatArray:
    array = finite(values, "member scores")
    if array.ndim != 2 or len(array) < 2:
        raise BadInput(
            f"member scores have shape {array.shape}: give one row for each of 2 members or more, because one"
            " member cannot disagree"
        )
    return array


def _entropy(probability: FloatArray) -> FloatArray:
    """Of a coin, in nats."""
    entropy: FloatArray = special.entr(probability) + special.entr(1 - probability)
    return entropy


def choose_pairs(
    score_PEK: Sequence[Any],
    budget: int,
    strategy: Strategy,
    *,
    random_share: float = 0.2,
    per_prompt: int | None = None,
    candidates: Sequence[Sequence[Candidate]] | None = None,
    seed: int = 0,
    round: int = 0,
) -> list[Choice]:
    """At most ``budget`` different pairs, the evaluation's random ones first.

    Args:
        score_PEK: for each prompt the scores [E, K] of its K answers by E members, in logit units.
        random_share: of the budget, for random pairs on ``random_share`` of the prompts, from which the
            strategy takes nothing: the test set shares no prompt with the training pairs. The same prompts
                and
            pairs whatever the strategy, so that strategies can be compared on them.
        per_prompt: most training pairs of one prompt; None: as few as the budget allows (prompts are then
            used evenly). Pairs of one prompt share answers, so their labels say partly the same.
        candidates: pairs that may be asked of each prompt (answers that differ); None: every two answers.

    Returns:
        Fewer than ``budget`` where there are fewer candidates.

    Raises:
        BadInput: no prompts, fewer than 2 members, a budget below 1, a share outside 0 to 1, an unknown name.
    """
    if strategy not in STRATEGIES:
        raise BadInput(f"there is no labelling strategy {strategy!r}: choose one of {', '.join(STRATEGIES)}")
    if budget < 1 or not 0 <= random_share <= 1:
        raise BadInput(
            f"the budget is {budget} labels with a random share of {random_share:g}: give 1 label or more and"
            " a share from 0 to 1"
        )
    if per_prompt is not None and per_prompt < 1:
        raise BadInput(f"per_prompt is {per_prompt}: give 1 or more, or leave it out")
    scores = [_members(score) for score in score_PEK]
    if candidates is None:
        candidates = [[(a, b) for b in range(score.shape[1]) for a in range(b)] for score in scores]
    if not scores or len(candidates) != len(scores):
        raise BadInput(f"there are scores of {len(scores)} prompts and candidates of {len(candidates)}")
    kept, rest = _evaluation_prompts(len(scores), random_share, seed, round)
    test_budget = min(budget, int(np.rint(random_share * budget)))
    rng = stream(seed, f"labels kept for evaluation, round {round}")
    evaluation = _evenly(_shuffled(candidates, kept, rng), kept, test_budget, None)
    rng = stream(seed, f"labels by {strategy}, round {round}")
    ranked = _RANKINGS[strategy](scores, candidates, rest, rng)
    training = _evenly(ranked, rest, budget - test_budget, per_prompt)
    out = [Choice(prompt, *pair, "evaluation", None) for prompt, pair, _ in evaluation]
    return out + [Choice(prompt, *pair, "train", utility) for prompt, pair, utility in training]


Ranked = list[tuple[int, Candidate, float | None]]


def _evaluation_prompts(
    prompts: int, share: float, seed: int, round: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """(prompts kept for evaluation, the others), each in random order; both get one where the share is not
    0 or 1 and there are two."""
    order = stream(seed, f"prompts kept for evaluation, round {round}").permutation(prompts)
    count = int(np.rint(share * prompts))
    if 0 < share < 1 and prompts > 1:
        count = min(max(count, 1), prompts - 1)
    return order[:count], order[count:]


def _shuffled(
    candidates: Sequence[Sequence[Candidate]], prompts: npt.NDArray[np.intp], rng: np.random.Generator
) -> Ranked:
    """Every candidate of the prompts in random order."""
    every: Ranked = [(int(prompt), pair, None) for prompt in prompts for pair in candidates[prompt]]
    return [every[i] for i in rng.permutation(len(every))]


def _by_utility(utility: Callable[[Any], FloatArray]) -> Callable[..., Ranked]:
    def rank(
        scores: Sequence[FloatArray],
        candidates: Sequence[Sequence[Candidate]],
        prompts: npt.NDArray[np.intp],
        rng: np.random.Generator,
    ) -> Ranked:
        every = _shuffled(candidates, prompts, rng)  # equal utilities in random order
        if not every:
            return []
        margin_EC = np.stack([scores[p][:, a] - scores[p][:, b] for p, (a, b), _ in every], axis=1)
        value_C = utility(margin_EC)
        order = np.argsort(-value_C, kind="stable")
        return [(every[i][0], every[i][1], float(value_C[i])) for i in order]

    return rank


def _random(
    scores: Sequence[FloatArray],
    candidates: Sequence[Sequence[Candidate]],
    prompts: npt.NDArray[np.intp],
    rng: np.random.Generator,
) -> Ranked:
    return _shuffled(candidates, prompts, rng)


def _thompson(
    scores: Sequence[FloatArray],
    candidates: Sequence[Sequence[Candidate]],
    prompts: npt.NDArray[np.intp],
    rng: np.random.Generator,
) -> Ranked:
    """Draws for prompt after prompt, as many rounds as the largest prompt has candidates.

    A draw that is no candidate, or that came up before, is left out; what was never drawn follows at random.
    """
    out: Ranked = []
    allowed = {int(p): {frozenset(pair): pair for pair in candidates[p]} for p in prompts}
    for _ in range(max((len(pairs) for pairs in allowed.values()), default=0)):
        for prompt in rng.permutation(prompts):
            left = allowed[int(prompt)]
            pair = left.pop(frozenset(double_thompson(scores[prompt], rng)), None) if left else None
            if pair is not None:
                out.append((int(prompt), pair, None))
    rest = [(prompt, pair) for prompt, left in allowed.items() for pair in left.values()]
    return out + [(*rest[i], None) for i in rng.permutation(len(rest))]


_RANKINGS: dict[Strategy, Callable[..., Ranked]] = {
    "random": _random,
    "disagreement": _by_utility(disagreement),
    "information_gain": _by_utility(information_gain),
    "double_thompson": _thompson,
}


def _evenly(ranked: Ranked, prompts: npt.NDArray[np.intp], budget: int, per_prompt: int | None) -> Ranked:
    """The first ``budget`` in the given order, at most ``per_prompt`` of each prompt; None: the smallest
    number that lets the budget be spent, which is raised while candidates are left."""
    if not len(prompts) or budget < 1:
        return []
    limit = per_prompt or -(-budget // len(prompts))
    while True:
        taken: dict[int, int] = {}
        out: Ranked = []
        for one in ranked:
            if len(out) < budget and taken.get(one[0], 0) < limit:
                taken[one[0]] = taken.get(one[0], 0) + 1
                out.append(one)
        if per_prompt is not None or len(out) == min(budget, len(ranked)):
            return out
        limit += 1
