"""The equal-label control of a round: its stages on the older policy's samples, in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord import checkpoints
from accord.equal_label_control import control_findings, margins_of
from accord.inputs import Inputs
from accord.judging import judge_from
from accord.metrics import MetricsLog
from accord.records import Comparison, Finding, Prompt
from accord.round_labels import counted_labels, sides_of
from accord.round_pairs import collect_pairs
from accord.round_policy import ROWS, optimise, settings_of_policy
from accord.round_reward import card_key, train_reward
from accord.running import Policy, Running
from accord.store import LabelStore


def control_of(
    running: Running,
    round: int,
    sft_folder: Path,
    sft_key: str,
    tokenizer: Any,
    dtype: torch.dtype,
    older: Policy,
    newer: Policy,
    labels_before: Sequence[Comparison],
    budget: int,
    fresh: Sequence[Comparison],
    inputs: Inputs,
    train_prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    evaluations: Sequence[dict[str, Any]],
    held_out: set[str],
) -> list[Finding]:
    """The round once more, with as many labels of the ``older`` policy's samples, in a folder of its own.

    Its pairs are chosen and its models started as the round's own are, so that nothing else differs.

    Args:
        fresh: labels of the newer policy's held-out samples, by which both reward models are judged.
    """
    run, out = running.run, running.out / "control"
    run = run.model_copy(update={"collect": run.collect.model_copy(update={"pairs": budget})})
    warm, onward = (
        start == "previous" for start in (run.between_rounds.reward_from, run.between_rounds.policy_from)
    )
    reward_start = running.out / f"round-{round - 1}" / "reward" if warm else None
    policy_start = newer.folder if onward else sft_folder
    limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
    (out / f"round-{round}").mkdir(parents=True, exist_ok=True)
    with MetricsLog(out / "metrics.jsonl") as log, LabelStore(out / "labels.db") as store:
        aside = Running(run, out, log, {}, quiet=running.quiet)
        pairs = collect_pairs(
            aside, round, older.folder, older.key, older.name, tokenizer, dtype, train_prompts,
            labels_before, sft_folder,
        )  # fmt: skip
        assert run.judge is not None
        judge_from(run.judge, seed=run.seed, run_folder=out).label(pairs, store)
        labels = [
            *labels_before,
            *counted_labels(run, out, store, [round], pairs, held_out=held_out),
        ]
        reward_key = checkpoints.key(
            "control reward", sft_key, [c.to_json() for c in labels], run.reward.model_dump(mode="json"),
            round, limits, [c.to_json() for c in inputs.test_comparisons],
            newer.key if warm or onward else None, warm, onward,
        )  # fmt: skip
        train_reward(
            aside, round, sft_folder, tokenizer, dtype, labels, inputs, card_key(run, reward_key), limits,
            reward_start,
        )  # fmt: skip
        policy_key = checkpoints.key(
            "control policy", reward_key, settings_of_policy(run), ROWS,
            [(p.key, p.to_json()) for p in (*train_prompts, *test_prompts)],
        )  # fmt: skip
        test_labels = sides_of(run, labels, inputs.test_comparisons)[1]
        control, _, _, _ = optimise(
            aside, round, sft_folder, tokenizer, dtype, train_prompts, test_prompts, policy_key, policy_start,
            test_labels,
        )  # fmt: skip
        running.stages += [one | {"stage": f"control/{one['stage']}"} for one in aside.stages]
    name, how = f"round-{round}/reward", (run.online.ensemble, run.online.criteria_weights)
    own, keys = margins_of(running.out / name, dtype, fresh, *how)
    theirs, _ = margins_of(out / name, dtype, fresh, *how)
    return control_findings((own, theirs, keys), evaluations, control, run.evaluate, run.judge)
