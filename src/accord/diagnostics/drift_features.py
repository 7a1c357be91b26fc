"""What drift is measured on: given latents of the reward model, or else the words of the answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from accord.diagnostics.statistics import Clusters, FloatArray, finite, shared_clusters
from accord.records import BadInput

Index = npt.NDArray[np.intp]
DIMENSIONS = 50  # of the words' space: about what some hundred answers can fill
MOST_ROWS = 1000  # of each side: distances between all rows are kept


def word_features(base_texts: Sequence[str], policy_texts: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Answers as points: TF-IDF of words and word pairs, reduced to at most 50 directions.

    The directions are of both sides together and know nothing of which side a row is from, so tests on them
    stay valid. A stand-in for the reward model's latents: it sees words, not what the reward model sees.
    """
    texts = [*base_texts, *policy_texts]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"\w+")
    try:
        table = vectorizer.fit_transform(texts)
    except ValueError:  # no word is in two answers
        return np.zeros((len(base_texts), 1)), np.zeros((len(policy_texts), 1))
    size = min(DIMENSIONS, min(table.shape) - 1)
    if size < 1:
        return np.zeros((len(base_texts), 1)), np.zeros((len(policy_texts), 1))
    points: FloatArray = TruncatedSVD(size, random_state=0).fit_transform(table)
    return points[: len(base_texts)], points[len(base_texts) :]


def checked_sides(
    base_ND: FloatArray, policy_MD: FloatArray, base_prompt_N: Clusters, policy_prompt_M: Clusters
) -> tuple[FloatArray, FloatArray, Index, Index, int]:
    """(base, policy, prompt index of each, prompts), refused where shapes do not fit together."""
    base, policy = finite(base_ND, "SFT features"), finite(policy_MD, "policy features")
    if base.ndim != 2 or policy.ndim != 2 or base.shape[1] != policy.shape[1]:
        raise BadInput(
            f"features have shapes {base.shape} and {policy.shape}: give one row an answer and the same"
            " columns"
        )
    if len(base_prompt_N) != len(base) or len(policy_prompt_M) != len(policy):
        raise BadInput(
            f"{len(base)} and {len(policy)} answers but {len(base_prompt_N)} and {len(policy_prompt_M)}"
            " prompts: give one prompt for each answer"
        )
    if max(len(base), len(policy)) > MOST_ROWS:
        raise BadInput(f"{max(len(base), len(policy))} answers on one side: give at most {MOST_ROWS}")
    index_N, index_M, prompts = shared_clusters(base_prompt_N, policy_prompt_M)
    return base, policy, index_N, index_M, prompts


def prompt_folds(prompts: int, folds: int, rng: np.random.Generator) -> Index:
    """fold_G: every prompt in one of ``folds`` groups of nearly equal size, drawn at random."""
    return rng.permutation(np.arange(prompts) % folds)
