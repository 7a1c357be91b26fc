"""One writer with group commit: many requests, one fsync.

Jobs that wait while a commit is on its way share the next one. A job's result is handed out only after the
commit that holds it, so *saved* means on the disk. Where a job fails, the others of its batch are run again
without it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import sqlalchemy as sql

from accord.store.database import Database
from accord.store.events import Refused

T = TypeVar("T")
Job = Callable[[sql.Connection], Any]
BATCH = 64  # jobs in one transaction at most: bounds how long the first of them waits


class Writer:
    """A thread that runs jobs in the order in which they came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self.commits = 0  # for figures: jobs done / commits is the size of a group
        self.done = 0
        self._thread = threading.Thread(target=self._run, name="accord-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[sql.Connection], T]) -> Future[T]:
        """Run ``job`` in a write transaction, soon. It may be run twice, so it does nothing else than write.

        The future holds its result after the commit, or what it raised, in which case nothing was written.
        """
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            batch: list[tuple[Job, Future[Any]]] = []
            entry = self._jobs.get()
            while True:
                if entry is None:
                    ending = True
                else:
                    batch.append(entry)
                if ending or len(batch) >= BATCH:
                    break
                try:
                    entry = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[tuple[Job, Future[Any]]]) -> None:
        try:
            results: list[tuple[Any, Exception | None]] = []
            with self._database.transaction(write=True) as connection:
                for job, _ in batch:
                    try:
                        results.append((job(connection), None))
                    except Refused as refusal:  # raised before anything was written
                        results.append((None, refusal))
        except BaseException as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for one in batch:
                    self._commit([one])
            return
        self.commits += 1
        self.done += len(batch)
        for (_, future), (result, problem) in zip(batch, results, strict=True):
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)
