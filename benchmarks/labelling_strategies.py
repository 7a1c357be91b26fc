"""What choosing the labels buys: strategies against random pairs at equal labels, in a world with known
truth.

    python benchmarks/labelling_strategies.py --seeds 40

Gold is a linear reward of random features (and, misspecified, a term that no member can learn). Members are
Bradley-Terry fits with a ridge on bootstrap draws of the labels so far. Every strategy starts from the same
random labels and spends the same budget; all of it goes to training here (``random_share=0``), accuracy is
measured on fresh random pairs. Prints JSON and a table for docs/labelling-strategies.md.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from accord.diagnostics.statistics import stream
from accord.labelling_strategies import STRATEGIES, Strategy, choose_pairs

TEST_PAIRS = 4000
TEST_PROMPTS = 400


@dataclass(frozen=True)
class World:
    """Prompts with K answers of D random features each.

    Attributes:
        scale: standard deviation of gold over answers, in Bradley-Terry logits: larger is less noise.
        hidden: weight of a term in products of features, which linear members cannot learn.
    """

    features: int = 16
    prompts: int = 150
    answers: int = 6
    scale: float = 2.0
    hidden: float = 0.0

    def answers_of(self, rng: np.random.Generator, prompts: int) -> np.ndarray:
        return rng.normal(size=(prompts, self.answers, self.features))

    def gold(self, weight_D: np.ndarray, x_D: np.ndarray) -> np.ndarray:
        linear = x_D @ weight_D / np.linalg.norm(weight_D)
        product = x_D[..., 0] * x_D[..., 1]
        return self.scale * (linear + self.hidden * product) / math.sqrt(1 + self.hidden**2)


def fit(difference_ND: np.ndarray, weight_EN: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Weighted Bradley-Terry fits, chosen minus rejected features, by Newton steps -> [E, D]."""
    members, features = len(weight_EN), difference_ND.shape[1]
    theta_ED = np.zeros((members, features))
    for _ in range(12):
        p_EN = special.expit(theta_ED @ difference_ND.T)
        gradient = (weight_EN * (1 - p_EN)) @ difference_ND - ridge * theta_ED
        curvature = np.einsum("en,nd,nf->edf", weight_EN * p_EN * (1 - p_EN), difference_ND, difference_ND)
        step = np.linalg.solve(curvature + ridge * np.eye(features), gradient[..., None])[..., 0]
        theta_ED = theta_ED + step
    return theta_ED


def members_of(difference_ND: np.ndarray, members: int, rng: np.random.Generator) -> np.ndarray:
    count = len(difference_ND)
    return fit(difference_ND, rng.multinomial(count, np.full(count, 1 / count), size=members).astype(float))


def learn(
    world: World, strategy: Strategy, seed: int, *, start: int, step: int, rounds: int, members: int,
    per_prompt: int | None = None,
) -> list[dict[str, float]]:  # fmt: skip
    """One run of one strategy: accuracy on random fresh pairs and gold of the pick, after each round."""
    made = stream(seed, "world")
    weight_D = made.normal(size=world.features)
    test = world.answers_of(made, TEST_PROMPTS)
    test_gold = world.gold(weight_D, test)
    first, second = made.integers(TEST_PROMPTS, size=(2, TEST_PAIRS))
    noise = stream(seed, "labels")  # the same stream for every strategy
    rows: list[np.ndarray] = []
    out = []
    for round in range(rounds + 1):
        x_PKD = world.answers_of(stream(seed, f"answers {round}"), world.prompts)
        fits = stream(seed, f"members {round}")
        budget = start if round == 0 else step
        theta_ED = members_of(np.array(rows), members, fits) if rows else np.zeros((members, world.features))
        score_PEK = np.einsum("ed,pkd->pek", theta_ED, x_PKD)
        name: Strategy = strategy if round else "random"
        chosen = choose_pairs(
            list(score_PEK), budget, name, random_share=0, per_prompt=per_prompt, seed=seed, round=round
        )
        for pair in chosen:
            a, b = x_PKD[pair.prompt, pair.a], x_PKD[pair.prompt, pair.b]
            wins = noise.random() < special.expit(world.gold(weight_D, a) - world.gold(weight_D, b))
            rows.append(a - b if wins else b - a)
        theta_D = members_of(np.array(rows), members, stream(seed, f"judge {round}")).mean(axis=0)
        score = test @ theta_D
        flat, gold = score[:, 0], test_gold[:, 0]
        known = gold[first] != gold[second]
        right = (flat[first] > flat[second]) == (gold[first] > gold[second])
        picked = np.take_along_axis(test_gold, score.argmax(axis=1)[:, None], axis=1).mean()
        out.append({"labels": len(rows), "accuracy": float(right[known].mean()), "picked": float(picked)})
    return out


def compare(
    world: World, seeds: Iterable[int], *, start: int = 60, step: int = 60, rounds: int = 4, members: int = 8,
    per_prompt: int | None = None,
) -> dict[str, dict[str, list[float]]]:  # fmt: skip
    """Figures of each strategy by seed at the end, and its gain over random at the same labels and seed."""
    sizes = {"start": start, "step": step, "rounds": rounds, "members": members}
    found: dict[str, dict[str, list[float]]] = {
        name: {"accuracy": [], "picked": [], "accuracy_gain": [], "picked_gain": []} for name in STRATEGIES
    }
    for seed in seeds:
        ends = {
            name: learn(world, name, seed, per_prompt=None if name == "random" else per_prompt, **sizes)[-1]
            for name in STRATEGIES
        }
        for name, end in ends.items():
            for figure in ("accuracy", "picked"):
                found[name][figure].append(end[figure])
                found[name][f"{figure}_gain"].append(end[figure] - ends["random"][figure])
    return found


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean with a 95% t interval over seeds."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    asked = parser.parse_args()
    worlds = {
        "plain": (World(), None),
        "plain, no limit a prompt": (World(), 99),
        "noisy labels": (World(scale=0.7), None),
        "misspecified": (World(hidden=0.7), None),
    }
    out, lines = (
        {},
        [
            "| world | strategy | accuracy | gain over random | gold of the pick, gain |",
            "|---|---|---|---|---|",
        ],
    )
    for title, (world, per_prompt) in worlds.items():
        found = compare(world, range(asked.seeds), per_prompt=per_prompt)
        out[title] = {name: {k: interval(v) for k, v in row.items()} for name, row in found.items()}
        for name, row in out[title].items():
            accuracy, gain, picked = row["accuracy"], row["accuracy_gain"], row["picked_gain"]
            shown = [
                f"{gain[0]:+.4f} ({gain[1]:+.4f} to {gain[2]:+.4f})",
                f"{picked[0]:+.3f} ({picked[1]:+.3f} to {picked[2]:+.3f})",
            ]
            if name == "random":
                shown = ["–", "–"]
            lines.append(f"| {title} | {name} | {accuracy[0]:.4f} | {shown[0]} | {shown[1]} |")
    print(
        json.dumps(
            {
                "seeds": asked.seeds,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "worlds": out,
            }
        )
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
