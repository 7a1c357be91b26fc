"""What a run cost: time, processor hours, labels, samples."""

from __future__ import annotations

from typing import Any

from accord.report.artefacts import Artefacts, clean, mapping, number
from accord.report.charts import Chart, show
from accord.report.distributions import Bar, interval_chart
from accord.report.lineage import duration, stages

PHASES = {"seconds_sample": "sampling", "seconds_score": "scoring", "seconds_train": "updates"}


def _rl_seconds(run: Artefacts) -> dict[str, float]:
    """Seconds of each phase of policy optimisation over all steps; a step that was written twice counts
    once.
    """
    steps: dict[tuple[Any, Any], dict[str, float]] = {}
    for row in run.metrics:
        if clean(row.get("stage")) == "online":
            found = {key: number(row.get(key)) or 0.0 for key in PHASES}
            steps[row.get("round"), row.get("step")] = found
    return {name: sum(step[key] for step in steps.values()) for key, name in PHASES.items()}


def figures(run: Artefacts) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of what is known; nothing is guessed."""
    out = []
    made = [s for s in stages(run) if s["seconds"] is not None]
    seconds = sum(s["seconds"] for s in made if not s["cached"])
    if made:
        out.append(
            ("wall time", duration(seconds), "of the last command, stages loaded from the cache left out")
        )
        threads = number(run.lock.get("threads"))
        if threads:
            text = duration(seconds * threads)
            out.append(("processor time", text, f"at most: wall time on {show(threads)} threads"))
    pairs = sum(one.pairs for one in run.rounds)
    if pairs:
        out.append(("pairs compared", f"{pairs:,.0f}", "over all rounds"))
    labels = [
        number(one.reward.get(key)) or 0 for one in run.rounds[-1:] for key in ("pairs_train", "pairs_test")
    ]
    if sum(labels):
        why = "with a winner, that the last reward model learned from or was tested on"
        out.append(("labels", f"{sum(labels):,.0f}", why))
    online = mapping(run.config.get("online"))
    per_step = [number(online.get(key)) for key in ("prompts_per_step", "samples_per_prompt")]
    steps = {
        (row.get("round"), row.get("step")) for row in run.metrics if clean(row.get("stage")) == "online"
    }
    if steps and per_step[0] and per_step[1]:
        drawn = len(steps) * per_step[0] * per_step[1]
        out.append(("samples for updates", f"{drawn:,.0f}", f"in {len(steps)} steps of policy optimisation"))
    return out


def phase_chart(run: Artefacts) -> Chart | None:
    """Where the time of policy optimisation went."""
    seconds = _rl_seconds(run)
    if not any(seconds.values()):
        return None
    bars = [Bar(name, value / 60, note=duration(value)) for name, value in seconds.items()]
    longest = max(seconds.values()) / 60
    return interval_chart(
        "Time of policy optimisation by phase", "minutes", bars, x_range=(0, longest * 1.02), filled=True
    )
