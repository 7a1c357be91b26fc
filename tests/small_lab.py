"""A lab small enough for tests: the same code with fewer answers, seeds and slider levels."""

from __future__ import annotations

from typing import Any

from accord.config import validate
from accord.lab.settings import LabSettings

SMALL: dict[str, Any] = {
    "world": {"responses": 1500},
    "farthest": 1.6,
    "points": 11,
    "seeds": 2,
    "pairs": [60, 200],
    "few_pairs": 60,
    "noise": [0.5],
    "misspecification": [0.0, 1.0],
    "members": [1, 2],
    "rounds": 1,
    "checkpoint_labels": 20,
}


def small(**changes: Any) -> LabSettings:
    return validate(LabSettings, SMALL | changes, "lab")


def overrides() -> list[str]:
    """The same as arguments of ``accord lab``."""
    flat = {k: v for k, v in SMALL.items() if k != "world"} | {
        f"world.{k}": v for k, v in SMALL["world"].items()
    }
    return [part for key, value in flat.items() for part in ("--set", f"{key}={value}")]
