"""Labelling from Python: serve a store to people, wait for them, take what they said.

with labelling.serve("runs/demo") as server:
print(server.address.links)
labelling.wait("runs/demo")
comparisons = labelling.to_dataset("runs/demo")
"""

from __future__ import annotations

import dataclasses
import glob
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sql

from accord import formats
from accord.records import BadInput, Comparison, Pair, Prompt, Response, is_person
from accord.store import LabelStore, campaign, queue
from accord.store.people import Role
from accord.store.schema import queue as queue_table
from accord.web import figures

if TYPE_CHECKING:  # the server is imported where one is started: the rest works without it
    from accord.web.server import Server


def location_of(target: str | Path) -> str:
    """The store that belongs to a run directory, a file of pairs, a store file, or a database URL.

    Raises:
        BadInput: nothing is there, or a folder that is no run.
    """
    text = str(target)
    if "://" in text:
        return text
    path = Path(text)
    if path.is_dir():
        if not (path / "labels.db").exists() and not (path / "config.yaml").exists():
            raise BadInput(f"{path} is a folder, but no run: give a run directory, for example runs/demo")
        return str(path / "labels.db")
    if not path.exists():
        raise BadInput(
            f"there is nothing at {path}: give a run directory, a file of pairs, or a database URL"
        )
    if path.suffix in (".db", ".sqlite"):
        return str(path)
    return str(path.with_name(path.name.split(".")[0] + ".labels.db"))


def open_store(target: str | Path, *, store: str | None = None, overlap: int | None = None) -> LabelStore:
    """The store of ``target`` with everything in it on the queue; the pairs of a file are put in first.

    Args:
        store: another place for the labels than beside the file, for example a PostgreSQL URL.
        overlap: different people an item; None keeps what the store says (1 in a new one).
    """
    opened = LabelStore(store or location_of(target))
    try:
        path = Path(str(target))
        rows: Sequence[Pair | tuple[Prompt, Sequence[Response], int]] = ()
        if "://" not in str(target) and path.is_file() and path.suffix not in (".db", ".sqlite"):
            rows = list(read_items(path))
        if overlap is not None:
            opened.write(lambda c: campaign.save(c, "command line", time.time(), overlap=overlap))
        each = opened.read(campaign.load).overlap
        pairs = [row for row in rows if isinstance(row, Pair)]
        opened.add_pairs(pairs, overlap=each)
        opened.add_rankings([row for row in rows if not isinstance(row, Pair)], overlap=each)
        opened.write(lambda c: queue.enqueue_rest(c, each))
    except BaseException:
        opened.close()
        raise
    return opened


