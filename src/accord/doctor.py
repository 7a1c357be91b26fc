"""Self-tests: is this machine, and is this model, set up so that RLHF is right? `accord doctor`."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import psutil
import torch
import transformers

from accord import models, self_tests
from accord.config import Model
from accord.number_format import bfloat16_speedup
from accord.self_tests import Check


def machine() -> list[Check]:
    """What runs here: versions, cores, memory, disk, the number format."""
    dtype = models.resolve_dtype()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    memory = psutil.virtual_memory().available / 1e9
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none, CPU is used"
    return [
        Check(
            "versions",
            True,
            f"python {platform.python_version()}, torch {torch.__version__},"
            f" transformers {transformers.__version__}",
        ),
        Check("accelerator", True, accelerator),
        Check("threads", True, f"{torch.get_num_threads()}"),
        Check("number format", True, _number_format(dtype)),
        Check("memory", memory > 2, f"{memory:.1f} GB free, 2 GB needed for the demo"),
        Check("disk", free > 3, f"{free:.1f} GB free, 3 GB needed for the demo"),
    ]


def _number_format(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if torch.cuda.is_available():
        return f"{name} (CUDA)"
    return (
        f"{name} (bfloat16 products run at {bfloat16_speedup(models.cache_folder()):.1f} × float32's speed)"
    )


def model_checks(settings: Model, seed: int = 0) -> list[Check]:
    """All self-tests, on the real model; the reward model has the same trunk and a head drawn by ``seed``."""
    model, tokenizer = models.load_causal(settings)
    head = torch.Generator().manual_seed(seed)
    scores = models.new_reward(models.locate(settings), model.dtype, tokenizer, head)
    return [
        *self_tests.tokens(model, tokenizer),
        *self_tests.policy(model, tokenizer),
        *self_tests.reward(scores, tokenizer),
    ]
