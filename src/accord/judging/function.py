"""Any Python function as judge: pairs in, verdicts out. Its labels are recorded as a function's."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accord.config import FunctionJudge as Config
from accord.records import VERDICTS, BadInput, Comparison, Pair
from accord.store import LabelStore

Function = Callable[[Sequence[Pair]], Sequence[Any]]


class FunctionJudge:
    """A judge that calls ``f(pairs)`` and gets a verdict for each: one of ``records.VERDICTS``.

    Each batch is stored before the next is asked, so a run that was stopped goes on where it was.

    Args:
        function: gets at most ``batch_size`` pairs at once.
        name: recorded with every label as ``function:NAME``; the function's own name where not given.
    """

    simulated = True

    def __init__(self, function: Function, name: str = "", batch_size: int = 64) -> None:
        self.function = function
        called = name or getattr(function, "__name__", type(function).__name__)
        self.annotator = f"function:{called}"
        self.annotators = (self.annotator,)
        self.name = source_name(called)
        self.batch_size = batch_size

    def label(self, pairs: Sequence[Pair], store: LabelStore) -> None:
        """Judge every pair that has no label by this function yet.

        Raises:
            BadInput: the function fails, or gives another number of verdicts, or something that is none.
                Batches before it are in the store.
        """
        store.add_pairs(pairs)
        waiting = store.pending(pairs, by=lambda name: name == self.annotator)
        for start in range(0, len(waiting), self.batch_size):
            store.add(self.judgements(waiting[start : start + self.batch_size]))

    def judgements(self, pairs: Sequence[Pair]) -> list[Comparison]:
        """One batch, checked."""
        try:
            verdicts = list(self.function(pairs))
        except Exception as error:  # whatever a user's function raises, it is theirs to mend
            detail = " ".join(str(error).split())[:200]
            raise BadInput(
                f"the judge {self.annotator} failed on a batch of {len(pairs)} pairs "
                f"({type(error).__name__}: {detail}): mend the function, then run the same command again"
            ) from error
        if len(verdicts) != len(pairs):
            raise BadInput(f"the judge {self.annotator} gave {len(verdicts)} verdicts for {len(pairs)} pairs")
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if verdict not in VERDICTS:
                raise BadInput(
                    f"the judge {self.annotator} says {str(verdict)[:40]!r} of pair {pair.id}: "
                    f"it must be one of {', '.join(VERDICTS)}"
                )
        return [
            Comparison(pair, verdict, self.annotator, source=self.name)
            for pair, verdict in zip(pairs, verdicts, strict=True)
        ]


def source_name(called: str) -> str:
    """What reports call these labels."""
    return f"a Python function as judge ({called}), no person"


def load_function(config: Config) -> FunctionJudge:
    """The judge of a recipe: ``module.name:function`` or ``file.py:function``.

    Raises:
        BadInput: no such file, module or function, or one that fails on import.
    """
    place, _, called = config.path.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            if spec is None or spec.loader is None or not Path(place).is_file():
                raise ImportError(f"there is no file {place}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        function = getattr(module, called)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise BadInput(
            f"judge.path {config.path!r} cannot be loaded ({type(error).__name__}: {error}): give "
            "module.name:function or file.py:function"
        ) from error
    return FunctionJudge(function, called, config.batch_size)
