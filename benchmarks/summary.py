"""From steps to a table: medians, spread, ratio with its interval. Only measured numbers get in."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from workloads import WORKLOADS

START, END = "<!-- results: written by bench.py -->", "<!-- end of results -->"
Steps = list[dict[str, Any]]


def ratio_of_medians(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], samples: int = 10_000, level: float = 0.95
) -> tuple[float, float, float]:
    """median(ours) / median(theirs) with a percentile bootstrap interval.

    Both are rates, one entry a step, and step i had the same examples on both sides: steps are resampled
    in pairs, so that a hard batch counts for both.
    """
    draws = np.random.default_rng([20261124, len(ours)]).integers(len(ours), size=(samples, len(ours)))
    ratios = np.median(ours[draws], axis=1) / np.median(theirs[draws], axis=1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(np.median(ours) / np.median(theirs)), float(low), float(high)


def side(steps: Steps, units: list[float]) -> dict[str, Any]:
    """One side's measured steps (warm-up already taken off) with their medians; rates are units a second.

    A side that counts its own tokens is believed: accord's answers end with the end token, TRL's also hold
    the line break that the chat template puts after it.
    """
    units = [step.get("tokens") or unit for unit, step in zip(units, steps, strict=True)]
    rates = [unit / step["seconds"] for unit, step in zip(units, steps, strict=True)]
    names = sorted({name for step in steps for name in step["phases"]})
    phases = {name: statistics.median(step["phases"].get(name, 0.0) for step in steps) for name in names}
    return {
        "median_rate": statistics.median(rates),
        "min_rate": min(rates),
        "max_rate": max(rates),
        "median_seconds": statistics.median(step["seconds"] for step in steps),
        "phase_seconds": {name: round(value, 4) for name, value in phases.items()},
        "cpu_others": round(statistics.median(step["cpu_others"] for step in steps), 3),
        "cpu_idle_side": max(step["cpu_idle_side"] for step in steps),
        "rates": rates,
        "seconds": [step["seconds"] for step in steps],
        "loss": [step.get("loss") for step in steps],
    }


def workload(
    plan: dict[str, Any], sides: dict[str, Steps], units: list[float], warmup: int
) -> dict[str, Any]:
    spec = WORKLOADS[plan["name"]]
    out: dict[str, Any] = {
        "title": spec.title,
        "unit": f"{spec.unit}/s",
        "peer": spec.peer if "trl" in sides else None,
        "at_least": spec.at_least,
        "steps": len(units) - warmup,
        "warmup": warmup,
        "examples": plan["source"],
        "shape": plan["shape"],
        "sides": {name: side(steps[warmup:], units[warmup:]) for name, steps in sides.items()},
    }
    if len(sides) == 2:
        ours, theirs = (np.array(out["sides"][name]["rates"]) for name in ("accord", "trl"))
        ratio, low, high = ratio_of_medians(ours, theirs)
        out["ratio"] = {"median": ratio, "interval": [low, high]}
    return out


def _rate(entry: dict[str, Any], name: str) -> str:
    if name not in entry["sides"]:
        return "–"
    side_ = entry["sides"][name]
    return f"{_short(side_['median_rate'])} ({_short(side_['min_rate'])}–{_short(side_['max_rate'])})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _phases(entry: dict[str, Any], name: str) -> str:
    if name not in entry["sides"]:
        return ""
    seconds = entry["sides"][name]["phase_seconds"]
    shown = sorted(((v, k) for k, v in seconds.items() if v >= 0.005), reverse=True)
    return f"{name} {_short(entry['sides'][name]['median_seconds'])} s: " + ", ".join(
        f"{key} {_short(value)}" for value, key in shown
    )


def table(results: dict[str, Any]) -> str:
    """The results as Markdown, with what they were measured on."""
    machine, entries = results["machine"], results["workloads"]
    versions = {name: value for side_ in results["versions"].values() for name, value in side_.items()}
    named = ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
    lines = [
        f"{machine['cpu']}, {machine['processors']} processors"
        f" ({', '.join(machine['instructions']) or 'no AVX'}), {results['threads']} threads a side,"
        f" {results['dtype']} on both sides; {named}. {results['created']}, `{results['command']}`.",
        "",
        "| workload | unit | TRL / Hugging Face | accord | ratio [95%] | at least | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries.values():
        ratio = entry.get("ratio")
        shown = (
            f"**{ratio['median']:.2f}** [{ratio['interval'][0]:.2f}, {ratio['interval'][1]:.2f}]"
            if ratio
            else "–"
        )
        wanted = f"{entry['at_least']}×" if entry["at_least"] else "–"
        lines.append(
            f"| {entry['title']} | {entry['unit']} | {_rate(entry, 'trl')} | {_rate(entry, 'accord')}"
            f" | {shown} | {wanted} | {entry['steps']} |"
        )
    lines += ["", "Medians (least–most) over steps. Where a step's time goes, in seconds (medians):", ""]
    for entry in entries.values():
        parts = [part for part in (_phases(entry, "trl"), _phases(entry, "accord")) if part]
        shape = entry["shape"]
        lines.append(
            f"- {entry['title']} (mean {shape['mean_tokens']:.0f} tokens, longest {shape['longest']},"
            f" padding {shape['padding_share']:.0%}): " + "; ".join(parts) + "."
        )
    noise = max((s["cpu_others"] for e in entries.values() for s in e["sides"].values()), default=0.0)
    resting = max((s["cpu_idle_side"] for e in entries.values() for s in e["sides"].values()), default=0.0)
    lines += [
        "",
        f"Other programs kept {noise:.2f} processors busy in the worst workload (median over its steps);"
        f" the resting side took at most {resting:.3f} of a processor.",
    ]
    limits = results.get("limits")
    if limits:
        lines.append(
            "The machine's own limits in this run, on a layer's shapes: matrix product"
            f" {limits['bfloat16_tflops']:.2f} TF/s in bfloat16, {limits['float32_tflops']:.2f} in float32;"
            f" memory {limits['memory_gb_per_second']:.0f} GB/s read."
        )
    return "\n".join(lines) + "\n"


def into_readme(path: Path, text: str) -> None:
    """Puts ``text`` between the two markers of the README; everything else is left as it is."""
    readme = path.read_text(encoding="utf-8")
    before, marker, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not marker or not end:
        raise SystemExit(f"{path.name} lacks the markers {START!r} and {END!r}: put them back")
    path.write_text(f"{before}{START}\n\n{text}\n{END}{after}", encoding="utf-8")
