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
    models,
    online,
    preflight,
    report,
    reward_sources,
    reward_stage,
    round_evidence,
    self_tests,
    sft,
    towers,
)
from accord.collect import collect, fitting_prompts
from accord.config import Run
from accord.config_stop import PredictedPeak
from accord.disk import require_free
from accord.equal_label_control import control_findings, margins_of
from accord.estimate import Estimate, checkpoint_bytes, estimate, sizes
from accord.fresh_labels import fresh_margins, fresh_pairs
from accord.inputs import Inputs, read_inputs
from accord.judging import judge_from
from accord.labelled_checkpoints import labeller
from accord.metrics import MetricsLog
from accord.records import BadInput, Comparison, Finding, Pair, Prompt, WaitingForLabels, write_jsonl
from accord.round_labels import counted_labels, prompts_tested_on, sides_of, source_of_labels
from accord.round_lineage import write_lineage
from accord.run_folder import clear, only_one, write_lock
from accord.scoring.loading import load_scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.selection import Selector
from accord.stability import PolicyExploded
from accord.stopping import StopWatch, stop_finding
from accord.store import LabelStore
from accord.streams import stream_seed
from accord.towers import Tower
from accord.workspace import Workspace

logger = logging.getLogger("accord")
Until = Literal["sft", "reward", "evidence"]
# Questions that are asked of a finished policy: another answer to them needs no other policy.
ASKED_AFTERWARDS = {"split_half", "probed_answers", "fresh_pairs"}
CHOICE = {"strategy", "random_share", "members"}  # of `collect`: without labels they change nothing
ROWS = "rows with ids and entropy"  # what evaluations.json holds; older ones are made again


