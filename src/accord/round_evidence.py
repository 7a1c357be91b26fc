"""What the evidence needs beside the samples, measured once after RL and kept: the reward model's states,
edits tried on answers, its margins on its own test labels, and second reward models of other labels.

The second models are heads fitted to the frozen states of the SFT model (``probe.fit``), because that costs
two forward passes and no training. They are weaker than the reward model itself, and share its pretraining:
what SFT's states do not show, none of them sees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accord import models, probe, towers
from accord.answer_states import Array, answer_states, decided_pairs, groups_of
from accord.config import Aggregation, Evaluate
from accord.diagnostics.policy_probes import Changes
from accord.diagnostics.statistics import clustered_share
from accord.evidence import Extras
from accord.further_evidence import FreshLabels, Latents, ProbeSides, SecondModel, probe_sides
from accord.records import BadInput, Comparison, Prompt, Response, content_hash
from accord.scoring.ensemble import EnsembleScorer, TextEnsembleScorer
from accord.scoring.loading import OwnScorer, load_scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.towers import Tower

Row = dict[str, Any]
MOST_PAIRS = 1000  # whose states are read for each second model, picked by a hash
HELD_OUT = "held-out labels"


@dataclass
class Measured:
    """Plain values and arrays, written as JSON and as one .npz.

    Attributes:
        base_NH, policy_MH: the reward model's states at the score's place, SFT's and the policy's answers.
        deviation: of the raw score over the reward model's training responses.
        test_margin_N, test_prompt_N: chosen minus rejected on its own test labels, raw score.
        probes: for SFT's and the policy's answers {name: [prompt keys, changes]}; None where not asked.
        other_half: for each evaluation its rows' scores by the second model; empty where it is unusable.
        halves: for each best-of-n row the scores by the models of both halves; empty where there are none.
        second: the second model, in numbers and words.
    """

    base_NH: NDArray[np.float32]
    policy_MH: NDArray[np.float32]
    deviation: float
    test_margin_N: list[float]
    test_prompt_N: list[str]
    probes: list[dict[str, list[Any]]] | None = None
    other_half: list[list[float]] = field(default_factory=list)
    halves: list[list[float]] = field(default_factory=list)
    second: dict[str, Any] = field(default_factory=dict)


def measure(
    sft_folder: Path,
    reward_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    evaluations: Sequence[Row],
    best_of: Sequence[Row],
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    config: Evaluate,
    limits: dict[str, int],
    how: Aggregation = Aggregation(),
    weights: Mapping[str, float] | None = None,
) -> Measured:
    """See `Measured`.

    Args:
        how, weights: as ``load_scorer`` takes them.
        training, test: the labels that the reward model was fitted to, and those it was tested on.
    """
    scorer = load_scorer(reward_folder, dtype, how, weights)
    body = scorer.scorers[0] if isinstance(scorer, TextEnsembleScorer) else scorer
    assert isinstance(body, RewardModelScorer | EnsembleScorer)  # accord's own, all of them
    base, policy = evaluations[0]["rows"], evaluations[-1]["rows"]
    base_NH, policy_MH = (
        answer_states(
            body.tower, groups_of(body.tokenizer, _read_by(body.tokenizer, tokenizer, rows))
        ).astype(np.float32)
        for rows in (base, policy)
    )
    margin_N, keys = _margins(scorer, test)
    found = Measured(base_NH, policy_MH, scorer.std, margin_N, keys)
    if config.probed_answers:

        def score(prompts: Sequence[Prompt], responses: Sequence[Response]) -> Sequence[float]:
            return scorer.score(prompts, [one.text for one in responses])

        try:
            asked = probe_sides(base, policy, score, config.probed_answers)
            found.probes = [
                {name: [one.prompts, one.change_N.tolist()] for name, one in side.items()} for side in asked
            ]
        except BadInput:
            found.probes = []  # scores without spread: the question stays open
    if config.split_half:
        del scorer, body
        tower = Tower(towers.base_of(models.load_policy(sft_folder, dtype)))
        _second_models(found, tower, tokenizer, evaluations, best_of, training, test, config, limits)
    return found


def _read_by(theirs: Any, own: Any, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows as a reward model with another tokenizer than the policy's reads them: encoded from their text."""
    if theirs.get_vocab() == own.get_vocab() and theirs.chat_template == own.chat_template:
        return rows
    return [row | {"ids": list(models.encode_response(theirs, row["text"]))} for row in rows]


