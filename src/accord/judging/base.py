"""The seam: a judge puts labels into the store, now or later.

A person is not a scorer: people compare, and take days. So a judge returns nothing but *done*; what it said
is read from the store, and *not yet* is an exception that ends the command; the same command goes on later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from accord.records import Pair
from accord.store import LabelStore


class Judge(Protocol):
    """Somebody, or something, that compares answers."""

    @property
    def name(self) -> str:
        """What reports call the source of these labels."""
        ...

    @property
    def simulated(self) -> bool:
        """True where no person judged, so that every figure built on the labels says so."""
        ...

    @property
    def annotators(self) -> tuple[str, ...]:
        """The names with which its labels are signed; empty where people sign with their own."""
        ...

    def label(self, pairs: Sequence[Pair], store: LabelStore) -> None:
        """Return when ``store`` holds this judge's word on every pair. Calling it again changes nothing.

        Labels of other kinds of judges do not count: a run that asks people waits for people.

        Raises:
            WaitingForLabels: some are missing; the sentence says how many and where to put them.
            BadInput: labels are there but cannot be used.
        """
        ...
