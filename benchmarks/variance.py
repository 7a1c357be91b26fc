"""How noisy is each policy-gradient estimator on a small real task? Writes figures, a table and a picture.

The task: a small word-level transformer learns the demonstrations in ``recipes/data`` and is then paid for
positive replies (VADER compound sentiment, -1 to 1), with the KL in the reward. All arms get the same
number of samples, updates, learning rate and starting policy; an arm differs in what its name says.

    python benchmarks/variance.py --seeds 8 --out runs/variance     # goes on where it stopped
    python benchmarks/variance.py --out runs/variance --only-report
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord import models, online, policy_objective, policy_update, sft
from accord.batches import Tokens
from accord.config import Online, Sft
from accord.diagnostics.seeds import over_seeds, seed_difference
from accord.formats import read_demonstrations, read_prompts
from accord.judging.gold import positivity
from accord.online import OnlineTrainer
from accord.records import Prompt
from accord.scoring.function import FunctionScorer
from accord.streams import permutation, stream_seed
from accord.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "recipes" / "data"
TEST_PROMPTS = 64
SFT_EPOCHS = 15
BASE = "RLOO K=4"  # what the others are compared with


def word_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """One token a word or mark, lower case."""
    split = pre_tokenizers.Split(Regex(r"\w+(?:'\w+)?|[^\w\s]"), "removed", invert=True)
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text.lower())})
    special = ["<end>", "<unk>", "<answer>"]
    made = Tokenizer(WordLevel({w: i for i, w in enumerate([*special, *words])}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = split
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<end>",
        pad_token="<unk>",
        unk_token="<unk>",
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}<answer>",
        clean_up_tokenization_spaces=False,
    )


def starting_policy(folder: Path) -> None:
    """Demonstrations learned from nothing, once for all arms and seeds; a Hugging Face folder."""
    demonstrations = read_demonstrations(DATA / "demonstrations.jsonl").rows
    prompts = list(read_prompts(DATA / "prompts.jsonl").rows)
    texts = [text for d in demonstrations for text in (d.prompt.text, d.response)]
    tokenizer = word_tokenizer([*texts, *(p.text for p in prompts)])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        initializer_range=0.05,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.prepare(LlamaForCausalLM(config))
    settings = Sft(epochs=SFT_EPOCHS, tokens_per_step=1024, optimizer={"learning_rate": 2e-3})
    found = sft.train(model, tokenizer, demonstrations, settings, Workspace("sft", quiet=True))
    print(json.dumps({"sft": found, "vocabulary": len(tokenizer)}), flush=True)
    models.save(model, tokenizer, folder)


def settings_of(arm: str) -> Online:
    """The recipe with what the arm changes; prompts and samples always make the same budget."""
    recipe = yaml.safe_load((ROOT / "recipes" / "variance" / "arms.yaml").read_text(encoding="utf-8"))
    section = recipe["common"] | recipe["arms"][arm]
    section["prompts_per_step"] = recipe["samples_per_step"] // section["samples_per_prompt"]
    return Online(**section)


def arms() -> list[str]:
    recipe = yaml.safe_load((ROOT / "recipes" / "variance" / "arms.yaml").read_text(encoding="utf-8"))
    return list(recipe["arms"])


class Prompts:
    """Training and test prompts with their tokens; each step's are drawn from the seed."""

    def __init__(self, tokenizer: Any) -> None:
        every = list(read_prompts(DATA / "prompts.jsonl").rows)
        self.test, self.train = every[:TEST_PROMPTS], every[TEST_PROMPTS:]
        self.tokens: list[Tokens] = [models.encode_prompt(tokenizer, p) for p in self.train]

    def of_step(self, count: int, seed: int, step: int) -> tuple[list[Prompt], list[Tokens]]:
        chosen = permutation(len(self.train), seed, "prompts", step)[:count]
        return [self.train[i] for i in chosen], [self.tokens[i] for i in chosen]


def gradient_of_a_batch(trainer: OnlineTrainer, prompts: Prompts, seed: int, batch: int) -> Tensor:
    """The policy's gradient at its present weights, from fresh samples; nothing is updated."""
    config = trainer.config
    asked, tokens = prompts.of_step(config.prompts_per_step, stream_seed(seed, "noise"), batch)
    drawn = trainer.sampler.sample(
        tokens, config.samples_per_prompt, config.sampling, stream_seed(seed, "noise", batch)
    )
    scored = trainer.score(asked, drawn)
    groups = list(range(len(drawn.groups)))
    minibatch = policy_objective.minibatch(scored, config, groups)
    for part in policy_update.parts(scored, groups):
        logp_R, _ = trainer.logps(part.packed, part.trunk_TH)
        logp_BT = part.packed.to_BT(logp_R)
        loss = policy_objective.objective(scored, config, minibatch, part, logp_BT, trainer.kl.coefficient)
        loss.backward()  # type: ignore[no-untyped-call]
    trained = [p for p in trainer.policy.parameters() if p.grad is not None]
    gradient = torch.cat([p.grad.flatten() for p in trained if p.grad is not None]).double()
    trainer.execution.discard()
    return gradient


def gradient_noise(trainer: OnlineTrainer, prompts: Prompts, seed: int, count: int) -> float:
    """Total variance of a batch's gradient over the squared norm of its mean, both unbiased estimates.

    A ratio: advantages of another scale (whitened ones, GRPO's) do not change it.
    """
    gradient_NP = torch.stack([gradient_of_a_batch(trainer, prompts, seed, b) for b in range(count)])
    variance = float(gradient_NP.var(0).sum())
    signal = float(gradient_NP.mean(0).square().sum()) - variance / count
    return variance / signal if signal > 0 else float("inf")


