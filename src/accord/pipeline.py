"""All of RLHF, top to bottom: demonstrations → SFT → samples → comparisons → reward model → RL → evidence,
again.

Every stage is idempotent: a finished artefact, keyed by its inputs, its configuration and the seed, is loaded
and not recomputed. So the same command goes on where a killed run stopped, and a finished run finishes in
seconds.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

import accord
from accord import (
    checkpoints,
    config,
    direct_round,
    evidence,
    formats,
    models,
    online,
    preflight,
    report,
    reward_sources,
    reward_stage,
    self_tests,
    sft,
)
from accord.collect import collect, fitting_prompts
from accord.config import Run
from accord.disk import require_free
from accord.estimate import Estimate, checkpoint_bytes, estimate, sizes
from accord.inputs import Inputs, read_inputs
from accord.judging import SimulatedAnnotators, judge_from, label_source
from accord.metrics import MetricsLog
from accord.records import Comparison, Finding, Pair, Prompt, is_person, write_jsonl
from accord.run_folder import clear, only_one, write_lock
from accord.scoring.loading import load_scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.stability import PolicyExploded
from accord.store import LabelStore
from accord.streams import stream_seed
from accord.workspace import Workspace

logger = logging.getLogger("accord")
Until = Literal["sft", "reward", "evidence"]


@dataclass
class Result:
    """What a run ended with."""

    out: Path
    report: Path
    findings: list[Finding] = field(default_factory=list)
    reward: dict[str, Any] = field(default_factory=dict)
    curve: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class _Running:
    """The run in progress: where it writes, what it has done, what it is expected still to take."""

    run: Run
    out: Path
    log: MetricsLog
    expected: dict[str, float]
    stages: list[dict[str, Any]] = field(default_factory=list)
    quiet: bool = False

    def workspace(self, stage: str, round: int, key: str, seconds: float) -> Workspace:
        folder = self.out / "unfinished" / (stage if stage == "sft" else f"round-{round}-{stage}")
        rest = self.rest(stage, round)
        return Workspace(stage, self.run.seed, round, folder, key, seconds, self.log, self.quiet, rest)

    def rest(self, stage: str, round: int) -> float:
        """Seconds that the stages after this one will take: the estimate, scaled by how it did so far."""
        names = [name for name in self.expected if name != "sft"]
        order = [("sft", 0)] + [(name, r) for r in range(self.run.rounds) for name in names]
        each = {n: s / (1 if n == "sft" else self.run.rounds) for n, s in self.expected.items()}
        kinds = {"sft": "sft", "pairs": "collect", "reward": "reward", "policy": "optimize"}
        made = [(kinds[s["stage"].split("/")[-1]], s["seconds"]) for s in self.stages if not s["cached"]]
        known = [(seconds, each[name]) for name, seconds in made if each.get(name)]
        factor = sum(m for m, _ in known) / sum(e for _, e in known) if known else 1.0
        here = (dict.fromkeys(("online", "direct", "rejection"), "optimize").get(stage, stage), round)
        later = order[order.index(here) + 1 :] if here in order else []
        return factor * sum(each[name] for name, _ in later)

    def stage(
        self, name: str, key: str, make: Callable[[], None], trained: config.Weights | None = None
    ) -> bool:
        """Make the artefact ``name`` unless it is there already, whole and with the same key.

        Args:
            trained: which weights the stage trains; the room that they need is asked for before the work.
        """
        folder, began = self.out / name, time.monotonic()
        checkpoints.recover(folder)
        hit = checkpoints.cached(folder, key) is not None
        if not hit:
            if trained is not None:
                require_free(folder, checkpoint_bytes(self.run, trained))
            make()
        seconds = round(time.monotonic() - began, 2)
        self.stages.append({"stage": name, "seconds": seconds, "cached": hit})
        return hit


def cost(run: Run, inputs: Inputs) -> Estimate:
    """Memory and time of a run on these inputs, nothing trained and nothing written.

    Raises:
        BadInput: the model cannot be found, or something in the recipe does not fit model or data.
    """
    reward_sources.require_loadable(run.online)
    tokenizer = models.load_tokenizer(run.model, models.locate(run.model))
    preflight.require_fit(
        run,
        tokenizer,
        inputs.demonstrations,
        inputs.train_prompts,
        inputs.test_prompts,
        inputs.comparisons,
        inputs.answers,
    )
    return estimate(run, sizes(tokenizer, inputs.demonstrations, inputs.train_prompts, inputs.comparisons))


def run(
    settings: Run,
    out: Path | str | None = None,
    *,
    until: Until = "evidence",
    fresh: bool = False,
    quiet: bool = False,
) -> Result:
    """The whole loop. The same call after a kill goes on from the last saved step and ends with the same
    bits.

    Args:
        out: the run directory; ``runs/NAME`` without it.
        until: stop after this stage (of round 0): sft, reward or evidence.
        fresh: set everything that is there aside and start over.

    Raises:
        BadInput: something given cannot be used; nothing was lost.
        WaitingForLabels: people have to label pairs first; call again when they have.
        NumericalTrouble: training gave NaN repeatedly.
    """
    began = time.time()
    out = Path(out or Path("runs") / settings.name)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    inputs = read_inputs(settings)
    expected = cost(settings, inputs)  # before anything is cleared or written: a typo must not cost a run
    with only_one(out):
        if fresh:
            clear(out)
        recorded = out / "config.yaml"
        text = config.dump(settings)
        recorded.write_text(text, encoding="utf-8")
        logging_config = settings.logging
        with MetricsLog(
            out / "metrics.jsonl",
            tensorboard_dir=out / "tensorboard" if logging_config.tensorboard else None,
            wandb=logging_config.wandb,
            trackio=logging_config.trackio,
        ) as log:
            room = self_tests.memory(expected.memory_bytes)
            if not room.ok:  # an estimate: it warns and does not refuse
                logger.warning(
                    "memory may not suffice: %s; train fewer layers, or smaller batches", room.result
                )
            running = _Running(settings, out, log, expected.seconds, quiet=quiet)
            try:
                return _rounds(running, inputs, began, until)
            finally:
                write_lock(out, settings, running.stages, began)
                _report(out)


def _report(out: Path) -> None:
    """The report of whatever is there; a fault in it must not hide how the run ended."""
    try:
        report.build(out)
    except Exception as error:
        logger.warning("the report could not be built (%s): `accord report %s` tries again", error, out)


def _rounds(running: _Running, inputs: Inputs, began: float, until: Until) -> Result:
    run, out = running.run, running.out
    limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
    start = models.locate(run.model)
    tokenizer = models.load_tokenizer(run.model, start)
    dtype = models.resolve_dtype(run.model.dtype)
    train_prompts = fitting_prompts(tokenizer, inputs.train_prompts, run.data.max_prompt_tokens)
    test_prompts = fitting_prompts(tokenizer, inputs.test_prompts, run.data.max_prompt_tokens)[
        : run.evaluate.prompts
    ]

    # 1. Supervised fine-tuning: the policy that everything is compared with.
    base_key = checkpoints.key(
        "base",
        run.model.model_dump(mode="json"),
        start,
        run.seed,
        str(dtype),
        torch.get_num_threads(),
        accord.__version__,
    )
    sft_key, sft_folder = _sft(running, inputs, start, tokenizer, dtype, base_key, limits)

    result = Result(out, out / "report.html")
    if until == "sft":
        return result

    policy_folder, policy_key, policy_name = sft_folder, sft_key, "sft"
    all_labels: list[Comparison] = list(inputs.comparisons)
    sampled: list[Pair] = []
    with LabelStore(out / "labels.db") as store:
        for round in range(run.rounds):
            folder = out / f"round-{round}"
            folder.mkdir(exist_ok=True)
            # 2. Samples of the newest policy, and 3. people's (or simulated) comparisons of them.
            labels_key = checkpoints.key("file labels", [c.to_json() for c in inputs.comparisons])
            if run.judge is not None and not (round == 0 and inputs.comparisons):
                pairs = _collect(
                    running, round, policy_folder, policy_key, policy_name, tokenizer, dtype, train_prompts
                )
                judge_from(run.judge, seed=run.seed, run_folder=out).label(pairs, store)
                sampled += pairs
            all_labels = list(inputs.comparisons) + _labels(running, store, round, sampled)
            labels_key = checkpoints.key("labels", [c.to_json() for c in all_labels])
            # 4. Reward model on all labels so far, from the SFT trunk.
            reward_key = checkpoints.key(
                "reward",
                sft_key,
                labels_key,
                run.reward.model_dump(mode="json"),
                round,
                limits,
                [c.to_json() for c in inputs.test_comparisons],
            )
            result.reward = _reward(
                running, round, sft_folder, tokenizer, dtype, all_labels, inputs, reward_key, limits
            )
            if until == "reward":
                return result
            if run.direct is None:  # a direct method is measured by it, and not trained against it
                reward_stage.require_accepted(run, folder / "reward")
            # 5. RL from SFT against it, and best-of-n as the reference point.
            policy_key = checkpoints.key(
                "policy",
                reward_key,
                run.policy_stage[1].model_dump(mode="json"),
                [[a.prompt.to_json(), a.text, a.good] for a in inputs.answers],
                run.evaluate.model_dump(mode="json"),
                [(p.key, p.to_json()) for p in train_prompts],
                [(p.key, p.to_json()) for p in test_prompts],
            )
            learned: list[Finding] = []
            if run.policy_stage[0] == "online":
                evaluations, best_of = _optimise(
                    running, round, sft_folder, tokenizer, dtype, train_prompts, test_prompts, policy_key
                )
            else:  # or from the pairs themselves, or from the best of SFT's own samples
                material = direct_round.material(run, all_labels, inputs, train_prompts, test_prompts)
                evaluations, best_of, learned = _learn_directly(
                    running, round, sft_folder, tokenizer, dtype, material, policy_key
                )
            policy_folder, policy_name = folder / "policy", f"round-{round}"
            # 6. Evidence: the first reader of gold besides the judge.
            result.findings, result.curve = evidence.judge_round(
                folder, evaluations, best_of, run.evaluate, run.judge
            )
            if learned:
                result.findings += learned
                evidence.write_findings(folder, result.findings)
    shutil.rmtree(out / "unfinished", ignore_errors=True)
    result.seconds = time.time() - began
    return result


def _sft(
    running: _Running,
    inputs: Inputs,
    start: str,
    tokenizer: Any,
    dtype: torch.dtype,
    base_key: str,
    limits: dict[str, int],
) -> tuple[str, Path]:
    run, out = running.run, running.out
    settings = run.sft
    rows = [{"prompt": d.prompt.to_json(), "response": d.response} for d in inputs.demonstrations]
    key = checkpoints.key(
        "sft", base_key, settings.model_dump(mode="json") if settings else None, rows, limits
    )

    def make() -> None:
        model = models.load_policy(start, dtype)
        figures: dict[str, float] = {}
        if settings is not None:
            work = running.workspace("sft", 0, key, settings.checkpoint_seconds)
            self_tests.insist(self_tests.tokens(model, tokenizer))
            figures = sft.train(model, tokenizer, inputs.demonstrations, settings, work, **limits)
        _save(model, tokenizer, out / "sft", key, {"figures": figures})

    running.stage("sft", key, make, (settings or config.Sft()).weights)
    return key, out / "sft"


def _collect(
    running: _Running,
    round: int,
    policy_folder: Path,
    policy_key: str,
    policy_name: str,
    tokenizer: Any,
    dtype: torch.dtype,
    prompts: Sequence[Prompt],
) -> list[Pair]:
    run, name = running.run, f"round-{round}/pairs"
    settings = run.collect
    key = checkpoints.key(
        "pairs", policy_key, settings.model_dump(mode="json"), [(p.key, p.to_json()) for p in prompts], round
    )
    folder = running.out / name

    def make() -> None:
        work = Workspace("collect", run.seed, round, log=running.log, quiet=running.quiet)
        model = models.load_policy(policy_folder, dtype)
        origin = {"run": run.name, "model": run.model.path}
        pairs = collect(model, tokenizer, prompts, settings, work, policy_name, origin)

        def write(target: Path) -> None:
            (target / "pairs.jsonl").write_text(write_jsonl(p.to_json() for p in pairs), encoding="utf-8")

        checkpoints.commit(folder, write, manifest={"key": key, "policy": policy_name})

    running.stage(name, key, make)
    # Not splitlines: a sample may hold U+2028 or U+0085, which JSON leaves as they are.
    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").split("\n")
    shutil.copyfile(folder / "pairs.jsonl", folder.parent / "pairs.jsonl")
    return [Pair.from_json(json.loads(line)) for line in lines if line]


def _reward(
    running: _Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    labels: Sequence[Comparison],
    inputs: Inputs,
    key: str,
    limits: dict[str, int],
) -> dict[str, Any]:
    run, name = running.run, f"round-{round}/reward"
    folder, settings = running.out / name, run.reward

    def make() -> None:
        if inputs.test_comparisons:
            training, test = list(labels), list(inputs.test_comparisons)
        else:
            # A stream of its own: the prompts were split by hash already, the same hash would leave none.
            seed = stream_seed(run.seed, "reward split")
            split = formats.split_by_prompt(labels, settings.test_fraction, seed=seed)
            training, test = list(split[0]), list(split[1])
        work = running.workspace("reward", round, key, settings.checkpoint_seconds)
        bases = reward_stage.bases_of(run, sft_folder, tokenizer)
        reward_stage.make(
            run, round, folder, bases, dtype, training, test, work, _label_source(run, labels), **limits
        )

    running.stage(name, key, make, settings.weights)
    card: dict[str, Any] = json.loads((folder / "accord_reward.json").read_text(encoding="utf-8"))
    return card


def _optimise(
    running: _Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    train_prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    key: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The policy, the evaluations on the way, and SFT's samples for best-of-n, all scored by the reward
    model.
    """
    run, out = running.run, running.out
    settings, name = run.online, f"round-{round}/policy"
    rollouts = out / f"round-{round}" / "rollouts"

    def make() -> None:
        work = running.workspace("online", round, key, settings.checkpoint_seconds)
        scorer = load_scorer(
            out / f"round-{round}" / "reward", dtype, settings.ensemble, settings.criteria_weights
        )
        critic = None
        if settings.algorithm == "ppo":
            reward = scorer.model if isinstance(scorer, RewardModelScorer) else None
            critic = online.new_critic(settings.critic_start, reward, str(sft_folder), tokenizer, dtype)
        policy = models.load_policy(sft_folder, dtype)
        self_tests.insist(
            [
                *self_tests.tokens(policy, tokenizer),
                *self_tests.policy(policy, tokenizer),
                *self_tests.scorer(scorer),
            ]
        )
        trainer = online.OnlineTrainer(
            policy,
            tokenizer,
            scorer,
            settings,
            critic=critic,
            others=reward_sources.others(settings.rewards),
            constrained=reward_sources.constrained(settings.constraint),
            seed=stream_seed(run.seed, "round", round),
        )
        best_of: list[dict[str, Any]] = []

        def sample_best_of() -> None:  # the policy still is SFT
            asked = test_prompts[: run.evaluate.best_of_prompts]
            seed = stream_seed(run.seed, "best of n", round)
            best_of.extend(trainer.evaluate(asked, run.evaluate.best_of, seed))

        sample_best_of()
        try:
            evaluations = online.train(
                trainer,
                train_prompts,
                test_prompts,
                work,
                samples=run.evaluate.samples_per_prompt,
                curve_samples=run.evaluate.curve_samples_per_prompt,
            )
        except PolicyExploded as error:
            if error.kept:
                _save(policy, tokenizer, out / f"{name}-last-healthy", key, {"stopped": str(error)})
            raise

        def write(target: Path) -> None:
            rows = json.dumps({"evaluations": evaluations, "best_of": best_of}, ensure_ascii=False)
            (target / "evaluations.json").write_text(rows, encoding="utf-8")

        checkpoints.commit(rollouts, write, manifest={"key": key})
        _save(policy, tokenizer, out / name, key, {"algorithm": settings.algorithm, "steps": settings.steps})

    checkpoints.recover(rollouts)
    if checkpoints.cached(rollouts, key) is None and (out / name).exists():
        checkpoints.discard(out / name)
    running.stage(name, key, make, settings.weights)
    found = json.loads((rollouts / "evaluations.json").read_text(encoding="utf-8"))
    return found["evaluations"], found["best_of"]


