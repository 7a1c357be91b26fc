"""The scorers that a recipe names beside the run's own reward model: a Python function, or another model."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accord import models
from accord.config import Online
from accord.config_rewards import Constraint, RewardSource
from accord.records import BadInput
from accord.rewards import WeightedScorer
from accord.scoring.base import Scorer
from accord.scoring.foreign import load_foreign
from accord.scoring.function import FunctionScorer, RewardFunction
from accord.scoring.loading import load_scorer


def others(sources: Sequence[RewardSource]) -> list[WeightedScorer]:
    """A scorer for each source; two of the same name are numbered.

    Raises:
        BadInput: a function or a model that cannot be loaded.
    """
    out: list[WeightedScorer] = []
    for source in sources:
        name = _name(source.path)
        again = sum(one.name.rpartition("-")[0] == name or one.name == name for one in out)
        scorer = open_scorer(source.path, label=source.label, skip_failures=source.skip_failures)
        out.append(WeightedScorer(f"{name}-{again + 1}" if again else name, scorer, source.weight))
    return out


def require_loadable(online: Online) -> None:
    """Raises BadInput for a reward or a constraint that is not there, before anything is trained.

    A hub id is believed: to ask for it would be to fetch it.
    """
    paths = [source.path for source in online.rewards]
    if online.constraint is not None:
        paths.append(online.constraint.path)
    for path in paths:
        place, separator, called = path.rpartition(":")
        if separator:
            _function(path, place, called)
        elif path.startswith((".", "/", "~")) and not Path(path).is_dir():
            raise BadInput(f"there is no reward model at {path}: give a folder, a hub id or module:function")


def constrained(constraint: Constraint | None) -> Scorer | None:
    return None if constraint is None else open_scorer(constraint.path, label=constraint.label)


def open_scorer(path: str, *, label: str | None = None, skip_failures: bool = False) -> Scorer:
    """``module:function`` or ``file.py:function``; or a reward model's folder or hub id.

    accord's own reward models are given in normalised scores, others in their own units.

    Raises:
        BadInput: it cannot be loaded.
    """
    place, separator, called = path.rpartition(":")
    if separator:
        return FunctionScorer(_function(path, place, called), skip_failures=skip_failures)
    if (Path(path) / "accord_reward.json").is_file():
        return load_scorer(path, models.resolve_dtype())
    return load_foreign(path, label=label)


def _function(path: str, place: str, called: str) -> RewardFunction:
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            if spec is None or spec.loader is None or not Path(place).is_file():
                raise ImportError(f"there is no file {place}")
            module: Any = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        function: RewardFunction = getattr(module, called)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise BadInput(
            f"the reward {path!r} cannot be loaded ({type(error).__name__}: {error}): give"
            " module.name:function or file.py:function"
        ) from error
    return function


def _name(path: str) -> str:
    """What a figure can be called: the function, or the model's folder."""
    last = path.rpartition(":")[2] if ":" in path else Path(path).name
    return re.sub(r"[^A-Za-z0-9_]+", "_", last).strip("_") or "other"
