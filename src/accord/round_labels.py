"""Which labels count in a round, and which of them the reward model is fitted to and tested on.

A prompt has one side for good. What is held out of the run is never learned from, whatever a label store of
an earlier split holds; and a prompt that a reward model was fitted to in one round is not tested on in a
later one, nor the other way round, which a warm start would not survive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from accord import formats
from accord.config import HumanJudge, Run
from accord.judging import SimulatedAnnotators, judge_from, label_source
from accord.judging.simulated import DESCRIPTION
from accord.records import Comparison, Pair, Prompt, is_person
from accord.store import LabelStore
from accord.streams import stream_seed

MACHINES = "models or functions as judges, no person"
UNNAMED = "annotators who are not named"


def counted_labels(
    run: Run,
    out: Path,
    store: LabelStore,
    rounds: Collection[int],
    sampled: Sequence[Pair],
    *,
    held_out: Collection[str] = (),
) -> list[Comparison]:
    """What counts of the store, in the order of the pairs: it may hold an earlier run's labels.

    People's labels always count, whatever policy they judged. Those of simulated annotators, models and
    functions count where they are this run's judge, on this run's own pairs alone, and simulated ones only as
    this seed and these settings have them: so a run gives the same bits in a used folder as in a new one.

    Args:
        sampled: this run's own pairs.
        held_out: keys of prompts whose labels are left out: nothing is learned from them.
    """
    place = {pair.id: number for number, pair in reversed(list(enumerate(sampled)))}
    said: dict[tuple[str, str, str], int] = {}
    machines: tuple[str, ...] = ()
    if run.judge is not None:
        judge = judge_from(run.judge, seed=run.seed, run_folder=out)
        machines = judge.annotators
        if isinstance(judge, SimulatedAnnotators):
            judged = judge.judgements(sampled)
            said = {(c.pair.id, c.annotator, c.verdict): n for n, c in enumerate(judged)}
    kept: list[tuple[int, int, Comparison]] = []
    for one in store.comparisons(rounds, _criterion(run)):
        voice = (one.pair.id, one.annotator, one.verdict)
        own = one.annotator in machines and one.pair.id in place and (not said or voice in said)
        if one.prompt.key in held_out or not (own or is_person(one.annotator)):
            continue
        kept.append((place.get(one.pair.id, len(place)), said.get(voice, len(said)), one))
    return [one for _, _, one in sorted(kept, key=lambda row: row[:2])]


def sides_of(
    run: Run, labels: Sequence[Comparison], test_comparisons: Sequence[Comparison]
) -> tuple[list[Comparison], list[Comparison]]:
    """(labels that the reward model is fitted to, labels that it is tested on)."""
    if test_comparisons:
        return list(labels), list(test_comparisons)
    # A stream of its own: the prompts were split by hash already, the same hash would leave none.
    return split_over_rounds(labels, run.reward.test_fraction, stream_seed(run.seed, "reward split"))


def split_over_rounds(
    labels: Sequence[Comparison], fraction: float, seed: int
) -> tuple[list[Comparison], list[Comparison]]:
    """(train, test) by prompt, where a prompt keeps the side that it had in the first round with its labels.

    ``formats.split_by_prompt`` alone moves a prompt when it is the only one of its side: with few prompts in
    round 0 that prompt would change sides as soon as round 1 brings others.

    Raises:
        BadInput: ``fraction`` is not between 0 and 1.
    """
    held = _held_out([(one.prompt.key, one.pair.round) for one in labels], fraction, seed)
    train = [one for one in labels if one.prompt.key not in held]
    return train, [one for one in labels if one.prompt.key in held]


def prompts_tested_on(
    run: Run, labels: Sequence[Comparison], prompts: Sequence[Prompt], round: int
) -> set[str]:
    """Keys of those prompts whose labels the reward model will be tested on, once they are labelled."""
    asked = [(one.prompt.key, one.pair.round) for one in labels] + [(one.key, round) for one in prompts]
    return _held_out(asked, run.reward.test_fraction, stream_seed(run.seed, "reward split"))


def _held_out(asked: Sequence[tuple[str, int]], fraction: float, seed: int) -> set[str]:
    """Prompts on the test side, of (prompt key, round)."""
    held: dict[str, bool] = {}
    for last in sorted({round for _, round in asked}):
        known = [key for key, round in asked if round <= last]
        sides = formats.split_by_prompt(known, fraction, key=lambda key: key, seed=seed)
        for side, keys in enumerate(sides):
            for key in keys:
                held.setdefault(key, side == 1)
    return {key for key, out in held.items() if out}


def _criterion(run: Run) -> str:
    """Which question the reward model learns, where people were asked more than one."""
    return run.judge.criterion if isinstance(run.judge, HumanJudge) else ""


def source_of_labels(run: Run, labels: Sequence[Comparison], given: Sequence[Comparison] = ()) -> str:
    """Where the labels come from, for the reward model's card and the report.

    Of a file's labels the annotators' names say who judged; a file without names does not say it.

    Args:
        given: those of the labels that ``data.comparisons`` held.
    """
    if given and run.data.comparisons is not None:
        return _source_by_names(f"file {Path(run.data.comparisons).name}", labels)
    assert run.judge is not None  # the configuration wants comparisons or a judge
    source = label_source(run.judge)
    by_people = 0 if source.startswith("people") else sum(is_person(one.annotator) for one in labels)
    return f"{source}, and people ({by_people} of {len(labels)} labels)" if by_people else source


def _source_by_names(file: str, labels: Sequence[Comparison]) -> str:
    """In words who signed the labels, people first, each with its number where there are several kinds."""
    kinds = Counter(_kind(one.annotator) for one in labels)
    there = [(name, kinds[name]) for name in ("people", DESCRIPTION, MACHINES, UNNAMED) if kinds[name]]
    if len(there) > 1:
        return (
            f"{', and '.join(f'{name} ({count} of {len(labels)} labels)' for name, count in there)}, {file}"
        )
    return f"{there[0][0] if there else UNNAMED} ({file})"


def _kind(annotator: str) -> str:
    if not annotator:
        return UNNAMED
    if is_person(annotator):
        return "people"
    return DESCRIPTION if annotator.startswith("simulated:") else MACHINES