def _learn_directly(
    running: _Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    material: direct_round.Material,
    key: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Finding]]:
    """As `_optimise`, by a direct method or rejection sampling; and what the policy says of unseen pairs."""
    run, out = running.run, running.out
    stage, settings = run.policy_stage
    name, rollouts = f"round-{round}/policy", out / f"round-{round}" / "rollouts"

    def make() -> None:
        work = running.workspace(stage, round, key, settings.checkpoint_seconds)
        reward = out / f"round-{round}" / "reward"
        policy, found = direct_round.optimise(
            run, material, sft_folder, reward, out / "reference", tokenizer, dtype, work
        )
        rows = json.dumps(found, ensure_ascii=False)

        def write(target: Path) -> None:
            (target / "evaluations.json").write_text(rows, encoding="utf-8")

        checkpoints.commit(rollouts, write, manifest={"key": key})
        _save(policy, tokenizer, out / name, key, {"algorithm": stage})

    checkpoints.recover(rollouts)
    if checkpoints.cached(rollouts, key) is None and (out / name).exists():
        checkpoints.discard(out / name)
    running.stage(name, key, make, settings.weights)
    found = json.loads((rollouts / "evaluations.json").read_text(encoding="utf-8"))
    return found["evaluations"], found["best_of"], [Finding(**finding) for finding in found["findings"]]