def _margins(scorer: OwnScorer, test: Sequence[Comparison]) -> tuple[list[float], list[str]]:
    """Chosen minus rejected of the decided pairs, in units of the raw score, and their prompts' keys."""
    decided = [one for one in test if one.chosen is not None and one.rejected is not None]
    if not decided:
        return [], []
    prompts = [one.prompt for one in decided]
    better, worse = (
        np.asarray(scorer.score(prompts, [side.text for side in sides if side is not None]))
        for sides in ([one.chosen for one in decided], [one.rejected for one in decided])
    )
    margin_N = (better - worse) * scorer.std
    known = np.isfinite(margin_N)
    return margin_N[known].tolist(), [p.key for p, keep in zip(prompts, known, strict=True) if keep]


def fitted_head(
    tower: Tower, tokenizer: Any, rows: Sequence[Comparison], limits: dict[str, int]
) -> tuple[probe.Probe, list[str]]:
    """A head fitted to the states of at most ``MOST_PAIRS`` labels, and the prompt key of each.

    Raises:
        BadInput: too few decided pairs.
    """
    context = getattr(tower.base.config, "max_position_embeddings", None)
    chosen = sorted(rows, key=lambda row: content_hash(row.pair.id, row.annotator, "second model"))
    groups, won_N, keys = decided_pairs(tokenizer, chosen[:MOST_PAIRS], limits, context)
    if not groups:
        raise BadInput("there is no decided pair")
    state_N2H = answer_states(tower, groups).reshape(len(groups), 2, -1)
    return probe.fit(state_N2H[:, 0], state_N2H[:, 1], won_N, keys), keys


def held_out_head(
    tower: Tower, tokenizer: Any, test: Sequence[Comparison], limits: dict[str, int], bootstrap: int
) -> tuple[probe.Probe, dict[str, Any]]:
    """The held-out labels' model, and what it is worth in numbers.

    Raises:
        BadInput: it cannot be told from chance on pairs that it has not seen.
    """
    held, keys = fitted_head(tower, tokenizer, test, limits)
    right = clustered_share((held.margin_N > 0).astype(np.float64), keys, bootstrap, 0)
    found = {
        "pairs": len(held.margin_N),
        "accuracy": right.figure,
        "accuracy_interval": list(right.bounds) if right.bounds else None,
    }
    if not right.low > 0.5:
        raise BadInput(
            f"a head fitted to the {len(held.margin_N)} held-out labels is right in {right.show_percent()} of"
            " pairs that it has not seen, which cannot be told from chance: hold out more labels"
            " (reward.test_fraction)"
        )
    return held, found


class HeldOutScorer:
    """Scores of an evaluation's rows by the held-out labels' model, in deviations over SFT's own rows.

    Holds the SFT model.

    Raises:
        BadInput: as `held_out_head`.
    """

    def __init__(
        self,
        tower: Tower,
        tokenizer: Any,
        test: Sequence[Comparison],
        limits: dict[str, int],
        bootstrap: int,
    ) -> None:
        self.tower, self.tokenizer = tower, tokenizer
        self.head, self.figures = held_out_head(tower, tokenizer, test, limits, bootstrap)
        self._unit: tuple[float, float] | None = None

    def __call__(self, rows: Sequence[Row], base: Sequence[Row]) -> list[float]:
        """``base``: SFT's rows, the same at every call."""
        if self._unit is None:
            raw_B = self._raw(base)
            deviation = float(raw_B.std(ddof=1)) if len(raw_B) > 1 else 0.0
            if not deviation > 0:
                raise BadInput("the second reward model gives all of SFT's answers one score")
            self._unit = float(raw_B.mean()), deviation
        scores: list[float] = ((self._raw(rows) - self._unit[0]) / self._unit[1]).tolist()
        return scores

    def _raw(self, rows: Sequence[Row]) -> Array:
        raw_B: Array = answer_states(self.tower, groups_of(self.tokenizer, rows)) @ self.head.weight_H
        return raw_B