@dataclass
class Result:
    """What a run ended with."""

    out: Path
    report: Path
    findings: list[Finding] = field(default_factory=list)
    reward: dict[str, Any] = field(default_factory=dict)
    curve: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Policy:
    """A finished policy: where it lies, its content key, and the name that its samples carry."""

    folder: Path
    key: str
    name: str


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
        kinds |= {"evidence": "evidence"}
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

    policy_folder, policy_key, policy_name, reward_key = sft_folder, sft_key, "sft", ""
    held_out = {p.key for p in inputs.test_prompts} | {c.prompt.key for c in inputs.test_comparisons}
    all_labels: list[Comparison] = list(inputs.comparisons)
    sampled: list[Pair] = []
    newer = _Policy(sft_folder, sft_key, "sft")  # whose samples this round compares; older: the last round
    fresh_labels: list[Comparison] = []
    with LabelStore(out / "labels.db") as store:
        for round in range(run.rounds):
            folder = out / f"round-{round}"
            folder.mkdir(exist_ok=True)
            pairs: list[Pair] = []
            # 2. Samples of the newest policy, and 3. people's (or simulated) comparisons of them.
            if run.judge is not None and not (round == 0 and inputs.comparisons):
                pairs = _collect(
                    running, round, policy_folder, policy_key, policy_name, tokenizer, dtype, train_prompts,
                    all_labels, sft_folder,
                )  # fmt: skip
                judge_from(run.judge, seed=run.seed, run_folder=out).label(pairs, store)
                sampled += pairs
            sampled_from = policy_name if pairs else None
            labels_before, older, fresh_before = all_labels, newer, fresh_labels
            newer = _Policy(policy_folder, policy_key, policy_name)
            all_labels = list(inputs.comparisons)
            all_labels += counted_labels(run, out, store, range(round + 1), sampled, held_out=held_out)
            labels_key = checkpoints.key("labels", [c.to_json() for c in all_labels])
            # 4. Reward model on all labels so far, from the SFT trunk (or the last one, where asked for).
            warm = round > 0 and run.between_rounds.reward_from == "previous"
            reward_start = out / f"round-{round - 1}" / "reward" if warm else None
            reward_key = checkpoints.key(
                "reward",
                sft_key,
                labels_key,
                run.reward.model_dump(mode="json"),
                round,
                limits,
                [c.to_json() for c in inputs.test_comparisons],
                reward_key if warm else None,
            )
            result.reward = _reward(
                running, round, sft_folder, tokenizer, dtype, all_labels, inputs, reward_key, limits,
                reward_start,
            )  # fmt: skip
            if until == "reward":
                return result
            if run.direct is None:  # a direct method is measured by it, and not trained against it
                reward_stage.require_accepted(run, folder / "reward")
            # 5. RL from SFT against it (or on from the last policy), and best-of-n as the reference point.
            onward = round > 0 and run.between_rounds.policy_from == "previous"
            policy_start = policy_folder if onward else sft_folder
            policy_from = policy_name if onward else "sft"
            policy_key = checkpoints.key(
                "policy",
                policy_key if onward else None,
                reward_key,
                _settings_of_policy(run),
                [[a.prompt.to_json(), a.text, a.good] for a in inputs.answers],
                ROWS,
                [(p.key, p.to_json()) for p in train_prompts],
                [(p.key, p.to_json()) for p in test_prompts],
            )
            training, test = sides_of(run, all_labels, inputs.test_comparisons)
            write_lineage(
                folder, training, test, sampled_from=sampled_from,
                chosen_by=_chosen_by(out, round) if pairs else None,
                reward_from=f"round-{round - 1}" if warm else "sft", policy_from=policy_from,
                keys={"sft": sft_key, "reward": reward_key, "policy": policy_key},
            )  # fmt: skip
            beyond: list[dict[str, Any]] = []
            if run.policy_stage[0] == "online":
                evaluations, best_of, beyond, learned = _optimise(
                    running, round, sft_folder, tokenizer, dtype, train_prompts, test_prompts, policy_key,
                    policy_start, test,
                )  # fmt: skip
            else:  # or from the pairs themselves, or from the best of SFT's own samples
                material = direct_round.material(run, all_labels, inputs, train_prompts, test_prompts)
                evaluations, best_of, learned = _learn_directly(
                    running, round, sft_folder, tokenizer, dtype, material, policy_key
                )
            policy_folder, policy_name = folder / "policy", f"round-{round}"
            # 6. Evidence: the first reader of gold besides the judge.
            measured = _measure(
                running, round, sft_folder, tokenizer, dtype, all_labels, inputs, evaluations, best_of,
                checkpoints.key(
                    "evidence",
                    policy_key,
                    run.evaluate.model_dump(mode="json", exclude={"fresh_pairs"}),
                    limits,
                ),
            )  # fmt: skip
            fresh, waiting = None, None
            try:
                fresh_labels = _fresh(running, round, evaluations[-1]["rows"], policy_name, store)
                fresh = fresh_margins(fresh_labels, evaluations[-1]["rows"], measured.deviation)
            except WaitingForLabels as error:  # what can be said without them is said first
                waiting = error
            evaluations, best_of = round_evidence.with_second_models(measured, evaluations, best_of)
            extras = round_evidence.extras_of(measured, fresh)
            result.findings, result.curve = evidence.judge_round(
                folder, evaluations, best_of, run.evaluate, run.judge, extras, beyond, learned
            )
            if waiting is not None:
                raise waiting
            # 7. The control, where asked for: as many labels, spent on the older policy's samples.
            if run.equal_label_control and pairs and round:
                result.findings += _control(
                    running, round, sft_folder, sft_key, tokenizer, dtype, older, newer, labels_before,
                    len(pairs), fresh_before, inputs, train_prompts, test_prompts, evaluations, held_out,
                )  # fmt: skip
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
    labels: Sequence[Comparison],
    sft_folder: Path,
) -> list[Pair]:
    """Pairs of the newest policy's answers; ``labels`` so far say which, where a strategy is asked for."""
    run, name = running.run, f"round-{round}/pairs"
    settings = run.collect
    chooses = settings.strategy != "random" and bool(labels)
    key = checkpoints.key(
        "pairs",
        policy_key,
        settings.model_dump(mode="json", exclude=set() if chooses else CHOICE),
        [(p.key, p.to_json()) for p in prompts],
        round,
        [c.to_json() for c in labels] if chooses else None,
    )
    folder = running.out / name

    def make() -> None:
        work = Workspace("collect", run.seed, round, log=running.log, quiet=running.quiet)
        model = models.load_policy(policy_folder, dtype)
        origin = {"run": run.name, "model": run.model.path}
        note: str = settings.strategy
        choose = None
        if chooses:
            limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
            tested = set() if run.data.test_comparisons else prompts_tested_on(run, labels, prompts, round)
            try:
                choose = Selector(
                    sft_folder, tokenizer, dtype, labels, settings, tested, limits, run.seed, round
                )
            except BadInput as error:
                note = f"random, because {error}"
        elif settings.strategy != "random":
            note = "random, because there are no labels to choose by yet"
        if note != settings.strategy:
            logger.warning("round %d: pairs are chosen at %s", round, note)
        pairs = collect(model, tokenizer, prompts, settings, work, policy_name, origin, choose)

        def write(target: Path) -> None:
            (target / "pairs.jsonl").write_text(write_jsonl(p.to_json() for p in pairs), encoding="utf-8")

        manifest = {"key": key, "policy": policy_name, "chosen_by": note}
        checkpoints.commit(folder, write, manifest=manifest)

    running.stage(name, key, make)
    # Not splitlines: a sample may hold U+2028 or U+0085, which JSON leaves as they are.
    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").split("\n")
    shutil.copyfile(folder / "pairs.jsonl", folder.parent / "pairs.jsonl")
    return [Pair.from_json(json.loads(line)) for line in lines if line]


