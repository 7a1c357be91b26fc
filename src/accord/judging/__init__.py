"""Who says which answer is better: people, simulated annotators (a stand-in), a model, or a function."""

from __future__ import annotations

from pathlib import Path

from accord import config
from accord.judging import function, llm
from accord.judging.base import Judge
from accord.judging.function import FunctionJudge, load_function
from accord.judging.human import LabelFile
from accord.judging.llm import LlmJudge
from accord.judging.people import SOURCE, People
from accord.judging.simulated import DESCRIPTION, SimulatedAnnotators

__all__ = [
    "FunctionJudge",
    "Judge",
    "LabelFile",
    "LlmJudge",
    "People",
    "SimulatedAnnotators",
    "judge_from",
    "label_source",
]


def judge_from(
    judge: config.Judge, *, seed: int, run_folder: str | Path, pairs_file: str = "pairs.jsonl"
) -> Judge:
    """The judge that a recipe asks for; ``run_folder`` is where a waiting run points people to its pairs, in
    the round's ``pairs_file``.
    """
    match judge:
        case config.Simulated():
            return SimulatedAnnotators(judge, seed)
        case config.FileJudge():
            return LabelFile(judge, run_folder, pairs_file)
        case config.HumanJudge():
            return People(judge, run_folder)
        case config.LlmJudge():
            return LlmJudge(judge)
        case config.FunctionJudge():
            return load_function(judge)


def label_source(judge: config.Judge) -> str:
    """Where a judge's labels come from, for cards and reports. Only people's begin with "people"."""
    match judge:
        case config.Simulated():
            return DESCRIPTION
        case config.FileJudge():
            return f"people (file {Path(judge.path).name})"
        case config.HumanJudge():
            return SOURCE
        case config.LlmJudge():
            return llm.source_name(judge)
        case config.FunctionJudge():
            return function.source_name(judge.path.rpartition(":")[2])
