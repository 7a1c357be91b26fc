"""The policy of a round without online RL: by a direct method or by rejection sampling, and evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from accord import config, direct, direct_examples, models, rejection, self_tests
from accord.anchored import Anchored
from accord.config import Run
from accord.formats_unpaired import Unpaired
from accord.inputs import Inputs
from accord.records import Comparison, Prompt
from accord.round_labels import sides_of
from accord.scoring.base import Scorer
from accord.scoring.loading import load_scorer
from accord.streams import stream_seed
from accord.workspace import Workspace


@dataclass(frozen=True)
class Material:
    """What a round has to learn a policy from.

    Attributes:
        training, test: labels, split by prompt as the reward model's.
        answers: answers that were judged alone (KTO), where the file has such.
    """

    training: Sequence[Comparison]
    test: Sequence[Comparison]
    answers: Sequence[Unpaired]
    train_prompts: Sequence[Prompt]
    test_prompts: Sequence[Prompt]


def material(
    run: Run,
    labels: Sequence[Comparison],
    inputs: Inputs,
    train_prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
) -> Material:
    """What the policy may learn from: nothing of the prompts that the reward model is tested on."""
    training, test = sides_of(run, labels, inputs.test_comparisons)  # the reward model's own split
    held_out = {row.prompt.key for row in test}
    answers = [one for one in inputs.answers if one.prompt.key not in held_out]
    return Material(training, test, answers, train_prompts, test_prompts)


def optimise(
    run: Run,
    material: Material,
    sft_folder: Path,
    reward_folder: Path,
    reference_folder: Path,
    tokenizer: Any,
    dtype: torch.dtype,
    work: Workspace,
) -> tuple[Any, dict[str, Any]]:
    """(the policy, {evaluations, best_of, findings} as plain values).

    Raises:
        BadInput: nothing can be learned from the labels.
        NumericalTrouble: repeated NaN.
        SelfTestFailed: something that every later figure depends on is wrong.
    """
    scorer = load_scorer(reward_folder, dtype, run.online.ensemble, run.online.criteria_weights)
    policy = models.load_policy(sft_folder, dtype)
    self_tests.insist(
        [
            *self_tests.tokens(policy, tokenizer),
            *self_tests.policy(policy, tokenizer),
            *self_tests.scorer(scorer),
        ]
    )
    samples = {
        "samples": run.evaluate.samples_per_prompt,
        "curve_samples": run.evaluate.curve_samples_per_prompt,
    }
    if run.rejection is not None:
        best_of = _best_of(run, policy, tokenizer, run.rejection, scorer, material, work)
        evaluations = rejection.train(
            policy,
            tokenizer,
            scorer,
            run.rejection,
            material.train_prompts,
            material.test_prompts,
            work,
            **samples,
        )
        return policy, {"evaluations": evaluations, "best_of": best_of, "findings": []}
    settings = run.direct
    assert settings is not None
    limits = {"max_prompt": run.data.max_prompt_tokens, "max_response": run.data.max_response_tokens}
    context = getattr(policy.config, "max_position_embeddings", None)
    seed = stream_seed(work.seed, "direct", work.round)
    examples = direct.load_examples(
        tokenizer, material.training, material.answers, settings, seed, context=context, **limits
    )
    held_out = direct_examples.pairs(tokenizer, material.test, "drop", context=context, **limits)
    best_of = _best_of(run, policy, tokenizer, settings, scorer, material, work)
    total = direct.steps_of(len(examples), settings)
    trainer = direct.DirectTrainer(policy, tokenizer, settings, total, scorer=scorer, seed=seed)
    trained = direct.train(
        trainer,
        examples,
        held_out,
        material.test_prompts,
        work,
        reference_folder=reference_folder,
        bootstrap=run.evaluate.bootstrap,
        **samples,
    )
    findings = [finding.to_json() for finding in trained.findings]
    return policy, {"evaluations": trained.evaluations, "best_of": best_of, "findings": findings}


def _best_of(
    run: Run,
    policy: Any,
    tokenizer: Any,
    settings: config.Direct | config.Rejection,
    scorer: Scorer,
    material: Material,
    work: Workspace,
) -> list[dict[str, Any]]:
    """SFT's samples for best-of-n, drawn while the policy still is SFT."""
    held = Anchored(policy, tokenizer, settings.weights, settings.sampling, scorer=scorer)
    asked = material.test_prompts[: run.evaluate.best_of_prompts]
    return held.evaluate(asked, run.evaluate.best_of, stream_seed(run.seed, "best of n", work.round))
