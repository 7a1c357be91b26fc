"""Policy optimisation on the policy's own samples: the loop over steps. One step is in `online_trainer`.

Left out on purpose: reward whitening by default, dropout, generation settings of the model's files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accord import models
from accord.critic import new_critic
from accord.online_guard import Guard
from accord.online_trainer import OnlineTrainer
from accord.ratio_checks import RatioIsNotOne
from accord.records import BadInput, Prompt
from accord.streams import permutation, stream_seed
from accord.workspace import Workspace

__all__ = ["OnlineTrainer", "RatioIsNotOne", "new_critic", "train"]


def train(
    trainer: OnlineTrainer,
    prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    work: Workspace,
    *,
    samples: int = 2,
    curve_samples: int = 1,
    sft_rows: Sequence[dict[str, Any]] | None = None,
    stop: Callable[[Sequence[dict[str, Any]]], bool] | None = None,
) -> list[dict[str, Any]]:
    """Optimise ``trainer.policy`` in place. Returns the evaluations: step and rows of held-out samples.

    Step 0 is the SFT policy itself, the last one the final policy.

    Args:
        sft_rows: the SFT policy's rows, where the policy starts from another one.
        stop: asked with the evaluations so far after each of them; True ends training there.

    Raises:
        BadInput: fewer prompts than a step needs.
        NumericalTrouble: repeated NaN.
        PolicyExploded: loss or KL left the run's own range; the trainer then has its last healthy weights.
    """
    config = trainer.config
    if len(prompts) < config.prompts_per_step:
        raise BadInput(
            f"there are {len(prompts)} training prompts, one step takes {config.prompts_per_step}:"
            " give more prompts or lower online.prompts_per_step"
        )
    encoded = [models.encode_prompt(trainer.tokenizer, p) for p in prompts]
    start = [] if sft_rows is None else [{"step": 0, "rows": list(sft_rows)}]
    done, state, extra = work.resume()
    evaluations: list[dict[str, Any]] = list(extra.get("evaluations", start))
    guard = Guard(trainer, work)
    if done:
        trainer.load(state["trainer"])
        guard.load(extra["guard"])
    progress = work.progress(config.steps, done)
    per_epoch = len(prompts) // config.prompts_per_step

    def evaluate(step: int) -> bool:
        """Whether to stop here."""
        if any(e["step"] == step for e in evaluations):
            return False
        k = samples if step in (0, config.steps) else curve_samples
        seed = stream_seed(work.seed, "evaluate", work.round, step)
        with progress.aside(left=-(-(config.steps - step) // config.evaluate_every)):
            evaluations.append({"step": step, "rows": trainer.evaluate(test_prompts, k, seed)})
            return stop is not None and stop(evaluations)

    for step in range(done, config.steps):
        if step % config.evaluate_every == 0 and evaluate(step):
            return evaluations
        order = permutation(len(prompts), work.seed, "prompts", work.round, step // per_epoch)
        first = step % per_epoch * config.prompts_per_step
        chosen = order[first : first + config.prompts_per_step]
        guard.before(step)
        figures = trainer.step([prompts[i] for i in chosen], [encoded[i] for i in chosen])
        guard.after(step, figures)
        kept = work.keep(
            step + 1,
            lambda: ({"trainer": trainer.state()}, {"evaluations": evaluations, "guard": guard.state()}),
        )
        if kept:
            guard.saved(step + 1)
        progress.advance(f"score {figures['score_mean']:+.2f}  KL {figures['kl']:.1f}")
    evaluate(config.steps)
    return evaluations
