"""Can I trust this reward model? Loads it, scores held-out comparisons, probes it, judges it, writes a card.

``accord evaluate reward`` is this and nothing more. The pipeline calls `card_of` with a model that it has at
hand, and `write_card` on its checkpoint folder.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from accord import formats, models
from accord.config import Gate
from accord.diagnostics.benchmarks import benchmark_table
from accord.diagnostics.probe_figures import measure_probes, real_responses
from accord.diagnostics.probes import PROBES
from accord.diagnostics.reward_evaluation import ScoredPairs, evaluate
from accord.diagnostics.reward_gate import Verdict, gate
from accord.diagnostics.statistics import FloatArray
from accord.formats_benchmarks import read_benchmark
from accord.records import BadInput, Comparison, Prompt, Response
from accord.report.reward_card import write_card
from accord.scoring.foreign import load_foreign
from accord.scoring.foreign_scorer import Inputs
from accord.scoring.function import FunctionScorer
from accord.scoring.loading import ENSEMBLE, load_scorer
from accord.scoring.subject import Subject
from accord.workspace import Progress

FUNCTION_SECONDS = 600.0  # for one batch of a Python function
FUNCTION_BATCH = 64
RESPONSES_AT_ONCE = 64  # between two lines of progress
PROBED_ANSWERS = 200


@dataclass(frozen=True)
class Evaluation:
    """A card, the verdict on it, and the files that hold it (none where none were asked for)."""

    card: dict[str, Any]
    verdict: Verdict
    paths: tuple[Path, ...] = ()


def python_function(location: str) -> FunctionScorer:
    """``path/to/file.py:name`` as a scorer; responses that it cannot score are NaN and counted.

    Raises:
        BadInput: no such file, no such name in it, or no function; an error while the file is run.
    """
    file, _, name = location.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise BadInput(f"no Python file at {path}: give path/to/file.py:function")
    spec = importlib.util.spec_from_file_location(f"accord_reward_function_{path.stem}", path)
    assert spec is not None  # a .py file has one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise BadInput(f"{path} defines no function {name!r}")
    return FunctionScorer(
        function, batch_size=FUNCTION_BATCH, timeout_seconds=FUNCTION_SECONDS, skip_failures=True
    )


def load_subject(model: str, *, label: str | None = None, inputs: Inputs | None = None) -> Subject:
    """What is to be evaluated: accord's own checkpoint, a foreign one, or ``file.py:function``.

    Raises:
        BadInput: there is no such model, or it needs to be told which label is the score.
    """
    if ".py:" in model:
        if label is not None or inputs is not None:
            raise BadInput("a Python function has neither labels nor inputs: leave both out")
        return Subject(python_function(model), model, "Python function")
    if own_checkpoint(model) and label is None and inputs is None:
        return Subject(load_scorer(model, models.resolve_dtype()), shown(model), "accord reward model")
    scorer = load_foreign(model, label=label, inputs=inputs, dtype=models.resolve_dtype())
    return Subject(scorer, shown(model), scorer.kind)


def own_checkpoint(model: str) -> bool:
    """Whether accord trained it: its configuration then says how to read the score."""
    folder = Path(model)
    if (folder / ENSEMBLE).is_file():
        return True
    if not (folder / "config.json").is_file():
        return False
    try:
        return hasattr(AutoConfig.from_pretrained(model), "accord")
    except (OSError, ValueError, KeyError):
        return False


def shown(model: str) -> str:
    """A folder by its last three names: a card travels, the path before them does not matter."""
    path = Path(model)
    return "/".join(path.resolve().parts[-3:]) if path.exists() else model


def _in_parts(subject: Subject, progress: Progress) -> Callable[..., list[float]]:
    """The subject's ``score``, a few responses at a time, with progress; NaN for what does not fit.

    Comparisons that do not fit are left out beforehand; an edit may make an answer longer than the context.
    """

    def score(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[float]:
        scores = [math.nan] * len(responses)
        fitting = [i for i, one in enumerate(responses) if subject.fits(prompts[i], one)]
        for start in range(0, len(fitting), RESPONSES_AT_ONCE):
            part = fitting[start : start + RESPONSES_AT_ONCE]
            found = subject.score([prompts[i] for i in part], [responses[i] for i in part])
            for i, value in zip(part, found, strict=True):
                scores[i] = value
            progress.advance(steps=len(part))
        if len(fitting) < len(responses):
            progress.advance(steps=len(responses) - len(fitting))
        return scores

    return score


def fitting(subject: Subject, rows: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons whose two answers the scorer can take whole.

    Raises:
        BadInput: there is none.
    """
    kept = [r for r in rows if subject.fits(r.prompt, r.pair.a) and subject.fits(r.prompt, r.pair.b)]
    if rows and not kept:
        raise BadInput(
            f"each of {len(rows)} comparisons is beyond what the reward model takes: give shorter prompts"
        )
    return kept


