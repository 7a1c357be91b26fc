"""HH harmless: the fitted head, the recipe's top layers, bootstrap ensembles, the learning curve."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import figure_heads as heads
import numpy as np
import torch
from figure_bench import CONTEXT, Bench, Log, difference, keys_of, margins, rounded, spread, wins

from accord import config, reward_model
from accord.batches import Group
from accord.diagnostics import floors
from accord.diagnostics.statistics import FloatArray
from accord.records import Comparison
from accord.streams import permutation, stream_seed

MEMBERS = 4
CURVE_SIZES = 6  # halves of the largest


def top_margins(
    bench: Bench,
    head_H: FloatArray,
    training: Sequence[Comparison],
    test: tuple[Sequence[Comparison], Sequence[Group]],
    seed: int,
) -> tuple[FloatArray, dict[str, float]]:
    """One epoch of the top layers from the fitted head, as recipes/hh.yaml: held-out margins in nats."""
    settings = config.Reward(
        head_start="probe",
        epochs=1,
        pairs_per_step=16,
        weights=config.Weights(train="top", top_layers=bench.top_layers),
        optimizer=config.Optimizer(learning_rate=1e-5, warmup_steps=5, schedule="linear"),
        head_learning_rate=1e-5,
    )
    examples, kept = reward_model.encode(
        bench.tokenizer, training, settings, CONTEXT, CONTEXT, context=CONTEXT
    )
    assert len(kept) == len(training)  # those that do not fit were left out before
    model = reward_model.new(bench.location, bench.dtype, bench.tokenizer, seed)
    steps = -(-len(examples) // settings.pairs_per_step)
    trainer = reward_model.RewardTrainer(model, bench.tokenizer, settings, steps, seed)
    weight = trainer.scorer.model.score.weight
    with torch.no_grad():
        weight.copy_(torch.from_numpy(head_H)[None])
    trainer.execution.adopt(weight)
    began = time.monotonic()
    order = permutation(len(examples), seed, "reward", 0, 0)
    for step in range(steps):
        bench.deadline.check()
        batch = [examples[i] for i in order[step * settings.pairs_per_step :][: settings.pairs_per_step]]
        figures = trainer.step(batch, bench.states)
        print(f"  step {step + 1}/{steps} loss {figures['loss']:.3f}", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    score_N2 = trainer.scorer.score_groups(test[1], bench.states).view(-1, 2).double().numpy()
    sign_N = np.array([1.0 if row.verdict == "a" else -1.0 for row in test[0]])
    return sign_N * (score_N2[:, 0] - score_N2[:, 1]), {"seconds": round(seconds, 1), "steps": steps}


def drawn_weights(keys: Sequence[str], seed: int, member: int) -> FloatArray:
    """How often each row is drawn, prompts with replacement."""
    unique = sorted(set(keys))
    rng = np.random.default_rng([stream_seed(seed, "figure member", member)])
    counts = dict(zip(unique, np.bincount(rng.integers(len(unique), size=len(unique))), strict=False))
    return np.array([float(counts.get(key, 0)) for key in keys])


def hh_data(bench: Bench) -> tuple[Any, Any]:
    train, dev = bench.rows("hh_harmless_train"), bench.rows("hh_harmless_dev")
    held_out = bench.read(dev)
    return bench.read(train[: bench.pairs]), held_out


def hh(bench: Bench, seeds: int, log: Log) -> None:
    (train, _, state), (dev, dev_groups, dev_state) = hh_data(bench)
    width_H = spread(state)
    x, x_dev = difference(state, width_H), difference(dev_state, width_H)
    target, keys = wins(train), keys_of(train)
    if not log.has(arm="floors"):
        log.write(
            arm="floors",
            pairs=len(train),
            prompts=keys_of(dev),
            bag_of_words=floors.bag_of_words_correct(train, dev).tolist(),
            always_longer=floors.always_longer_correct(dev).tolist(),
        )
    ones = np.ones(len(train))
    head = heads.fit_validated(x, target, ones, keys)
    if not log.has(arm="head"):
        log.write(
            arm="head", seed=0, pairs=len(train), ridge=head.ridge, margin=rounded(margins(head, x_dev, dev))
        )
    for seed in range(seeds):
        for member in range(MEMBERS):
            if not log.has(arm="member", seed=seed, member=member):
                weight = drawn_weights(keys, seed, member)
                found, _ = heads.fit(x, target, weight, head.ridge)
                margin = rounded(margins(found, x_dev, dev))
                log.write(arm="member", seed=seed, member=member, pairs=len(train), margin=margin)
    for seed in range(seeds if bench.top_layers else 0):
        if not log.has(arm="top", seed=seed):
            bench.deadline.check()
            margin, told = top_margins(bench, head.weight_H / width_H, train, (dev, dev_groups), seed)
            log.write(
                arm="top",
                seed=seed,
                pairs=len(train),
                top_layers=bench.top_layers,
                margin=rounded(margin),
                **told,
            )


def curve(bench: Bench, seeds: int, log: Log) -> None:
    """Held out: the dev pairs, and a fifth of the training prompts, another one for each seed."""
    (train, _, state), (dev, _, dev_state) = hh_data(bench)
    keys = np.array(keys_of(train))
    for seed in range(seeds):
        held = heads.folds_of(keys.tolist(), stream_seed(seed, "figure curve")) == 0
        order = np.array(permutation(int((~held).sum()), seed, "figure curve order"))
        pool = np.flatnonzero(~held)[order]
        test = [*dev, *(row for row, out in zip(train, held, strict=True) if out)]
        test_state = np.concatenate([dev_state, state[held]])
        for k in range(CURVE_SIZES):
            size = len(pool) >> k
            if log.has(seed=seed, pairs=size):
                continue
            bench.deadline.check()
            some = pool[:size]
            rows = [train[i] for i in some]
            width_H = spread(state[some])
            head = heads.fit_validated(
                difference(state[some], width_H), wins(rows), np.ones(size), keys_of(rows)
            )
            right = margins(head, difference(test_state, width_H), test) > 0
            words = floors.bag_of_words_correct(rows, test)
            log.write(
                arm="head",
                seed=seed,
                pairs=size,
                tested=len(test),
                accuracy=float(right.mean()),
                bag_of_words=float(words.mean()),
                ridge=head.ridge,
            )
