"""After training: what scoring needs goes into the model's configuration, and the model is measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from accord.config import Reward
from accord.diagnostics.statistics import FloatArray
from accord.records import BadInput
from accord.reward_annotators import described
from accord.reward_examples import Data
from accord.reward_loss import rao_kupper_threshold
from accord.reward_measure import length_figures, measure, measure_heads, signs
from accord.reward_trainer import TIE_MODELS, RewardTrainer, head_names
from accord.scoring.ensemble import EnsembleScorer, TextEnsembleScorer
from accord.scoring.length_calibration import fit_curve
from accord.scoring.reward_model import RewardModelScorer
from accord.towers import TrunkStates

LEAST_DEVIATION = 1e-6


def settle(trainer: RewardTrainer, data: Data, trunk: TrunkStates, *, bootstrap: int) -> dict[str, Any]:
    """Store what scoring needs in the model's configuration; returns what only the trainer knows.

    Raises:
        BadInput: a head that gives every response one score.
    """
    config, model = trainer.config, trainer.scorer.model
    facts: dict[str, Any] = {}
    if config.length == "odin":
        odin = _without_length_head(trainer, data, trunk, bootstrap)
        cost = odin["both_heads"]["accuracy"] - odin["quality"]["accuracy"]
        facts["odin"] = odin | {"accuracy_cost": cost}
    if config.length == "lowess":
        lowess = _length_curve(trainer, data, trunk, bootstrap)
        cost = lowess["before"]["accuracy"] - lowess["after"]["accuracy"]
        facts["lowess"] = lowess | {"accuracy_cost": cost}
    if data.annotators is not None:
        facts["annotators"] = {"choice": config.annotators} | described(data.annotators)
    scorer = RewardModelScorer(model, trainer.scorer.tokenizer, trainer.scorer.tower.start)
    keep_statistics(scorer, config, data, trunk)
    learned = trainer.tie.detach()
    facts["ties"] = {"choice": config.ties, "count": data.ties}
    if config.ties in TIE_MODELS:
        value = rao_kupper_threshold(learned) if config.ties == "rao_kupper" else learned
        facts["ties"]["parameter"] = float(value)
    return facts


def finish(trainer: RewardTrainer, data: Data, trunk: TrunkStates, *, bootstrap: int) -> dict[str, Any]:
    """`settle`, and the model's figures on the held-out pairs."""
    facts = settle(trainer, data, trunk, bootstrap=bootstrap)
    scorer = trainer.scorer
    scorer = RewardModelScorer(scorer.model, scorer.tokenizer, scorer.tower.start)
    card = measure_model(scorer, data, trunk, trainer.config, bootstrap=bootstrap)
    kept = scorer.model.config.accord
    card |= {"score_mean": kept["score_mean"], "score_std": kept["score_std"], "read_at": kept["read_at"]}
    return card | facts | counts(data)


def counts(data: Data) -> dict[str, Any]:
    return {"pairs_train": len(data.examples), "pairs_left_out": data.given - len(data.rows)}


def keep_statistics(scorer: RewardModelScorer, config: Reward, data: Data, trunk: TrunkStates) -> None:
    """Mean and deviation of each head over the training responses, into ``model.config.accord``."""
    model = scorer.model
    curve = (getattr(model.config, "accord", None) or {}).get("length_curve")
    model.config.accord = {"length_curve": curve} if curve else None  # raw scores
    names = [""] if model.score.weight.shape[0] == 1 else head_names(config)
    plain = RewardModelScorer(model, scorer.tokenizer, scorer.tower.start)
    groups = [e.group for e in data.examples]
    if len(names) == 1:
        reference = plain.score_groups(groups, trunk)
        means, stds = [float(reference.mean())], [float(reference.std())]
    else:
        raw_EB = EnsembleScorer([plain], trunk=scorer.tower.start).member_groups(groups, trunk)
        means, stds = raw_EB.mean(1).tolist(), raw_EB.std(1).tolist()
    for mean, std in zip(means, stds, strict=True):
        if not (math.isfinite(std) and std > LEAST_DEVIATION):
            raise BadInput(
                f"the reward model gives every response the same score ({mean:.3g}): raise its learning rate"
            )
    kept: dict[str, Any] = {
        "score_mean": sum(means) / len(means),
        "score_std": sum(stds) / len(stds),
        "read_at": "last_token",
        "end_token": scorer.tokenizer.eos_token_id,
    }
    if curve:
        kept["length_curve"] = curve
    if len(names) > 1:
        kept |= {"heads": "criteria" if config.criteria else "members"}
        kept |= {"head_names": names, "head_mean": means, "head_std": stds}
    model.config.accord = kept


