"""Simulated annotators: a stand-in for people, with noise, ties and biases that are known exactly.

Annotator j perceives in answer x the utility

    u(x) = gold(x) + length_bias * words(x) / 10 + phrase_bias * (how often x has one of the phrases)
           + side_bias * [x is shown on the left]

and compares by Bradley-Terry with Rao-Kupper ties (Rao and Kupper 1967; threshold exp(tie_margin / t_j)):

    P(a) = sigmoid((u(a) - u(b) - tie_margin) / t_j)      t_j = noise / exp(reliability_spread * z_j)
    P(b) = sigmoid((u(b) - u(a) - tie_margin) / t_j)      z_j ~ N(0, 1), one draw for each annotator
    P(tie) = 1 - P(a) - P(b)

``both_bad`` and ``skip`` are never given: gold has no zero below which an answer is bad.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from accord.config import Simulated
from accord.judging.gold import phrases, utility
from accord.records import Comparison, Pair, Response, Verdict, content_hash
from accord.store import LabelStore

DESCRIPTION = "simulated annotators (a stand-in for people)"


def _stream(seed: int, *names: str) -> np.random.Generator:
    """A random stream of its own for these names, so that no draw depends on the draws before it."""
    return np.random.default_rng([seed, int(content_hash("simulated annotators", *names), 16)])


class SimulatedAnnotators:
    """A judge that answers at once. The labels are a function of (seed, pair id, annotator), not of order."""

    name = DESCRIPTION
    simulated = True

    def __init__(self, config: Simulated, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.annotators = tuple(f"simulated:{j}" for j in range(config.annotators))
        draws = np.array([_stream(seed, "reliability", name).standard_normal() for name in self.annotators])
        self.inverse_temperature_J: NDArray[np.float64] = (
            np.exp(config.reliability_spread * draws) / config.noise
        )

    def probabilities(self, pairs: Sequence[Pair], annotator: int) -> NDArray[np.float64]:
        """P(a), P(b), P(tie) of each pair for one annotator; [N, 3]."""
        return self._probabilities(self._differences(pairs), self.inverse_temperature_J[annotator])

    def _differences(self, pairs: Sequence[Pair]) -> NDArray[np.float64]:
        """Perceived utility of a minus that of b, units of gold; [N]."""
        left_N = np.array([1.0 if pair.shown_left == "a" else -1.0 for pair in pairs])
        perceived_a_N = self._perceived([pair.a for pair in pairs])
        perceived_b_N = self._perceived([pair.b for pair in pairs])
        difference_N: NDArray[np.float64] = perceived_a_N - perceived_b_N + self.config.side_bias * left_N
        return difference_N

    def _perceived(self, responses: Sequence[Response]) -> NDArray[np.float64]:
        texts = [response.text for response in responses]
        words_N = np.array([len(text.split()) for text in texts], dtype=np.float64)
        liked_N = self.config.phrase_bias * phrases(texts, self.config.phrases)
        return utility(self.config.gold, texts) + self.config.length_bias * words_N / 10 + liked_N

    def _probabilities(
        self, difference_N: NDArray[np.float64], inverse_temperature: float
    ) -> NDArray[np.float64]:
        a_N = expit((difference_N - self.config.tie_margin) * inverse_temperature)
        b_N = expit((-difference_N - self.config.tie_margin) * inverse_temperature)
        return np.stack([a_N, b_N, np.maximum(1 - a_N - b_N, 0)], axis=1)

    def judgements(self, pairs: Sequence[Pair]) -> list[Comparison]:
        """``labels_per_pair`` comparisons of each pair by different annotators, in the order of the pairs."""
        if not pairs:
            return []
        difference_N = self._differences(pairs)
        probability_J = [self._probabilities(difference_N, float(t)) for t in self.inverse_temperature_J]
        return [
            Comparison(
                pair,
                self._verdict(pair, self.annotators[j], *probability_J[j][n, :2]),
                self.annotators[j],
                source=DESCRIPTION,
            )
            for n, pair in enumerate(pairs)
            for j in self._assigned(pair)
        ]

    def _assigned(self, pair: Pair) -> list[int]:
        """Which annotators see this pair: a random draw without replacement, in ascending order."""
        order = _stream(self.seed, "assignment", pair.id).permutation(len(self.annotators))
        return sorted(int(j) for j in order[: self.config.labels_per_pair])

    def _verdict(self, pair: Pair, annotator: str, probability_a: float, probability_b: float) -> Verdict:
        # a takes the lower end of [0, 1) and b the upper: with the draw fixed, a bias can only move verdicts
        # its own way.
        draw = _stream(self.seed, "verdict", pair.id, annotator).random()
        if draw < probability_a:
            return "a"
        return "b" if draw >= 1 - probability_b else "tie"

    def label(self, pairs: Sequence[Pair], store: LabelStore) -> None:
        """Judge every pair. The store keeps verdicts only, never a gold utility.

        Pairs that simulated annotators judged before are judged again: under other settings they say
        something else, and the latest word counts. Under the same settings that changes nothing.
        """
        store.add_pairs(pairs)
        store.add(self.judgements(store.pending(pairs, by=lambda _: False)))