def _chosen_by(out: Path, round: int) -> str:
    document = checkpoints.read_commit(out / f"round-{round}" / "pairs")
    return str(document["manifest"].get("chosen_by", "random")) if document else "random"


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
    start: Path | None = None,
) -> dict[str, Any]:
    """The round's reward model and its card; ``start`` is the model that it is trained further from."""
    run, name = running.run, f"round-{round}/reward"
    folder, settings = running.out / name, run.reward

    def make() -> None:
        training, test = sides_of(run, labels, inputs.test_comparisons)
        work = running.workspace("reward", round, key, settings.checkpoint_seconds)
        bases = reward_stage.bases_of(run, sft_folder, tokenizer)
        source = source_of_labels(run, labels)
        reward_stage.make(run, round, folder, bases, dtype, training, test, work, source, start, **limits)

    running.stage(name, key, make, settings.weights)
    card: dict[str, Any] = json.loads((folder / "accord_reward.json").read_text(encoding="utf-8"))
    return card


def _settings_of_policy(run: Run) -> list[Any]:
    """What of the recipe, beside what made the reward model, makes another policy or other evaluations."""
    settings: list[Any] = [run.policy_stage[1].model_dump(mode="json"), run.stop.model_dump(mode="json")]
    settings.append(run.evaluate.model_dump(mode="json", exclude=ASKED_AFTERWARDS))
    if run.judge is not None and any(isinstance(one, PredictedPeak) for one in run.stop.rules):
        settings.append(run.judge.model_dump(mode="json"))  # it labels the checkpoints
    if run.policy_stage[0] != "online":  # how the score is read is said there whatever trains the policy
        settings += [run.online.ensemble.model_dump(mode="json"), run.online.criteria_weights]
    return settings


