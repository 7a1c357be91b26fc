"""Samples of the current policy, paired for comparison; which side is shown left is drawn and recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from accord import models
from accord.config import Collect, Model, Sampling
from accord.records import BadInput, Pair, Prompt, Response, write_jsonl
from accord.sampling.local import LocalSampler
from accord.streams import generator, permutation, stream_seed
from accord.workspace import Workspace

Answers = Sequence[tuple[Prompt, list[Response]]]
Choose = Callable[[Answers, int], list[tuple[Prompt, Response, Response]]]
DEFAULT_SAMPLING = Sampling(max_new_tokens=48)


def sample_responses(
    sampler: LocalSampler,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    k: int,
    sampling: Any,
    seed: int,
    policy: str,
) -> list[list[Response]]:
    """k responses to each prompt as records, with the very token ids that were sampled."""
    ends = sampler.ends
    rollouts = sampler.sample([models.encode_prompt(tokenizer, p) for p in prompts], k, sampling, seed)
    finished = iter(rollouts.finished_B.tolist())
    return [
        [Response(models.decode(tokenizer, r, ends), r, next(finished), policy) for r in group.responses]
        for group in rollouts.groups
    ]


def check_prompt(settings: Model, prompt: Prompt, sampling: Sampling) -> int:
    """Tokens of the prompt, once model and prompt are known to be usable; only the tokenizer is loaded.

    Raises:
        BadInput: no such model, no chat template.
    """
    return len(models.encode_prompt(models.load_tokenizer(settings, models.locate(settings)), prompt))


def answer(
    settings: Model,
    prompt: Prompt,
    count: int,
    sampling: Sampling = DEFAULT_SAMPLING,
    seed: int = 0,
    out: Path | None = None,
) -> list[Response]:
    """``count`` answers of a model to one prompt; also written to ``out`` as JSON Lines where it is given.

    Raises:
        BadInput: no such model, no chat template, or a prompt that leaves no room in the context.
    """
    model, tokenizer = models.load_causal(settings)
    sampler = LocalSampler(model, models.end_tokens(model, tokenizer))
    found = sample_responses(sampler, tokenizer, [prompt], count, sampling, seed, settings.path)[0]
    if out is not None:
        rows = [{"prompt": prompt.to_json(), "response": r.text, "finished": r.finished} for r in found]
        out.write_text(write_jsonl(rows), encoding="utf-8")
    return found


def fitting_prompts(tokenizer: Any, prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """All prompts, checked against the limit.

    Raises:
        BadInput: none at all, or one longer than the limit, by its number.
    """
    if not prompts:
        raise BadInput("there are no prompts to sample from: give data.prompts")
    for number, prompt in enumerate(prompts, 1):
        length = len(models.encode_prompt(tokenizer, prompt))
        if length > limit:
            raise BadInput(
                f"prompt {number} has {length} tokens, data.max_prompt_tokens is {limit}:"
                " shorten the prompt or raise the limit"
            )
    return list(prompts)


def collect(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    config: Collect,
    work: Workspace,
    policy: str,
    origin: Mapping[str, Any] | None = None,
    choose: Choose | None = None,
) -> list[Pair]:
    """Pairs of different answers to the same prompt, at most ``config.pairs``, spread evenly over the
    prompts. Each answer's lineage is ``origin`` (run, model) with the seed, round and sampling settings.

    Args:
        choose: takes the answers to each prompt and says which two of which prompt are to be compared; None:
            disjoint pairs as they come.

    Raises:
        BadInput: the samples of every prompt are all the same.
    """
    sampler = LocalSampler(model, models.end_tokens(model, tokenizer))
    order = permutation(len(prompts), work.seed, "collect", work.round)
    per_prompt = config.samples_per_prompt // 2
    wanted = [prompts[i] for i in order[: -(-config.pairs // per_prompt)]]
    pairs: list[list[Pair]] = []
    sampled: list[tuple[Prompt, list[Response]]] = []
    chunk = max(1, config.sampling.batch_size // config.samples_per_prompt)
    progress = work.progress(len(wanted))
    side = generator(work.seed, "sides", work.round)
    lineage = dict(origin or {}) | {"seed": work.seed, "round": work.round}
    lineage["sampling"] = config.sampling.model_dump(mode="json", exclude={"batch_size"})
    for start in range(0, len(wanted), chunk):
        batch = wanted[start : start + chunk]
        seed = stream_seed(work.seed, "collect", work.round, start)
        answers = sample_responses(
            sampler, tokenizer, batch, config.samples_per_prompt, config.sampling, seed, policy
        )
        for prompt, group in zip(batch, answers, strict=True):
            responses = [dataclasses.replace(response, lineage=lineage) for response in group]
            sampled.append((prompt, responses))
            pairs.append([] if choose else _different_pairs(prompt, responses, per_prompt, work.round, side))
        progress.advance(steps=len(batch))
    if choose is not None:
        pairs = [[_pair(prompt, a, b, work.round, side)] for prompt, a, b in choose(sampled, config.pairs)]
        per_prompt = 1
    # One pair of each prompt first, then the second ones: a small budget still covers all prompts.
    spread = [row[i] for i in range(per_prompt) for row in pairs if i < len(row)][: config.pairs]
    if not spread:
        raise BadInput("all samples of every prompt are the same: raise collect.sampling.temperature")
    return spread


def _different_pairs(
    prompt: Prompt, responses: Sequence[Response], count: int, round: int, side: torch.Generator
) -> list[Pair]:
    """Up to ``count`` disjoint pairs whose two texts differ and are not empty."""
    left = [r for r in responses if r.text.strip()]
    pairs: list[Pair] = []
    while len(left) >= 2 and len(pairs) < count:
        a = left.pop(0)
        other = next((i for i, r in enumerate(left) if r.text != a.text), None)
        if other is None:
            break
        pairs.append(_pair(prompt, a, left.pop(other), round, side))
    return pairs


def _pair(prompt: Prompt, a: Response, b: Response, round: int, side: torch.Generator) -> Pair:
    shown = "a" if float(torch.rand((), generator=side)) < 0.5 else "b"
    return Pair(prompt, a, b, shown_left=shown, round=round)  # type: ignore[arg-type]
