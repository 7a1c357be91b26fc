"""What a run would otherwise find out late: sizes in a recipe that the model or the data cannot give.

Looked at before anything is trained, cleared or written, and by ``--dry-run`` too. Only the tokenizer and the
model's configuration are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig

from accord import direct, models, sft
from accord.collect import fitting_prompts
from accord.config import Online, Run, Simulated
from accord.formats_unpaired import Unpaired
from accord.records import BadInput, Comparison, Demonstration, Prompt


def require_fit(
    run: Run,
    tokenizer: Any,
    demonstrations: Sequence[Demonstration],
    train_prompts: Sequence[Prompt],
    test_prompts: Sequence[Prompt],
    comparisons: Sequence[Comparison],
    answers: Sequence[Unpaired] = (),
) -> None:
    """Raises BadInput for layers, context, prompts or pairs that a later stage would miss."""
    model: Any = AutoConfig.from_pretrained(models.locate(run.model))
    _require_layers(run, model.num_hidden_layers)
    _require_pairs(run, comparisons)
    stage = run.policy_stage[1]
    if isinstance(stage, Online) and len(train_prompts) < stage.prompts_per_step:
        raise BadInput(
            f"there are {len(train_prompts)} training prompts, one step takes {stage.prompts_per_step}:"
            " give more prompts or lower online.prompts_per_step"
        )
    limits = run.data.max_prompt_tokens, run.data.max_response_tokens
    for prompts in (train_prompts, test_prompts):
        fitting_prompts(tokenizer, prompts, limits[0])
    context = getattr(model, "max_position_embeddings", None)
    if context is not None:
        _require_room(run, tokenizer, [*train_prompts, *test_prompts], context)
    if run.direct is not None and comparisons:  # what a judge will say is not known yet
        lengths = {"max_prompt": limits[0], "max_response": limits[1]}
        direct.load_examples(
            tokenizer, comparisons, answers, run.direct, run.seed, context=context, **lengths
        )
    if run.sft is not None:
        groups = sft.encode(tokenizer, demonstrations, *limits)
        for number, group in enumerate(groups, 1):
            length = len(group.prompt) + len(group.responses[0])
            if context is not None and length > context:
                raise BadInput(
                    f"demonstration {number} has {length} tokens, the model's context is {context}:"
                    " shorten or remove it"
                )


def _require_layers(run: Run, layers: int) -> None:
    policy, settings = run.policy_stage
    stages = {"sft": run.sft, "reward": run.reward, policy: settings}
    for name, stage in stages.items():
        if stage is None or stage.weights.train == "all":
            continue
        key = "top_layers" if stage.weights.train == "top" else "lora_layers"
        wanted = getattr(stage.weights, key)
        if wanted is not None and wanted > layers:
            raise BadInput(
                f"{name}.weights.{key} is {wanted}, but the model has {layers} layers:"
                f" set it to {layers} or less"
            )


def _require_pairs(run: Run, comparisons: Sequence[Comparison]) -> None:
    """No more pairs than this can there be in round 0, whatever people or annotators say."""
    if comparisons:
        most = sum(row.verdict in ("a", "b", "tie") for row in comparisons)
    else:
        each = run.judge.labels_per_pair if isinstance(run.judge, Simulated) else None
        if each is None:  # people and programs may say more than was asked
            return
        most = run.collect.pairs * each
    if most < run.reward.minimum_pairs:
        raise BadInput(
            f"there can be {most} labelled pairs at most, at least {run.reward.minimum_pairs} are needed:"
            " give more (data.comparisons, collect.pairs), or lower reward.minimum_pairs"
        )


def _require_room(run: Run, tokenizer: Any, prompts: Sequence[Prompt], context: int) -> None:
    longest = max(len(models.encode_prompt(tokenizer, prompt)) for prompt in prompts)
    policy, settings = run.policy_stage
    sampled = {policy: settings.sampling.max_new_tokens}
    if run.judge is not None:
        sampled["collect"] = run.collect.sampling.max_new_tokens
    for name, new in sampled.items():
        if longest + new > context:
            raise BadInput(
                f"a prompt of {longest} tokens and {new} new ones exceed the model's context of {context}:"
                f" lower {name}.sampling.max_new_tokens or shorten the prompt"
            )
