"""A reward model's folder as a scorer, whatever it holds: one model, several heads, or several models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from accord import models, towers
from accord.config import Aggregation, Model
from accord.records import BadInput
from accord.scoring.ensemble import EnsembleScorer, TextEnsembleScorer
from accord.scoring.reward_model import RewardModelScorer

ENSEMBLE = "ensemble.json"  # beside the members' folders

OwnScorer = RewardModelScorer | EnsembleScorer | TextEnsembleScorer


def load_scorer(
    folder: str | Path,
    dtype: torch.dtype,
    how: Aggregation = Aggregation(),
    weights: Mapping[str, float] | None = None,
) -> OwnScorer:
    """What `accord` trained, ready to score tokens of its own tokenizer, and texts.

    Args:
        how: the rule for an ensemble's members.
        weights: of the criteria, where it has any.

    Raises:
        BadInput: no reward model of accord's there, or a weight for a criterion that it does not have.
    """
    folder = Path(folder)
    if (folder / ENSEMBLE).is_file():
        if weights:
            raise BadInput(f"{folder} is an ensemble and has no criteria: leave criteria_weights out")
        names = json.loads((folder / ENSEMBLE).read_text(encoding="utf-8"))["members"]
        return of_members([load_body(folder / name, dtype) for name in names], how)
    body = load_body(folder, dtype)
    kept = getattr(body.model.config, "accord", None) or {}
    if weights and kept.get("heads") != "criteria":
        raise BadInput(f"{folder} has no criteria: leave criteria_weights out")
    return EnsembleScorer([body], how, weights, 0) if "head_mean" in kept else body


def of_members(
    bodies: Sequence[RewardModelScorer], how: Aggregation = Aggregation()
) -> EnsembleScorer | TextEnsembleScorer:
    """One scorer of several models: by tokens where they share a tokenizer, else each is given text."""
    vocabularies = [body.tokenizer.get_vocab() for body in bodies]
    templates = {body.tokenizer.chat_template for body in bodies}
    if len(templates) > 1 or any(one != vocabularies[0] for one in vocabularies[1:]):
        return TextEnsembleScorer(bodies, how)
    scorer = EnsembleScorer(bodies, how)
    first = towers.base_of(bodies[0].model)
    for body in bodies[1:]:  # equal layers are kept in memory once
        base: Any = towers.base_of(body.model)
        for layer in range(scorer.tower.start):
            base.layers[layer] = first.layers[layer]
        if scorer.tower.start:
            base.embed_tokens = first.embed_tokens
    return EnsembleScorer(bodies, how, trunk=scorer.tower.start)


def load_body(folder: Path, dtype: torch.dtype) -> RewardModelScorer:
    """One model of accord's with its tokenizer."""
    model = models.load_reward(folder, dtype)
    return RewardModelScorer(model, models.load_tokenizer(Model(path=str(folder)), str(folder)))