def _save(
    model: Any,
    tokenizer: Any,
    folder: Path,
    key: str,
    manifest: dict[str, Any],
    card: dict[str, Any] | None = None,
) -> None:
    def write(target: Path) -> None:
        models.save(model, tokenizer, target)
        if card is not None:
            (target / "accord_reward.json").write_text(json.dumps(card, indent=1), encoding="utf-8")

    need = sum(p.numel() * p.element_size() for p in model.parameters())
    checkpoints.commit(folder, write, manifest={"key": key} | manifest, need_bytes=need)


def _labels(running: _Running, store: LabelStore, round: int, sampled: Sequence[Pair]) -> list[Comparison]:
    """What counts of the store, in the order of the pairs: it may hold an earlier run's labels.

    People's labels always count, whatever policy they judged. Those of simulated annotators, models and
    functions count where they are this run's judge, on this run's own pairs alone, and simulated ones only as
    this seed and these settings have them: so a run gives the same bits in a used folder as in a new one.
    """
    run = running.run
    place = {pair.id: number for number, pair in reversed(list(enumerate(sampled)))}
    said: dict[tuple[str, str, str], int] = {}
    machines: tuple[str, ...] = ()
    if run.judge is not None:
        judge = judge_from(run.judge, seed=run.seed, run_folder=running.out)
        machines = judge.annotators
        if isinstance(judge, SimulatedAnnotators):
            judged = judge.judgements(sampled)
            said = {(c.pair.id, c.annotator, c.verdict): n for n, c in enumerate(judged)}
    kept: list[tuple[int, int, Comparison]] = []
    for one in store.comparisons(range(round + 1), _criterion(run)):
        voice = (one.pair.id, one.annotator, one.verdict)
        own = one.annotator in machines and one.pair.id in place and (not said or voice in said)
        if not own and not is_person(one.annotator):
            continue
        kept.append((place.get(one.pair.id, len(place)), said.get(voice, len(said)), one))
    return [one for _, _, one in sorted(kept, key=lambda row: row[:2])]


def _criterion(run: Run) -> str:
    """Which question the reward model learns, where people were asked more than one."""
    return run.judge.criterion if isinstance(run.judge, config.HumanJudge) else ""


def _label_source(run: Run, labels: Sequence[Comparison]) -> str:
    if run.data.comparisons is not None:
        return f"people (file {Path(run.data.comparisons).name})"
    assert run.judge is not None  # the configuration wants comparisons or a judge
    source = label_source(run.judge)
    by_people = 0 if source.startswith("people") else sum(is_person(one.annotator) for one in labels)
    return f"{source}, and people ({by_people} of {len(labels)} labels)" if by_people else source