def measure_model(
    scorer: RewardModelScorer, data: Data, trunk: TrunkStates, config: Reward, *, bootstrap: int = 2000
) -> dict[str, Any]:
    """The held-out figures of one model, and of each of its heads where it has several."""
    groups = [e.group for e in data.held_out]
    if scorer.model.score.weight.shape[0] == 1:
        score_N2 = scorer.score_groups(groups, trunk).view(-1, 2).double().numpy()
        return measure(score_N2, scorer.std, data.held_out, data.held_rows, data.rows, bootstrap=bootstrap)
    ensemble = EnsembleScorer([scorer], trunk=scorer.tower.start)
    member_EB = ensemble.member_groups(groups, trunk)
    return measure_members(ensemble, member_EB.double(), data, config, bootstrap=bootstrap)


def measure_members(
    ensemble: EnsembleScorer | TextEnsembleScorer,
    member_EB: torch.Tensor,
    data: Data,
    config: Reward,
    *,
    bootstrap: int = 2000,
) -> dict[str, Any]:
    """The same of several heads or models, given their standardised scores of the held-out answers.

    The members are measured together by their mean, criteria each on the pairs that were judged by it.
    """
    score_EN2: FloatArray = member_EB.view(len(member_EB), -1, 2).numpy()
    nats_E: FloatArray = ensemble.std_E.double().cpu().numpy()
    rows, held_out, own = data.held_rows, data.held_out, bool(config.criteria)
    if own:
        asked_N = np.array([e.criterion for e in held_out])
        score_N2, nats_N = score_EN2[asked_N, np.arange(len(held_out))], nats_E[asked_N]
    else:
        score_N2, nats_N = score_EN2.mean(0), np.full(len(held_out), ensemble.std)
    card = measure(score_N2, nats_N, held_out, rows, data.rows, bootstrap=bootstrap)
    heads = measure_heads(
        ensemble.names, score_EN2, nats_E, held_out, rows, own_pairs=own, bootstrap=bootstrap
    )
    return card | {"criteria" if own else "members": heads}


def _length_curve(trainer: RewardTrainer, data: Data, trunk: TrunkStates, bootstrap: int) -> dict[str, Any]:
    """Fit raw scores against lengths in tokens over the training answers, and keep the curve with the model.

    The figures, before and after, are of the held-out pairs.
    """
    model, tokenizer, start = trainer.scorer.model, trainer.scorer.tokenizer, trainer.scorer.tower.start
    sign_N = signs(data.held_out)

    def figures() -> dict[str, Any]:
        scorer = RewardModelScorer(model, tokenizer, start)
        found = scorer.score_groups([e.group for e in data.held_out], trunk)
        score_N2 = found.view(-1, 2).double().numpy()
        margin_N = (score_N2[:, 0] - score_N2[:, 1]) * sign_N
        return length_figures(margin_N, data.held_out, data.held_rows, bootstrap=bootstrap)

    model.config.accord = None  # raw scores
    before = figures()
    groups = [e.group for e in data.examples]
    raw = RewardModelScorer(model, tokenizer, start).score_groups(groups, trunk).double().numpy()
    lengths = [len(response) for group in groups for response in group.responses]
    # Each answer once, however many pairs it is in
    answers = dict(
        zip([(g.prompt, r) for g in groups for r in g.responses], zip(lengths, raw, strict=True), strict=True)
    )
    curve = fit_curve([n for n, _ in answers.values()], [s for _, s in answers.values()], "tokens")
    model.config.accord = {"length_curve": curve.to_json()}
    return {"before": before, "after": figures()}


def _without_length_head(
    trainer: RewardTrainer, data: Data, trunk: TrunkStates, bootstrap: int
) -> dict[str, Any]:
    """Throw ODIN's length head away; what that costs in accuracy and takes from the reliance on length.

    "Both heads" is what was trained by Bradley–Terry; a model that was trained without ODIN is another one.
    """
    model, start = trainer.scorer.model, trainer.scorer.tower.start
    raw = RewardModelScorer(model, trainer.scorer.tokenizer, start)
    model.config.accord = None
    score_EB = EnsembleScorer([raw], trunk=start).member_groups([e.group for e in data.held_out], trunk)
    quality_N2 = score_EB[0].view(-1, 2).double().numpy()
    both_N2 = score_EB.sum(0).view(-1, 2).double().numpy()
    sign_N = signs(data.held_out)
    figures = {
        name: length_figures(
            (score_N2[:, 0] - score_N2[:, 1]) * sign_N, data.held_out, data.held_rows, bootstrap=bootstrap
        )
        for name, score_N2 in (("both_heads", both_N2), ("quality", quality_N2))
    }
    head = nn.Linear(model.score.in_features, 1, bias=False, dtype=model.score.weight.dtype)
    with torch.no_grad():
        head.weight.copy_(model.score.weight[:1])
    model.score = head.to(model.score.weight.device)
    model.config.num_labels = 1
    model.num_labels = 1
    return figures