def one_run(arm: str, seed: int, folder: Path, batches: int) -> dict[str, Any]:
    """Trains, then measures on held-out prompts."""
    began, spent = time.monotonic(), time.process_time()
    config = settings_of(arm)
    policy = models.load_policy(folder, torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    critic = None
    if config.algorithm == "ppo":
        critic = online.new_critic("zero", None, str(folder), tokenizer, torch.float32)
    scorer = FunctionScorer(lambda _, texts: positivity(texts).tolist())
    trainer = OnlineTrainer(policy, tokenizer, scorer, config, critic=critic, seed=seed)
    prompts = Prompts(tokenizer)
    curve, noise = [], float("nan")
    for step in range(config.steps):
        if step == config.steps // 2:
            noise = gradient_noise(trainer, prompts, seed, batches)
        figures = trainer.step(*prompts.of_step(config.prompts_per_step, seed, step))
        curve.append(round(figures["score_mean"], 4))
    rows = trainer.evaluate(prompts.test, 4, seed)
    return {
        "arm": arm,
        "seed": seed,
        "reward": sum(row["proxy"] for row in rows) / len(rows),
        "kl": sum(row["kl"] for row in rows) / len(rows),
        "noise": noise,
        "clip_fraction": figures["clip_fraction"],
        "explained_variance": figures.get("explained_variance"),
        "curve": curve,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - spent,
    }


def report(rows: list[dict[str, Any]], picture: Path | None) -> str:
    """A Markdown table: interquartile means with 95% intervals over seeds, in the recipe's order."""
    lines = [
        "| arm | seeds | final reward | against RLOO K=4 | sd over seeds | KL, nats | gradient noise |",
        "|---|---|---|---|---|---|---|",
    ]
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in arms()}
    base = {BASE: [row["reward"] for row in by_arm.get(BASE, [])]}
    shown = []
    for arm, mine in by_arm.items():
        if not mine:
            continue
        rewards = [row["reward"] for row in mine]
        whole = over_seeds({arm: rewards})
        other = seed_difference(base, {arm: rewards}).show() if arm != BASE and base[BASE] else "—"
        spread = torch.tensor(rewards).std().item() if len(rewards) > 1 else float("nan")
        kl = sum(row["kl"] for row in mine) / len(mine)
        finite = [row["noise"] for row in mine if row["noise"] < float("inf")]
        unknown = len(mine) - len(finite)
        noise = f"{torch.tensor(finite).median().item():.1f}" if finite else "—"
        noise += f" ({unknown} without a signal)" if unknown else ""
        lines.append(
            f"| {arm} | {len(mine)} | {whole.show()} | {other} | {spread:.3f} | {kl:.2f} | {noise} |"
        )
        shown.append((arm, rewards, whole))
    if picture is not None and shown:
        _draw(shown, picture)
    return "\n".join(lines)


def _draw(shown: list[tuple[str, list[float], Any]], picture: Path) -> None:
    """Each seed as a dot, the interquartile mean with its interval beside them; a plain SVG."""
    left, row_height, width = 190, 34, 640
    values = [v for _, rewards, whole in shown for v in (*rewards, whole.low, whole.high) if v == v]
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return left + 20 + (value - low) / span * (width - left - 50)

    height = row_height * len(shown) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="13"><rect width="100%" height="100%" fill="white"/>'
    ]
    for index, (arm, rewards, whole) in enumerate(shown):
        y = 24 + index * row_height
        parts.append(f'<text x="{left}" y="{y + 4}" text-anchor="end">{arm}</text>')
        parts += [f'<circle cx="{x(v):.1f}" cy="{y - 5}" r="3" fill="#888" opacity=".7"/>' for v in rewards]
        if whole.low == whole.low:
            parts.append(
                f'<line x1="{x(whole.low):.1f}" x2="{x(whole.high):.1f}" y1="{y + 6}" y2="{y + 6}"'
                ' stroke="#1a5fb4" stroke-width="3"/>'
            )
        parts.append(f'<circle cx="{x(whole.figure):.1f}" cy="{y + 6}" r="4" fill="#1a5fb4"/>')
    bottom = height - 22
    for tick in range(5):
        value = low + span * tick / 4
        parts.append(f'<text x="{x(value):.1f}" y="{bottom + 4}" text-anchor="middle">{value:.2f}</text>')
    parts.append(
        f'<text x="{(left + width) / 2}" y="{height - 2}" text-anchor="middle">final reward on held-out'
        " prompts; grey: one seed; blue: interquartile mean, 95% interval</text></svg>"
    )
    picture.write_text("\n".join(parts), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0, help="several processes may share a folder")
    parser.add_argument("--batches", type=int, default=8, help="batches that gradient noise is measured on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--only-report", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.only_report:
        folder = options.out / "sft"
        if not (folder / "config.json").is_file():
            starting_policy(folder)
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for arm in arms():
                target = options.out / f"{arm.replace(' ', '_')}-{seed}.json"
                if not target.is_file():
                    row = one_run(arm, seed, folder, options.batches)
                    target.write_text(json.dumps(row), encoding="utf-8")
                    print(json.dumps({k: v for k, v in row.items() if k != "curve"}), flush=True)
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(options.out.glob("*.json"))]
    print(report(rows, options.picture))


if __name__ == "__main__":
    main()
