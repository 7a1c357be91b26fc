"""One policy from several: the mean of their weights (model soups: Wortsman et al. 2022, arXiv 2203.05482; of
policies trained against a reward: WARP, Ramé et al. 2024, arXiv 2406.16768, of which this is the plain mean).

For policies that were optimised from one and the same SFT model: of seeds, of rewards, or of rounds. What
only one of them learned, mostly noise of its own run, is averaged down; what all of them learned stays,
shared errors of their reward models among it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from accord import checkpoints
from accord.records import BadInput


def average_policies(folders: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> None:
    """Write the mean of the checkpoints in ``folders`` to ``out``, a plain Hugging Face folder.

    The sum is in float32 and rounded once to the checkpoints' own format. Everything beside the weights
    (configuration, tokenizer) is the first one's.

    Args:
        weights: of the policies, scaled to sum to 1; None: all alike.

    Raises:
        BadInput: fewer than two, no checkpoint, other names or shapes than the first's, or ``weights`` that
            are negative, all 0 or of another number.
    """
    if len(folders) < 2:
        raise BadInput(f"an average needs 2 policies or more, got {len(folders)}")
    share = [1.0] * len(folders) if weights is None else [float(one) for one in weights]
    if len(share) != len(folders) or min(share) < 0 or not sum(share) > 0:
        raise BadInput(f"there are {len(folders)} policies and the weights {share}: one for each, 0 or more")
    share = [one / sum(share) for one in share]
    files = [_weights_of(folder) for folder in folders]
    if any(set(one) != set(files[0]) for one in files[1:]):
        raise BadInput("the policies have weights of different names: average policies of one SFT model")

    def write(target: Path) -> None:
        for path in sorted(Path(folders[0]).iterdir()):
            kept = not path.name.endswith(".safetensors") and path.name not in ("COMMIT.json", INDEX)
            if path.is_file() and kept:
                shutil.copyfile(path, target / path.name)
        mean = {name: _mean(name, files, share) for name in files[0]}
        save_file(mean, target / "model.safetensors", metadata={"format": "pt"})

    manifest = {"key": checkpoints.key("average", [str(one) for one in folders], share)}
    checkpoints.commit(out, write, manifest=manifest)


INDEX = "model.safetensors.index.json"


def _weights_of(folder: Path) -> dict[str, Path]:
    """Which file each weight is in."""
    folder = Path(folder)
    if (folder / INDEX).is_file():
        found: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in found.items()}
    path = folder / "model.safetensors"
    if not path.is_file():
        raise BadInput(f"there is no checkpoint at {folder}: give a folder such as runs/NAME/round-0/policy")
    with safe_open(path, "pt") as opened:
        return dict.fromkeys(opened.keys(), path)


def _mean(name: str, files: Sequence[dict[str, Path]], share: Sequence[float]) -> torch.Tensor:
    total, kind = None, torch.float32
    for one, weight in zip(files, share, strict=True):
        with safe_open(one[name], "pt") as opened:
            value = opened.get_tensor(name)
        if total is None:
            total, kind = torch.zeros(value.shape, dtype=torch.float32), value.dtype
        if value.shape != total.shape:
            raise BadInput(
                f"{name} has shape {tuple(value.shape)} in one policy and {tuple(total.shape)} in another:"
                " average policies of one SFT model"
            )
        total += weight * value.float()
    assert total is not None
    return total.to(kind)
