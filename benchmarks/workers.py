"""The orchestrator's end: starts a worker, talks to it, and sees how much processor time everyone took."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent


def environment(threads: int) -> dict[str, str]:
    """The same for both sides: as many threads each as asked for.

    OpenMP's wait policy is left as users have it: libgomp's threads spin for about a millisecond and then
    sleep, so a resting side takes no processor time (measured at every step, see ``step``). PASSIVE would
    make a loop of small operations half as slow again on both sides.
    """
    count = str(threads)
    return os.environ | {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }


class Worker:
    """One side: a process that does one step when told to and otherwise waits in a read."""

    def __init__(self, side: str, python: Path, script: str, threads: int, log: Path) -> None:
        self.side = side
        self.log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [str(python), str(HERE / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(threads),
                encoding="utf-8",
            )
        self._measured = psutil.Process(self._process.pid)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Sends a command, waits for the answer; a dead worker ends the benchmark with its last words."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise SystemExit(f"the {self.side} worker ended with code {code}:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far."""
        times = self._measured.cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        if self._process.poll() is not None:
            return
        try:
            self._process.communicate(json.dumps({"do": "close"}) + "\n", timeout=60)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()


def processors() -> list[int]:
    """The processors that this program and its workers may use (taskset may have left only some)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def busy_seconds() -> float:
    """Time that our processors have spent on anything but idling, all together."""
    per_processor = psutil.cpu_times(percpu=True)
    total = 0.0
    for number in processors():
        times = per_processor[number]
        total += sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    return float(total)


def step(worker: Worker, idle: Worker | None) -> dict[str, Any]:
    """One step of ``worker``, with the processor time that the idle side and other programs took meanwhile.

    ``cpu_others`` is in processors: 0.5 means that other programs kept half of one of ours busy meanwhile.
    """
    busy, own = busy_seconds(), worker.cpu_seconds()
    resting = idle.cpu_seconds() if idle else 0.0
    answer = worker.ask(do="step")
    own, busy = worker.cpu_seconds() - own, busy_seconds() - busy
    resting = idle.cpu_seconds() - resting if idle else 0.0
    seconds = max(answer["seconds"], 1e-9)
    answer["cpu_idle_side"] = round(resting / seconds, 4)
    answer["cpu_others"] = round(max(0.0, busy - own - resting) / seconds, 3)
    return answer
