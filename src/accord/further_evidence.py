"""The questions beyond the first: drift, style, probes, sameness, a second reward model, fresh labels.

Each is asked where the evaluation has what it needs. A question that cannot be answered becomes a finding
that says why, and never the end of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from accord.config import Evaluate
from accord.diagnostics.drift_classifier import classifier_drift
from accord.diagnostics.drift_features import MOST_ROWS, word_features
from accord.diagnostics.drift_mmd import mmd_drift
from accord.diagnostics.drift_outliers import latent_outliers
from accord.diagnostics.ensemble_spread import ensemble_spread
from accord.diagnostics.entropy import entropy_shift
from accord.diagnostics.mode_collapse import mode_collapse
from accord.diagnostics.on_policy import on_policy_accuracy
from accord.diagnostics.policy_probes import Changes, policy_probes, probe_changes
from accord.diagnostics.probe_figures import Probed, ScoreResponses
from accord.diagnostics.split_half import split_half, split_half_selection
from accord.diagnostics.statistics import by_prompt
from accord.diagnostics.style import style_reliance
from accord.diagnostics.style_features import FEATURES, style_features
from accord.records import BadInput, Finding, Prompt, Response, content_hash

Row = dict[str, Any]


class Latents(NamedTuple):
    """States of the reward model that its score is read from: SFT's answers [N, H], the policy's [M, H]."""

    base_NH: Any
    policy_MH: Any


class ProbeSides(NamedTuple):
    """What edits did to the scores of SFT's and of the policy's answers, by the probe's name."""

    sft: Mapping[str, Changes]
    policy: Mapping[str, Changes]


class SecondModel(NamedTuple):
    """The reward model behind the rows' ``other_half``.

    Attributes:
        pairs: what it learned from, in words.
        unusable: why its scores say nothing, as a sentence without a full stop; empty where they do.
    """

    pairs: str = "the other half of the pairs"
    unusable: str = ""


class FreshLabels(NamedTuple):
    """Chosen-minus-rejected margins of the reward model and the prompt key of each pair.

    Attributes:
        labels: how many fresh ones there are, those that name no better answer included.
    """

    test_margin_N: Sequence[float]
    test_prompt_N: Sequence[str]
    fresh_margin_M: Sequence[float]
    fresh_prompt_M: Sequence[str]
    labels: int = 0


def at_most(rows: Sequence[Row], limit: int) -> list[int]:
    """Places of the rows of as many prompts as fit into ``limit`` rows, prompts picked by a hash of their
    key.

    The same prompts on both sides, so that rows stay paired.
    """
    if len(rows) <= limit:
        return list(range(len(rows)))
    order = sorted({row["key"] for row in rows}, key=lambda key: content_hash(key, "asked further"))
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["key"]] = counts.get(row["key"], 0) + 1
    kept: set[str] = set()
    total = 0
    for key in order:
        if total + counts[key] > limit:
            break
        kept.add(key)
        total += counts[key]
    return [i for i, row in enumerate(rows) if row["key"] in kept]


def further_findings(
    evaluations: Sequence[Row],
    best_of: Sequence[Row],
    config: Evaluate,
    probes: ProbeSides | None = None,
    latents: Latents | None = None,
    fresh: FreshLabels | None = None,
    second: SecondModel = SecondModel(),
    only: Sequence[str] | None = None,
) -> list[Finding]:
    """All that can be asked of what there is, or ``only`` the named; see ``evidence.judge_round``."""
    base, policy = evaluations[0]["rows"], evaluations[-1]["rows"]
    options: Any = {"samples": config.bootstrap}
    asked: list[tuple[str, Callable[[], Finding]]] = []

    def ask(name: str, question: Callable[[], Finding]) -> None:
        if only is None or name in only:
            asked.append((name, question))

    if _has(base, policy, "other_half") or second.unusable:
        ask("split_half", lambda: _split_half(evaluations, second, options))
    if best_of and best_of[0].get("halves") is not None:
        ask("split_half_selection", lambda: _selection(best_of, options))
    if _has(base, policy, "members"):
        ask("ensemble_spread", lambda: _ensemble(base, policy, options))
    if fresh is not None:
        ask("on_policy_accuracy", lambda: _fresh(fresh, options))
    ask("classifier_drift", lambda: _drift(classifier_drift, base, policy, latents, options))
    ask("mmd_drift", lambda: _drift(mmd_drift, base, policy, latents, {}))
    if latents is not None:  # distance in words says little about where a reward model has been
        ask("latent_outliers", lambda: _drift(latent_outliers, base, policy, latents, options))
    if _has(base, policy, "entropy"):
        ask("entropy_shift", lambda: _entropy(base, policy, options))
    ask("style_reliance", lambda: _style(base, policy, options))
    if probes is not None:
        ask("policy_probes", lambda: policy_probes(probes.sft, probes.policy, **options))
    ask("mode_collapse", lambda: _sameness(base, policy))
    return [_answered(name, question) for name, question in asked]


