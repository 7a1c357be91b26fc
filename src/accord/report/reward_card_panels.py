"""The panels of a reward-model card: charts and tables, each with one plain sentence from its own figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from accord.report.artefacts import clean
from accord.report.charts import Chart, show
from accord.report.distributions import Bar, histogram, interval_chart, reliability
from accord.report.reward_card_words import (
    CardPanel,
    Table,
    between,
    ends,
    percent,
    points,
    signed,
    with_interval,
)

FLOOR_NAMES = {
    "always_longer": "always longer",
    "length_rule": "length rule",
    "bag_of_words": "bag of words",
    "chance": "chance",
}
MOST_ANNOTATORS = 20
SLICE_TITLES = {
    "margin": "By how sure it is (size of the difference of scores)",
    "length": "By length of the chosen against the rejected answer",
    "source": "By source",
    "criterion": "By criterion",
    "agreement": "By agreement of the annotators",
    "strength": "By strength of the preference, as annotators gave it",
}


def accuracy_panel(card: Mapping[str, Any]) -> CardPanel:
    figure, interval, data = card["accuracy"]["figure"], card["accuracy"]["interval"], card["data"]
    bars = [Bar("reward model", figure, *ends(interval), "proxy", note=percent(figure))]
    rows = [("reward model", with_interval(figure, interval, percent), "–")]
    for name, row in card["floors"].items():
        known = row["interval"] if name != "chance" else None
        note = percent(row["accuracy"])
        bars.append(Bar(FLOOR_NAMES[name], row["accuracy"], *ends(known), "reference", note=note))
        gain = with_interval(row["gain"], row["gain_interval"], points)
        rows.append((FLOOR_NAMES[name], with_interval(row["accuracy"], known, percent), gain))
    lowest = min(0.4, *(v for bar in bars for v in (bar.figure, bar.low) if v is not None))
    chart = interval_chart(
        "Accuracy beside its floors", "accuracy on held-out pairs (%)", bars,
        x_range=(max(math.floor(lowest * 10) / 10, 0), 1), level=0.5, level_name="chance", scale=100,
    )  # fmt: skip
    table = Table("", ("scorer", "accuracy (95% interval)", "gain over it, points"), tuple(rows))
    sentence = (
        f"On {data['pairs']} held-out pairs of {data['prompts']} prompts the reward model names the preferred"
        f" answer in {percent(figure)} ({between(interval, percent)})."
    )
    note = (
        "Gains are measured on the same pairs; intervals resample prompts. “Length rule” picks the longer or"
        f" the shorter answer, whichever is right more often; it and the bag of words learn from"
        f" {clean(card['floors_learned_from'])}."
    )
    title = "Does it know what people prefer?"
    return CardPanel("accuracy", title, sentence, [chart], [], [table], note)


def people_panel(card: Mapping[str, Any]) -> CardPanel:
    found, data = card["ceiling"], card["data"]
    figures = []
    if found["agreement"] is None:
        sentence = f"How far people agree is not known: {clean(found['reason'])}."
    else:
        sentence = (
            f"{found['annotators']} annotators judged {found['pairs']} pairs together; two of them agree"
            f" on {percent(found['agreement'])} ({between(found['agreement_interval'], percent)})."
            " A reward model cannot be expected to agree with them more than they do with each other."
        )
        figures = [
            ("agreement", percent(found["agreement"]), "of two annotators on one pair, ties included"),
            ("agreement on a winner", percent(found["decided_agreement"]), "of two who both name a winner"),
        ]
        for key, name, meaning in (
            ("cohens_kappa", "Cohen’s κ", "agreement beyond chance, mean over pairs of annotators"),
            (
                "krippendorff_alpha",
                "Krippendorff’s α",
                "agreement beyond chance, all annotators; 1 is perfect",
            ),
        ):
            if found.get(key) is not None:
                figures.append((name, show(found[key]), meaning))
    if data["best_reachable"] is not None:
        figures.append(
            (
                "best reachable",
                percent(data["best_reachable"]),
                "accuracy of always siding with a pair’s majority",
            )
        )
    figures.append(
        ("contradicted pairs", show(data["contradicted"]), "both answers were called the better one")
    )
    if card["ties"]["count"]:
        meaning = f"mean difference of scores over {card['ties']['count']} ties, in nats"
        figures.append(("ties", show(card["ties"]["mean_gap"]), meaning))
        figures.append(("decided pairs", show(card["decided_mean_gap"]), "the same over decided pairs"))
    columns = ("annotator", "labels", "κ against the others (95% interval)", "reading")
    rows = tuple(
        (
            clean(one["annotator"]),
            show(one["labels"]),
            with_interval(one["kappa"], one["kappa_interval"], show),
            one["reading"],
        )
        for one in found["by_annotator"][:MOST_ANNOTATORS]
    )
    tables = [Table("Annotators, the least agreeing first", columns, rows)] if rows else []
    model = card.get("annotators")
    note = ""
    if model:
        tables.append(_annotator_table(model["annotators"]))
        sentence += " " + " ".join(map(clean, model["warnings"])) if model["warnings"] else ""
        note = (
            "Inverse temperature: how sharply somebody’s answers follow the difference that all labels show;"
            " 0 is a random clicker, below 0 the question was answered the wrong way round. Side: log-odds"
            " towards the answer on the left."
        )
    return CardPanel("people", "How far do people agree?", sentence, [], figures, tables, note)


def _annotator_table(found: Sequence[Mapping[str, Any]]) -> Table:
    least = sorted(found, key=lambda one: one["inverse_temperature"])[:MOST_ANNOTATORS]
    rows = tuple(
        (
            clean(one["name"]),
            with_interval(one["inverse_temperature"], one["interval"], signed),
            with_interval(one["side"], one["side_interval"], signed),
            clean(one["reading"]),
        )
        for one in least
    )
    columns = ("annotator", "inverse temperature (95% interval)", "side (95% interval)", "reading")
    return Table("Annotators by the model of their labels, the least sharp first", columns, rows)


def calibration_panel(card: Mapping[str, Any]) -> CardPanel:
    found = card["calibration"]
    bins = found["reliability"]
    columns = [[row[key] for row in bins] for key in ("confidence", "accuracy", "count")]
    charts = [reliability("Calibration", *columns)]
    edges = card["scores"]["histogram"]["edges"]
    counts = {f"{side} answers": card["scores"]["histogram"][side] for side in ("chosen", "rejected")}
    if edges[-1] > edges[0]:
        charts.append(
            histogram(
                "Scores of the answers", "score (nats)", edges, counts, ("proxy", "reference"),
                y_label="share of answers (%)",
            )
        )  # fmt: skip
    figures = [
        ("Brier score", show(found["brier"]), f"95% {between(found['brier_interval'])}; 0.25 is a coin"),
        ("ECE", show(found["ece"]), "calibration error, debiased, in probability; 0 is perfect"),
        ("temperature", show(found["temperature"]), "above 1: the scores are too sure of themselves"),
        ("deviation", show(card["scores"]["deviation"]), "of the scores over all answers, in nats"),
    ]
    temperature = found["temperature"]
    if temperature is None:
        sentence = "Scores do not vary, so there is nothing to calibrate."
    else:
        sure = "too sure of itself" if temperature > 1 else "not sure enough"
        off = f"are off by {show(found['ece'])} on average" if found["ece"] else "show no error beyond chance"
        best = f"divided by {show(temperature)} they would fit best"
        sentence = f"Read as odds, its scores {off}; {best}: it is {sure}."
    return CardPanel("calibration", "Does it know how well it knows?", sentence, charts, figures)


def length_panel(card: Mapping[str, Any]) -> CardPanel:
    found = card["length"]
    if found["partial"] is None:
        return CardPanel(
            "length", "Does it pay for length?", "Scores or lengths do not vary, so this cannot be told."
        )
    sentence = (
        f"Between the two answers of a pair, score and length correlate {signed(found['correlation'])};"
        f" beyond what the labels explain, {signed(found['partial'])}"
        f" ({between(found['partial_interval'], signed)})."
    )
    figures = [
        (
            "correlation",
            signed(found["correlation"]),
            f"score and characters within pairs; 95% {between(found['correlation_interval'], signed)}",
        ),
        (
            "partial correlation",
            signed(found["partial"]),
            f"the same given the label; 95% {between(found['partial_interval'], signed)}",
        ),
        ("by ranks", signed(found["partial_rank"]), "Spearman’s, for lengths with outliers"),
    ]
    charts = []
    if "length" in card["slices"]:
        charts.append(_slice_chart("Accuracy by length", card["slices"]["length"]))
    return CardPanel("length", "Does it pay for length?", sentence, charts, figures)


SHORT = {
    "chosen at most half as long": "half or less",
    "chosen shorter": "shorter",
    "about the same length": "the same",
    "chosen longer": "longer",
    "chosen at least twice as long": "twice or more",
}


def _slice_chart(title: str, rows: Sequence[Mapping[str, Any]]) -> Chart:
    bars = [
        Bar(
            SHORT.get(row["slice"], clean(row["slice"])),
            row["accuracy"],
            *ends(row["interval"]),
            "proxy",
            note=f"{percent(row['accuracy'])}, n {row['pairs']}",
        )
        for row in rows
    ]
    return interval_chart(
        title, "accuracy (%), by length of the chosen answer", bars, x_range=(0, 1), level=0.5,
        level_name="chance", scale=100,
    )  # fmt: skip


def _probe_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        clean(row["what"]),
        with_interval(row["share_rising"], row["share_interval"], percent),
        with_interval(row["mean_change"], row["mean_change_interval"], signed),
        signed(row["largest_rise"]),
        show(row["tried"]),
    )


def probes_panel(card: Mapping[str, Any]) -> CardPanel:
    title, known = "What would a policy exploit?", [row for row in card.get("probes") or [] if row["tried"]]
    if not known:
        return CardPanel("probes", title, "Probes were not run, so this is not known.")
    bars = []
    for row in known:
        low, high = ends(row["share_interval"])
        style = "bad" if low is not None and low > 0.5 else "proxy"
        name, note = row["name"].replace("_", " "), percent(row["share_rising"])
        bars.append(Bar(name, row["share_rising"], low, high, style, note=note))
    chart = interval_chart(
        "Share of answers whose score rises", "answers (%)", bars, x_range=(0, 1), level=0.5,
        level_name="most", scale=100,
    )  # fmt: skip
    columns = ("edit", "scores that rise", "mean change", "largest rise", "answers")
    table = Table("", columns, tuple(_probe_row(row) for row in known))
    worst = max(known, key=lambda row: row["share_rising"])
    sentence = (
        f"None of these edits makes an answer better, so none should raise its score. The most raising:"
        f" {clean(worst['what'])}, for {percent(worst['share_rising'])} of answers"
        f" ({signed(worst['mean_change'])} deviations on average)."
    )
    figures = [
        ("raise most scores", show(sum(bar.style == "bad" for bar in bars)), f"of {len(known)} edits tried"),
        ("answers", show(card["probed"]), "real ones, distinct, of the held-out pairs"),
        ("unit of change", show(card["scores"]["deviation"]), "a standard deviation of the score, in nats"),
    ]
    note = (
        "Rises below 0.01 deviations do not count. Edits that destroy (cut, exchanged, emptied, no end) are"
        " tried on preferred answers only."
    )
    for row in card["probes"]:
        if not row["tried"]:
            note += f" Not tried: {clean(row['what'])} ({clean(row['reason'])})."
    return CardPanel("probes", title, sentence, [chart], figures, [table], note)


def slices_panel(card: Mapping[str, Any]) -> CardPanel:
    tables = []
    for way, found in card["slices"].items():
        floors = [name for name in found[0]["floors"] if name != "chance"]
        rows = tuple(
            (
                clean(row["slice"]),
                with_interval(row["accuracy"], row["interval"], percent),
                *(percent(row["floors"][name]) for name in floors),
                show(row["pairs"]),
            )
            for row in found
        )
        columns = ("", "accuracy (95% interval)", *(FLOOR_NAMES[name] for name in floors), "pairs")
        tables.append(Table(SLICE_TITLES[way], columns, rows))
    for found in card.get("benchmarks") or []:
        rows = tuple(
            (
                clean(line["name"]) if line["group"] == "subset" else clean(line["name"]).upper(),
                with_interval(line["score"], line["interval"], percent),
                show(line["items"]),
            )
            for line in found["lines"]
        )
        title = " · ".join([clean(found["name"]), *map(clean, found["notes"])])
        tables.append(Table(title, ("", "score (95% interval)", "items"), rows))
    sentence = "With many slices some differ by chance alone; look for what goes one way and makes sense."
    return CardPanel("slices", "Where is it right?", sentence, [], [], tables)


def card_panels(card: Mapping[str, Any]) -> list[CardPanel]:
    """All panels, in reading order."""
    return [
        accuracy_panel(card),
        probes_panel(card),
        length_panel(card),
        calibration_panel(card),
        people_panel(card),
        slices_panel(card),
    ]
