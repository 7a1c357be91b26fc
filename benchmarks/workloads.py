"""What is measured: the examples of every step, made once and given to both sides in the same order.

Texts come from ``$ACCORD_DATA`` when it holds AlpacaEval or UKP comparisons; otherwise they are put together
from ``recipes/data``, with lengths drawn from a log-normal distribution, so that anyone can run this.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
CORPORA = (
    "alpacaeval_gpt4judge_train.jsonl.gz",
    "ukp_convarg_train.jsonl.gz",
)
MAX_LENGTH = 1024
LONGEST = 630  # tokens; no example is cut by either side, so both train on the same tokens
PROMPT_TOKENS = NEW_TOKENS = 64
SAMPLES = 4  # per prompt, in the online steps

Row = dict[str, Any]
Count = Callable[[Sequence[dict[str, str]], bool], int]  # (messages, open an answer?) -> tokens


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes:
        kind: what a worker has to do: ``sft``, ``reward``, ``dpo``, ``sampling`` or ``online``.
        size: examples, pairs, sequences or prompts in one step.
        unit: what the rate counts.
        peer: what it is compared with, or None where the peer has nothing of the kind.
        at_least: the ratio that accord holds itself to, or None.
    """

    title: str
    kind: str
    size: int
    unit: str
    learning_rate: float
    peer: str | None
    at_least: float | None = None
    padding_free: bool = False
    algorithm: str = ""


WORKLOADS = {
    "sft": Workload("SFT, batch 8", "sft", 8, "tokens", 2e-5, "SFTTrainer", 3.0),
    "sft_packed": Workload(
        "SFT, batch 8, TRL without padding", "sft", 8, "tokens", 2e-5, "SFTTrainer(padding_free=True)",
        padding_free=True,
    ),
    "reward": Workload("reward model, 8 pairs", "reward", 8, "pairs", 5e-5, "RewardTrainer", 3.0),
    "dpo": Workload("DPO, 4 pairs, live reference", "dpo", 4, "pairs", 1e-6, "DPOTrainer", 3.5),
    "sampling_1": Workload("sampling, batch 1", "sampling", 1, "tokens", 0.0, "generate"),
    "sampling_8": Workload("sampling, batch 8", "sampling", 8, "tokens", 0.0, "generate"),
    "sampling_32": Workload("sampling, batch 32", "sampling", 32, "tokens", 0.0, "generate", 2.3),
    "sampling_64": Workload("sampling, batch 64", "sampling", 64, "tokens", 0.0, "generate", 2.3),
    "grpo": Workload(
        "GRPO, 8 prompts × 4, 64 + 64 tokens", "online", 8, "samples", 1e-6, "GRPOTrainer", 3.5,
        algorithm="grpo",
    ),
    "ppo": Workload(
        "PPO with critic, 8 prompts × 4, 64 + 64 tokens", "online", 8, "samples", 1e-6, None,
        algorithm="ppo",
    ),
    "rloo": Workload(
        "RLOO, 8 prompts × 4, 64 + 64 tokens", "online", 8, "samples", 1e-6, "RLOOTrainer", 3.5,
        algorithm="rloo",
    ),
}  # fmt: skip


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _jsonl(path: Path) -> list[Row]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def _recipe_pairs(count: Count, wanted: int, rng: random.Random) -> list[Row]:
    """Pairs of answers of realistic lengths, strung together from the demonstrations of the demo."""
    folder = REPOSITORY / "recipes" / "data"
    replies = [row["messages"][-1]["content"] for row in _jsonl(folder / "demonstrations.jsonl")]
    prompts = [row["prompt"] for row in _jsonl(folder / "prompts.jsonl")]

    def answer(prompt: list[dict[str, str]]) -> list[dict[str, str]]:
        target = min(max(rng.lognormvariate(5.05, 0.65), 40.0), LONGEST - 30)  # tokens: mean about 190
        text = rng.choice(replies)
        while count([*prompt, *_assistant(text)], False) < target:
            text += " " + rng.choice(replies)
        return _assistant(text)

    chosen_prompts = [rng.choice(prompts) for _ in range(wanted)]
    return [{"prompt": p, "chosen": answer(p), "rejected": answer(p)} for p in chosen_prompts]


