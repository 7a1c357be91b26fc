"""What stands beside the loop over steps: rollouts on disk, the log, alerts, and the way back after an
explosion.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

from accord.online_trainer import OnlineTrainer
from accord.policy_alerts import Watch
from accord.rollout_files import RolloutFiles
from accord.stability import OwnRange, PolicyExploded
from accord.workspace import Workspace

logger = logging.getLogger("accord")


class Guard:
    """One training of one policy; ``before`` and ``after`` every step."""

    def __init__(self, trainer: OnlineTrainer, work: Workspace) -> None:
        self.trainer, self.work, self.config = trainer, work, trainer.config
        self.range = OwnRange(self.config.explosion.factor, self.config.explosion.after)
        self.watch = Watch(self.config)
        self.rollbacks = 0
        self._states: list[int] = []
        # Two: an explosion of the KL is seen one step after the update that made it.
        self._healthy: list[dict[str, Any]] = []
        if work.folder is not None:
            folder = work.folder.with_name(work.folder.name + "-rollouts")
            trainer.rollout_files = RolloutFiles(folder, work.key)

    def before(self, step: int) -> None:
        if self.config.on_explosion == "rollback":
            self._healthy = [*self._healthy[-1:], copy.deepcopy(self.trainer.state())]

    def after(self, step: int, figures: dict[str, float]) -> None:
        exploded = self.range.judge(figures)
        alerts, new = self.watch.look(step, figures)
        for alert in new:
            logger.warning("step %d: %s", step, alert.sentence())
        if self.rollbacks:
            figures["rollbacks"] = float(self.rollbacks)
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        self.work.record(step, finite, [alert.to_json() for alert in alerts])
        if exploded is None or self.config.on_explosion == "none":
            return
        if self.config.on_explosion == "rollback" and self.rollbacks < self.config.explosion.rollbacks:
            self._roll_back(step, exploded)
        else:
            self._stop(step, exploded)

    def _roll_back(self, step: int, exploded: str) -> None:
        shrink = self.config.explosion.shrink
        state = self._healthy[0]
        self._healthy = []
        self.trainer.load(state | {"steps": step + 1})  # the prompts that follow are other ones
        self.trainer.shrink(shrink ** (self.rollbacks + 1))
        self.rollbacks += 1
        self.range.last_kl = None
        logger.warning(
            "step %d: %s: back to the weights before it, with %g of the step size", step, exploded, shrink
        )

    def _stop(self, step: int, exploded: str) -> None:
        found = self.work.states.back_to(step - 1) if self.work.states is not None else None
        where = "no healthy state had been saved yet"
        if found is not None:
            self.trainer.load(found[1]["trainer"])
            where = f"the healthy state after step {found[0] - 1} was kept"
        raise PolicyExploded(
            f"online stopped at step {step}: {exploded}; {where}: lower the learning rate, raise"
            " kl.coefficient, or set on_explosion: rollback",
            kept=found is not None,
        )

    def saved(self, step: int) -> None:
        """Rollouts are needed from the last but one saved state on: the last may turn out damaged."""
        self._states = [*self._states[-1:], step]
        if self.trainer.rollout_files is not None:
            self.trainer.rollout_files.prune(self._states[0])

    def state(self) -> dict[str, Any]:
        return {
            "range": self.range.state(),
            "watch": self.watch.state(),
            "rollbacks": self.rollbacks,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.range.load(state["range"])
        self.watch.load(state["watch"])
        self.rollbacks = int(state["rollbacks"])
