"""People who judge in the labelling app. The run puts its pairs on the queue and waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accord.config import HumanJudge
from accord.records import Pair, WaitingForLabels, is_person
from accord.store import LabelStore

SOURCE = "people (labelling app)"


class People:
    """A judge whose labels come from ``accord label RUN``, which serves the run's own ``labels.db``."""

    name = SOURCE
    simulated = False
    annotators: tuple[str, ...] = ()

    def __init__(self, config: HumanJudge, run_folder: str | Path = ".") -> None:
        self.config = config
        self.run_folder = Path(run_folder)

    def label(self, pairs: Sequence[Pair], store: LabelStore) -> None:
        """Queue what is new, and return when every pair was judged by enough people.

        Raises:
            WaitingForLabels: pairs that are not.
        """
        wanted = self.config.labels_per_pair
        store.add_pairs(pairs, overlap=wanted)
        missing = store.pending(pairs, wanted, by=is_person)
        if missing:
            total = len({pair.id for pair in pairs})
            each = "no label yet" if wanted == 1 else f"fewer than {wanted} labels"
            raise WaitingForLabels(
                f"{len(missing)} of {total} pairs have {each}: judge them with `accord label "
                f"{self.run_folder}`, then run the same command again (with --watch it goes on by itself)"
            )
