"""The run in progress: where it writes, what it has done, and one stage of it, made once and then kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord import checkpoints, config
from accord.config import Run
from accord.disk import require_free
from accord.estimate import checkpoint_bytes
from accord.metrics import MetricsLog
from accord.workspace import Workspace


@dataclass(frozen=True)
class Policy:
    """A finished policy: where it lies, its content key, and the name that its samples carry."""

    folder: Path
    key: str
    name: str


@dataclass
class Running:
    """The run in progress: where it writes, what it has done, what it is expected still to take."""

    run: Run
    out: Path
    log: MetricsLog
    expected: dict[str, float]
    stages: list[dict[str, Any]] = field(default_factory=list)
    quiet: bool = False

    def workspace(self, stage: str, round: int, key: str, seconds: float) -> Workspace:
        folder = self.out / "unfinished" / (stage if stage == "sft" else f"round-{round}-{stage}")
        rest = self.rest(stage, round)
        return Workspace(stage, self.run.seed, round, folder, key, seconds, self.log, self.quiet, rest)

    def rest(self, stage: str, round: int) -> float:
        """Seconds that the stages after this one will take: the estimate, scaled by how it did so far."""
        names = [name for name in self.expected if name != "sft"]
        order = [("sft", 0)] + [(name, r) for r in range(self.run.rounds) for name in names]
        each = {n: s / (1 if n == "sft" else self.run.rounds) for n, s in self.expected.items()}
        kinds = {"sft": "sft", "pairs": "collect", "reward": "reward", "policy": "optimize"}
        kinds |= {"evidence": "evidence"}
        made = [(kinds[s["stage"].split("/")[-1]], s["seconds"]) for s in self.stages if not s["cached"]]
        known = [(seconds, each[name]) for name, seconds in made if each.get(name)]
        factor = sum(m for m, _ in known) / sum(e for _, e in known) if known else 1.0
        here = (dict.fromkeys(("online", "direct", "rejection"), "optimize").get(stage, stage), round)
        later = order[order.index(here) + 1 :] if here in order else []
        return factor * sum(each[name] for name, _ in later)

    def stage(
        self, name: str, key: str, make: Callable[[], None], trained: config.Weights | None = None
    ) -> bool:
        """Make the artefact ``name`` unless it is there already, whole and with the same key.

        Args:
            trained: which weights the stage trains; the room that they need is asked for before the work.
        """
        folder, began = self.out / name, time.monotonic()
        checkpoints.recover(folder)
        hit = checkpoints.cached(folder, key) is not None
        if not hit:
            if trained is not None:
                require_free(folder, checkpoint_bytes(self.run, trained))
            make()
        seconds = round(time.monotonic() - began, 2)
        self.stages.append({"stage": name, "seconds": seconds, "cached": hit})
        return hit
