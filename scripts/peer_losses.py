"""Our losses beside TRL 1.16's own: one model, the same tokens and seeds, float32. Not part of the tests.

    benchmarks/setup_trl.sh                          # once: TRL in an environment of its own
    .venv/bin/python scripts/peer_losses.py          # prints the table of docs/algorithms/peer-losses.md

A random Llama is saved twice, as policy and as reference (some noise away). TRL's trainers compute their loss
and its gradient on padded batches; accord computes both on packed ones. A line agrees where the loss and the
whole gradient (norm of the difference over the norm) differ by at most 1e-4.

Where the two mean different things, both are made to mean the same, and this is how:

- IPO: TRL divides log ratios by the answer's length, accord sums them as Azar et al. 2023 write. The line
  uses answers of one length L: TRL's (Δ/L − 1/(2β))² is then accord's at β/L, over L².
- cDPO: TRL 1.16 has none (``label_smoothing`` is used by ``robust`` and ``exo_pair`` only). The line compares
  with (1 − ε) TRL(pair) + ε TRL(turned pair), its definition.
- KTO: TRL shifts answers by one inside a batch for its baseline, accord fixes other partners; here both are
  given TRL's.
- RLOO: TRL's ratio is of whole responses, accord's of tokens. Before the first update of a batch both ratios
  are 1 and the gradients are equal, if accord's tokens are summed and divided by responses. The loss is then
  −mean A in TRL and −Σ T·A / B in accord, so the gradient is compared and not the loss.
- GRPO: the ratios differ from 1 and the clip binds. TRL's KL is k3 in the loss, which accord refuses
  (its gradient is that of the other direction): β is 0 on both sides. Both are given accord's advantages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
PEER = Path(os.environ.get("TRL_PYTHON", ROOT / "benchmarks" / ".venv-trl" / "bin" / "python"))
SEED, LIMIT, BETA, SMOOTHING, CLIP = 20261128, 1e-4, 0.3, 0.1, 0.2
PROMPTS = [[1, 40, 41, 42], [1, 50, 51], [1, 60, 61, 62, 63], [1, 70]]


def answers(longest: int, equal: bool = False) -> list[list[list[int]]]:
    """[prompt][preferred, other] as token ids, the end token last."""
    draw = torch.Generator().manual_seed(SEED)

    def one() -> list[int]:
        length = longest if equal else int(torch.randint(2, longest + 1, (), generator=draw))
        return [*torch.randint(10, 250, (length - 1,), generator=draw).tolist(), 2]

    return [[one(), one()] for _ in PROMPTS]


CASES: dict[str, dict[str, Any]] = {
    "dpo": {"kind": "dpo", "loss": "sigmoid", "answers": answers(9)},
    "cdpo": {"kind": "dpo", "loss": "sigmoid", "answers": answers(9), "turned": True},
    "robust_dpo": {"kind": "dpo", "loss": "robust", "answers": answers(9)},
    "ipo": {"kind": "dpo", "loss": "ipo", "answers": answers(7, equal=True)},
    "kto": {"kind": "kto", "answers": answers(9)},
    "rloo": {"kind": "rloo", "answers": answers(9)},
    "grpo": {"kind": "grpo", "loss": "grpo", "answers": answers(9)},
    "dr_grpo": {"kind": "grpo", "loss": "dr_grpo", "answers": answers(9)},
    "dapo": {"kind": "grpo", "loss": "bnpo", "answers": answers(9)},
}
SCORES = [[1.0, 0.0], [0.25, 0.75], [3.0, -1.0], [0.5, 0.4]]  # of the two samples of each prompt


# TRL's side. Runs in its own environment; nothing of accord is imported there.


def padded(rows: list[tuple[list[int], list[int]]], side: str = "right") -> dict[str, torch.Tensor]:
    """Prompt and answer as one padded row, with the masks that TRL's collators make."""
    width = max(len(p) + len(a) for p, a in rows)
    ids, attention, completion = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for i, (prompt, answer) in enumerate(rows):
        length = len(prompt) + len(answer)
        first = 0 if side == "right" else width - length
        ids[i, first : first + length] = torch.tensor([*prompt, *answer])
        attention[i, first : first + length] = 1
        completion[i, first + len(prompt) : first + length] = 1
    return {"input_ids": ids, "attention_mask": attention, "completion_mask": completion}


