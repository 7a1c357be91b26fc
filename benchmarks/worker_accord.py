"""accord's side of a benchmark; started by ``bench.py`` in accord's own environment.

The very classes that the stages use do one optimiser step at a time. Texts are turned into tokens before the
first step for SFT and the reward model, as TRL does in its trainers' constructors, and inside the step for
sampling and the online algorithms, as ``generate`` and GRPOTrainer have to.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import limits
import torch
from protocol import Channel, Closed, PhaseTimer, step_message

from accord import (
    batches,
    direct,
    direct_examples,
    models,
    online,
    reward_examples,
    reward_model,
    sft,
    tensors,
)
from accord.config import Direct, Kl, MissingEnd, Model, Online, Optimizer, Reward, Sampling, Sft
from accord.records import Comparison, Demonstration, Pair, Prompt, Response
from accord.sampling.local import LocalSampler
from accord.scoring.function import FunctionScorer

Step = Callable[[int], dict[str, float | None]]  # index -> what was worked off, and the loss


def _optimizer(plan: dict[str, Any]) -> Optimizer:
    return Optimizer(learning_rate=plan["learning_rate"])


def _model(plan: dict[str, Any]) -> Model:
    return Model(path=plan["model"], dtype=plan["dtype"])


def _batch(items: Sequence[Any], plan: dict[str, Any], index: int) -> Sequence[Any]:
    return items[index * plan["size"] : (index + 1) * plan["size"]]


def _watch_training(timer: PhaseTimer, trainer: Any, tower: Any) -> None:
    """Phase timers around the pieces of a step; what they do is unchanged."""
    batches.pack = timer.wrap("pack", batches.pack)
    tensors.head_logps = timer.wrap("head", tensors.head_logps)
    tower.hidden = timer.wrap("forward", tower.hidden)
    trainer.execution.backward = timer.wrap("backward", trainer.execution.backward)
    trainer.execution.step = timer.wrap("optimiser", trainer.execution.step)


def open_sft(plan: dict[str, Any], timer: PhaseTimer) -> Step:
    model, tokenizer = models.load_causal(_model(plan))
    rows = [
        Demonstration(Prompt.from_json(row["prompt"]), row["completion"][0]["content"])
        for row in plan["rows"]
    ]
    groups = sft.encode(tokenizer, rows, plan["max_length"], plan["max_length"])
    trainer = sft.SftTrainer(model, Sft(optimizer=_optimizer(plan)), plan["steps"], plan["seed"])
    _watch_training(timer, trainer, trainer.tower)

    def step(index: int) -> dict[str, float | None]:
        batch = _batch(groups, plan, index)
        figures = trainer.step(batch)
        tokens = sum(len(group.prompt) + len(group.responses[0]) for group in batch)
        return {"tokens": float(tokens), "loss": figures["loss"]}

    return step


def _comparisons(plan: dict[str, Any]) -> list[Comparison]:
    return [
        Comparison(
            Pair(
                Prompt.from_json(row["prompt"]),
                Response(row["chosen"][0]["content"]),
                Response(row["rejected"][0]["content"]),
            ),
            "a",
        )
        for row in plan["rows"]
    ]


def open_reward(plan: dict[str, Any], timer: PhaseTimer) -> Step:
    location, dtype = models.locate(_model(plan)), models.resolve_dtype(plan["dtype"])
    tokenizer = models.load_tokenizer(_model(plan), location)
    model = reward_model.new(location, dtype, tokenizer, plan["seed"])
    config = Reward(optimizer=_optimizer(plan), pairs_per_step=plan["size"], centering=plan["centering"])
    comparisons = _comparisons(plan)
    examples, _ = reward_examples.encode(
        tokenizer, comparisons, config, plan["max_length"], plan["max_length"]
    )
    assert len(examples) == len(comparisons), "a pair was left out: both sides would train on other examples"
    trainer = reward_model.RewardTrainer(model, tokenizer, config, plan["steps"], plan["seed"])
    _watch_training(timer, trainer, trainer.scorer.tower)

    def step(index: int) -> dict[str, float | None]:
        return {"loss": trainer.step(_batch(examples, plan, index))["loss"]}

    return step


def open_dpo(plan: dict[str, Any], timer: PhaseTimer) -> Step:
    """The reference is computed in every step, as TRL's: the cache would be a third less work."""
    model, tokenizer = models.load_causal(_model(plan))
    config = Direct(
        beta=plan["beta"], reference="live", optimizer=_optimizer(plan), pairs_per_step=plan["size"]
    )
    examples, _ = direct_examples.pairs(
        tokenizer, _comparisons(plan), "drop", max_prompt=plan["max_length"], max_response=plan["max_length"]
    )
    assert len(examples) == len(plan["rows"]), "a pair was left out: both sides would train on other examples"
    trainer = direct.DirectTrainer(model, tokenizer, config, plan["steps"], seed=plan["seed"])
    _watch_training(timer, trainer, trainer.held.tower)
    watched: Any = trainer.held
    watched.reference_logps = timer.wrap("reference", trainer.held.reference_logps)

    def step(index: int) -> dict[str, float | None]:
        return {"loss": trainer.step(_batch(examples, plan, index))["loss"]}

    return step


