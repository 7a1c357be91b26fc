"""PandaLM's three annotators: do soft labels and ties say more of held-out labels than the majority does?"""

from __future__ import annotations

import time

import figure_heads as heads
import numpy as np
from figure_bench import Bench, Log, difference, keys_of, rounded, spread, wins

from accord.diagnostics.statistics import FloatArray
from accord.records import Comparison
from accord.streams import stream_seed

LABEL_ARMS: tuple[tuple[str, heads.Ties], ...] = tuple(
    (labels, ties) for labels in ("majority", "soft") for ties in ("bradley_terry", "rao_kupper", "davidson")
)


def pandalm(bench: Bench, seeds: int, log: Log) -> None:
    """Held-out log-likelihood of all three annotators' labels (a, b, tie), by folds of prompts."""
    every = bench.rows("pandalm_human_3annotators_sample", max_rejects=100)
    by_pair: dict[str, list[Comparison]] = {}
    for row in every:
        by_pair.setdefault(str(row.meta["id"]), []).append(row)
    firsts, _, state = bench.read([found[0] for found in by_pair.values()])
    share_N3 = np.array([wins(by_pair[str(row.meta["id"])]).mean(0) for row in firsts])
    # Where no verdict has more than half of the annotators there is no majority: it teaches nothing there.
    clear_N = share_N3.max(1) > 0.5
    majority_N3 = np.where(clear_N[:, None], np.eye(3)[share_N3.argmax(1)], 0.0)
    keys = keys_of(firsts)
    for seed in range(seeds):
        if log.has(seed=seed):
            continue
        bench.deadline.check()
        began = time.monotonic()
        fold_N = heads.folds_of(keys, stream_seed(seed, "figure pandalm"))
        likelihood = {f"{labels}_{ties}": np.zeros(len(firsts)) for labels, ties in LABEL_ARMS}
        for fold in range(heads.FOLDS):
            held = fold_N == fold
            width_H = spread(state[~held])
            x, x_test = difference(state[~held], width_H), difference(state[held], width_H)
            inside = [key for key, out in zip(keys, held, strict=True) if not out]
            for labels, ties in LABEL_ARMS:
                target = (majority_N3 if labels == "majority" else share_N3)[~held]
                log_N3 = _three_way(x, target, x_test, inside, ties, seed)
                likelihood[f"{labels}_{ties}"][held] = (share_N3[held] * log_N3).sum(1)
        arms = {name: rounded(values) for name, values in likelihood.items()}
        seconds = round(time.monotonic() - began, 1)
        log.write(
            seed=seed,
            pairs=len(firsts),
            prompts=keys,
            seconds=seconds,
            clear=int(clear_N.sum()),
            **arms,
        )


def _three_way(
    x: FloatArray, target_N3: FloatArray, x_test: FloatArray, keys: list[str], ties: heads.Ties, seed: int
) -> FloatArray:
    """(N, 3) held-out log-probabilities of a, b and tie.

    Bradley–Terry knows no ties: it learns from the decided labels, and every pair gets the training labels'
    share of ties (plus one, so that it is not 0).
    """
    if ties != "bradley_terry":
        used = target_N3.sum(1) > 0
        inside = [key for key, use in zip(keys, used, strict=True) if use]
        head = heads.fit_validated(x[used], target_N3[used], np.ones(int(used.sum())), inside, ties, seed)
        return head.log_probabilities(x_test, ties)
    decided_N = target_N3[:, :2].sum(1)
    used = decided_N > 0
    target = np.zeros_like(target_N3)
    target[used, :2] = target_N3[used, :2] / decided_N[used, None]
    inside = [key for key, use in zip(keys, used, strict=True) if use]
    head = heads.fit_validated(x[used], target[used], decided_N[used], inside, ties, seed)
    tie = (target_N3[:, 2].sum() + 1) / (target_N3.sum() + 3)
    log_N3 = head.log_probabilities(x_test, ties)
    log_N3[:, :2] += np.log1p(-tie)
    log_N3[:, 2] = np.log(tie)
    return log_N3
