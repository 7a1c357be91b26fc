"""Labels that people write into a file, with whatever tool they like.

The run writes its pairs to ``round-N/pairs.jsonl`` and waits. People answer in JSON Lines, one judgement a
line:

    {"pair": "0f3a…", "verdict": "a", "annotator": "ann", "strength": 2}

A line may also be a whole row of the pairs file with ``verdict`` (and ``annotator``) added, which is what one
gets by editing a copy; ``"verdict": null`` then means *not judged yet*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from accord.config import FileJudge
from accord.records import VERDICTS, BadInput, Comparison, Pair, Verdict, WaitingForLabels, is_person
from accord.store import LabelStore

NOT_PEOPLE_NAMED = "simulated annotators, models and functions"
UNNAMED = "unnamed"  # one person, as far as a file without annotators can say; correcting a line then works


class LabelFile:
    """A judge that reads people's labels from ``config.path`` (``{round}`` becomes the round's number)."""

    simulated = False
    annotators: tuple[str, ...] = ()

    def __init__(
        self, config: FileJudge, run_folder: str | Path = ".", pairs_file: str = "pairs.jsonl"
    ) -> None:
        self.path = config.path
        self.pairs_file = pairs_file
        self.run_folder = Path(run_folder)
        self.name = f"people (file {config.path})"

    def _labels_path(self, round_: int) -> Path:
        return Path(self.path.replace("{round}", str(round_)))

    def label(self, pairs: Sequence[Pair], store: LabelStore) -> None:
        """Take over every judgement that the file holds of ``pairs``; what is there is kept while we wait.

        A line that was changed since the last call replaces that annotator's earlier judgement.

        Raises:
            WaitingForLabels: no file, or pairs that nobody judged.
            BadInput: a line that is not a judgement; nothing of the file is then stored.
        """
        store.add_pairs(pairs, overlap=1)  # on the queue too: the labelling app serves the same store
        rounds = sorted({pair.round for pair in pairs})
        found: list[Comparison] = []
        strangers = 0
        for path in dict.fromkeys(self._labels_path(round_) for round_ in rounds):
            known = {pair.id: pair for pair in pairs if self._labels_path(pair.round) == path}
            judgements, others = read_labels(path, known, source=self.name)
            found += judgements
            strangers += others
        store.add(found)
        missing = store.pending(pairs, by=is_person)
        if missing:
            raise WaitingForLabels(self._sentence(missing, len({pair.id for pair in pairs}), strangers))

    def _sentence(self, missing: Sequence[Pair], total: int, strangers: int) -> str:
        first = missing[0]
        example = json.dumps({"pair": first.id, "verdict": "a", "annotator": "your name"})
        pairs_path = self.run_folder / f"round-{first.round}" / self.pairs_file
        note = ""
        if strangers:
            lines = (
                "1 line there is about a pair"
                if strangers == 1
                else f"{strangers} lines there are about pairs"
            )
            note = f" ({lines} that this run did not ask for)"
        return (
            f"{len(missing)} of {total} pairs have no label yet: for each pair in {pairs_path} write one "
            f"line such as {example} into {self._labels_path(first.round)}{note}, verdict one of "
            f"{', '.join(VERDICTS)} (or judge in the browser: `accord label {self.run_folder}`); "
            "then run the same command again"
        )


def read_labels(path: Path, known: Mapping[str, Pair], *, source: str) -> tuple[list[Comparison], int]:
    """The judgements in ``path`` of ``known`` pairs (by id), and how many lines are about other pairs.

    No file is no judgements: people have not begun.

    Raises:
        BadInput: with file and line: not UTF-8, not JSON, not a judgement, a pair whose text was changed, or
            one annotator who says two things about one pair.
    """
    said: dict[tuple[str, str], tuple[int, Comparison]] = {}
    strangers = 0
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        pair_id, shown_left = _pair_of(row, where)
        judged = _judgement(row, where)
        if judged is None:
            continue
        pair = known.get(pair_id)
        if pair is None:
            strangers += 1
            continue
        if shown_left not in (None, pair.shown_left):
            pair = Pair(pair.prompt, pair.a, pair.b, "b" if pair.shown_left == "a" else "a", pair.round)
        verdict, annotator, strength = judged
        comparison = Comparison(pair, verdict, annotator, strength, source)
        earlier = said.setdefault((pair_id, annotator), (number, comparison))
        if earlier[1].verdict != verdict:
            _refuse(
                where,
                f"{annotator!r} says {verdict!r} of pair {pair_id}, but line {earlier[0]} says "
                f"{earlier[1].verdict!r}: keep one of the two, or name different annotators",
            )
    return [comparison for _, comparison in said.values()], strangers


def _refuse(where: str, sentence: str) -> NoReturn:
    raise BadInput(f"{where}: {sentence}")


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number (from 1) and object of every line that is not blank."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"the label file {path} cannot be read ({error.strerror}): give a file") from None
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            _refuse(where, "not UTF-8 text: save the file as UTF-8")
        except (json.JSONDecodeError, RecursionError) as error:
            detail = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
            _refuse(where, f"not JSON ({detail}): write one complete object a line")
        if not isinstance(row, dict):
            _refuse(where, f'a {type(row).__name__}, not an object such as {{"pair": …, "verdict": "a"}}')
        yield number, row


def _pair_of(row: Mapping[str, Any], where: str) -> tuple[str, str | None]:
    """The id of the pair that a line is about, and the side it says was left (None: as the pair says)."""
    value = row.get("pair", row)
    if isinstance(value, str):
        return value, None
    if not isinstance(value, dict):
        _refuse(where, f"'pair' must be a pair's id or its row from the pairs file, got {value!r:.60}")
    stated = value.get("id")
    if "prompt" not in value:  # {"id": …, "verdict": …}: the pairs file calls its key "id"
        if not isinstance(stated, str):
            _refuse(where, "it names no pair: add 'pair' with an id from the pairs file")
        return stated, None
    try:
        pair = Pair.from_json(value)
        computed = pair.id
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _refuse(
            where,
            f"its pair is incomplete ({type(error).__name__}: {error}): copy the row from the pairs file",
        )
    if pair.shown_left not in ("a", "b"):
        _refuse(where, f"shown_left is {pair.shown_left!r}: it must be 'a' or 'b'")
    if stated is not None and stated != computed:
        _refuse(where, f"the texts of pair {stated} were changed: judge the row as it is in the pairs file")
    return computed, pair.shown_left if "shown_left" in value else None


def _judgement(row: Mapping[str, Any], where: str) -> tuple[Verdict, str, float | None] | None:
    """Verdict, annotator and strength; None where the line says that it was not judged yet."""
    if "verdict" not in row:
        _refuse(where, f"it has no 'verdict': add one of {', '.join(VERDICTS)} (null: not judged yet)")
    verdict = row["verdict"]
    if verdict is None:
        return None
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        _refuse(where, f"verdict {verdict!r} is not one of {', '.join(VERDICTS)}")
    annotator = row.get("annotator") or UNNAMED
    if not isinstance(annotator, str) or not annotator.isprintable():
        _refuse(where, f"annotator must be a name in printable characters, got {annotator!r}")
    if not is_person(annotator):
        _refuse(where, f"annotator {annotator!r} is a name kept for {NOT_PEOPLE_NAMED}: use another")
    strength = row.get("strength")
    if strength is None:
        return verdict, annotator, None
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not math.isfinite(strength):
        _refuse(where, f"strength must be a finite number or left out, got {strength!r}")
    return verdict, annotator, float(strength)
