"""Which pairs of the newest policy's answers are asked about, by what the labels so far leave open.

The members that disagree are reward heads on the frozen states of the SFT model, each fitted to a bootstrap
draw of the labelled prompts: a posterior of the head alone, cheap enough for every round. The reward model
that the policy is optimised for is another one.

A share of the pairs is random, on the prompts that the reward model is tested on; strategies take the others.
So its test set is never one of pairs that were chosen because they are hard.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accord import models, probe, towers
from accord.answer_states import answer_states, decided_pairs
from accord.batches import Group
from accord.collect import Answers
from accord.config import Collect
from accord.diagnostics.statistics import stream
from accord.labelling_strategies import Choice, choose_pairs
from accord.records import BadInput, Comparison, Prompt, Response
from accord.towers import Tower

Array = NDArray[np.float64]


def bootstrap_heads(
    a_NH: Array, b_NH: Array, a_wins_N: NDArray[np.bool_], prompt_N: Sequence[str], members: int, seed: int
) -> Array:
    """Reward heads [E, H], each fitted to the pairs of prompts drawn with replacement, all of one ridge.

    Raises:
        BadInput: too few pairs or prompts to fit one (``probe.fit``).
    """
    strength = probe.fit(a_NH, b_NH, a_wins_N, prompt_N).strength
    keys = sorted(set(prompt_N))
    rows = {key: [i for i, one in enumerate(prompt_N) if one == key] for key in keys}
    heads = []
    for member in range(members):
        rng = stream(seed, f"bootstrap head {member}")
        drawn = [i for place in rng.integers(len(keys), size=len(keys)) for i in rows[keys[place]]]
        heads.append(probe.fit_one(a_NH[drawn], b_NH[drawn], a_wins_N[drawn], strength))
    return np.stack(heads)


def pairs_of(
    answers: Answers,
    score_PEK: Sequence[Array],
    budget: int,
    config: Collect,
    tested: Collection[str],
    seed: int,
    round: int,
) -> list[tuple[Prompt, Response, Response]]:
    """At most ``budget`` pairs: random ones on prompts in ``tested``, the strategy's on the others.

    Args:
        score_PEK: for each prompt its K answers' scores by E members.
    """
    candidates = [
        [(a, b) for b in range(len(texts)) for a in range(b) if _differ(texts[a], texts[b])]
        for _, texts in answers
    ]
    places = [i for i, pairs in enumerate(candidates) if pairs]
    sides = [[i for i in places if (answers[i][0].key in tested) == test] for test in (True, False)]
    share = config.random_share if sides[0] and sides[1] else float(bool(sides[0]))
    count = int(np.rint(share * budget))
    out: list[Choice] = []
    for side, wanted, strategy in (
        (sides[0], count, "random"),
        (sides[1], budget - count, config.strategy),
    ):
        if not side or wanted < 1:
            continue
        chosen = choose_pairs(
            [score_PEK[i] for i in side], wanted, strategy, random_share=0.0,  # type: ignore[arg-type]
            candidates=[candidates[i] for i in side], seed=seed, round=round,
        )  # fmt: skip
        out += [one.__class__(side[one.prompt], one.a, one.b, one.purpose, one.utility) for one in chosen]
    return [
        (answers[one.prompt][0], answers[one.prompt][1][one.a], answers[one.prompt][1][one.b]) for one in out
    ]


def _differ(a: Response, b: Response) -> bool:
    return bool(a.text.strip()) and bool(b.text.strip()) and a.text != b.text


class Selector:
    """Chooses pairs for ``collect``; holds the SFT model while it does.

    Raises:
        BadInput: the labels so far are too few to fit a head to.
    """

    def __init__(
        self,
        sft_folder: Any,
        tokenizer: Any,
        dtype: torch.dtype,
        labels: Sequence[Comparison],
        config: Collect,
        tested: Collection[str],
        limits: dict[str, int],
        seed: int,
        round: int,
    ) -> None:
        self.tokenizer, self.config, self.tested, self.seed, self.round = (
            tokenizer,
            config,
            tested,
            seed,
            round,
        )
        self.tower = Tower(towers.base_of(models.load_policy(sft_folder, dtype)))
        learned = [one for one in labels if one.prompt.key not in tested]
        groups, won_N, keys = decided_pairs(tokenizer, learned, limits, None)
        if not groups:
            raise BadInput("there is no decided pair to choose by")
        state_N2H = answer_states(self.tower, groups).reshape(len(groups), 2, -1)
        self.head_EH = bootstrap_heads(state_N2H[:, 0], state_N2H[:, 1], won_N, keys, config.members, seed)

    def __call__(self, answers: Answers, budget: int) -> list[tuple[Prompt, Response, Response]]:
        groups = [
            Group(models.encode_prompt(self.tokenizer, prompt), tuple(one.tokens or () for one in texts))
            for prompt, texts in answers
        ]
        score_EB = self.head_EH @ answer_states(self.tower, groups).T
        ends = np.cumsum([len(texts) for _, texts in answers])[:-1]
        scores = np.split(score_EB, ends, axis=1)
        return pairs_of(answers, scores, budget, self.config, self.tested, self.seed, self.round)