def apart(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Prompts padded on the left and answers on the right, as TRL's online trainers hold them."""
    prompts = padded([(p, []) for p, _ in rows], side="left")
    completions = padded([([], a) for _, a in rows])
    return {
        "prompt_ids": prompts["input_ids"],
        "prompt_mask": prompts["attention_mask"],
        "completion_ids": completions["input_ids"],
        "completion_mask": completions["attention_mask"],
    }


def peer(folder: Path) -> None:
    """TRL's losses, and its gradients as files."""
    import trl
    from datasets import Dataset
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    common = {
        "output_dir": str(folder / "out"), "use_cpu": True, "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "gradient_checkpointing": False, "bf16": False,
    }  # fmt: skip

    def model(name: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32)

    def trainer(case: dict[str, Any]) -> Any:
        shared = {"processing_class": tokenizer, "model": model("policy")}
        pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
        match case["kind"]:
            case "dpo":
                settings = trl.DPOConfig(
                    **common, beta=BETA, loss_type=[case["loss"]], label_smoothing=SMOOTHING
                )
                rows = Dataset.from_list([pair, pair])
                return trl.DPOTrainer(
                    args=settings, ref_model=model("reference"), train_dataset=rows, **shared
                )
            case "kto":
                rows = Dataset.from_list(
                    [{"prompt": "a", "completion": "b", "label": i % 2 == 0} for i in range(4)]
                )
                settings = trl.KTOConfig(**common, beta=BETA, per_device_train_batch_size=4)
                return trl.KTOTrainer(
                    args=settings, ref_model=model("reference"), train_dataset=rows, **shared
                )
        rows = Dataset.from_list([{"prompt": "a"}] * 4)
        sizes = {"num_generations": 2, "per_device_train_batch_size": 8, "max_completion_length": 12}
        online = {"train_dataset": rows, "reward_funcs": lambda completions, **_: [0.0] * len(completions)}
        if case["kind"] == "rloo":
            return trl.RLOOTrainer(args=trl.RLOOConfig(**common, **sizes, beta=0.0), **online, **shared)
        settings = trl.GRPOConfig(**common, **sizes, beta=0.0, loss_type=case["loss"], epsilon=CLIP)
        return trl.GRPOTrainer(args=settings, **online, **shared)

    def loss(made: Any, case: dict[str, Any], turned: bool = False) -> torch.Tensor:
        first, second = (1, 0) if turned else (0, 1)
        sides = case["answers"]
        if case["kind"] == "dpo":
            rows = [(p, s[first]) for p, s in zip(PROMPTS, sides, strict=True)] + [
                (p, s[second]) for p, s in zip(PROMPTS, sides, strict=True)
            ]
            return made._compute_loss(made.model, padded(rows), False)
        rows = [(p, answer) for p, s in zip(PROMPTS, sides, strict=True) for answer in s]
        if case["kind"] == "kto":
            other = [(p, a) for (p, _), (_, a) in zip(rows, rows[1:] + rows[:1], strict=True)]
            shifted = {f"KL_{name}": value for name, value in padded(other).items()}
            labels = torch.tensor([True, False] * len(PROMPTS))
            return made._compute_loss(made.model, padded(rows) | shifted | {"label": labels}, False)
        inputs = apart(rows) | {"advantages": torch.tensor(case["advantages"])}
        if case["kind"] == "grpo":
            inputs["old_per_token_logps"] = torch.tensor(case["old"])
            inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
            made.current_gradient_accumulation_steps = 1
            made.max_completion_length = 12
        else:
            with torch.no_grad():
                ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
                mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
                kept = inputs["completion_ids"].shape[1]
                logps = made._get_per_token_logps_and_entropies(made.model, ids, mask, kept)[0]
            inputs["old_logps"] = (logps * inputs["completion_mask"]).sum(1)
        return made.compute_loss(made.model, inputs)

    cases, found = json.loads((folder / "cases.json").read_text()), {}
    for name, case in cases.items():
        made = trainer(case)
        total = loss(made, case)
        if case.get("turned"):
            total = (1 - SMOOTHING) * total + SMOOTHING * loss(made, case, turned=True)
        total.backward()
        gradients = {n: p.grad.contiguous() for n, p in made.model.named_parameters() if p.grad is not None}
        save_file(gradients, folder / f"{name}.safetensors")
        found[name] = float(total.detach())
    (folder / "peer.json").write_text(json.dumps({"trl": trl.__version__, "losses": found}))


# accord's side.


def ours(folder: Path) -> list[dict[str, Any]]:
    from safetensors.torch import load_file

    from accord import advantages, losses, models
    from accord.anchored import Anchored
    from accord.batches import Group
    from accord.config import Direct, Sampling, Weights
    from accord.direct import DirectTrainer
    from accord.direct_examples import Example

    tokenizer = models.load_tokenizer(models.Model(path=str(folder / "policy")), str(folder / "policy"))

    def direct(case: dict[str, Any], settings: Direct) -> tuple[float, Any]:
        policy, reference = (models.load_policy(folder / n, torch.float32) for n in ("policy", "reference"))
        made = DirectTrainer(policy, tokenizer, settings, 1, reference=reference)
        groups = [
            Group(tuple(p), tuple(map(tuple, s))) for p, s in zip(PROMPTS, case["answers"], strict=True)
        ]
        rows = [(g.prompt, r) for g in groups for r in g.responses]
        other = [r for _, r in rows[1:] + rows[:1]]
        examples = [
            Example(g, (True, False), mismatched=Group(g.prompt, tuple(other[2 * i : 2 * i + 2])))
            for i, g in enumerate(groups)
        ]
        made.execution.step = lambda: 0.0  # the gradient is wanted, not the update
        return made.step(examples)["loss"], policy

    def online(case: dict[str, Any]) -> tuple[float, Any]:
        policy = models.load_policy(folder / "policy", torch.float32)
        held = Anchored(policy, tokenizer, Weights(), Sampling())
        policy.requires_grad_(True)
        packed, trunk_TH = held.packed(
            [Group(tuple(p), tuple(map(tuple, s))) for p, s in zip(PROMPTS, case["answers"], strict=True)]
        )
        logp_BT = packed.to_BT(held.logps(packed, trunk_TH)[0])
        mask_BT = packed.mask_BT
        old_BT = torch.tensor(case["old"]) if case["kind"] == "grpo" else logp_BT.detach()
        kind, length = {"grpo": ("sequence", None), "dr_grpo": ("constant", 12), "bnpo": ("token", None)}.get(
            case.get("loss", ""), ("constant", 1)
        )
        loss = losses.clipped_policy_loss(
            logp_BT,
            old_BT,
            torch.tensor(case["advantages"])[:, None] * mask_BT,
            losses.aggregation_weight(mask_BT, kind, length),
            clip=CLIP,
            token_count=float(losses.aggregation_count(mask_BT, kind)),
        )
        loss.backward()
        return float(loss.detach()), policy

    score_PK = torch.tensor(SCORES)
    kept = {"rloo": advantages.rloo(score_PK), "grpo": advantages.grpo(score_PK, divide_by_std=True)[0]}
    kept["dr_grpo"] = advantages.grpo(score_PK, divide_by_std=False)[0]
    kept["dapo"] = kept["grpo"]
    for name, advantage_PK in kept.items():
        CASES[name]["advantages"] = advantage_PK.reshape(-1).tolist()
    policy = models.load_policy(folder / "policy", torch.float32)
    held = Anchored(policy, tokenizer, Weights(), Sampling())
    packed, trunk_TH = held.packed(
        [Group(tuple(p), tuple(map(tuple, s))) for p, s in zip(PROMPTS, answers(9), strict=True)]
    )
    with torch.no_grad():
        logp_BT = packed.to_BT(held.logps(packed, trunk_TH)[0])
    noise = 0.4 * torch.randn(logp_BT.shape, generator=torch.Generator().manual_seed(SEED))
    for name in ("grpo", "dr_grpo", "dapo"):
        CASES[name]["old"] = (logp_BT + noise).tolist()
    (folder / "cases.json").write_text(json.dumps(CASES))
    subprocess.run([str(PEER), __file__, "--peer", str(folder)], check=True, env=_environment())
    theirs = json.loads((folder / "peer.json").read_text())
    rows = []
    for name, case in CASES.items():
        scale = 1.0
        if case["kind"] in ("dpo", "kto"):
            beta, smoothing = BETA, None
            if name == "ipo":
                length = len(case["answers"][0][0])
                beta, scale = BETA / length, length**-2
            if name in ("cdpo", "robust_dpo"):
                smoothing = SMOOTHING
            loss, policy = direct(case, Direct(algorithm=name, beta=beta, label_smoothing=smoothing))
        else:
            loss, policy = online(case)
        their_gradient = load_file(folder / f"{name}.safetensors")
        mine = {n: p.grad * scale for n, p in policy.named_parameters() if p.grad is not None}
        gap = torch.stack([(mine[n] - g).norm() for n, g in their_gradient.items()]).norm()
        size = torch.stack([g.norm() for g in their_gradient.values()]).norm()
        their_loss = theirs["losses"][name]
        rows.append(
            {
                "name": name,
                "ours": loss * scale,
                "trl": their_loss,
                "loss_gap": None if name == "rloo" else abs(loss * scale - their_loss) / abs(their_loss),
                "gradient_gap": float(gap / size),
                "same_names": set(mine) == set(their_gradient),
            }
        )
    print(f"TRL {theirs['trl']}, torch {torch.__version__}, float32\n")
    return rows


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


def save_models(folder: Path) -> None:
    """A random Llama as policy, and the same with some noise as reference, with the tests' byte tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sys.path.insert(0, str(ROOT))
    from tests.conftest import byte_tokenizer

    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.1, bos_token_id=1,
            eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
        )
    )  # fmt: skip
    for name in ("policy", "reference"):
        model.save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))


def main() -> None:
    if "--peer" in sys.argv:
        peer(Path(sys.argv[-1]))
        return
    if not PEER.exists():
        raise SystemExit("TRL's environment is missing: run benchmarks/setup_trl.sh")
    with tempfile.TemporaryDirectory() as folder:
        save_models(Path(folder))
        rows = ours(Path(folder))
    print("| loss | accord | TRL | difference of the loss | of the gradient | |\n|---|---|---|---|---|---|")
    failed = False
    for row in rows:
        gaps = [gap for gap in (row["loss_gap"], row["gradient_gap"]) if gap is not None]
        good = row["same_names"] and all(gap <= LIMIT for gap in gaps)
        failed |= not good
        loss_gap = "not compared" if row["loss_gap"] is None else f"{row['loss_gap']:.1e}"
        print(
            f"| {row['name']} | {row['ours']:.6f} | {row['trl']:.6f} | {loss_gap} |"
            f" {row['gradient_gap']:.1e} | {'agrees' if good else 'DIFFERS'} |"
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