def _second_models(
    found: Measured,
    tower: Tower,
    tokenizer: Any,
    evaluations: Sequence[Row],
    best_of: Sequence[Row],
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    config: Evaluate,
    limits: dict[str, int],
) -> None:
    """The held-out labels' model scores every evaluation, two models of the training halves best-of-n.

    Not a half of the training labels for the policy's curve: the policy was optimised for a model of all of
    them, so that neither half is new to it. The held-out labels are.
    """
    try:
        scorer = HeldOutScorer(tower, tokenizer, test, limits, config.bootstrap)
        found.second |= scorer.figures
        found.other_half = [scorer(e["rows"], evaluations[0]["rows"]) for e in evaluations]
    except BadInput as error:
        found.second["unusable"] = str(error)
    try:
        halves = [
            [row for row in training if int(content_hash(row.prompt.key, "half"), 16) % 2 == half]
            for half in (0, 1)
        ]
        heads = [fitted_head(tower, tokenizer, rows, limits)[0] for rows in halves]
        state_NH = answer_states(tower, groups_of(tokenizer, best_of))
        found.halves = np.stack([state_NH @ one.weight_H for one in heads], axis=1).tolist()
        found.second["halves"] = [{"pairs": len(one.margin_N), "accuracy": one.accuracy} for one in heads]
    except BadInput as error:  # too few labels for two halves
        found.second["no_halves"] = str(error)


def write(folder: Path, found: Measured) -> None:
    np.savez(folder / "latents.npz", base_NH=found.base_NH, policy_MH=found.policy_MH)
    values = {name: value for name, value in vars(found).items() if not name.endswith("H")}
    (folder / "measured.json").write_text(json.dumps(values), encoding="utf-8")


def read(folder: Path) -> Measured:
    with np.load(folder / "latents.npz") as arrays:
        values = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        return Measured(arrays["base_NH"], arrays["policy_MH"], **values)


def with_second_models(
    found: Measured, evaluations: Sequence[Row], best_of: Sequence[Row]
) -> tuple[list[Row], list[Row]]:
    """Copies of the evaluations and of best-of-n with what the second models say of their rows."""
    scored = [dict(e) for e in evaluations]
    for evaluation, scores in zip(scored, found.other_half, strict=False):
        rows = zip(evaluation["rows"], scores, strict=True)
        evaluation["rows"] = [row | {"other_half": score} for row, score in rows]
    if not found.halves:
        return scored, list(best_of)
    both = zip(best_of, found.halves, strict=True)
    return scored, [row | {"halves": halves} for row, halves in both]


def extras_of(found: Measured, fresh: tuple[list[float], list[str]] | None = None, labels: int = 0) -> Extras:
    """What more can be asked.

    Args:
        fresh: margins and prompt keys of fresh labels (``fresh_labels.fresh_margins``); None: not asked for,
            or not there yet.
        labels: how many labels they are of, undecided ones included.
    """
    probes = None
    if found.probes:
        sides = [
            {
                name: Changes(keys, np.asarray(change, dtype=np.float64))
                for name, (keys, change) in side.items()
            }
            for side in found.probes
        ]
        probes = ProbeSides(sides[0], sides[1])
    pairs = found.second.get("pairs")
    second = SecondModel(f"{pairs} {HELD_OUT}" if pairs else HELD_OUT, found.second.get("unusable", ""))
    asked = None
    if fresh is not None:
        asked = FreshLabels(found.test_margin_N, found.test_prompt_N, *fresh, labels)
    return Extras(probes, Latents(found.base_NH, found.policy_MH), asked, second)
