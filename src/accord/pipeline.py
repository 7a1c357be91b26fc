"""All of RLHF, top to bottom: demonstrations → SFT → samples → comparisons → reward model → RL → evidence,
again.

Every stage is idempotent: a finished artefact, keyed by its inputs, its configuration and the seed, is loaded
and not recomputed. So the same command goes on where a killed run stopped, and a finished run finishes in
seconds.
"""

from __future__ import annotations

import logging
import shutil
import time
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
    preflight,
    report,
    reward_sources,
    reward_stage,
    round_evidence,
    self_tests,
    sft,
)
from accord.collect import fitting_prompts
from accord.config import Run
from accord.estimate import Estimate, estimate, sizes
from accord.fresh_labels import fresh_margins
from accord.inputs import Inputs, read_inputs
from accord.judging import judge_from
from accord.metrics import MetricsLog
from accord.records import Comparison, Finding, Pair, WaitingForLabels
from accord.round_control import control_of
from accord.round_labels import counted_labels, sides_of
from accord.round_lineage import write_lineage
from accord.round_measured import fresh_labels_of, measure
from accord.round_pairs import chosen_by, collect_pairs
from accord.round_policy import ROWS, learn_directly, optimise, save, settings_of_policy
from accord.round_reward import card_key, train_reward
from accord.run_folder import clear, only_one, write_lock
from accord.running import Policy, Running
from accord.store import LabelStore

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
            running = Running(settings, out, log, expected.seconds, quiet=quiet)
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


def _rounds(running: Running, inputs: Inputs, began: float, until: Until) -> Result:
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
    newer = Policy(sft_folder, sft_key, "sft")  # whose samples this round compares; older: the last round
    fresh_labels: list[Comparison] = []
    with LabelStore(out / "labels.db") as store:
        for round in range(run.rounds):
            folder = out / f"round-{round}"
            folder.mkdir(exist_ok=True)
            pairs: list[Pair] = []
            # 2. Samples of the newest policy, and 3. people's (or simulated) comparisons of them.
            if run.judge is not None and not (round == 0 and inputs.comparisons):
                pairs = collect_pairs(
                    running, round, policy_folder, policy_key, policy_name, tokenizer, dtype, train_prompts,
                    all_labels, sft_folder,
                )  # fmt: skip
                judge_from(run.judge, seed=run.seed, run_folder=out).label(pairs, store)
                sampled += pairs
            sampled_from = policy_name if pairs else None
            labels_before, older, fresh_before = all_labels, newer, fresh_labels
            newer = Policy(policy_folder, policy_key, policy_name)
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
            result.reward = train_reward(
                running, round, sft_folder, tokenizer, dtype, all_labels, inputs, card_key(run, reward_key),
                limits, reward_start,
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
                settings_of_policy(run),
                [[a.prompt.to_json(), a.text, a.good] for a in inputs.answers],
                ROWS,
                [(p.key, p.to_json()) for p in train_prompts],
                [(p.key, p.to_json()) for p in test_prompts],
            )
            training, test = sides_of(run, all_labels, inputs.test_comparisons)
            write_lineage(
                folder, training, test, sampled_from=sampled_from,
                chosen_by=chosen_by(out, round) if pairs else None,
                reward_from=f"round-{round - 1}" if warm else "sft", policy_from=policy_from,
                keys={"sft": sft_key, "reward": card_key(run, reward_key), "policy": policy_key},
            )  # fmt: skip
            beyond: list[dict[str, Any]] = []
            if run.policy_stage[0] == "online":
                evaluations, best_of, beyond, learned = optimise(
                    running, round, sft_folder, tokenizer, dtype, train_prompts, test_prompts, policy_key,
                    policy_start, test,
                )  # fmt: skip
            else:  # or from the pairs themselves, or from the best of SFT's own samples
                material = direct_round.material(run, all_labels, inputs, train_prompts, test_prompts)
                evaluations, best_of, learned = learn_directly(
                    running, round, sft_folder, tokenizer, dtype, material, policy_key
                )
            policy_folder, policy_name = folder / "policy", f"round-{round}"
            # 6. Evidence: the first reader of gold besides the judge.
            measured = measure(
                running, round, sft_folder, tokenizer, dtype, all_labels, inputs, evaluations, best_of,
                checkpoints.key(
                    "evidence",
                    policy_key,
                    run.evaluate.model_dump(mode="json", exclude={"fresh_pairs", "best_of_ensemble"}),
                    limits,
                ),
            )  # fmt: skip
            fresh, waiting = None, None
            try:
                fresh_labels = fresh_labels_of(running, round, evaluations[-1]["rows"], policy_name, store)
                if run.evaluate.fresh_pairs:
                    fresh = fresh_margins(fresh_labels, evaluations[-1]["rows"], measured.deviation)
            except WaitingForLabels as error:  # what can be said without them is said first
                waiting = error
            evaluations, best_of = round_evidence.with_second_models(measured, evaluations, best_of)
            extras = round_evidence.extras_of(measured, fresh, len(fresh_labels))
            result.findings, result.curve = evidence.judge_round(
                folder, evaluations, best_of, run.evaluate, run.judge, extras, beyond, learned
            )
            if waiting is not None:
                raise waiting
            # 7. The control, where asked for: as many labels, spent on the older policy's samples.
            if run.equal_label_control and pairs and round:
                result.findings += control_of(
                    running, round, sft_folder, sft_key, tokenizer, dtype, older, newer, labels_before,
                    len(pairs), fresh_before, inputs, train_prompts, test_prompts, evaluations, held_out,
                )  # fmt: skip
                evidence.write_findings(folder, result.findings)
    shutil.rmtree(out / "unfinished", ignore_errors=True)
    result.seconds = time.time() - began
    return result


def _sft(
    running: Running,
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
        save(model, tokenizer, out / "sft", key, {"figures": figures})

    running.stage("sft", key, make, (settings or config.Sft()).weights)
    return key, out / "sft"
