"""Does it say the same to everyone? Answers to different prompts that are nearly the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy import sparse

from accord.diagnostics.length import ngrams, words
from accord.diagnostics.statistics import Clusters, FloatArray, cluster_index, jackknife_interval
from accord.records import BadInput, Finding

SHOWN_MODES = 5
MOST_ANSWERS = 3000
SHARE = 0.05  # of SFT's answers beyond their own limit: the run's own 95% band


def similarities(texts: Sequence[str]) -> FloatArray:
    """Jaccard similarity of the sets of words and word pairs of every two texts -> [N, N].

    Two texts without a word are the same (1), one without and one with have nothing in common (0).
    """
    numbers: dict[tuple[str, ...], int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        found = words(text)
        for gram in {*ngrams(found, 1), *ngrams(found, 2)}:
            rows.append(row)
            columns.append(numbers.setdefault(gram, len(numbers)))
    shape = (len(texts), max(1, len(numbers)))
    table = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    shared_NN = (table @ table.T).toarray()
    size_N = shared_NN.diagonal()
    union_NN = size_N[:, None] + size_N - shared_NN
    similarity: FloatArray = np.where(union_NN > 0, shared_NN / np.maximum(union_NN, 1), 1.0)
    return similarity


def nearest_elsewhere(similarity_NN: FloatArray, index_N: Any, prompts: int) -> tuple[FloatArray, FloatArray]:
    """Similarity of each answer to the nearest answer to another prompt: (nearest_N, without_GN).

    ``without_GN[g]`` is the same with prompt g left out of the answers to compare with; NaN for its own rows
    and where no other prompt is left.
    """
    count = len(index_N)
    by_prompt_NG = np.full((count, prompts), -np.inf)
    for prompt in range(prompts):
        by_prompt_NG[:, prompt] = similarity_NN[:, index_N == prompt].max(axis=1)
    by_prompt_NG[np.arange(count), index_N] = -np.inf
    first_N = by_prompt_NG.argmax(axis=1)
    nearest_N = by_prompt_NG[np.arange(count), first_N]
    by_prompt_NG[np.arange(count), first_N] = -np.inf
    second_N = by_prompt_NG.max(axis=1)
    without_GN = np.where(np.arange(prompts)[:, None] == first_N, second_N, nearest_N)
    without_GN[index_N, np.arange(count)] = np.nan
    without_GN[~np.isfinite(without_GN)] = np.nan
    return nearest_N, without_GN


def modes(texts: Sequence[str], prompt_N: Clusters, shown: int = SHOWN_MODES) -> list[dict[str, Any]]:
    """Answers given word for word (case and punctuation aside) to more than one prompt, most prompts
    first.
    """
    prompts_of: dict[tuple[str, ...], set[Any]] = defaultdict(set)
    text_of: dict[tuple[str, ...], str] = {}
    for text, prompt in zip(texts, prompt_N, strict=True):
        key = tuple(words(text))
        prompts_of[key].add(prompt)
        text_of.setdefault(key, text)
    repeated = sorted(
        (key for key, found in prompts_of.items() if len(found) > 1),
        key=lambda key: (-len(prompts_of[key]), key),
    )
    return [{"text": text_of[key], "prompts": len(prompts_of[key])} for key in repeated[:shown]]


def mode_collapse(sft_texts: Sequence[str], policy_texts: Sequence[str], prompt_N: Clusters) -> Finding:
    """Finding: have answers to different prompts become more alike?

    Each answer is compared with the answers to all other prompts; ``figure`` is the mean similarity to the
    nearest of them, policy minus SFT, rows n to the same prompt. The interval is a jackknife over prompts
    (resampled prompts would be each other's nearest). Evidence ``near_duplicates`` is the share of the
    policy's answers that are nearer to another prompt's answer than 95% of SFT's are, and ``modes`` the
    answers that are given word for word to several prompts.

    Verdict: warn where the interval lies above 0, good where it does not, unknown with fewer than 3 prompts.
    """
    if not len(sft_texts) == len(policy_texts) == len(prompt_N) or not sft_texts:
        raise BadInput(
            f"{len(sft_texts)} answers of SFT, {len(policy_texts)} of the policy, {len(prompt_N)} prompts:"
            " give the same number of each, row n to the same prompt"
        )
    if len(sft_texts) > MOST_ANSWERS:
        raise BadInput(f"{len(sft_texts)} answers: give at most {MOST_ANSWERS}, all are compared with all")
    question = "Do answers to different prompts repeat each other?"
    unit = "similarity to the nearest answer to another prompt (Jaccard, words and pairs), policy minus SFT"
    index_N, prompts = cluster_index(prompt_N, len(sft_texts))
    repeated = {"sft": modes(sft_texts, prompt_N), "policy": modes(policy_texts, prompt_N)}
    if prompts < 3:
        sentence = (
            f"Answers to different prompts cannot be compared: there are {prompts} prompts, 3 are needed."
        )
        return Finding("mode_collapse", question, None, None, unit, "unknown", sentence, {"modes": repeated})
    sft_N, sft_GN = nearest_elsewhere(similarities(sft_texts), index_N, prompts)
    policy_N, policy_GN = nearest_elsewhere(similarities(policy_texts), index_N, prompts)
    left_out_G = np.nanmean(policy_GN, axis=1) - np.nanmean(sft_GN, axis=1)
    shift = jackknife_interval(float(policy_N.mean() - sft_N.mean()), left_out_G)
    limit = float(np.quantile(sft_N, 1 - SHARE, method="inverted_cdf"))
    verdict: Literal["good", "warn"] = "warn" if shift.low > 0 else "good"
    reading = "answers to different prompts grew more alike" if verdict == "warn" else "no growth is shown"
    sentence = (
        f"An answer shares {policy_N.mean():.0%} of its words and word pairs with the nearest answer to"
        f" another prompt, SFT's {sft_N.mean():.0%}, a shift of {shift.show()}: {reading}."
    )
    evidence = {
        "sft_mean": float(sft_N.mean()),
        "policy_mean": float(policy_N.mean()),
        "near_duplicates": float((policy_N > limit).mean()),
        "near_duplicates_sft": float((sft_N > limit).mean()),
        "limit": limit,
        "modes": repeated,
        "prompts": prompts,
    }
    return Finding("mode_collapse", question, shift.figure, shift.bounds, unit, verdict, sentence, evidence)
