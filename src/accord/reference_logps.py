"""The reference's log-probabilities, computed once and kept on disk, keyed by the model and the data.

A direct method needs log π_ref(y|x) of every answer at every epoch, and the reference never changes. What is
kept is one number an answer: the sum over its tokens, at one temperature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from accord import checkpoints, models
from accord.batches import Group

_FILE = "logps.safetensors"


def weights_digest(model: Any) -> str:
    """SHA-256 over every parameter's name, dtype and bytes: two models with one digest are one model."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        data = parameter.detach().cpu().contiguous().view(torch.uint8).numpy()
        digest.update(memoryview(data.reshape(-1)))
    return digest.hexdigest()


def content_key(model_digest: str, groups: Sequence[Group], temperature: float) -> str:
    """Key of the numbers: which weights, which tokens, which temperature, and what computes them.

    The weights' number format is in their digest. torch's version, its threads and the device are part of
    it: they decide the last bits of a sum.
    """
    digest = hashlib.sha256()
    for group in groups:
        digest.update(repr((group.prompt, group.responses)).encode())
    return checkpoints.key(
        "reference log-probabilities",
        model_digest,
        digest.hexdigest(),
        temperature,
        torch.__version__,
        torch.get_num_threads(),
        str(models.device()),
    )


def kept(
    folder: Path | None,
    key: str,
    groups: Sequence[Group],
    compute: Callable[[], Tensor],
) -> list[Tensor]:
    """log π_ref of each group's responses, (K,) float32 nats: from ``folder``, or computed and put there.

    Args:
        folder: holds one folder a key; None: computed, and kept in memory only.
        key: from `content_key`.
        compute: all groups' responses in order, (B,).

    Raises:
        DiskFull: the numbers cannot be written.
    """
    place = folder / key if folder is not None else None
    if place is not None and checkpoints.cached(place, key) is not None:
        logp_B = load_file(place / _FILE)["logp_B"]
    else:
        logp_B = compute().float().cpu()
        if place is not None:

            def write(target: Path) -> None:
                save_file({"logp_B": logp_B.contiguous()}, target / _FILE)

            checkpoints.commit(place, write, manifest={"key": key})
    return list(torch.split(logp_B, [len(group.responses) for group in groups]))
