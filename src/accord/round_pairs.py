"""The pairs that a round asks about: samples of the newest policy, and which two of them are compared."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord import checkpoints, models
from accord.collect import collect
from accord.records import BadInput, Comparison, Pair, Prompt, write_jsonl
from accord.round_labels import prompts_tested_on
from accord.running import Running
from accord.selection import Selector
from accord.workspace import Workspace

logger = logging.getLogger("accord")
CHOICE = {"strategy", "random_share", "members"}  # of `collect`: without labels they change nothing


def collect_pairs(
    running: Running,
    round: int,
    policy_folder: Path,
    policy_key: str,
    policy_name: str,
    tokenizer: Any,
    dtype: torch.dtype,
    prompts: Sequence[Prompt],
    labels: Sequence[Comparison],
    sft_folder: Path,
) -> list[Pair]:
    """Pairs of the newest policy's answers; ``labels`` so far say which, where a strategy is asked for."""
    run, name = running.run, f"round-{round}/pairs"
    settings = run.collect
    chooses = settings.strategy != "random" and bool(labels)
    key = checkpoints.key(
        "pairs",
        policy_key,
        settings.model_dump(mode="json", exclude=set() if chooses else CHOICE),
        [(p.key, p.to_json()) for p in prompts],
        round,
        [c.to_json() for c in labels] if chooses else None,
    )
    folder = running.out / name

    def make() -> None:
        work = Workspace("collect", run.seed, round, log=running.log, quiet=running.quiet)
        model = models.load_policy(policy_folder, dtype)
        origin = {"run": run.name, "model": run.model.path}
        note: str = settings.strategy
        choose = None
        if chooses:
            limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
            tested = set() if run.data.test_comparisons else prompts_tested_on(run, labels, prompts, round)
            try:
                choose = Selector(
                    sft_folder, tokenizer, dtype, labels, settings, tested, limits, run.seed, round
                )
            except BadInput as error:
                note = f"random, because {error}"
        elif settings.strategy != "random":
            note = "random, because there are no labels to choose by yet"
        if note != settings.strategy:
            logger.warning("round %d: pairs are chosen at %s", round, note)
        pairs = collect(model, tokenizer, prompts, settings, work, policy_name, origin, choose)

        def write(target: Path) -> None:
            (target / "pairs.jsonl").write_text(write_jsonl(p.to_json() for p in pairs), encoding="utf-8")

        manifest = {"key": key, "policy": policy_name, "chosen_by": note}
        checkpoints.commit(folder, write, manifest=manifest)

    running.stage(name, key, make)
    # Not splitlines: a sample may hold U+2028 or U+0085, which JSON leaves as they are.
    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").split("\n")
    shutil.copyfile(folder / "pairs.jsonl", folder.parent / "pairs.jsonl")
    return [Pair.from_json(json.loads(line)) for line in lines if line]


def chosen_by(out: Path, round: int) -> str:
    document = checkpoints.read_commit(out / f"round-{round}" / "pairs")
    return str(document["manifest"].get("chosen_by", "random")) if document else "random"
