"""Where everything comes from: rounds beside each other, checkpoints, versions, time."""

from __future__ import annotations

import datetime
from typing import Any

from accord.report.answers import shown, verdict_of
from accord.report.artefacts import Artefacts, Round, clean, interval, mapping, mappings, number
from accord.report.charts import Chart, show
from accord.report.distributions import Bar, interval_chart
from accord.report.panels import curve_points


def duration(seconds: float | None) -> str:
    """42 s, 3 min 5 s, 2 h 7 min."""
    if seconds is None or seconds < 0:
        return "–"
    if seconds < 60:
        return f"{show(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def date(value: object) -> str:
    """A Unix time or an ISO text as UTC, to the minute; anything else as it stands."""
    seconds = number(value)
    try:
        if seconds is not None:
            return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        if isinstance(value, str):
            moment = datetime.datetime.fromisoformat(value)
            zone = " UTC" if moment.utcoffset() == datetime.timedelta(0) else ""
            return moment.strftime("%Y-%m-%d %H:%M") + zone
    except (ValueError, OverflowError, OSError):
        pass
    return clean(value)


def percent(figure: object, ends: object) -> str:
    """73% (65 to 81), or a dash."""
    value, pair = number(figure), interval(ends)
    if value is None:
        return "–"
    return f"{show(100 * value)}%" + (f" ({show(100 * pair[0])} to {show(100 * pair[1])})" if pair else "")


def round_row(one: Round) -> dict[str, str]:
    """One line of the rounds table."""
    points = curve_points(one.curve)
    win = one.finding("win_rate", "is it better")
    figure, ends = shown(win) if win else ("–", "")
    sides = sum(one.pairs_by_policy.values()) or 1
    makers = [f"{show(100 * n / sides)}% by {name}" for name, n in sorted(one.pairs_by_policy.items())]
    trained = number(one.reward.get("pairs_train"))
    return {
        "round": str(one.index),
        "pairs compared": f"{one.pairs:,} ({', '.join(makers)})" if one.pairs else "–",
        "chosen by": clean(one.lineage.get("chosen_by")) or "–",
        "reward model fitted on": f"{show(trained, 4)} pairs" if trained is not None else "not fitted yet",
        "labels it learned from": _by_policy(one),
        "started from (reward model, policy)": _started(one),
        "its accuracy (95% interval)": percent(
            one.reward.get("accuracy"), one.reward.get("accuracy_interval")
        ),
        "final KL (nats per response)": show(number(points[-1].get("kl"))) if points else "–",
        "win rate against SFT (95% interval)": f"{figure} ({ends})" if ends else figure,
        "hacked?": verdict_of(one.finding("overoptimisation", "is it hacked")),
        "policy": "saved" if one.has_policy else "not finished",
    }


def _by_policy(one: Round) -> str:
    found = mapping(mapping(mapping(one.lineage.get("labels")).get("train")).get("by_policy"))
    parts = [f"{show(number(n))} of {clean(name)}" for name, n in found.items() if number(n)]
    return ", ".join(parts) or "–"


def _started(one: Round) -> str:
    names = [clean(one.lineage.get(key)) for key in ("reward_from", "policy_from")]
    return ", ".join(names) if all(names) else "–"


def rounds_chart(run: Artefacts) -> Chart | None:
    """Win rate by round; None where fewer than two rounds have one."""
    bars = []
    for one in run.rounds:
        win = one.finding("win_rate", "is it better")
        figure = number((win or {}).get("figure"))
        if win is not None and figure is not None:
            low, high = interval(win.get("interval")) or (None, None)
            bars.append(Bar(f"round {one.index}", figure, low, high, note=shown(win)[0]))
    if len(bars) < 2:
        return None
    return interval_chart(
        "Win rate by round", "win rate against SFT (%)", bars,
        x_range=(0, 1), level=0.5, level_name="no difference", scale=100,
    )  # fmt: skip


def stages(run: Artefacts) -> list[dict[str, Any]]:
    """Time per stage, as the lock file records it."""
    return [
        {
            "stage": clean(row.get("stage")),
            "seconds": number(row.get("seconds")),
            "cached": row.get("cached") is True,
        }
        for row in mappings(run.lock.get("stages"))
    ]


def time_chart(run: Artefacts) -> Chart | None:
    """Seconds per stage; a stage loaded from the cache is drawn pale and says so."""
    bars = [
        Bar(
            s["stage"], s["seconds"] / 60,
            style="reference" if s["cached"] else "policy",
            note="cached" if s["cached"] else duration(s["seconds"]),
        )
        for s in stages(run) if s["seconds"] is not None
    ]  # fmt: skip
    if not bars:
        return None
    longest = max(bar.figure for bar in bars) or 1.0
    return interval_chart("Time per stage", "minutes", bars, x_range=(0, longest * 1.02), filled=True)


def _version(key: str, value: object) -> str:
    if key in ("started", "finished"):
        return date(value)
    return clean(value)[:12] if key == "git" else clean(value)


def versions(run: Artefacts) -> list[tuple[str, str]]:
    """The lock file's plain entries, then the checkpoints' identities."""
    out = [
        (clean(key).replace("_", " "), _version(key, value))
        for key, value in run.lock.items()
        if key != "stages" and not isinstance(value, (dict, list)) and value is not None
    ]
    for name, commit in run.commits.items():
        for key in ("hash", "digest", "sha256", "key", "fingerprint"):
            if isinstance(commit.get(key), str):
                out.append((f"checkpoint {name}", clean(commit[key])[:12]))
                break
    return out
