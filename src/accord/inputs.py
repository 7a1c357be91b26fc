"""What a run reads: demonstrations, prompts and comparisons, split by prompt and checked before anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord import formats
from accord.config import Run
from accord.records import BadInput, Comparison, Demonstration, Prompt


@dataclass(frozen=True)
class Inputs:
    """What a run reads, split by prompt."""

    demonstrations: tuple[Demonstration, ...]
    train_prompts: tuple[Prompt, ...]
    test_prompts: tuple[Prompt, ...]
    comparisons: tuple[Comparison, ...]
    test_comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()


def read_inputs(run: Run) -> Inputs:
    """Read and check all data before anything expensive.

    Raises:
        BadInput: missing or damaged files, nothing to sample from, test prompts that are in the training set.
    """
    data, notes = run.data, []
    demonstrations: tuple[Demonstration, ...] = ()
    if run.sft is not None:
        if data.demonstrations is None:
            raise BadInput(
                "sft needs data.demonstrations: give a file, or set sft: null to start from the model"
                " as it is"
            )
        read = formats.read_demonstrations(data.demonstrations)
        demonstrations = read.rows
        notes.append(f"{len(read.rows)} demonstrations ({read.format})")
    if data.prompts is None:
        raise BadInput("there are no prompts to sample from: give data.prompts")
    prompts = formats.read_prompts(data.prompts).rows
    if data.test_prompts is not None:
        train, test = prompts, formats.read_prompts(data.test_prompts).rows
    else:
        train, test = prompts, ()
    comparisons: tuple[Comparison, ...] = ()
    test_comparisons: tuple[Comparison, ...] = ()
    if data.comparisons is not None:
        found = formats.read_comparisons(data.comparisons)
        comparisons = found.rows
        notes.append(f"{len(found.rows)} comparisons ({found.format})")
    if data.test_comparisons is not None:
        test_comparisons = formats.read_comparisons(data.test_comparisons).rows
    if data.test_prompts is None:  # a prompt that is learned from elsewhere cannot be held out
        learned = {d.prompt.key for d in demonstrations} | {c.prompt.key for c in comparisons}
        fresh = [p for p in prompts if p.key not in learned]
        split = formats.split_by_prompt(fresh, data.test_fraction, key=lambda p: p.key, seed=run.seed)
        held = {p.key for p in split[1]}
        train = tuple(p for p in prompts if p.key not in held)
        test = tuple(split[1])
    if not test:
        raise BadInput("no prompt is left to evaluate on: give data.test_prompts or more data.prompts")
    _refuse_overlap("test prompts", [p.key for p in test], "the prompts", [p.key for p in train])
    if test_comparisons:
        keys = [c.prompt.key for c in test_comparisons]
        _refuse_overlap("test comparisons", keys, "the comparisons", [c.prompt.key for c in comparisons])
        if run.judge is not None:  # answers to these prompts are labelled, and learned from
            _refuse_overlap("test comparisons", keys, "the prompts", [p.key for p in train])
    _refuse_overlap(
        "test prompts", [p.key for p in test], "the demonstrations", [d.prompt.key for d in demonstrations]
    )
    _refuse_overlap(
        "test prompts", [p.key for p in test], "the comparisons", [c.prompt.key for c in comparisons]
    )
    notes.append(f"{len(train)} prompts to train on, {len(test)} held out")
    return Inputs(demonstrations, tuple(train), tuple(test), comparisons, test_comparisons, tuple(notes))


def _refuse_overlap(what: str, keys: Sequence[str], where: str, others: Sequence[str]) -> None:
    shared = set(keys) & set(others)
    if shared:
        raise BadInput(
            f"{len(shared)} of the {what} are also among {where}: remove them from one side"
            " (`accord data check FILE --against OTHER` lists them)"
        )
