"""UKP arguments by held-out debates: the fitted head, and what two ways of taking length out of it cost."""

from __future__ import annotations

import time
from typing import Any

import figure_heads as heads
import numpy as np
from figure_bench import Bench, Log, difference, margins, rounded, spread, wins

from accord.diagnostics import floors
from accord.diagnostics.statistics import FloatArray
from accord.records import Comparison
from accord.scoring.length_calibration import fit_length_curve

ODIN_LENGTH = (0.03, 0.1, 0.3, 1.0)  # weights of the correlation term: what accuracy each costs
CURVE_SHARES = (0.5, 0.8, 1.0)  # how much of the LOWESS curve is taken off


def ukp(bench: Bench, seeds: int, log: Log) -> None:
    """Folds of whole debates, another partition for each seed: every pair is held out once in each."""
    rows, _, state = bench.read(bench.rows("ukp_convarg_train")[: bench.pairs])
    debate = [str(row.meta["topic"]) for row in rows]
    length_N2 = np.array([[len(r.pair.a.text), len(r.pair.b.text)] for r in rows], dtype=np.float64)
    if not log.has(arm="floors"):
        gap = np.array([len(r.chosen.text) - len(r.rejected.text) for r in rows if r.chosen and r.rejected])
        longer = floors.always_longer_correct(rows).tolist()
        log.write(arm="floors", pairs=len(rows), debates=debate, gap=gap.tolist(), always_longer=longer)
    for seed in range(seeds):
        fold_N = heads.folds_of(debate, seed)
        for fold in range(heads.FOLDS):
            if log.has(seed=seed, fold=fold):
                continue
            bench.deadline.check()
            log.write(seed=seed, fold=fold, **_ukp_fold(rows, debate, state, length_N2, fold_N == fold, seed))


def _ukp_fold(
    rows: list[Comparison],
    debate: list[str],
    state: FloatArray,
    length_N2: FloatArray,
    held: FloatArray,
    seed: int,
) -> dict[str, Any]:
    began = time.monotonic()
    train = [row for row, out in zip(rows, held, strict=True) if not out]
    test = [row for row, out in zip(rows, held, strict=True) if out]
    width_H = spread(state[~held])
    x, x_test = difference(state[~held], width_H), difference(state[held], width_H)
    debates = [name for name, out in zip(debate, held, strict=True) if not out]
    head = heads.fit_validated(x, wins(train), np.ones(len(train)), debates, seed=seed)
    plain = margins(head, x_test, test)
    found: dict[str, Any] = {"place": np.flatnonzero(held).tolist(), "ridge": head.ridge}
    found["head"] = rounded(plain)
    found["bag_of_words"] = floors.bag_of_words_correct(train, test).tolist()
    # The curve is of training answers' scores: each answer once, however many pairs it is in.
    score_N2 = (state[~held] / width_H) @ head.weight_H
    answers = {
        (row.prompt.key, side.text): score
        for row, scores in zip(train, score_N2, strict=True)
        for side, score in zip((row.pair.a, row.pair.b), scores, strict=True)
    }
    lowess = fit_length_curve([text for _, text in answers], list(answers.values()))
    bias_N2 = lowess.at(length_N2[held].reshape(-1)).reshape(-1, 2)
    sign_N = np.array([1.0 if row.verdict == "a" else -1.0 for row in test])
    bias_N = sign_N * (bias_N2[:, 0] - bias_N2[:, 1])
    for share in CURVE_SHARES:
        found[f"lowess_{share:g}"] = rounded(plain - share * bias_N)
    centre_H = state[~held].reshape(-1, state.shape[-1]).mean(0)
    both = (state[~held] - centre_H) / width_H
    for weight in ODIN_LENGTH:
        quality_H, _ = heads.fit_two_heads(
            both[:, 0], both[:, 1], length_N2[~held], head.ridge, weight, seed=seed
        )
        found[f"odin_{weight:g}"] = rounded(sign_N * (x_test @ quality_H))
    return found | {"pairs": len(train), "seconds": round(time.monotonic() - began, 1)}
