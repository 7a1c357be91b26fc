"""What is measured of a finished policy with models and with fresh labels: the material of the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord import checkpoints, round_evidence
from accord.fresh_labels import fresh_pairs
from accord.inputs import Inputs
from accord.judging import judge_from
from accord.records import Comparison, write_jsonl
from accord.round_labels import counted_labels, sides_of
from accord.running import Running
from accord.store import LabelStore


def measure(
    running: Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    labels: Sequence[Comparison],
    inputs: Inputs,
    evaluations: Sequence[dict[str, Any]],
    best_of: Sequence[dict[str, Any]],
    key: str,
) -> round_evidence.Measured:
    """What the evidence needs of models, kept so that a finished run reads it in seconds."""
    run, name = running.run, f"round-{round}/evidence"
    folder = running.out / name
    limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}

    def make() -> None:
        training, test = sides_of(run, labels, inputs.test_comparisons)
        reward_folder = running.out / f"round-{round}" / "reward"
        found = round_evidence.measure(
            sft_folder, reward_folder, tokenizer, dtype, evaluations, best_of, training, test, run.evaluate,
            limits, run.online.ensemble, run.online.criteria_weights,
        )  # fmt: skip
        checkpoints.commit(folder, lambda target: round_evidence.write(target, found), manifest={"key": key})

    running.stage(name, key, make)
    return round_evidence.read(folder)


def fresh_labels_of(
    running: Running,
    round: int,
    rows: Sequence[dict[str, Any]],
    policy_name: str,
    store: LabelStore,
) -> list[Comparison]:
    """Fresh labels of the final policy's samples; none where none are asked for.

    Raises:
        WaitingForLabels: people have to label them first.
    """
    run, out = running.run, running.out
    if not run.evaluate.fresh_pairs or run.judge is None:
        return []
    pairs = fresh_pairs(rows, run.evaluate.fresh_pairs, policy_name, round)
    text = write_jsonl(pair.to_json() for pair in pairs)
    (out / f"round-{round}" / "fresh_pairs.jsonl").write_text(text, encoding="utf-8")
    judge_from(run.judge, seed=run.seed, run_folder=out, pairs_file="fresh_pairs.jsonl").label(pairs, store)
    wanted = {pair.id for pair in pairs}
    labels = counted_labels(run, out, store, [round], pairs)
    return [one for one in labels if one.pair.id in wanted]
