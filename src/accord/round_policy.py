"""The policy of a round, by online RL or directly: trained, stopped by the rules, evaluated and saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from accord import (
    checkpoints,
    direct_round,
    models,
    online,
    reward_sources,
    round_evidence,
    self_tests,
    towers,
)
from accord.config import Run
from accord.config_stop import PredictedPeak
from accord.labelled_checkpoints import labeller
from accord.records import Comparison, Finding, Prompt
from accord.running import Running
from accord.scoring.loading import load_scorer
from accord.scoring.reward_model import RewardModelScorer
from accord.stability import PolicyExploded
from accord.stopping import StopWatch, stop_finding
from accord.streams import stream_seed
from accord.towers import Tower

# Questions that are asked of a finished policy: another answer to them needs no other policy.
ASKED_AFTERWARDS = {"split_half", "probed_answers", "fresh_pairs", "best_of_ensemble"}
ROWS = "rows with ids and entropy"  # what evaluations.json holds; older ones are made again


def settings_of_policy(run: Run) -> list[Any]:
    """What of the recipe, beside what made the reward model, makes another policy or other evaluations."""
    settings: list[Any] = [run.policy_stage[1].model_dump(mode="json"), run.stop.model_dump(mode="json")]
    settings.append(run.evaluate.model_dump(mode="json", exclude=ASKED_AFTERWARDS))
    if run.judge is not None and any(isinstance(one, PredictedPeak) for one in run.stop.rules):
        settings.append(run.judge.model_dump(mode="json"))  # it labels the checkpoints
    if run.policy_stage[0] != "online":  # how the score is read is said there whatever trains the policy
        settings += [run.online.ensemble.model_dump(mode="json"), run.online.criteria_weights]
    return settings


def optimise(
    running: Running,
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
        watch = watch_of(running, round, key, sft_folder, tokenizer, dtype, policy, test_labels)
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
                save(policy, tokenizer, out / f"{name}-last-healthy", key, {"stopped": str(error)})
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
        save(policy, tokenizer, out / name, key, {"algorithm": settings.algorithm, "steps": settings.steps})
        if watch is not None:  # not before: a kill in between chooses among these checkpoints once more
            watch.forget()

    checkpoints.recover(rollouts)
    if checkpoints.cached(rollouts, key) is None and (out / name).exists():
        checkpoints.discard(out / name)
    running.stage(name, key, make, settings.weights)
    found = json.loads((rollouts / "evaluations.json").read_text(encoding="utf-8"))
    stopped = [Finding(**found["stopped"])] if found["stopped"] else []
    return found["evaluations"], found["best_of"], found["beyond"], stopped


def watch_of(
    running: Running,
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


def learn_directly(
    running: Running,
    round: int,
    sft_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    material: direct_round.Material,
    key: str,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Finding]]:
    """As `optimise`, by a direct method or rejection sampling; and what the policy says of unseen pairs."""
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
        save(policy, tokenizer, out / name, key, {"algorithm": stage})

    checkpoints.recover(rollouts)
    if checkpoints.cached(rollouts, key) is None and (out / name).exists():
        checkpoints.discard(out / name)
    running.stage(name, key, make, settings.weights)
    found = json.loads((rollouts / "evaluations.json").read_text(encoding="utf-8"))
    return found["evaluations"], found["best_of"], [Finding(**finding) for finding in found["findings"]]


def save(
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
