"""An ensemble of whole reward models: trained one after another, each kept as it is done, or averaged.

Members differ by their head's seed and order of pairs, by a bootstrap of the pairs, and by their base where
bases are given. Where only top layers or LoRA matrices are trained, all members on one base share one pass
through its frozen layers.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from accord import checkpoints, models, reward_model
from accord.config import Reward
from accord.reward_examples import Data, read
from accord.reward_finish import counts, keep_statistics, measure_members, measure_model, settle
from accord.reward_trainer import resample
from accord.scoring.ensemble import EnsembleScorer
from accord.scoring.loading import ENSEMBLE, OwnScorer, load_body, of_members
from accord.scoring.reward_model import RewardModelScorer
from accord.streams import stream_seed
from accord.towers import TrunkStates
from accord.workspace import Workspace


class Base(NamedTuple):
    """What a reward model starts from."""

    location: str
    tokenizer: Any


class Trained(NamedTuple):
    """What a stage ends with: the scorer, the figures, and what writes it into a folder."""

    scorer: OwnScorer
    card: dict[str, Any]
    write: Callable[[Path], None]
    bytes: int


def train_members(
    bases: Sequence[Base],
    dtype: torch.dtype,
    training: Sequence[Any],
    test: Sequence[Any],
    config: Reward,
    work: Workspace,
    *,
    bootstrap: int = 2000,
    **limits: int,
) -> Trained:
    """Train the members and put them together.

    Args:
        bases: members start from them in turn.
        work: its folder keeps the members that are done, so that a killed run does not train them again.

    Raises:
        BadInput, NumericalTrouble: as `reward_model.train`.
    """
    assert config.ensemble is not None
    assert work.folder is not None  # finished members are kept there
    began = time.monotonic()
    kept: dict[str, tuple[Data, TrunkStates]] = {}
    folders = []
    for member in range(config.ensemble.members):
        base = bases[member % len(bases)]
        folders.append(work.folder.with_name(f"{work.folder.name}-member-{member}"))
        key = checkpoints.key("member", work.key, member)
        if checkpoints.cached(folders[-1], key) is None:
            _member(member, base, dtype, training, test, config, work, kept, folders[-1], key, limits)
    bodies = [load_body(folder, dtype) for folder in folders]
    data = _read(bodies[0].model, bodies[0].tokenizer, training, test, config, limits)
    averaged = config.ensemble.average
    trained = (
        _averaged(bodies, data, config, bootstrap)
        if averaged
        else _together(bodies, folders, data, config, bootstrap)
    )
    trained.card["seconds"] = time.monotonic() - began
    return trained


def _read(
    model: Any, tokenizer: Any, training: Sequence[Any], test: Sequence[Any], config: Reward, limits: Any
) -> Data:
    context = getattr(model.config, "max_position_embeddings", None)
    return read(tokenizer, training, test, config, context=context, **limits)


def _member(
    member: int,
    base: Base,
    dtype: torch.dtype,
    training: Sequence[Any],
    test: Sequence[Any],
    config: Reward,
    work: Workspace,
    kept: dict[str, tuple[Data, TrunkStates]],
    folder: Path,
    key: str,
    limits: dict[str, int],
) -> None:
    assert config.ensemble is not None
    assert work.folder is not None
    seed = stream_seed(work.seed, "member", member)
    # WARM averages weights: the members' heads have to be one head that went different ways.
    head_seed = work.seed if config.ensemble.average else seed
    model = reward_model.new(base.location, dtype, base.tokenizer, head_seed, work.round, config)
    data, trunk = kept.get(base.location, (None, None))
    data = data or _read(model, base.tokenizer, training, test, config, limits)
    seen = data
    if config.ensemble.bootstrap:
        drawn = resample(len(data.examples), work.seed, work.round, member)
        seen = dataclasses.replace(
            data, examples=[data.examples[i] for i in drawn], kept=[data.kept[i] for i in drawn]
        )
    steps = config.epochs * -(-len(seen.examples) // config.pairs_per_step)
    own = dataclasses.replace(
        work,
        seed=seed,
        folder=work.folder.with_name(f"{work.folder.name}-member-{member}-states"),
        key=key,
        first_step=member * steps,
    )
    trainer, trunk, _ = reward_model.fit(model, base.tokenizer, seen, config, own, trunk, everything=data)
    settle(trainer, data, trunk, bootstrap=1)
    kept[base.location] = (data, trunk)
    checkpoints.commit(
        folder, lambda target: models.save(model, base.tokenizer, target), manifest={"key": key}
    )


def _together(
    bodies: Sequence[RewardModelScorer], folders: Sequence[Path], data: Data, config: Reward, bootstrap: int
) -> Trained:
    scorer = of_members(bodies)
    if isinstance(scorer, EnsembleScorer):
        member_EB = scorer.member_groups([e.group for e in data.held_out])
    else:
        sides = [(row.prompt, side.text) for row in data.held_rows for side in (row.pair.a, row.pair.b)]
        member_EB = torch.tensor(scorer.members([p for p, _ in sides], [text for _, text in sides])).T
    card = measure_members(scorer, member_EB.double(), data, config, bootstrap=bootstrap)
    card |= {"score_mean": 0.0, "score_std": scorer.std, "read_at": "last_token"} | counts(data)
    names = [f"member-{number}" for number in range(len(folders))]

    def write(target: Path) -> None:
        for name, folder in zip(names, folders, strict=True):
            shutil.copytree(folder, target / name, ignore=shutil.ignore_patterns(checkpoints.COMMIT))
        (target / ENSEMBLE).write_text(json.dumps({"format": 1, "members": names}), encoding="utf-8")

    return Trained(scorer, card | {"ties": _ties(data, config)}, write, sum(_bytes(b.model) for b in bodies))


def _averaged(bodies: Sequence[RewardModelScorer], data: Data, config: Reward, bootstrap: int) -> Trained:
    """One model with the mean of the members' weights (Ramé et al. 2024, WARM), in float32 on the way."""
    model, tokenizer = bodies[0].model, bodies[0].tokenizer
    others = [dict(body.model.named_parameters()) for body in bodies[1:]]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if all(torch.equal(parameter, other[name]) for other in others):
                continue  # frozen layers keep their bits
            total = sum((other[name].float() for other in others), parameter.float())
            parameter.copy_(total / len(bodies))
    no_trunk = TrunkStates(bodies[0].tower, (), models.device())
    keep_statistics(bodies[0], config, data, no_trunk)
    scorer = RewardModelScorer(model, tokenizer)
    card = measure_model(scorer, data, no_trunk, config, bootstrap=bootstrap)
    card |= {name: model.config.accord[name] for name in ("score_mean", "score_std", "read_at")}
    card |= counts(data) | {"ties": _ties(data, config), "averaged": len(bodies)}
    return Trained(scorer, card, lambda target: models.save(model, tokenizer, target), _bytes(model))


def _ties(data: Data, config: Reward) -> dict[str, Any]:
    return {"choice": config.ties, "count": data.ties}


def _bytes(model: Any) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
