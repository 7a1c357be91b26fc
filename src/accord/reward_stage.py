"""The pipeline's reward stage: train what the recipe asks for, measure it, judge it, keep it in a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord import checkpoints, models, reward_model, self_tests
from accord.config import Run
from accord.diagnostics.reward_gate import gate
from accord.records import BadInput, Comparison
from accord.report.reward_card import write_card
from accord.reward_ensemble import Base, Trained, train_members
from accord.reward_evaluation import card_of
from accord.scoring.ensemble import EnsembleScorer
from accord.scoring.reward_model import RewardModelScorer
from accord.scoring.subject import Subject
from accord.workspace import Workspace

logger = logging.getLogger("accord")


class RewardModelRejected(BadInput):
    """The reward model did not pass its gate; it is kept, and so is everything before it."""


def bases_of(run: Run, sft_folder: Path, tokenizer: Any) -> list[Base]:
    """What the reward model, or the members in turn, start from.

    Raises:
        BadInput: there is no such model.
    """
    ensemble = run.reward.ensemble
    paths = ensemble.bases if ensemble is not None and ensemble.bases else (run.reward.base,)
    found = []
    for path in paths:
        if path is None:
            found.append(Base(str(sft_folder), tokenizer))
        else:
            model = run.model.model_copy(update={"path": path})
            location = models.locate(model)
            found.append(Base(location, models.load_tokenizer(model, location)))
    return found


def make(
    run: Run,
    round: int,
    folder: Path,
    bases: Sequence[Base],
    dtype: torch.dtype,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    work: Workspace,
    label_source: str,
    start: Path | None = None,
    **limits: int,
) -> None:
    """Train, measure, and commit ``folder`` with the card in it.

    Args:
        start: the last round's reward model, where it is trained further in place of a new one.

    Raises:
        BadInput, NumericalTrouble, SelfTestFailed: see `reward_model.train`.
    """
    trained = _trained(run, round, bases, dtype, training, test, work, limits, start)
    figures = trained.card | {"label_source": label_source}
    name = f"round-{round}/{folder.name}"
    card = _card(run, trained, name, training, test, label_source, quiet=work.quiet)

    def write(target: Path) -> None:
        trained.write(target)
        (target / "accord_reward.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        if card is not None:
            write_card(target, card)

    checkpoints.commit(folder, write, manifest={"key": work.key}, need_bytes=trained.bytes)
    _clear_members(work)


def _trained(
    run: Run,
    round: int,
    bases: Sequence[Base],
    dtype: torch.dtype,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    work: Workspace,
    limits: dict[str, int],
    start: Path | None,
) -> Trained:
    settings, samples = run.reward, run.evaluate.bootstrap
    if settings.ensemble is not None and settings.ensemble.kind == "full":
        return train_members(bases, dtype, training, test, settings, work, bootstrap=samples, **limits)
    base = bases[0]
    if start is None:
        model = reward_model.new(base.location, dtype, base.tokenizer, run.seed, round, settings)
    else:
        model = models.load_reward(start, dtype)
        model.config.accord = {}  # its normalisation belongs to the weights that it had
    self_tests.insist(self_tests.scorer(_scorer(model, base.tokenizer)))
    card = reward_model.train(
        model, base.tokenizer, training, test, settings, work, bootstrap=samples, **limits
    )
    scorer = _scorer(model, base.tokenizer)
    need = sum(p.numel() * p.element_size() for p in model.parameters())
    return Trained(scorer, card, lambda target: models.save(model, base.tokenizer, target), need)


def _scorer(model: Any, tokenizer: Any) -> RewardModelScorer | EnsembleScorer:
    body = RewardModelScorer(model, tokenizer)
    return body if len(model.score.weight) == 1 else EnsembleScorer([body], trunk=0)


def _card(
    run: Run,
    trained: Trained,
    name: str,
    training: Sequence[Comparison],
    test: Sequence[Comparison],
    label_source: str,
    *,
    quiet: bool,
) -> dict[str, Any] | None:
    """The card with the gate's verdict; None, with a warning, where the held-out pairs do not allow one."""
    subject = Subject(trained.scorer, name, "accord reward model")
    try:
        card, _ = card_of(
            subject,
            test,
            training,
            thresholds=run.gate,
            seed=run.seed,
            bootstrap=run.evaluate.bootstrap,
            probed=run.gate.probed_answers,
            label_source=label_source,
            quiet=quiet,
        )
    except BadInput as error:
        logger.warning("the reward model has no card, and its gate is not asked: %s", error)
        return None
    return card


def require_accepted(run: Run, folder: Path) -> None:
    """The gate before RL, on the card as it is, by the thresholds as they are now.

    Raises:
        RewardModelRejected: it says reject, and `gate.stop_on_reject` is set.
    """
    file = folder / "card.json"
    if not run.gate.stop_on_reject or not file.is_file():
        return
    verdict = gate(json.loads(file.read_text(encoding="utf-8")), run.gate)
    if verdict.decision == "reject":
        raise RewardModelRejected(
            f"the reward model is not good enough to optimise a policy against ({verdict.sentence}) Read"
            f" {folder / 'card.html'}; label more, change reward or gate, or set gate.stop_on_reject=false:"
            " what is done is kept"
        )


def _clear_members(work: Workspace) -> None:
    if work.folder is not None:
        for folder in sorted(work.folder.parent.glob(f"{work.folder.name}-member-*")):
            if folder.is_dir():
                checkpoints.discard(folder)
