"""Reward models from comparisons: both sides share their prompt's tokens, the last token has the score.

One model here, with one head or several; `reward_ensemble` trains several models. Lessons, examples, losses
and the single step are files of their own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from accord import models
from accord.config import Reward
from accord.records import Comparison
from accord.reward_examples import Data, Example, encode, encode_lessons, read
from accord.reward_finish import finish
from accord.reward_joint import from_state, refitted, taught_by, to_state
from accord.reward_trainer import RewardTrainer, head_names, resample
from accord.streams import generator, permutation
from accord.towers import TrunkStates
from accord.workspace import Workspace, check_bad_steps

__all__ = ["Example", "RewardTrainer", "encode", "encode_lessons", "new", "train"]

MAX_BAD_STEPS = 3


def train(
    model: Any,
    tokenizer: Any,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    config: Reward,
    work: Workspace,
    *,
    bootstrap: int = 2000,
    **limits: int,
) -> dict[str, Any]:
    """Train ``model`` (from ``new``) in place; returns the figures of its card.

    The normalisation (mean and deviation over the training responses) goes into ``model.config.accord``.

    Raises:
        BadInput: too few usable pairs, no usable test pair.
        NumericalTrouble: repeated NaN.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    data = read(tokenizer, training, test, config, context=context, **limits)
    started = time.monotonic()
    trainer, trunk, started_at = fit(model, tokenizer, data, config, work)
    if config.annotators == "joint":
        data = refitted(data, trainer, trunk)
    card = finish(trainer, data, trunk, bootstrap=bootstrap)
    return card | {"probe": started_at or None, "seconds": time.monotonic() - started}


def fit(
    model: Any,
    tokenizer: Any,
    data: Data,
    config: Reward,
    work: Workspace,
    trunk: TrunkStates | None = None,
    everything: Data | None = None,
) -> tuple[RewardTrainer, TrunkStates, dict[str, float]]:
    """The loop: the trained model's trainer, the trunk's states, and the fitted head's figures if there are.

    Args:
        trunk: states of the same frozen layers, where another member has made them already.
        everything: what the states are made of, where ``data`` is a resample.
    """
    per_epoch = -(-len(data.examples) // config.pairs_per_step)
    total = config.epochs * per_epoch
    trainer = RewardTrainer(model, tokenizer, config, total, work.seed)
    done, state, extra = work.resume()
    if done:
        trainer.execution.load(state["execution"])
    if trunk is None:
        trunk = TrunkStates(
            trainer.scorer.tower, (everything or data).groups, models.device(), work.frozen_layers
        )
    resamples = head_resamples(len(data.examples), config, work)
    times_NM = None
    if resamples:
        counts = [np.bincount(drawn, minlength=len(data.examples)) for drawn in resamples]
        times_NM = torch.from_numpy(np.stack(counts, axis=1)).to(models.device(), torch.float32)
    progress = work.progress(total, done)
    started_at: dict[str, float] = dict(extra.get("probe", {}))
    if config.head_start == "probe" and not done:
        found = trainer.fit_head(data.examples, data.keys, trunk, resamples)
        started_at = {"accuracy": found.accuracy, "strength": found.strength}
    joint = config.annotators == "joint"
    known = from_state(extra.get("annotators", {})) if joint else None
    taught = taught_by(data, known) if known is not None else data

    def state_of() -> tuple[dict[str, Any], dict[str, Any]]:
        told: dict[str, Any] = {"probe": started_at}
        if joint:
            told["annotators"] = to_state(taught.annotators)
        return {"execution": trainer.execution.state()}, told

    scores_mean_something = config.head_start == "probe"
    for step in range(done, total):
        begun = time.monotonic()
        if joint and step % per_epoch == 0 and (step or scores_mean_something):
            taught = refitted(data, trainer, trunk)
        order = permutation(len(data.examples), work.seed, "reward", work.round, step // per_epoch)
        first = step % per_epoch * config.pairs_per_step
        chosen = order[first : first + config.pairs_per_step]
        times = times_NM[chosen] if times_NM is not None else None
        figures = trainer.step([taught.examples[i] for i in chosen], trunk, times)
        check_bad_steps(trainer.execution.bad_steps, MAX_BAD_STEPS, "reward", step)
        work.record(step, figures | {"pairs_per_second": len(chosen) / (time.monotonic() - begun)})
        work.keep(step + 1, state_of)
        progress.advance(f"loss {figures['loss']:.3f}  accuracy {figures['accuracy']:.2f}")
    return trainer, trunk, started_at


def head_resamples(count: int, config: Reward, work: Workspace) -> list[list[int]]:
    """Each head's bootstrap of the examples; none where the heads are no members, or see everything."""
    ensemble = config.ensemble
    if ensemble is None or ensemble.kind != "heads" or not ensemble.bootstrap:
        return []
    return [resample(count, work.seed, work.round, member) for member in range(ensemble.members)]


def new(
    location: str, dtype: torch.dtype, tokenizer: Any, seed: int, round: int = 0, config: Reward = Reward()
) -> Any:
    """A reward model on the trunk of the checkpoint at ``location``, each head drawn from a named stream."""
    names = head_names(config)
    streams = [generator(seed, "reward head", round, *([name] if name else [])) for name in names]
    return models.new_reward(location, dtype, tokenizer, *streams)