def _optimise(
    running: _Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    train_prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    key: str,
    start_folder: Path,
    test_labels: Sequence[Comparison],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], list[Finding]]:
    """The policy; the evaluations up to it, and SFT's samples for best-of-n, all scored by the reward model;
    the evaluations beyond it, and what was decided, where there are stop rules.
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
        policy = models.load_policy(start_folder, dtype)
        onward = start_folder != sft_folder
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
            reference=models.load_policy(sft_folder, dtype) if onward else None,
            seed=stream_seed(run.seed, "round", round),
        )

        def of_sft() -> online.OnlineTrainer:
            return online.OnlineTrainer(
                models.load_policy(sft_folder, dtype), tokenizer, trainer.scorer,
                # it only samples and scores: what a training is paid besides is not given to it
                settings.model_copy(update={"algorithm": "rloo", "rewards": (), "constraint": None}),
            )  # fmt: skip

        start, first = trainer, None
        if onward:  # evidence compares with SFT, whatever the policy starts from
            start = of_sft()
            seed = stream_seed(run.seed, "evaluate", round, 0)
            first = start.evaluate(test_prompts, run.evaluate.samples_per_prompt, seed)
        watch = _watch(running, round, key, sft_folder, tokenizer, dtype, policy, test_labels)
        # The policy, or its stand-in, still is SFT.
        asked = test_prompts[: run.evaluate.best_of_prompts]
        seed = stream_seed(run.seed, "best of n", round)
        best_of = start.evaluate(asked, run.evaluate.best_of, seed)
        del start
        try:
            evaluations = online.train(
                trainer,
                train_prompts,
                test_prompts,
                work,
                samples=run.evaluate.samples_per_prompt,
                curve_samples=run.evaluate.curve_samples_per_prompt,
                sft_rows=first,
                stop=watch,
            )
        except PolicyExploded as error:
            if error.kept:
                _save(policy, tokenizer, out / f"{name}-last-healthy", key, {"stopped": str(error)})
            raise

        beyond: list[dict[str, Any]] = []
        finding: dict[str, Any] | None = None
        if watch is not None and watch.decision is not None:  # the best checkpoint by the rules is the result
            best = watch.decision.best_step
            finding = stop_finding(watch.decision, evaluations[-1]["step"], settings.steps).to_json()
            if best != settings.steps:
                chosen = trainer
                if onward and best == 0:  # step 0 is SFT, which this policy did not start from
                    chosen = of_sft()
                    policy = chosen.policy
                else:
                    watch.restore(best)
                beyond = [e for e in evaluations if e["step"] > best]
                seed = stream_seed(run.seed, "chosen checkpoint", round)
                rows = chosen.evaluate(test_prompts, run.evaluate.samples_per_prompt, seed)
                evaluations = [e for e in evaluations if e["step"] < max(1, best)]
                evaluations.append({"step": best, "rows": rows})

        def write(target: Path) -> None:
            made = {"evaluations": evaluations, "best_of": best_of, "beyond": beyond, "stopped": finding}
            rows = json.dumps(made, ensure_ascii=False)
            (target / "evaluations.json").write_text(rows, encoding="utf-8")

        checkpoints.commit(rollouts, write, manifest={"key": key})
        _save(policy, tokenizer, out / name, key, {"algorithm": settings.algorithm, "steps": settings.steps})
        if watch is not None:  # not before: a kill in between chooses among these checkpoints once more
            watch.forget()

    checkpoints.recover(rollouts)
    if checkpoints.cached(rollouts, key) is None and (out / name).exists():
        checkpoints.discard(out / name)
    running.stage(name, key, make, settings.weights)
    found = json.loads((rollouts / "evaluations.json").read_text(encoding="utf-8"))
    stopped = [Finding(**found["stopped"])] if found["stopped"] else []
    return found["evaluations"], found["best_of"], found["beyond"], stopped


def _watch(
    running: _Running,
    round: int,
    key: str,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    policy: Any,
    test_labels: Sequence[Comparison],
) -> StopWatch | None:
    """The recipe's stop rules with what they read; None without rules."""
    run = running.run
    rules = run.stop.rules
    if not rules:
        return None
    # Under the stage's key: another recipe's checkpoints and labels are not this one's.
    folder = running.out / "unfinished" / f"round-{round}-checkpoints-{key[:12]}"
    other_half = None
    if any(rule.rule == "turned_down" and rule.score == "other_half" for rule in rules):
        limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
        tower = Tower(towers.base_of(models.load_policy(sft_folder, dtype)))
        other_half = round_evidence.HeldOutScorer(
            tower, tokenizer, test_labels, limits, run.evaluate.bootstrap
        )
    labelled = None
    if any(rule.rule == "predicted_peak" for rule in rules):
        labelled = labeller(run, running.out, folder, round)
    looks = run.online.looks
    return StopWatch(
        run.stop, folder, policy, run.evaluate, looks, run.seed, other_half=other_half, labelled=labelled
    )


def _measure(
    running: _Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    labels: Sequence[Comparison],
    inputs: Inputs,
    evaluations: Sequence[dict[str, Any]],
    best_of: Sequence[dict[str, Any]],
    key: str,
) -> round_evidence.Measured:
    """What the evidence needs of models, kept so that a finished run reads it in seconds."""
    run, name = running.run, f"round-{round}/evidence"
    folder = running.out / name
    limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}

    def make() -> None:
        training, test = sides_of(run, labels, inputs.test_comparisons)
        reward_folder = running.out / f"round-{round}" / "reward"
        found = round_evidence.measure(
            sft_folder, reward_folder, tokenizer, dtype, evaluations, best_of, training, test, run.evaluate,
            limits, run.online.ensemble, run.online.criteria_weights,
        )  # fmt: skip
        checkpoints.commit(folder, lambda target: round_evidence.write(target, found), manifest={"key": key})

    running.stage(name, key, make)
    return round_evidence.read(folder)


