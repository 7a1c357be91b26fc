"""The suffix of a tensor's name gives its axes (``advantage_BT``), and this module holds code to it.

A shape that broadcasts by accident, such as (N, 1) against (N,), gives a finite loss and a wrong gradient.
So each pure function names its tensors here once, before any arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def check_axes(**tensors: Tensor | None) -> None:
    """Each tensor has the axes that its name's suffix says, and one letter has one size throughout.

    ``check_axes(score_B=score_B, mask_BT=mask_BT)`` wants one axis, two axes, and the same B in both.
    None is passed over (an optional argument that was not given).

    Raises:
        ValueError: wrong number of axes; two sizes for one letter; half precision, in which a log ratio of
            0.001 between log-probabilities near −10 is lost altogether.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        axes = name.rpartition("_")[2]
        shape = tuple(tensor.shape)
        if len(shape) != len(axes):
            raise ValueError(f"{name} needs {len(axes)} axes ({', '.join(axes)}), got shape {shape}")
        for axis, size in zip(axes, shape, strict=True):
            expected, first = sizes.setdefault(axis, (size, name))
            if size != expected:
                raise ValueError(
                    f"{name} has {axis} = {size} (shape {shape}), but {first} has {axis} = {expected}"
                )
        if tensor.dtype in _HALF:
            raise ValueError(
                f"{name} is {tensor.dtype}: losses and advantages need float32, convert with .float()"
            )
