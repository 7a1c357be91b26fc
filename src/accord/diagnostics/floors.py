"""What a reward model must beat: always the longer answer, a bag of words, and chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from accord.diagnostics.statistics import Clusters, FloatArray, clustered_share
from accord.records import BadInput, Comparison

# Fixed, never tuned on the labels at hand. Prompt-grouped cross-validation on 1,489 HH training pairs gave
# .594 to .613 for strengths .003 to 1 and both word limits 1 and 2; these two had the .613.
INVERSE_REGULARISATION = 0.03
MINIMUM_ANSWERS_WITH_WORD = 2


def decided(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons that name a winner: floors cannot be right or wrong about a tie."""
    return [comparison for comparison in comparisons if comparison.chosen is not None]


def _sides(comparisons: Sequence[Comparison]) -> tuple[list[str], list[str]]:
    chosen, rejected = [], []
    for comparison in decided(comparisons):
        assert comparison.chosen is not None  # `decided` keeps only these
        assert comparison.rejected is not None
        chosen.append(comparison.chosen.text)
        rejected.append(comparison.rejected.text)
    if not chosen:
        raise BadInput(f"none of {len(comparisons)} comparisons names a winner: floors need at least 1")
    return chosen, rejected


def always_longer_correct(comparisons: Sequence[Comparison]) -> FloatArray:
    """correct_N over the decided pairs: 1 where the chosen answer has more characters, 0.5 where equal."""
    chosen, rejected = _sides(comparisons)
    gap_N = np.array([len(c) - len(r) for c, r in zip(chosen, rejected, strict=True)])
    return np.asarray(0.5 + 0.5 * np.sign(gap_N), dtype=np.float64)


def bag_of_words_correct(train: Sequence[Comparison], test: Sequence[Comparison]) -> FloatArray:
    """correct_N of a Bradley-Terry model on word counts of the answers (the prompt cancels out).

    Logistic regression without intercept on count(chosen) - count(rejected). The loss is the same for (x, 1)
    and (-x, 0), so every other training row is mirrored only to give the solver two classes.
    """
    chosen, rejected = _sides(train)
    if len(chosen) < 2:
        raise BadInput(f"the bag of words has {len(chosen)} training pair, but needs 2 or more")
    test_chosen, test_rejected = _sides(test)
    vectorizer = CountVectorizer(dtype=np.float64, min_df=MINIMUM_ANSWERS_WITH_WORD)
    try:
        vectorizer.fit(chosen + rejected)
    except ValueError:  # no word occurs often enough: it knows nothing
        return np.full(len(test_chosen), 0.5)
    difference = vectorizer.transform(chosen) - vectorizer.transform(rejected)
    sign_N = np.where(np.arange(len(chosen)) % 2 == 0, 1.0, -1.0)
    model = LogisticRegression(C=INVERSE_REGULARISATION, fit_intercept=False, max_iter=3000)
    model.fit(sparse.diags_array(sign_N) @ difference, sign_N > 0)
    test_difference = vectorizer.transform(test_chosen) - vectorizer.transform(test_rejected)
    margin_N = test_difference @ model.coef_[0]
    return np.asarray(0.5 + 0.5 * np.sign(margin_N), dtype=np.float64)


def _floor(correct_N: FloatArray, prompt_N: Clusters, samples: int, seed: int) -> dict[str, Any]:
    share = clustered_share(correct_N, prompt_N, samples, seed)
    return {"accuracy": share.figure, "interval": share.bounds, "pairs": len(correct_N)}


def prompt_keys(comparisons: Sequence[Comparison]) -> list[str]:
    """Prompt keys of the decided comparisons, in order: the clusters of every ``*_correct`` array."""
    return [comparison.prompt.key for comparison in decided(comparisons)]


def always_longer(comparisons: Sequence[Comparison], samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Accuracy of preferring the answer with more characters, equal lengths one half.

    Returns:
        ``accuracy``, ``interval`` (95%, over prompts; None for one prompt) and ``pairs``.
    """
    return _floor(always_longer_correct(comparisons), prompt_keys(comparisons), samples, seed)


def bag_of_words(
    train: Sequence[Comparison], test: Sequence[Comparison], samples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Accuracy on ``test`` of a bag-of-words Bradley-Terry model fitted on ``train``; keys as always_longer.

    The interval is over the test prompts, with the fitted model held fixed.
    """
    return _floor(bag_of_words_correct(train, test), prompt_keys(test), samples, seed)


def chance(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """A coin: one half by definition, so its interval has no width."""
    return {"accuracy": 0.5, "interval": (0.5, 0.5), "pairs": len(decided(comparisons))}


def floors(
    train: Sequence[Comparison], test: Sequence[Comparison], samples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The ``floors`` entry of ``accord_reward.json``, all on the same test pairs."""
    return {
        "always_longer": always_longer(test, samples, seed),
        "bag_of_words": bag_of_words(train, test, samples, seed),
        "chance": chance(test),
    }
