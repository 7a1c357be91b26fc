"""A few kills of the hundred that `benchmarks/labelling/kill.py` does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.stores import free_port

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "labelling" / "kill.py"


def test_kill_9_under_load_loses_and_doubles_nothing() -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--kills",
        "2",
        "--people",
        "6",
        "--pairs",
        "300",
        "--port",
        str(free_port()),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout)
    assert found["integrity_check"] == "ok"
    assert found["acknowledged"] > 0
