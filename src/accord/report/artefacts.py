"""What a run directory holds, read with tolerance: a report is wanted most when something went wrong.

Nothing here raises for an absent, cut or malformed file: it is left out and named in ``missing``, a sentence
each, which the page shows. Text comes from models and strangers; ``clean`` makes it safe to write as UTF-8
(escaping for HTML is the template's work).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SAMPLE_CHARACTERS = 4000  # of one answer; longer ones are cut, and say so
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def clean(value: object) -> str:
    """Text without control characters and lone surrogates, which no UTF-8 page can carry."""
    text = "" if value is None else str(value)
    return CONTROL.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))


def plain(value: Any) -> Any:
    """JSON values only, text cleaned, NaN and infinity as null."""
    if isinstance(value, dict):
        return {clean(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (int, float, bool, type(None))) else clean(value)


def number(value: object) -> float | None:
    """A finite number, or None for anything else (text, NaN, true)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def interval(value: object) -> tuple[float, float] | None:
    """(low, high), or None where it is not two finite numbers."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return (low, high) if low is not None and high is not None else None


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def policy_stage(config: Mapping[str, Any]) -> tuple[str, str]:
    """(what trains the policy: online, direct or rejection; the algorithm's name, empty where unknown)."""
    if config.get("rejection"):
        return "rejection", "rejection sampling"
    stage = "direct" if config.get("direct") else "online"
    return stage, clean(mapping(config.get(stage)).get("algorithm")).replace("_", " ")


def mappings(value: object) -> list[dict[str, Any]]:
    """The objects in a list; anything else in it is left out."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def numbers(value: object) -> list[float]:
    """A list of finite numbers, or an empty one if any entry is not."""
    found = [number(v) for v in value] if isinstance(value, list) else []
    return [v for v in found if v is not None] if None not in found else []


@dataclass(frozen=True)
class Round:
    """The files of one round. Empty values stand for files that are not there."""

    index: int
    findings: list[dict[str, Any]]
    curve: dict[str, Any]
    reward: dict[str, Any]
    samples: list[dict[str, Any]]
    pairs: int
    pairs_by_policy: dict[str, int]
    has_policy: bool
    lineage: dict[str, Any] = field(default_factory=dict)

    def finding(self, name: str, question: str = "") -> dict[str, Any] | None:
        """By name, or else by the start of its question."""
        for row in self.findings:
            if row.get("name") == name:
                return row
        for row in self.findings:
            if question and clean(row.get("question")).casefold().startswith(question.casefold()):
                return row
        return None


@dataclass(frozen=True)
class Artefacts:
    """A run directory. ``rounds`` are in order; ``missing`` says in sentences what is not there."""

    path: Path
    config: dict[str, Any]
    lock: dict[str, Any]
    metrics: list[dict[str, Any]]
    events: list[dict[str, Any]]
    rounds: list[Round]
    commits: dict[str, dict[str, Any]]
    missing: list[str] = field(default_factory=list)


class _Reader:
    """Reads files below one folder and remembers what could not be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: list[str] = []

    def text(self, name: str, what: str) -> str | None:
        """``what``: what the page cannot show without it (empty: nobody misses it)."""
        path = self.folder / name
        try:
            return path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            if what:
                self.missing.append(f"{name} is not there: {what}.")
        except OSError as error:
            self.missing.append(f"{name} cannot be read ({error.strerror}): {what or 'left out'}.")
        return None

    def parsed(self, name: str, what: str, parse: Callable[[str], Any]) -> dict[str, Any]:
        text = self.text(name, what)
        if text is None:
            return {}
        try:
            value = plain(parse(text))
        except (ValueError, RecursionError, yaml.YAMLError):
            self.missing.append(f"{name} is damaged: {what or 'left out'}.")
            return {}
        if not isinstance(value, dict):
            self.missing.append(f"{name} does not hold keys and values: {what or 'left out'}.")
            return {}
        return value

    def rows(self, name: str, what: str) -> list[dict[str, Any]]:
        """JSON Lines; a damaged line is left out and counted (a killed run ends in half a line)."""
        text = self.text(name, what)
        out, bad = [], []
        for index, line in enumerate((text or "").split("\n"), start=1):
            if not line.strip():
                continue
            try:
                row = plain(json.loads(line))
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                out.append(row)
            else:
                bad.append(index)
        if bad:
            lines = "line" if len(bad) == 1 else "lines"
            first = f"line {bad[0]}" if len(bad) == 1 else f"the first is line {bad[0]}"
            self.missing.append(f"{name} has {len(bad)} damaged {lines}, left out ({first}).")
        elif text is not None and not out and what:
            self.missing.append(f"{name} is empty: {what}.")
        return out


def _answer(value: object) -> dict[str, Any]:
    row = mapping(value)
    text = clean(row.get("text"))
    cut = len(text) > SAMPLE_CHARACTERS
    return {
        "text": text[:SAMPLE_CHARACTERS] + (" … (cut here; the whole is in samples.jsonl)" if cut else ""),
        "proxy": number(row.get("proxy")),
        "proxy_std": number(row.get("proxy_std")),
        "gold": number(row.get("gold")),
        "tokens": number(row.get("tokens")),
        "finished": row.get("finished") is not False,
    }


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt = row.get("prompt")
    turns = mappings(prompt) if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    messages = [
        {"role": clean(t.get("role")), "content": clean(t.get("content"))[:SAMPLE_CHARACTERS]} for t in turns
    ]
    return {
        "prompt": messages,
        "key": clean(row.get("key")),
        "sft": _answer(row.get("sft")),
        "policy": _answer(row.get("policy")),
    }


def _round(reader: _Reader, index: int, expected: bool) -> Round:
    base = f"round-{index}"

    def lost(what: str) -> str:
        return what if expected else ""

    reward = reader.parsed(
        f"{base}/reward/accord_reward.json", lost("the reward model's accuracy is not known"), json.loads
    )
    curve = reader.parsed(f"{base}/curve.json", lost("reward against KL cannot be drawn"), json.loads)
    found = reader.parsed(f"{base}/findings.json", lost("the questions have no answers yet"), json.loads)
    samples = reader.rows(f"{base}/samples.jsonl", lost("no samples can be compared"))
    pairs = reader.rows(f"{base}/pairs.jsonl", "")
    by_policy = Counter(
        clean(mapping(row.get(side)).get("policy")) or "unknown" for row in pairs for side in ("a", "b")
    )
    return Round(
        index=index,
        findings=[{"question": "", "unit": "", "sentence": ""} | f for f in mappings(found.get("findings"))],
        curve=curve,
        reward=reward,
        samples=[_sample(row) for row in samples],
        pairs=len(pairs),
        pairs_by_policy=dict(by_policy),
        has_policy=(reader.folder / base / "policy").is_dir(),
        lineage=reader.parsed(f"{base}/lineage.json", "", json.loads),
    )


def read(run_dir: Path) -> Artefacts:
    """Everything in ``run_dir`` that the page shows; never raises for what is in the files."""
    reader = _Reader(run_dir)
    config = reader.parsed("config.yaml", "the configuration is not known", yaml.safe_load)
    lock = reader.parsed("accord.lock.json", "versions, dates and times are not known", json.loads)
    planned = number(config.get("rounds"))
    metrics = [
        row
        for row in reader.rows("metrics.jsonl", "training health cannot be drawn")
        if planned is None or (number(row.get("round")) or 0) < planned
    ]
    events = reader.rows("events.jsonl", "")
    found = sorted(
        int(path.name.removeprefix("round-"))
        for path in run_dir.glob("round-*")
        if path.is_dir() and path.name.removeprefix("round-").isdigit()
    )
    if planned is not None and (earlier := [index for index in found if index >= planned]):
        folders = ", ".join(f"round-{index}" for index in earlier)
        reader.missing.append(
            f"{folders}: left by an earlier run of more rounds and no part of this one (rounds is"
            f" {planned:.0f}), left out."
        )
        found = [index for index in found if index < planned]
    rounds = [_round(reader, index, expected=True) for index in found]
    if not found:
        reader.missing.append("No round has started: there is no reward model and no optimised policy yet.")
    if planned is not None and found and len(found) < planned:
        reader.missing.append(f"{len(found)} of {planned:.0f} rounds have started.")
    names = ["sft", *(f"round-{i}/{stage}" for i in found for stage in ("reward", "policy"))]
    commits = {
        name: reader.parsed(f"{name}/COMMIT.json", "", json.loads)
        for name in names
        if (run_dir / name).is_dir()
    }
    return Artefacts(run_dir, config, lock, metrics, events, rounds, commits, reader.missing)
