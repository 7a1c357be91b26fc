"""The peer's side of a benchmark: TRL's own trainers, and transformers' ``generate`` for sampling.

Runs in ``benchmarks/.venv-trl`` (see ``setup_trl.sh``); started by ``bench.py``. The trainers are used as
their documentation shows, with their own collators, samplers and loops: a callback stops the loop between
two optimiser steps. A step is timed from the end of the last one to its own end, so it includes
collating, generation, rewards, forward, backward, clipping, the optimiser and whatever the loop adds.

Deviations from TRL's defaults, all of them in its favour or needed for equality: weights in the one dtype of
the run instead of float32 under autocast, no gradient checkpointing, order kept, constant learning rate,
nothing logged or saved.
"""

from __future__ import annotations

import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protocol import Channel, Closed, PhaseTimer, step_message

THREADS = int(os.environ["OMP_NUM_THREADS"])


class OneStepAtATime:
    """Holds the trainer between two optimiser steps until the orchestrator asks for one."""

    def __init__(self, channel: Channel, timer: PhaseTimer) -> None:
        from transformers import TrainerCallback

        self.channel, self.timer = channel, timer
        self.start = self.optimiser_start = self.total = 0.0
        self.counted = 0
        outer = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                outer.wait()

            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                outer.optimiser_start = time.perf_counter()

            def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                elapsed = time.perf_counter() - outer.optimiser_start
                seconds = outer.timer.seconds
                seconds["optimiser"] = seconds.get("optimiser", 0.0) + elapsed

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                elapsed = time.perf_counter() - outer.start
                outer.channel.send(
                    step_message(elapsed, outer.timer, loss=outer.loss(), tokens=outer.tokens())
                )
                outer.wait()

        self.callback = Callback()
        self.trainer: Any = None

    def loss(self) -> float:
        """The loss of the last step: the trainer accumulates it between logs, and nothing is logged here."""
        total = float(self.trainer._tr_loss)
        last, self.total = total - self.total, total
        return last

    def tokens(self) -> float | None:
        """Tokens of the last step that are not padding, by TRL's own count (SFT only)."""
        if type(self.trainer).__name__ != "SFTTrainer":
            return None
        last, self.counted = self.trainer._total_train_tokens - self.counted, self.trainer._total_train_tokens
        return float(last)

    def wait(self) -> None:
        self.channel.receive()
        self.start = time.perf_counter()

    def watch(self, trainer: Any) -> None:
        """Puts phase timers around the trainer's own methods; what they do is unchanged."""
        self.trainer = trainer
        timer = self.timer
        trainer.get_batch_samples = timer.wrap("collate", trainer.get_batch_samples)
        trainer.compute_loss = timer.wrap("forward", trainer.compute_loss)
        trainer.accelerator.backward = timer.wrap("backward", trainer.accelerator.backward)
        trainer._clip_grad_norm = timer.wrap("clip", trainer._clip_grad_norm)
        if hasattr(trainer, "_calculate_rewards"):
            trainer._calculate_rewards = timer.wrap("score", trainer._calculate_rewards)
            trainer.model.generate = timer.wrap("sample", trainer.model.generate)
            trainer._tokenize_prompts = timer.wrap("tokenise", trainer._tokenize_prompts)
            trainer._generate_and_score_completions = timer.wrap(
                "prepare", trainer._generate_and_score_completions
            )


