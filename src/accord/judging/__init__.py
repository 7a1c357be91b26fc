"""Who says which answer is better: people, or simulated annotators (a stand-in for people)."""

from __future__ import annotations

from pathlib import Path

from accord import config
from accord.judging.base import Judge
from accord.judging.human import LabelFile
from accord.judging.people import People
from accord.judging.simulated import SimulatedAnnotators

__all__ = ["Judge", "LabelFile", "People", "SimulatedAnnotators", "judge_from"]


def judge_from(judge: config.Judge, *, seed: int, run_folder: str | Path) -> Judge:
    """The judge that a recipe asks for; ``run_folder`` is where a waiting run points people to its pairs."""
    match judge:
        case config.Simulated():
            return SimulatedAnnotators(judge, seed)
        case config.FileJudge():
            return LabelFile(judge, run_folder)
        case config.HumanJudge():
            return People(judge, run_folder)
