"""Speed beside the peers, in one run: TRL does a step, then accord does the same step, and so on.

    benchmarks/setup_trl.sh                                  # once: TRL in an environment of its own
    .venv/bin/python benchmarks/bench.py sft reward grpo     # some workloads; none named: all
    .venv/bin/python benchmarks/bench.py --render benchmarks/results/cpu.json   # table into README.md

Method: README.md beside this file. Each workload has its own pair of worker processes; of the two only
one works at any time, and the other's processor time during the step is measured and reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import summary
from workers import HERE, Worker, processors, step
from workloads import WORKLOADS, plan, units_per_step

TRL_PYTHON = HERE / ".venv-trl" / "bin" / "python"
BUSY = 0.1  # processors that other programs may take during a step before the reader is told


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}; default: all"
    )
    parser.add_argument("--steps", type=int, default=10, help="measured steps (10)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before that, not counted (2)")
    parser.add_argument("--threads", type=int, default=len(processors()), help="a side (all processors)")
    parser.add_argument("--model", type=Path, help="model folder; default: accord's packaged model")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ACCORD_DATA"), help="default: $ACCORD_DATA"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("trl", "accord"), help="one side alone, for a look at it")
    parser.add_argument(
        "--trl-autocast", action="store_true", help="TRL: bf16 autocast over the bf16 weights"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float32"),
        default="auto",
        help="of the weights, both sides; auto: what accord takes on this machine",
    )
    parser.add_argument("--kl-coefficient", type=float, default=0.05, help="online steps, both sides")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "cpu.json")
    parser.add_argument(
        "--append", action="store_true", help="keep the other workloads that --out has already"
    )
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    parser.add_argument(
        "--render", type=Path, metavar="JSON", help="only put this result's table into README.md"
    )
    args = parser.parse_args()
    unknown = [name for name in args.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}: known are {', '.join(WORKLOADS)}")
    if args.steps < 1 or args.warmup < 0 or args.threads < 1:
        parser.error("--steps and --threads must be at least 1, --warmup at least 0")
    if args.threads > len(processors()):
        parser.error(
            f"--threads {args.threads}, but only {len(processors())} processors may be used: lower it"
        )
    if args.only != "accord" and not args.render and not TRL_PYTHON.exists():
        parser.error("TRL's environment is missing: run benchmarks/setup_trl.sh, or give --only accord")
    return args


def machine() -> dict[str, Any]:
    """What it ran on; no names of hosts or people."""
    cpu, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8")
        found = {
            key: re.search(rf"^{key}\s*:\s*(.*)$", text, re.M) for key in ("model name", "model", "flags")
        }
        cpu = found["model name"].group(1) if found["model name"] else cpu
        cpu += f" (model {found['model'].group(1)})" if found["model"] else ""
        flags = found["flags"].group(1) if found["flags"] else ""
    return {
        "cpu": cpu,
        "processors": len(processors()),
        "instructions": [
            name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags.split()
        ],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def model_folder(given: Path | None, dtype: Literal["bfloat16", "float32"]) -> Path:
    """The model as a folder that both sides load: the one given, or the packaged one as accord caches it."""
    if given is not None:
        if not (given / "config.json").is_file():
            raise SystemExit(f"{given} holds no config.json: give a Hugging Face model folder with --model")
        return given.resolve()
    from accord import models
    from accord.config import Model

    return Path(models.locate(Model(dtype=dtype)))


def token_counter(model: Path) -> Any:
    """(messages, open an answer?) -> tokens, by the model's own template: what both sides will see."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)

    def count(messages: Sequence[dict[str, str]], answer: bool) -> int:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=answer)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def measure(
    name: str, plan_: dict[str, Any], args: argparse.Namespace, folder: Path
) -> tuple[Any, dict[str, Any]]:
    """One workload: the summary and what each side said when it opened."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(plan_), encoding="utf-8")
    sides = {"trl": (TRL_PYTHON, "worker_trl.py"), "accord": (Path(sys.executable), "worker_accord.py")}
    if WORKLOADS[name].peer is None:
        del sides["trl"]
    if args.only:
        sides = {side: value for side, value in sides.items() if side == args.only}
    workers: dict[str, Worker] = {}
    steps: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    try:
        facts = {}
        for side, (python, script) in sides.items():
            workers[side] = Worker(side, python, script, args.threads, folder / f"{name}.{side}.log")
            facts[side] = workers[side].ask(do="open", plan=str(file))
        for index in range(plan_["steps"]):
            for side, worker in workers.items():
                resting = next((other for key, other in workers.items() if key != side), None)
                steps[side].append(step(worker, resting))
            shown = " · ".join(
                f"{side} {done[-1]['seconds']:.2f} s"
                + (
                    f" (others: {done[-1]['cpu_others']:.1f} processors)"
                    if done[-1]["cpu_others"] > BUSY
                    else ""
                )
                for side, done in steps.items()
            )
            kind = "warm-up" if index < args.warmup else f"step {index - args.warmup + 1} of {args.steps}"
            print(f"{name}: {kind}: {shown}", file=sys.stderr, flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    result = summary.workload(plan_, steps, units_per_step(plan_), args.warmup)
    result["setup_seconds"] = {side: round(fact["setup_seconds"], 2) for side, fact in facts.items()}
    result["facts"] = {
        side: {k: v for k, v in fact.items() if k not in ("ok", "versions", "setup_seconds", "limits")}
        for side, fact in facts.items()
    }
    return result, facts


def resolved_dtype(name: str) -> Literal["bfloat16", "float32"]:
    from accord import models

    return "bfloat16" if str(models.resolve_dtype(name)) == "torch.bfloat16" else "float32"


def run(args: argparse.Namespace) -> dict[str, Any]:
    args.dtype = resolved_dtype(args.dtype)
    names = args.workloads or [name for name in WORKLOADS if args.only != "trl" or WORKLOADS[name].peer]
    given = [
        Path(arg).name if arg.startswith("/") else arg for arg in sys.argv[1:]
    ]  # no paths of this machine in the result
    results: dict[str, Any] = {
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": " ".join(["python benchmarks/bench.py", *given]),
        "machine": machine(),
        "threads": args.threads,
        "dtype": args.dtype,
        "versions": {},
        "workloads": {},
    }
    if args.append and args.out.is_file():
        results["workloads"] = json.loads(args.out.read_text(encoding="utf-8"))["workloads"]
    model = model_folder(args.model, args.dtype)
    count = token_counter(model)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            data = Path(args.data) if args.data else None
            plan_ = plan(name, model, count, args.steps + args.warmup, data, args.seed)
            plan_ |= {
                "dtype": args.dtype,
                "trl_autocast": args.trl_autocast,
                "kl_coefficient": args.kl_coefficient,
                "centering": 0.01,
                "beta": 0.1,
                "limits": "limits" not in results,
            }
            results["workloads"][name], facts = measure(name, plan_, args, Path(scratch))
            for side, fact in facts.items():
                results["versions"][side] = fact["versions"]
                if "limits" in fact:
                    results["limits"] = fact["limits"]
            # Written after every workload: an interrupted run keeps what it measured.
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


def main() -> None:
    args = arguments()
    if args.render:
        results = json.loads(args.render.read_text(encoding="utf-8"))
    else:
        results = run(args)
        print(f"\nwrote {os.path.relpath(args.out)}\n", file=sys.stderr)
    text = summary.table(results)
    print(text)
    busy = max(
        side["cpu_others"] for entry in results["workloads"].values() for side in entry["sides"].values()
    )
    if busy > BUSY:
        print(
            f"other programs kept {busy:.1f} processors busy: threads that share one wait for each other,"
            " and such numbers are worthless; measure again on a quiet machine",
            file=sys.stderr,
        )
    if args.readme or args.render:
        summary.into_readme(HERE / "README.md", text)


if __name__ == "__main__":
    main()