def open_sampling(plan: dict[str, Any], timer: PhaseTimer) -> Step:
    model, tokenizer = models.load_causal(_model(plan))
    sampler = LocalSampler(model, frozenset())  # no end token: equal lengths on both sides
    settings = Sampling(max_new_tokens=plan["new_tokens"], batch_size=plan["size"])
    prompts = [Prompt.from_json(row["prompt"]) for row in plan["rows"]]

    def step(index: int) -> dict[str, float | None]:
        with timer.phase("tokenise"):
            tokens = [models.encode_prompt(tokenizer, prompt) for prompt in _batch(prompts, plan, index)]
        with timer.phase("sample"):
            rollouts = sampler.sample(tokens, 1, settings, plan["seed"] + index)
        assert rollouts.lengths == [plan["new_tokens"]] * plan["size"], rollouts.lengths
        return {}

    return step


def vowel_share(prompts: Sequence[Prompt], responses: Sequence[str]) -> list[float]:
    """A trivial reward in Python: the share of vowels among the characters of the answer."""
    return [sum(text.count(vowel) for vowel in "aeiou") / max(1, len(text)) for text in responses]


def open_online(plan: dict[str, Any], timer: PhaseTimer) -> Step:
    location, dtype = models.locate(_model(plan)), models.resolve_dtype(plan["dtype"])
    policy, tokenizer = models.load_causal(_model(plan))
    critic = None
    if plan["algorithm"] == "ppo":
        critic = online.new_critic("zero", None, location, tokenizer, dtype)
    config = Online(
        algorithm=plan["algorithm"],
        steps=plan["steps"],
        prompts_per_step=plan["size"],
        samples_per_prompt=plan["samples"],
        optimizer=_optimizer(plan),
        critic_learning_rate=plan["learning_rate"],
        critic_start="zero",
        kl=Kl(coefficient=plan["kl_coefficient"]),
        sampling=Sampling(max_new_tokens=plan["new_tokens"]),
        missing_end=MissingEnd(mode="none"),  # no answer ends: equal lengths on both sides
    )
    trainer = online.OnlineTrainer(
        policy, tokenizer, FunctionScorer(vowel_share), config, critic=critic, seed=plan["seed"]
    )
    trainer.sampler.ends = frozenset()
    _watch_online(timer, trainer)
    prompts = [Prompt.from_json(row["prompt"]) for row in plan["rows"]]

    def step(index: int) -> dict[str, float | None]:
        chosen = _batch(prompts, plan, index)
        with timer.phase("tokenise"):
            tokens = [models.encode_prompt(tokenizer, prompt) for prompt in chosen]
        figures = trainer.step(chosen, tokens)
        assert figures["length_mean"] == plan["new_tokens"], figures
        return {"loss": figures["policy_loss"]}

    return step


def _watch_online(timer: PhaseTimer, trainer: online.OnlineTrainer) -> None:
    """As ``_watch_training``; the policy's forward without gradient is told from the one that is trained."""
    batches.pack = timer.wrap("pack", batches.pack)
    plain, trained = (timer.wrap(name, trainer.logps) for name in ("old_logps", "forward"))

    def logps(*args: Any, **kwargs: Any) -> Any:
        return (trained if torch.is_grad_enabled() else plain)(*args, **kwargs)

    watched: Any = trainer  # methods of one object are replaced, which mypy rightly dislikes
    watched.logps = logps
    watched.sampler.sample = timer.wrap("sample", trainer.sampler.sample)
    watched.score_responses = timer.wrap("score", trainer.score_responses)
    watched.reference_logps = timer.wrap("reference", trainer.reference_logps)
    watched.execution.backward = timer.wrap("backward", trainer.execution.backward)
    watched.execution.step = timer.wrap("optimiser", trainer.execution.step)
    if trainer.critic is not None:
        watched.critic.values = timer.wrap("critic", trainer.critic.values)
        watched.critic.execution.backward = timer.wrap("critic", trainer.critic.execution.backward)
        watched.critic.execution.step = timer.wrap("optimiser", trainer.critic.execution.step)


OPEN: dict[str, Callable[[dict[str, Any], PhaseTimer], Step]] = {
    "sft": open_sft,
    "reward": open_reward,
    "dpo": open_dpo,
    "sampling": open_sampling,
    "online": open_online,
}


def serve(plan: dict[str, Any], channel: Channel) -> None:
    timer = PhaseTimer()
    measured = {"limits": limits.measure()} if plan["limits"] else {}
    start = time.perf_counter()
    step = OPEN[plan["kind"]](plan, timer)
    versions = {name: __import__(name).__version__ for name in ("accord", "torch", "transformers")}
    channel.send(
        {
            "ok": True,
            "setup_seconds": time.perf_counter() - start,
            "threads": torch.get_num_threads(),
            "versions": versions,
            **measured,
        }
    )
    timer.seconds.clear()
    index = 0
    while True:
        channel.receive()
        start = time.perf_counter()
        figures = step(index)
        channel.send(step_message(time.perf_counter() - start, timer, **figures))
        index += 1


def main() -> None:
    channel = Channel()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        command = channel.receive()
        serve(json.loads(Path(command["plan"]).read_text(encoding="utf-8")), channel)
    except Closed:
        return


if __name__ == "__main__":
    main()