def read_items(path: str | Path) -> Iterator[Pair | tuple[Prompt, Sequence[Response], int]]:
    """What a file gives people to judge: pairs (with or without a verdict), or sets of answers to be ranked.

    Rows are ``{"prompt", "a", "b"}`` as a run writes them, ``{"prompt", "responses": [...]}``, or any format
    of comparisons that accord reads; verdicts in the file are not looked at.

    Raises:
        BadInput: with file and line.
    """
    path = Path(path)
    first = _first_row(path)
    if first is not None and ({"prompt", "a", "b"} <= set(first) or {"prompt", "responses"} <= set(first)):
        for number, row in _json_rows(path):
            try:
                if "responses" in row:
                    answers = [Response.from_json(answer) for answer in row["responses"]]
                    yield Prompt.from_json(row["prompt"]), answers, int(row.get("round", 0))
                else:
                    yield Pair.from_json(row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise BadInput(
                    f"{path}, line {number}: not a pair ({type(error).__name__}: {error})"
                ) from None
        return
    for comparison in formats.read_comparisons(path).rows:
        yield comparison.pair


def _first_row(path: Path) -> dict[str, Any] | None:
    if path.suffix not in (".jsonl", ".ndjson", ".json"):
        return None
    return next((row for _, row in _json_rows(path, strict=False)), None)


def _json_rows(path: Path, *, strict: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield number, row
            elif strict:
                raise BadInput(f"{path}, line {number}: not a JSON object: write one complete object a line")
            else:
                return


def serve(
    target: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    annotators: Iterable[str | tuple[str, Role]] = (),
    store: str | None = None,
    overlap: int | None = None,
    public_url: str | None = None,
) -> Server:
    """A labelling server that is not started yet: ``with serve(…) as server``, then ``server.address``.

    Args:
        target: a run directory, a file of pairs, a store file, or a database URL.
        annotators: names, or (name, role); none: this machine's user alone.
        port: 0 takes any free one.

    Raises:
        BadInput: as `open_store` and `accord.web.server.Server`.
    """
    from accord.web.server import Server

    named: list[tuple[str, Role]] = [(n, "annotator") if isinstance(n, str) else n for n in annotators]
    opened = open_store(target, store=store, overlap=overlap)
    try:
        return Server(opened, host=host, port=port, people_=named, public_url=public_url, close_store=True)
    except BaseException:
        opened.close()
        raise


def remaining(store: LabelStore) -> int:
    """How many judgements the queue still lacks; gold and practice items are not waited for."""
    lacking = sql.select(sql.func.sum(queue_table.c.overlap - queue_table.c.done)).where(
        queue_table.c.done < queue_table.c.overlap, queue.ORDINARY
    )
    return int(store.read(lambda c: c.scalar(lacking)) or 0)


def wait(
    target: str | Path,
    *,
    store: str | None = None,
    seconds: float | None = None,
    every: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Block until every item on the queue has its judgements. False where ``seconds`` went by first."""
    end = None if seconds is None else time.monotonic() + seconds
    with LabelStore(store or location_of(target)) as opened:
        while remaining(opened):
            if end is not None and time.monotonic() >= end:
                return False
            sleep(every if end is None else max(0.0, min(every, end - time.monotonic())))
    return True


def to_dataset(
    target: str | Path,
    *,
    store: str | None = None,
    criterion: str | None = "",
    rankings: Literal["pairs", "leave out"] = "pairs",
    people_only: bool = False,
) -> list[Comparison]:
    """The judgements that count, as `reward_model.train` and the writers of `formats` take them.

    Ties, both-bad and skipped pairs are kept, each with its verdict: what to do with a tie is a choice of the
    model (`Reward.ties`). A ranking of K answers becomes its K(K-1)/2 pairs.

    Args:
        criterion: "" the overall question, a name for one of the others, None for all.
        people_only: leave out what models, functions and simulated annotators said. Else each row says by its
            annotator whose it is (`records.is_person`).
    """
    with LabelStore(store or location_of(target)) as opened:
        out = opened.comparisons(criterion=criterion)
        if rankings == "pairs" and not criterion:
            out += [comparison for ranking in opened.rankings() for comparison in ranking.comparisons()]
    return [one for one in out if not people_only or is_person(one.annotator)]


def import_location(target: str) -> str:
    """As `location_of`; labels may also go into a store, or a run, that is not there yet."""
    path = Path(target)
    if "://" not in target and path.suffix in (".db", ".sqlite"):
        return target
    return location_of(target)


def label_files(judge: Any) -> list[tuple[str, float]]:
    """The files that a judge reads, with the times at which they were written last."""
    path = getattr(judge, "path", None)
    if not isinstance(path, str):
        return []
    found = sorted(glob.glob(glob.escape(path).replace("{round}", "*")))
    return [(name, Path(name).stat().st_mtime) for name in found]


def progress(target: str | Path, *, store: str | None = None) -> dict[str, Any]:
    """Progress, people, and judges that are no people, as plain values."""
    found = _overview(target, store)
    people_ = [
        {
            "name": worker.name or "unknown",
            "judged": worker.labels,
            "seconds": None if worker.seconds is None else round(worker.seconds, 1),
            "left": figures.share(worker.left, worker.left + worker.right),
            "ties": worker.ties,
            "gold": f"{worker.gold_right}/{worker.gold_total}",
            "repeats": f"{worker.same}/{worker.repeated}",
            "notes": worker.notes,
        }
        for worker in found.workers
    ]
    fields = ("done", "total", "items", "finished", "held", "labels")
    judges = {"judges": [dataclasses.asdict(machine) for machine in found.machines]}
    return {name: getattr(found, name) for name in fields} | {"people": people_} | judges


def agreement(target: str | Path, *, store: str | None = None) -> dict[str, Any]:
    """α, κ of every two people, the items on which they differ, and each other judge beside them."""
    found = _overview(target, store)
    return {
        "alpha": found.alpha,
        "shared": found.shared,
        "pairs": [{"a": a, "b": b, "items": n, "kappa": k} for a, b, n, k in found.pairs_of_people],
        "disagreements": found.disagreements,
        "disagreement_count": found.disagreement_count,
        "judges": [
            {"name": m.name, "items": m.compared, "agree": m.agree, "kappa": m.kappa} for m in found.machines
        ],
    }


def _overview(target: str | Path, store: str | None) -> figures.Overview:
    with LabelStore(store or location_of(target)) as opened:
        return opened.read(lambda c: figures.overview(c, time.time()))