def card_of(
    subject: Subject,
    comparisons: Sequence[Comparison],
    training: Sequence[Comparison] = (),
    *,
    thresholds: Gate | None = None,
    seed: int = 0,
    bootstrap: int = 2000,
    probed: int = PROBED_ANSWERS,
    files: Sequence[str] = (),
    training_files: Sequence[str] = (),
    label_source: str = "",
    quiet: bool = True,
) -> tuple[dict[str, Any], Verdict]:
    """Everything measured about a scorer on held-out comparisons, with the verdict in it under ``gate``.

    Args:
        comparisons: held out; ties and skips may be among them.
        training: what the scorer was trained on, for the learned floors and to find leakage.
        probed: at most so many answers are edited by each probe; 0 leaves the probes out.
        label_source: who judged, where the caller knows better than the annotators' names say.

    Raises:
        BadInput: no comparison that can be used; see `diagnostics.reward_evaluation.evaluate`.
    """
    limits = thresholds or Gate()
    rows = fitting(subject, comparisons)
    prompts = [row.prompt for row in rows for _ in "ab"]
    answers = [answer for row in rows for answer in (row.pair.a, row.pair.b)]
    found = _in_parts(subject, Progress("held-out pairs", len(answers), quiet=quiet))(prompts, answers)
    pairs = ScoredPairs(rows, np.array(found, dtype=np.float64).reshape(-1, 2))
    card = evaluate(pairs, training, samples=bootstrap, seed=seed)
    if label_source:
        card["data"]["label_source"] = label_source
    items = real_responses(rows, probed, seed) if probed and not card["scores"]["constant"] else []
    card["benchmarks"] = benchmark_tables(rows, pairs.score_N2, bootstrap, seed)
    progress = Progress("probes", len(items) * (1 + len(PROBES)), quiet=quiet)
    card["probes"] = (
        measure_probes(
            items,
            _in_parts(subject, progress),
            deviation=card["scores"]["deviation"],
            reads_end=subject.reads_end,
            samples=bootstrap,
            seed=seed,
        )
        if items
        else None
    )
    if progress.done < progress.total:  # edits that do not apply to every answer
        progress.advance(steps=progress.total - progress.done)
    verdict = gate(card, limits)
    return card | {
        "format": 1,
        "name": subject.path,
        "model": {"path": subject.path, "kind": subject.kind},
        "files": list(files),
        "training_files": list(training_files),
        "left_out": len(comparisons) - len(rows),
        "probed": len(items),
        "made_by": {
            "accord": importlib.metadata.version("accord-rlhf"),
            "seed": seed,
            "bootstrap": bootstrap,
        },
        "gate": verdict.to_json() | {"thresholds": limits.model_dump(mode="json")},
    }, verdict


def benchmark_tables(
    rows: Sequence[Comparison], score_N2: FloatArray, samples: int, seed: int
) -> list[dict[str, Any]]:
    """The usual table of each benchmark among the comparisons (told by their ``meta``), as JSON values.

    Rows without two finite scores are left out and counted in the notes.
    """
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.meta.get("benchmark") and row.chosen is not None:
            groups.setdefault(str(row.meta["benchmark"]), []).append(i)
    tables = []
    for name, every in groups.items():
        kept = [i for i in every if np.isfinite(score_N2[i]).all()]
        if not kept:
            continue
        sign_N = np.array([1.0 if rows[i].verdict == "a" else -1.0 for i in kept])
        margin_N = sign_N * (score_N2[kept, 0] - score_N2[kept, 1])
        table = benchmark_table([rows[i] for i in kept], margin_N=margin_N, samples=samples, seed=seed)
        notes = list(table.notes)
        if len(kept) < len(every):
            notes.append(f"{len(every) - len(kept)} of {len(every)} pairs could not be scored")
        lines = [
            {
                "group": line.group,
                "name": line.name,
                "items": line.items,
                "score": line.score.figure,
                "interval": line.score.bounds,
            }
            for line in table.lines
        ]
        tables.append({"name": name, "lines": lines, "notes": notes})
    return tables


def target(model: str, out: str | Path | None) -> Path:
    """The folder that the card goes into: ``out``, or the checkpoint's own.

    Raises:
        BadInput: none is given and the model is no folder, or it cannot be written.
    """
    folder = Path(out) if out is not None else Path(model)
    if out is None and not folder.is_dir():
        raise BadInput(f"{model} is no folder that a card could be written into: give --out")
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise BadInput(f"no card can be written into {folder}: give another --out")
    return folder


def read(files: Sequence[str | Path], max_rejects: int = 0, *, benchmark: bool = False) -> list[Comparison]:
    """All comparisons of the files, in order; at most ``max_rejects`` rows of each may be unusable.

    Args:
        benchmark: the files are in the layouts of RewardBench, RewardBench 2, RM-Bench or LLMBar.
    """
    rows: list[Comparison] = []
    for file in files:
        if benchmark:
            rows += read_benchmark(file, max_rejects=max_rejects).rows
        else:
            rows += formats.read_comparisons(file, max_rejects=max_rejects).rows
    return rows


def evaluate_reward(
    model: str,
    data: Sequence[str | Path],
    *,
    train: Sequence[str | Path] = (),
    out: str | Path | None = None,
    thresholds: Gate | None = None,
    seed: int = 0,
    bootstrap: int = 2000,
    probed: int = PROBED_ANSWERS,
    label: str | None = None,
    inputs: Inputs | None = None,
    max_rejects: int = 0,
    benchmark: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate a reward model on files of comparisons and write its card.

    Args:
        model: a folder, a hub id, or ``file.py:function``.
        data: files of held-out comparisons, in any format that accord reads.
        train: files of training comparisons, for the floors that learn.
        out: where card.html, card.md and card.json go; None is the model's own folder.
        max_rejects: rows of a file that may be unusable (an answer without a text, for example).
        benchmark: ``data`` are benchmarks of reward models; the card then has their usual tables.

    Raises:
        BadInput: anything that cannot be used, before the model is loaded wherever possible.
    """
    folder = target(model, out)
    comparisons = read(data, max_rejects, benchmark=benchmark)
    training = read(train, max_rejects)
    subject = load_subject(model, label=label, inputs=inputs)
    card, verdict = card_of(
        subject,
        comparisons,
        training,
        thresholds=thresholds,
        seed=seed,
        bootstrap=bootstrap,
        probed=probed,
        files=[Path(file).name for file in data],
        training_files=[Path(file).name for file in train],
        quiet=quiet,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return Evaluation(card, verdict, tuple(write_card(folder, card)))