def pairs(count: Count, wanted: int, data: Path | None, seed: int) -> tuple[list[Row], str]:
    """``wanted`` rows {prompt, chosen, rejected} as messages, and where they come from."""
    rng = random.Random(seed)
    files = [data / name for name in CORPORA if (data / name).is_file()] if data else []
    if not files:
        return _recipe_pairs(count, wanted, rng), "recipes/data, strung together"
    rows = _jsonl(files[0])
    rng.shuffle(rows)
    out: list[Row] = []
    for row in rows:
        sides = {side: _assistant(row[side]) for side in ("chosen", "rejected")}
        if all(text[0]["content"].strip() for text in sides.values()) and all(
            count([*row["prompt"], *text], False) <= LONGEST for text in sides.values()
        ):
            out.append({"prompt": row["prompt"], **sides})
        if len(out) == wanted:
            return out, files[0].name
    raise SystemExit(
        f"{files[0].name} has {len(out)} usable pairs, {wanted} are needed: ask for fewer --steps"
    )


def prompts_of_length(count: Count, wanted: int, rows: Sequence[Row], seed: int) -> list[Row]:
    """``wanted`` prompts of exactly PROMPT_TOKENS tokens, template included, cut out of texts of ``rows``."""
    rng = random.Random(seed)
    texts = [row["prompt"][-1]["content"] + " " + row["chosen"][0]["content"] for row in rows]
    rng.shuffle(texts)
    found: list[Row] = []
    for text in texts * 4:
        words = text.split()
        start = rng.randrange(max(1, len(words) - PROMPT_TOKENS))
        low, high = start + 1, len(words)
        while low < high:  # the fewest words that reach the length
            middle = (low + high) // 2
            if count(_user(" ".join(words[start:middle])), True) < PROMPT_TOKENS:
                low = middle + 1
            else:
                high = middle
        messages = _user(" ".join(words[start:low]))
        if count(messages, True) == PROMPT_TOKENS:
            found.append({"prompt": messages})
        if len(found) == wanted:
            return found
    raise SystemExit(
        f"only {len(found)} prompts of {PROMPT_TOKENS} tokens, {wanted} are needed: fewer --steps"
    )


def _shape(batches: Sequence[Sequence[int]]) -> dict[str, float]:
    """Lengths in tokens, and the share of padding if each batch is padded to its longest."""
    lengths = [length for batch in batches for length in batch]
    padded = sum(max(batch) * len(batch) for batch in batches)
    return {
        "sequences": len(lengths),
        "mean_tokens": round(sum(lengths) / len(lengths), 1),
        "longest": max(lengths),
        "padding_share": round(1 - sum(lengths) / padded, 3),
    }


def plan(
    name: str, model: Path, count: Count, steps: int, data: Path | None, seed: int = 0
) -> dict[str, Any]:
    """Everything both workers need for ``steps`` steps (warm-up included), as plain JSON values.

    ``tokens`` holds the tokens of each step that are not padding, prompt and answer.
    """
    workload = WORKLOADS[name]
    wanted = steps * workload.size
    source_rows, source = pairs(count, max(wanted, 200), data, seed)
    out: dict[str, Any] = {
        "name": name,
        "kind": workload.kind,
        "algorithm": workload.algorithm,
        "padding_free": workload.padding_free,
        "model": str(model),
        "size": workload.size,
        "samples": SAMPLES,
        "steps": steps,
        "new_tokens": NEW_TOKENS,
        "max_length": MAX_LENGTH,
        "learning_rate": workload.learning_rate,
        "seed": seed,
        "source": source,
    }

    def steps_of(lengths: list[int], each: int) -> list[list[int]]:
        return [lengths[i : i + each] for i in range(0, len(lengths), each)]

    rows = source_rows[:wanted]
    match workload.kind:
        case "sft":
            out["rows"] = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
            lengths = [count([*row["prompt"], *row["chosen"]], False) for row in rows]
            batches = steps_of(lengths, workload.size)
        case "reward" | "dpo":
            out["rows"] = rows
            lengths = [
                count([*r["prompt"], *r[side]], False) for r in rows for side in ("chosen", "rejected")
            ]
            batches = steps_of(lengths, 2 * workload.size)
        case _:
            out["rows"] = prompts_of_length(count, wanted, source_rows, seed)
            lengths = [PROMPT_TOKENS + NEW_TOKENS] * wanted
            batches = steps_of(lengths, workload.size)
    out["shape"] = _shape(batches)
    out["tokens"] = [sum(batch) for batch in batches]
    return out


def units_per_step(plan_: dict[str, Any]) -> list[float]:
    """What one step works off, in the unit of the table; the same for both sides by construction."""
    size, steps = plan_["size"], plan_["steps"]
    match plan_["kind"]:
        case "sft":
            return [float(tokens) for tokens in plan_["tokens"]]
        case "reward" | "dpo":
            return [float(size)] * steps
        case "sampling":
            return [float(size * plan_["new_tokens"])] * steps
        case _:
            return [float(size * plan_["samples"])] * steps