def _answered(name: str, question: Callable[[], Finding]) -> Finding:
    try:
        return question()
    except BadInput as error:
        sentence = f"{name.replace('_', ' ').capitalize()} was not measured: {error}."
        return Finding(name, name.replace("_", " "), None, None, "", "unknown", sentence)


def _has(base: Sequence[Row], policy: Sequence[Row], field: str) -> bool:
    return base[0].get(field) is not None and policy[0].get(field) is not None


def _column(rows: Sequence[Row], field: str, places: Sequence[int] | None = None) -> list[Any]:
    return [rows[i][field] for i in (range(len(rows)) if places is None else places)]


def _split_half(evaluations: Sequence[Row], second: SecondModel, options: Any) -> Finding:
    if second.unusable:
        raise BadInput(second.unusable)

    def matrix(field: str) -> Any:
        return np.array(
            [by_prompt(_column(e["rows"], field), _column(e["rows"], "key"))[0] for e in evaluations]
        )

    kl = [max(0.0, float(np.mean(_column(e["rows"], "kl")))) for e in evaluations]
    return split_half(kl, matrix("proxy"), matrix("other_half"), other_pairs=second.pairs, **options)


def _selection(best_of: Sequence[Row], options: Any) -> Finding:
    width = sum(1 for row in best_of if row["key"] == best_of[0]["key"])
    first_PK, second_PK = np.array(_column(best_of, "halves")).T.reshape(2, -1, width)
    return split_half_selection(first_PK, second_PK, **options)


def _ensemble(base: Sequence[Row], policy: Sequence[Row], options: Any) -> Finding:
    before, after = (np.array(_column(rows, "members")).T for rows in (base, policy))
    return ensemble_spread(before, after, _column(base, "key"), _column(policy, "key"), **options)


def _fresh(fresh: FreshLabels, options: Any) -> Finding:
    if not len(fresh.fresh_margin_M):
        raise BadInput(
            f"none of {fresh.labels} fresh labels of the final policy's samples names a better answer (the"
            " others are ties or skipped): raise evaluate.fresh_pairs"
            if fresh.labels
            else "the final policy gave no prompt two different answers that could be compared"
        )
    if not len(fresh.test_margin_N):
        raise BadInput("the reward model's own test set has no decided pair to compare with")
    return on_policy_accuracy(
        fresh.test_margin_N, fresh.fresh_margin_M, fresh.test_prompt_N, fresh.fresh_prompt_M, **options
    )


def _drift(
    test: Callable[..., Finding],
    base: Sequence[Row],
    policy: Sequence[Row],
    latents: Latents | None,
    options: Any,
) -> Finding:
    kept, other = at_most(base, MOST_ROWS), at_most(policy, MOST_ROWS)
    keys = (_column(base, "key", kept), _column(policy, "key", other))
    if latents is not None:
        sides = (np.asarray(latents.base_NH)[kept], np.asarray(latents.policy_MH)[other])
        return test(*sides, *keys, **options)
    sides = word_features(_column(base, "text", kept), _column(policy, "text", other))
    return test(*sides, *keys, features="the answers' words", **options)


def _entropy(base: Sequence[Row], policy: Sequence[Row], options: Any) -> Finding:
    return entropy_shift(
        _column(base, "entropy"), _column(policy, "entropy"), _column(base, "key"), **options
    )


def _style(base: Sequence[Row], policy: Sequence[Row], options: Any) -> Finding:
    return style_reliance(
        _column(base, "proxy"),
        _column(policy, "proxy"),
        style_features(_column(base, "text")),
        style_features(_column(policy, "text")),
        _column(base, "key"),
        _column(policy, "key"),
        list(FEATURES),
        **options,
    )


def probe_sides(base: Sequence[Row], policy: Sequence[Row], score: ScoreResponses, limit: int) -> ProbeSides:
    """Edits tried on at most ``limit`` answers of each side, to the same prompts.

    Edits that destroy are tried on the answer of a pair that the reward model itself calls the better one.

    Raises:
        BadInput: SFT's scores do not vary, or there is no answer.
    """
    kept = at_most(base, limit)
    deviation = float(np.std(_column(base, "proxy"), ddof=1)) if len(base) > 1 else 0.0

    def side(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, Changes]:
        items = [
            Probed(
                Prompt.from_json(rows[i]["prompt"]),
                Response(rows[i]["text"], None, bool(rows[i]["finished"])),
                rows[i]["proxy"] >= others[i]["proxy"],
            )
            for i in kept
        ]
        return probe_changes(items, score, deviation=deviation, reads_end=False)

    return ProbeSides(side(base, policy), side(policy, base))


def _sameness(base: Sequence[Row], policy: Sequence[Row]) -> Finding:
    kept = at_most(base, MOST_ROWS)
    return mode_collapse(
        _column(base, "text", kept), _column(policy, "text", kept), _column(base, "key", kept)
    )