def _fresh(
    running: _Running,
    round: int,
    rows: Sequence[dict[str, Any]],
    policy_name: str,
    store: LabelStore,
) -> list[Comparison]:
    """Fresh labels of the final policy's samples; none where none are asked for.

    Raises:
        WaitingForLabels: people have to label them first.
    """
    run, out = running.run, running.out
    if not run.evaluate.fresh_pairs or run.judge is None:
        return []
    pairs = fresh_pairs(rows, run.evaluate.fresh_pairs, policy_name, round)
    text = write_jsonl(pair.to_json() for pair in pairs)
    (out / f"round-{round}" / "fresh_pairs.jsonl").write_text(text, encoding="utf-8")
    judge_from(run.judge, seed=run.seed, run_folder=out, pairs_file="fresh_pairs.jsonl").label(pairs, store)
    wanted = {pair.id for pair in pairs}
    labels = counted_labels(run, out, store, [round], pairs)
    return [one for one in labels if one.pair.id in wanted]


def _control(
    running: _Running,
    round: int,
    sft_folder: Path,
    sft_key: str,
    tokenizer: Any,
    dtype: torch.dtype,
    older: _Policy,
    newer: _Policy,
    labels_before: Sequence[Comparison],
    budget: int,
    fresh: Sequence[Comparison],
    inputs: Inputs,
    train_prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    evaluations: Sequence[dict[str, Any]],
    held_out: set[str],
) -> list[Finding]:
    """The round once more, with as many labels of the ``older`` policy's samples, in a folder of its own.

    Its pairs are chosen and its models started as the round's own are, so that nothing else differs.

    Args:
        fresh: labels of the newer policy's held-out samples, by which both reward models are judged.
    """
    run, out = running.run, running.out / "control"
    run = run.model_copy(update={"collect": run.collect.model_copy(update={"pairs": budget})})
    warm, onward = (
        start == "previous" for start in (run.between_rounds.reward_from, run.between_rounds.policy_from)
    )
    reward_start = running.out / f"round-{round - 1}" / "reward" if warm else None
    policy_start = newer.folder if onward else sft_folder
    limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
    (out / f"round-{round}").mkdir(parents=True, exist_ok=True)
    with MetricsLog(out / "metrics.jsonl") as log, LabelStore(out / "labels.db") as store:
        aside = _Running(run, out, log, {}, quiet=running.quiet)
        pairs = _collect(
            aside, round, older.folder, older.key, older.name, tokenizer, dtype, train_prompts,
            labels_before, sft_folder,
        )  # fmt: skip
        assert run.judge is not None
        judge_from(run.judge, seed=run.seed, run_folder=out).label(pairs, store)
        labels = [
            *labels_before,
            *counted_labels(run, out, store, [round], pairs, held_out=held_out),
        ]
        reward_key = checkpoints.key(
            "control reward", sft_key, [c.to_json() for c in labels], run.reward.model_dump(mode="json"),
            round, limits, [c.to_json() for c in inputs.test_comparisons],
            newer.key if warm or onward else None, warm, onward,
        )  # fmt: skip
        _reward(aside, round, sft_folder, tokenizer, dtype, labels, inputs, reward_key, limits, reward_start)
        policy_key = checkpoints.key(
            "control policy", reward_key, _settings_of_policy(run), ROWS,
            [(p.key, p.to_json()) for p in (*train_prompts, *test_prompts)],
        )  # fmt: skip
        test_labels = sides_of(run, labels, inputs.test_comparisons)[1]
        control, _, _, _ = _optimise(
            aside, round, sft_folder, tokenizer, dtype, train_prompts, test_prompts, policy_key, policy_start,
            test_labels,
        )  # fmt: skip
        running.stages += [one | {"stage": f"control/{one['stage']}"} for one in aside.stages]
    name, how = f"round-{round}/reward", (run.online.ensemble, run.online.criteria_weights)
    own, keys = margins_of(running.out / name, dtype, fresh, *how)
    theirs, _ = margins_of(out / name, dtype, fresh, *how)
    return control_findings((own, theirs, keys), evaluations, control, run.evaluate, run.judge)


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
