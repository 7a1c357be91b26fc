"""Rollouts on disk, with the version of the policy that made them, before anything is trained on them.

A resumed step reads them back in place of sampling again: so it ends with the same bits also where the
    sampler
would not give the same tokens twice (another machine's, or another program's).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from accord.batches import Group, Rollouts
from accord.disk import disk_full_is_clear
from accord.drawn_rollouts import Drawn

_FILE = re.compile(r"batch-(\d{6,})\.pt")


class RolloutFiles:
    """One file a step, in a folder that holds nothing else.

    Args:
        key: content key of the stage; files of another key are not read.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = Path(folder), key

    def save(self, step: int, drawn: Drawn) -> None:
        """Writes the batch of a step; it is whole or not there.

        Raises:
            DiskFull: nothing is left of it.
        """
        rollouts = drawn.rollouts
        document = {
            "key": self.key,
            "step": step,
            "version": rollouts.policy_version,
            "prompts": [list(group.prompt) for group in rollouts.groups],
            "responses": [[list(r) for r in group.responses] for group in rollouts.groups],
            "sampled_logp_BT": rollouts.sampled_logp_BT.cpu(),
            "finished_B": rollouts.finished_B.cpu(),
            "kept": list(drawn.kept),
            "figures": drawn.figures,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(step)
        writing = path.with_suffix(".writing")
        try:
            with disk_full_is_clear(path), writing.open("wb") as file:
                torch.save(document, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            writing.unlink(missing_ok=True)
            raise
        os.replace(writing, path)

    def load(self, step: int, version: int) -> Drawn | None:
        """The batch of a step, if a policy of this version made it; None where there is none."""
        path = self._path(step)
        if not path.is_file():
            return None
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # damaged: torch's errors share no class; it is sampled again
            return None
        if (found["key"], found["step"], found["version"]) != (self.key, step, version):
            return None
        groups = tuple(
            Group(tuple(prompt), tuple(tuple(response) for response in responses))
            for prompt, responses in zip(found["prompts"], found["responses"], strict=True)
        )
        rollouts = Rollouts(groups, found["sampled_logp_BT"], found["finished_B"], version)
        return Drawn(rollouts, tuple(found["kept"]), found["figures"])

    def prune(self, before: int) -> None:
        """Deletes the batches of steps below ``before``: no saved state needs them any more."""
        for path in self._files():
            if int(_FILE.fullmatch(path.name)[1]) < before:  # type: ignore[index]
                path.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"batch-{step:06d}.pt"

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if _FILE.fullmatch(path.name)]
