"""A reward-model card in three forms: HTML for people, Markdown for repositories, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from accord.config import Gate
from accord.report.artefacts import clean, plain
from accord.report.charts import show
from accord.report.pages import policy, style, template, write
from accord.report.reward_card_markdown import markdown
from accord.report.reward_card_panels import card_panels
from accord.report.reward_card_words import CardPanel, Table, between, percent, points, signed

LEVELS = {"accept": "good", "accept with warnings": "warn", "reject": "bad"}
FILES = ("card.html", "card.md", "card.json")
MOST_EXAMPLES = 8


def _answers(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three figures that a reader looks for first."""
    levels = {reason["name"]: reason["level"] for reason in card["gate"]["reasons"]}
    length = min(
        (card["floors"][name] for name in ("always_longer", "length_rule")), key=lambda row: row["gain"]
    )
    known = [row for row in card.get("probes") or [] if row["tried"]]
    worst = max(known, key=lambda row: row["share_rising"], default=None)
    probe_levels = [level for name, level in levels.items() if name.startswith("probe")]
    return [
        {
            "question": "Does it know what people prefer?",
            "level": levels["accuracy"],
            "word": percent(card["accuracy"]["figure"]),
            "sentence": "of held-out pairs are right;"
            f" 95% interval {between(card['accuracy']['interval'], percent)}.",
        },
        {
            "question": "Is it more than length?",
            "level": levels["gain over length"],
            "word": points(length["gain"]),
            "sentence": "points of accuracy beyond the best length rule;"
            f" 95% interval {between(length['gain_interval'], points)}.",
        },
        {
            "question": "What would a policy exploit?",
            "level": next((one for one in ("bad", "warn", "good") if one in probe_levels), "unknown"),
            "word": percent(worst["share_rising"]) if worst else "Not measured",
            "sentence": f"of scores rise by the most raising edit: {clean(worst['what'])}."
            if worst
            else "Probes were not run.",
        },
    ]


def _examples(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """The largest rises, one a probe and no answer twice; a probe whose answers are all shown gives none."""
    rows = [row for row in card.get("probes") or [] if row["examples"]]
    rows.sort(key=lambda row: -row["examples"][0]["change"])
    seen: set[str] = set()
    found: list[dict[str, str]] = []
    for row in rows:
        one = next((e for e in row["examples"] if e["before"] not in seen), None)
        if one is not None and len(found) < MOST_EXAMPLES:
            seen.add(one["before"])
            shown = {key: clean(one[key]) for key in ("prompt", "before", "after")}
            found.append({"change": signed(one["change"]), "what": clean(row["what"])} | shown)
    return found


def _origin(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, made = card["data"], card["made_by"]
    rows = [("reward model", clean(card["model"]["path"])), ("kind", clean(card["model"]["kind"]))]
    rows += [(f"comparisons {i}", clean(name)) for i, name in enumerate(card["files"], start=1)]
    if card.get("training_files"):
        rows += [("training pairs", ", ".join(map(clean, card["training_files"])))]
    rows += [
        ("comparisons", show(data["comparisons"])),
        ("ties", show(data["ties"])),
        ("not judged", show(data["not_judged"])),
        ("left out, beyond the context", show(card["left_out"])),
        ("answers probed", show(card["probed"])),
        ("seed", show(made["seed"])),
        ("bootstrap draws", show(made["bootstrap"])),
        ("accord", clean(made["accord"])),
    ]
    return rows


def threshold_table(card: Mapping[str, Any]) -> Table:
    """Every threshold with its value and what it means."""
    rows = []
    for name, value in card["gate"]["thresholds"].items():
        field = Gate.model_fields.get(name)
        meaning = (field.description if field else "") or ""
        shown = (
            show(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else clean(value)
        )
        rows.append((clean(name).replace("_", " "), shown, meaning))
    return Table("", ("threshold", "value", "meaning"), tuple(rows))


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {"show": show}
    return template("card.html", filters)


def html(card: Mapping[str, Any], panels: list[CardPanel] | None = None) -> str:
    """The card as one self-contained page."""
    data, decision = card["data"], card["gate"]["decision"]
    simulated = "simulated" in data["label_source"]
    banner = f"Labels from {clean(data['label_source'])}."
    return _template().render(
        name=clean(card["name"]),
        facts=[
            clean(card["model"]["kind"]),
            f"{show(data['pairs'])} held-out pairs",
            f"{show(data['prompts'])} prompts",
            f"seed {card['made_by']['seed']}",
        ],
        banner=banner + (" It says nothing about what people want." if simulated else ""),
        simulated=simulated,
        level=LEVELS[decision],
        decision=decision[0].upper() + decision[1:],
        reasons=[
            {k: clean(reason[k]) for k in ("name", "level", "sentence")} for reason in card["gate"]["reasons"]
        ],
        answers=_answers(card),
        panels=panels if panels is not None else card_panels(card),
        examples=_examples(card),
        origin=_origin(card),
        thresholds=threshold_table(card),
        style=Markup(style()),
        policy=policy(style()),
    )


def write_card(folder: Path, card: Mapping[str, Any]) -> list[Path]:
    """Writes card.html, card.md and card.json into ``folder`` (which is there); returns their paths.

    The same card gives the same bytes: nothing in them tells when or where they were written.
    """
    found: dict[str, Any] = plain(dict(card))
    panels = card_panels(found)
    texts = {
        "card.html": html(found, panels),
        "card.md": markdown(found, panels, _answers(found), threshold_table(found), _origin(found)),
        "card.json": json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1) + "\n",
    }
    for name, text in texts.items():
        write(folder / name, text)
    return [folder / name for name in FILES]
