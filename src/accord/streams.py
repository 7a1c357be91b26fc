"""Named streams of randomness. There is no global seed: who needs chance names what for."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed from the run's seed and a name such as ("rollout", round, step)."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the named stream; the same names give the same numbers."""
    return torch.Generator().manual_seed(stream_seed(seed, *names))


def permutation(count: int, seed: int, *names: str | int) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator(seed, *names)).tolist()
    return order