def common_arguments(plan: dict[str, Any], folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": plan["trl_autocast"],
        "gradient_checkpointing": False,
        "learning_rate": plan["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "max_steps": plan["steps"],
        "per_device_train_batch_size": plan["size"],
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": plan["seed"],
        "model_init_kwargs": {"dtype": plan["dtype"]},
    }


def vowel_share(completions: list[Any], **_: Any) -> list[float]:
    """A trivial reward in Python: the share of vowels among the characters of the answer."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(text.count(vowel) for vowel in "aeiou") / max(1, len(text)) for text in texts]


def build_trainer(plan: dict[str, Any], folder: str, callback: Any) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer

    rows = Dataset.from_list(plan["rows"])
    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    shared = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [callback]}
    arguments = common_arguments(plan, folder)
    match plan["kind"]:
        case "sft":
            from trl import SFTConfig, SFTTrainer

            packing = {"padding_free": True, "max_length": None} if plan["padding_free"] else {}
            sft = SFTConfig(
                **(
                    arguments
                    | {"max_length": plan["max_length"], "train_sampling_strategy": "sequential"}
                    | packing
                )
            )
            return SFTTrainer(plan["model"], args=sft, **shared)
        case "reward":
            from trl import RewardConfig, RewardTrainer

            reward = RewardConfig(
                **arguments,
                max_length=plan["max_length"],
                train_sampling_strategy="sequential",
                center_rewards_coefficient=plan["centering"],
            )
            return RewardTrainer(plan["model"], args=reward, **shared)
        case "dpo":
            from trl import DPOConfig, DPOTrainer

            # No reference is given: TRL loads the model a second time and computes it in every step.
            dpo = DPOConfig(
                **arguments,
                max_length=plan["max_length"],
                train_sampling_strategy="sequential",
                beta=plan["beta"],
            )
            return DPOTrainer(plan["model"], args=dpo, **shared)
        case "online":
            import trl

            arguments["per_device_train_batch_size"] = plan["size"] * plan["samples"]
            config, kind = {
                "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
                "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
            }[plan["algorithm"]]
            online = config(
                **arguments,
                num_generations=plan["samples"],
                max_completion_length=plan["new_tokens"],
                shuffle_dataset=False,
                beta=plan["kl_coefficient"],
            )
            trainer = kind(plan["model"], args=online, reward_funcs=vowel_share, **shared)
            # No end token: all answers have the same length on both sides, whatever is drawn.
            trainer.generation_config.eos_token_id = None
            trainer.model.generation_config.eos_token_id = None
            trainer.eos_token_ids = [-1]
            return trainer
        case kind:
            raise ValueError(f"TRL has no {kind!r} workload")


def train(plan: dict[str, Any], channel: Channel) -> None:
    steps = OneStepAtATime(channel, PhaseTimer())
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        trainer = build_trainer(plan, folder, steps.callback)
        steps.watch(trainer)
        seconds = time.perf_counter() - start
        dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in trainer.model.parameters()})
        channel.send(opened(seconds, weights=dtypes, optimiser=str(trainer.args.optim)))
        trainer.train()
        channel.receive()  # every planned step is done: only `close` can follow


def generate(plan: dict[str, Any], channel: Channel) -> None:
    """transformers ``generate``, plain sampling: temperature 1, no top-k, no top-p, no end token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    start = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    model = AutoModelForCausalLM.from_pretrained(plan["model"], dtype=plan["dtype"]).eval()
    model.generation_config.eos_token_id = None
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=plan["new_tokens"],
        pad_token_id=tokenizer.pad_token_id,
        disable_compile=True,
    )
    torch.manual_seed(plan["seed"])
    timer = PhaseTimer()
    channel.send(opened(time.perf_counter() - start, weights=[plan["dtype"]], optimiser="none"))
    for index in range(plan["steps"]):
        channel.receive()
        start = time.perf_counter()
        rows = plan["rows"][index * plan["size"] : (index + 1) * plan["size"]]
        with timer.phase("tokenise"):
            inputs = tokenizer.apply_chat_template(
                [row["prompt"] for row in rows],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
                padding=True,
                padding_side="left",
            )
        with timer.phase("sample"), torch.no_grad():
            out = model.generate(**inputs, generation_config=config)
        made = out[:, inputs["input_ids"].shape[1] :]
        assert made.shape == (plan["size"], plan["new_tokens"]), made.shape
        channel.send(step_message(time.perf_counter() - start, timer))
    channel.receive()


def opened(seconds: float, **facts: Any) -> dict[str, Any]:
    import torch

    packages = ("trl", "transformers", "torch", "accelerate", "datasets")
    return {
        "ok": True,
        "setup_seconds": seconds,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in packages},
        **facts,
    }


def main() -> None:
    channel = Channel()
    try:
        command = channel.receive()
        import json

        import torch

        torch.set_num_threads(THREADS)
        plan = json.loads(Path(command["plan"]).read_text(encoding="utf-8"))
        (generate if plan["kind"] == "sampling" else train)(plan, channel)
    except Closed:
        return


if __name__ == "__main__":
    main()
