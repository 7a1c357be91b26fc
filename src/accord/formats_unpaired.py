"""Answers that were judged alone, good or bad (KTO): two of one prompt make a comparison.

The n-th good answer to a prompt is compared with its n-th bad one; where there are more of one kind, those of
the other are used again. So every answer is in a comparison, their number grows with the rows and not with
their square, and pairs that were taken apart come together again. A prompt of which only good or only bad
answers are known cannot be compared: its rows are rejects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle, islice

from accord.formats_comparison import Columns, Items, Reject, labelled
from accord.formats_llamafactory import alpaca_prompt, turns_of_row
from accord.formats_messages import checked_prompt, prompt_of, response_of, split_answer
from accord.records import Comparison, Pair, Prompt, Response

TAGS = ("label", "kto_tag")  # TRL's name, LLaMA-Factory's


@dataclass(frozen=True)
class Unpaired:
    """One answer and whether it is a good one, with the row that said so."""

    prompt: Prompt
    text: str
    good: bool
    row: Columns
    file: str


def _tag(row: Columns) -> bool | None:
    return next((row[name] for name in TAGS if isinstance(row.get(name), bool)), None)


def is_unpaired(row: Columns) -> bool:
    """Whether a row tags its answer as good or bad."""
    return _tag(row) is not None


def read_unpaired(row: Columns, file: str) -> list[Unpaired]:
    """TRL (prompt, completion, label) and LLaMA-Factory (instruction, output, kto_tag)."""
    if "instruction" in row:
        prompt, text = alpaca_prompt(row), response_of(row["output"], "output")
    else:
        prompt, text = prompt_of(row["prompt"]), response_of(row["completion"], "completion")
    return [Unpaired(prompt, text, bool(_tag(row)), row, file)]


def read_unpaired_conversation(row: Columns, file: str) -> list[Unpaired]:
    """A conversation that ends with the tagged answer: OpenAI's messages or ShareGPT's conversations."""
    name = "messages" if "messages" in row else "conversations"
    before, text = split_answer(turns_of_row(row, name), name)
    return [Unpaired(checked_prompt(before, name), text, bool(_tag(row)), row, file)]


def pair_up(items: Items) -> Items:
    """Comparisons out of the answers of a whole file, which is held in memory."""
    by_prompt: dict[Prompt, tuple[list[tuple[int, Unpaired]], list[tuple[int, Unpaired]]]] = {}
    for item in items:
        if isinstance(item, Reject):
            yield item
            continue
        line, (answer,) = item
        kinds = by_prompt.setdefault(answer.prompt, ([], []))
        kinds[0 if answer.good else 1].append((line, answer))
    for good, bad in by_prompt.values():
        if not good or not bad:
            missing = "good" if bad else "bad"
            reason = f"no {missing} answer to its prompt is in the file: there is nothing to compare it with"
            for line, answer in good + bad:
                yield Reject(line, reason, answer.row)
            continue
        count = max(len(good), len(bad))
        for (line, one), (other_line, other) in zip(
            islice(cycle(good), count), islice(cycle(bad), count), strict=True
        ):
            if one.text == other.text:
                reason = f"the same answer is called good here and bad in line {other_line}"
                yield Reject(line, reason, one.row)
            else:
                yield line, (_comparison(one, other),)


def _comparison(good: Unpaired, bad: Unpaired) -> Comparison:
    pair = Pair(good.prompt, Response(good.text), Response(bad.text))
    found = labelled(good.row, good.file, pair, "a", None)
    return replace(found, meta={})  # an id or a note is of one answer, not of the pair
