"""What a run reads: demonstrations, prompts and comparisons, split by prompt and checked before anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord import formats, formats_judged
from accord.config import Run
from accord.formats_unpaired import Unpaired
from accord.records import BadInput, Comparison, Demonstration, Prompt


@dataclass(frozen=True)
class Inputs:
    """What a run reads, split by prompt.

    ``answers`` were judged alone and stand in the file of the comparisons; they are read for KTO only.
    """

    demonstrations: tuple[Demonstration, ...]
    train_prompts: tuple[Prompt, ...]
    test_prompts: tuple[Prompt, ...]
    comparisons: tuple[Comparison, ...]
    test_comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    answers: tuple[Unpaired, ...] = ()


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
    answers: tuple[Unpaired, ...] = ()
    if data.comparisons is not None:
        if run.direct is not None and run.direct.algorithm == "kto":
            answers = formats_judged.read_judged(data.comparisons)
        comparisons = _comparisons(data.comparisons, answers, run.judge is not None, notes)
    if data.test_comparisons is not None:
        test_comparisons = formats.read_comparisons(data.test_comparisons).rows
    if data.test_prompts is None:  # a prompt that is learned from elsewhere cannot be held out
        learned = {d.prompt.key for d in demonstrations} | {c.prompt.key for c in comparisons}
        learned |= {a.prompt.key for a in answers}
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
    _refuse_overlap("test prompts", [p.key for p in test], "the answers", [a.prompt.key for a in answers])
    notes.append(f"{len(train)} prompts to train on, {len(test)} held out")
    return Inputs(
        demonstrations, tuple(train), tuple(test), comparisons, test_comparisons, tuple(notes), answers
    )


def _comparisons(
    path: str, answers: Sequence[Unpaired], judge: bool, notes: list[str]
) -> tuple[Comparison, ...]:
    """The comparisons of a file; of answers that were judged alone, those that find a partner.

    The reward model, which measures a KTO policy, needs pairs; the policy itself does not. Where no answer
    finds a partner, the judge's labels of sampled pairs are what the reward model learns from.
    """
    if answers:
        notes.append(f"{len(answers)} answers that were judged alone")
    try:
        found = formats.read_comparisons(path, max_rejects=len(answers))
    except BadInput:
        if not answers:
            raise
        if judge:
            notes.append("none of them has a partner: the reward model learns from the judge's labels alone")
            return ()
        raise BadInput(
            f"no prompt of {path} has both a good and a bad answer: kto could learn from it, but the reward"
            " model that its policy is measured by could not; give some prompts answers of both kinds, or a"
            " judge that labels sampled pairs"
        ) from None
    notes.append(f"{len(found.rows)} comparisons ({found.format})")
    return found.rows


def _refuse_overlap(what: str, keys: Sequence[str], where: str, others: Sequence[str]) -> None:
    shared = set(keys) & set(others)
    if shared:
        raise BadInput(
            f"{len(shared)} of the {what} are also among {where}: remove them from one side"
            " (`accord data check FILE --against OTHER` lists them)"
        )
