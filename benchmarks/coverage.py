"""Do the 95% intervals hold the truth 95 times of 100? Simulations in which the truth is known.

    python benchmarks/coverage.py --simulations 1000            # all worlds, the table of docs/diagnostics.md
    python benchmarks/coverage.py --simulations 1000 --only seeds,style

An *interval* world gives an interval and the truth it should hold: covered 93% to 97% of the time is what the
project asks of itself. A *level* world has nothing to find: alarms there are false, at most about 5% (2.5%
where an alarm is one-sided). Where a world's truth has no formula it is the mean figure over all simulations:
the interval should hold the expectation of its own figure.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from accord.diagnostics.baseline import seed_band
from accord.diagnostics.drift_classifier import classifier_drift
from accord.diagnostics.drift_mmd import mmd_drift
from accord.diagnostics.drift_outliers import latent_outliers
from accord.diagnostics.ensemble_spread import ensemble_spread
from accord.diagnostics.entropy import entropy_shift
from accord.diagnostics.length import diversity_shift, length_share, length_shift
from accord.diagnostics.mode_collapse import mode_collapse
from accord.diagnostics.on_policy import on_policy_accuracy
from accord.diagnostics.overoptimisation import overoptimisation
from accord.diagnostics.policy_probes import Changes, policy_probes
from accord.diagnostics.seeds import over_seeds, seed_difference
from accord.diagnostics.split_half import split_half, split_half_selection
from accord.diagnostics.statistics import stream
from accord.diagnostics.style import style_reliance
from accord.diagnostics.win_rate import win_rate
from accord.records import Finding

DRAWS = 500  # bootstrap draws in each simulation
PROMPTS = 64
TWICE = np.repeat(np.arange(PROMPTS), 2)


class Outcome(NamedTuple):
    """One simulation. ``truth`` None: the mean figure of all; ``alarm`` None: the world is not about
    alarms.
    """

    figure: float
    low: float
    high: float
    truth: float | None = None
    alarm: bool | None = None


def outcome(finding: Finding, truth: float | None = None, alarm: bool | None = None) -> Outcome:
    low, high = finding.interval or (math.nan, math.nan)
    figure = math.nan if finding.figure is None else finding.figure
    return Outcome(figure, low, high, truth, alarm)


def between(rng: np.random.Generator, deviation: float) -> np.ndarray:
    """A level for each prompt, on both of its rows."""
    return rng.normal(0, deviation, PROMPTS)[TWICE]


def win_rate_world(rng: np.random.Generator) -> Outcome:
    """Gaps with mean .3, deviation 1 between and 1 within prompts; gaps below .2 are ties."""
    gap = 0.3 + between(rng, 1) + rng.normal(size=2 * PROMPTS)
    wins, losses = stats.norm.sf(0.2, 0.3, math.sqrt(2)), stats.norm.cdf(-0.2, 0.3, math.sqrt(2))
    found = win_rate(gap, np.zeros_like(gap), TWICE, 0.2, samples=DRAWS)
    return outcome(found, 0.5 + 0.5 * wins - 0.5 * losses)


def curve(rng: np.random.Generator, peaked: bool, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """√KL 0 to 4 at 9 evaluations; gold d(1.2 - .3 d), peak at 2, or .3 d; prompts differ and react each its
    own.
    """
    d_P = np.linspace(0, 4, 9)
    mean_P = d_P * (1.2 - 0.3 * d_P) if peaked else 0.3 * d_P
    slope_G = rng.normal(0, 0.1, PROMPTS)
    gold_PG = (
        mean_P[:, None]
        + slope_G * d_P[:, None]
        + rng.normal(0, 1, PROMPTS)
        + rng.normal(0, noise, (9, PROMPTS))
    )
    return d_P, gold_PG


def gold_gain_world(rng: np.random.Generator) -> Outcome:
    d_P, gold = curve(rng, peaked=False)
    proxy = d_P[:, None] + rng.normal(0, 0.5, gold.shape)
    return outcome(overoptimisation(d_P**2, proxy, gold, samples=DRAWS), 1.2)


def peak_world(rng: np.random.Generator) -> Outcome:
    """Only where a peak is reported does it have an interval; the rest is not counted."""
    d_P, gold = curve(rng, peaked=True)
    found = overoptimisation(
        d_P**2, d_P[:, None] + rng.normal(0, 0.5, gold.shape), gold, samples=DRAWS
    ).evidence
    low, high = found["peak_interval"] or (math.nan, math.nan)
    return Outcome(math.nan if found["peak"] is None else found["peak"], low, high, 2.0)


def false_peak_world(rng: np.random.Generator) -> Outcome:
    """Gold rises without end: a reported peak is false."""
    d_P, gold = curve(rng, peaked=False)
    found = overoptimisation(
        d_P**2, d_P[:, None] + rng.normal(0, 0.5, gold.shape), gold, samples=DRAWS
    ).evidence
    return Outcome(math.nan, math.nan, math.nan, alarm=found["peak"] is not None)


def false_fall_world(rng: np.random.Generator) -> Outcome:
    """Gold rises to a plateau and stays: a fall from its best is false."""
    d_P, gold = curve(rng, peaked=False)
    gold = gold - 0.3 * d_P[:, None] + 0.5 * np.minimum(d_P, 1)[:, None]
    found = overoptimisation(d_P**2, d_P[:, None] + rng.normal(0, 0.5, gold.shape), gold, samples=DRAWS)
    return Outcome(math.nan, math.nan, math.nan, alarm=found.evidence["reason"] == "gold_fell")


def transfer_world(rng: np.random.Generator) -> Outcome:
    """The other half confirms 60% of the gain."""
    d_P = np.linspace(0, 2, 4)
    strength_G = rng.normal(1, 0.3, PROMPTS)
    trained = d_P[:, None] * strength_G + rng.normal(0, 0.5, (4, PROMPTS))
    other = 0.6 * d_P[:, None] * strength_G + rng.normal(0, 0.5, (4, PROMPTS))
    found = split_half(d_P**2, trained, other, samples=DRAWS).evidence
    return Outcome(found["transfer"], *found["transfer_interval"], 0.6)


def selection_world(rng: np.random.Generator) -> Outcome:
    """Scores of both halves: a common part and noise of the same size, so one half confirms half of the gain.

    The other's expectation at the picked answer is the regression of a normal on its twin: correlation .5.
    """
    common = rng.normal(size=(PROMPTS, 8))
    halves = common + rng.normal(size=(2, PROMPTS, 8))
    return outcome(split_half_selection(*halves, samples=DRAWS), 0.5)


def ensemble_world(rng: np.random.Generator) -> Outcome:
    """Member noise .4 on SFT's samples and .8 on the policy's, in units of a true score of deviation 1.

    Standardising divides both by the same deviation, so the ratio stays 2.
    """
    truth = between(rng, 0.7) + rng.normal(0, math.sqrt(0.51), 2 * PROMPTS)
    base = truth + rng.normal(0, 0.4, (5, 2 * PROMPTS))
    moved = 1 + between(rng, 0.7) + rng.normal(0, math.sqrt(0.51), 2 * PROMPTS)
    policy = moved + rng.normal(0, 0.8, (5, 2 * PROMPTS))
    return outcome(ensemble_spread(base, policy, TWICE, TWICE, samples=DRAWS), 2.0)


def ensemble_level_world(rng: np.random.Generator) -> Outcome:
    base, policy = (between(rng, 1) + rng.normal(0, 0.5, (5, 2 * PROMPTS)) for _ in range(2))
    found = ensemble_spread(base, policy, TWICE, TWICE, samples=DRAWS)
    return outcome(found, alarm=found.verdict == "warn")


def points(rng: np.random.Generator, shift: float, columns: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Latents with a level of each prompt that both sides share."""
    level = rng.normal(0, 1, (PROMPTS, columns))[TWICE]
    return level + rng.normal(size=level.shape), level + shift + rng.normal(size=level.shape)


def classifier_world(rng: np.random.Generator) -> Outcome:
    return outcome(classifier_drift(*points(rng, 0.4), TWICE, TWICE, samples=DRAWS))


def classifier_level_world(rng: np.random.Generator) -> Outcome:
    found = classifier_drift(*points(rng, 0.0), TWICE, TWICE, samples=DRAWS)
    return outcome(found, alarm=found.verdict == "warn")


def mmd_level_world(rng: np.random.Generator) -> Outcome:
    found = mmd_drift(*points(rng, 0.0), TWICE, TWICE, permutations=199)
    return Outcome(math.nan, math.nan, math.nan, alarm=found.verdict == "warn")


def outliers_world(rng: np.random.Generator) -> Outcome:
    return outcome(latent_outliers(*points(rng, 0.6), TWICE, TWICE, samples=DRAWS))


def outliers_level_world(rng: np.random.Generator) -> Outcome:
    found = latent_outliers(*points(rng, 0.0), TWICE, TWICE, samples=DRAWS)
    return outcome(found, alarm=found.verdict == "warn")


def pairs(rng: np.random.Generator, prompts: int, scale: float, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Margins of four pairs a prompt, right with the calibrated chance less ``lost``."""
    size = np.abs(rng.normal(0, scale, 4 * prompts))
    right = rng.random(4 * prompts) < special.expit(size) - lost
    return np.where(right, size, -size), np.repeat(np.arange(prompts), 4)


def on_policy_world(rng: np.random.Generator) -> Outcome:
    """At every margin 10% of accuracy is lost; fresh pairs lie closer together (raw accuracy falls by
    more).
    """
    test, test_prompt = pairs(rng, 50, 2.0, 0.0)
    fresh, fresh_prompt = pairs(rng, 60, 1.2, 0.1)
    return outcome(on_policy_accuracy(test, fresh, test_prompt, fresh_prompt + 1000, samples=DRAWS), -0.1)


def on_policy_level_world(rng: np.random.Generator) -> Outcome:
    """Nothing is lost, but fresh pairs lie closer together: an alarm would blame the model for that."""
    test, test_prompt = pairs(rng, 50, 2.0, 0.0)
    fresh, fresh_prompt = pairs(rng, 60, 1.2, 0.0)
    found = on_policy_accuracy(test, fresh, test_prompt, fresh_prompt + 1000, samples=DRAWS)
    return outcome(found, alarm=found.verdict == "bad")


def length_share_world(rng: np.random.Generator) -> Outcome:
    """Answers grow by 20 tokens, the score pays .01 a token and .2 beyond: half of the gain of .4 is length.

    Lengths are whole buckets, so that equal bucket means equal length.
    """
    length = 20.0 * rng.integers(1, 6, 2 * PROMPTS)
    longer = length + 20
    level = between(rng, 0.3)
    sft = 0.01 * length + level + rng.normal(0, 0.3, 2 * PROMPTS)
    policy = 0.01 * longer + 0.2 + level + rng.normal(0, 0.3, 2 * PROMPTS)
    return outcome(length_share(sft, policy, length, longer, TWICE, bucket=20, samples=DRAWS), 0.5)


def length_shift_world(rng: np.random.Generator) -> Outcome:
    sft = 30 + between(rng, 5) + rng.normal(0, 5, 2 * PROMPTS)
    policy = 33 + between(rng, 5) + rng.normal(0, 5, 2 * PROMPTS)
    return outcome(length_shift(sft, policy, TWICE, samples=DRAWS), 3.0)


def entropy_world(rng: np.random.Generator) -> Outcome:
    """Few prompts and skewed values, where a plain percentile interval is too narrow."""
    few = np.repeat(np.arange(20), 2)
    sft, policy = rng.gamma(4, 0.5, 40), rng.gamma(4, 0.4, 40)
    return outcome(entropy_shift(sft, policy, few, samples=DRAWS), -0.4)


WORDS = [f"w{i}" for i in range(400)]
ZIPF = 1 / np.arange(1, 401)


def texts(rng: np.random.Generator, stock: float) -> list[str]:
    """Twelve words an answer, the first 400 ** stock of Zipf's list only."""
    size = round(len(WORDS) ** stock)
    share = ZIPF[:size] / ZIPF[:size].sum()
    return [" ".join(WORDS[i] for i in rng.choice(size, 12, p=share)) for _ in range(2 * PROMPTS)]


def collapse_world(rng: np.random.Generator) -> Outcome:
    return outcome(mode_collapse(texts(rng, 1.0), texts(rng, 0.8), TWICE))


def collapse_level_world(rng: np.random.Generator) -> Outcome:
    found = mode_collapse(texts(rng, 1.0), texts(rng, 1.0), TWICE)
    return outcome(found, alarm=found.verdict == "warn")


def diversity_world(rng: np.random.Generator) -> Outcome:
    return outcome(diversity_shift(texts(rng, 1.0), texts(rng, 0.8), TWICE))


def style_world(rng: np.random.Generator) -> Outcome:
    """Score = .5 length + .5 lists + noise 1, length and lists correlated .6: partial .5·.8/√(.25·.64+1) =
    .371.

    Of length given lists: variance 1 - .36 = .64 remains, so r = .5·.8 / √(.25·.64 + 1).
    """

    def side() -> tuple[np.ndarray, np.ndarray]:
        level = rng.normal(0, 2, (PROMPTS, 3))[TWICE]
        first = rng.normal(size=2 * PROMPTS)
        features = np.column_stack([first, 0.6 * first + 0.8 * rng.normal(size=2 * PROMPTS)])
        score = features @ [0.5, 0.5] + rng.normal(size=2 * PROMPTS)
        return score + level[:, 0], features + level[:, 1:]

    (score_N, features_N), (score_M, features_M) = side(), side()
    found = style_reliance(
        score_N, score_M, features_N, features_M, TWICE, TWICE, ["length", "lists"], samples=DRAWS
    )
    first = found.evidence["features"][0]
    low, high = first["policy_interval"]
    return Outcome(first["policy"], low, high, 0.4 / math.sqrt(1.16), found.verdict == "warn")


def probes_world(rng: np.random.Generator) -> Outcome:
    """Five probes that rise equally often before and after: alarms are false."""

    def side() -> dict[str, Changes]:
        keys = [str(i) for i in TWICE]
        return {
            f"probe {k}": Changes(keys, between(rng, 1) + rng.normal(0.1 * k, 1, 2 * PROMPTS))
            for k in range(5)
        }

    found = policy_probes(side(), side(), samples=DRAWS)
    return Outcome(math.nan, math.nan, math.nan, alarm=found.verdict == "warn")


def seeds_world(runs: int, strata: int = 1) -> Callable[[np.random.Generator], Outcome]:
    def world(rng: np.random.Generator) -> Outcome:
        values = {f"task {k}": rng.normal(0.6, 0.1, runs).tolist() for k in range(strata)}
        found = over_seeds(values, samples=DRAWS)
        return Outcome(found.figure, found.low, found.high, 0.6)

    return world


def seed_difference_world(rng: np.random.Generator) -> Outcome:
    base, other = rng.normal(0.6, 0.1, 8), rng.normal(0.7, 0.15, 8)
    found = seed_difference({"a": base.tolist()}, {"a": other.tolist()}, samples=DRAWS)
    return Outcome(found.figure, found.low, found.high, 0.1)


def band_world(rng: np.random.Generator) -> Outcome:
    """Whether the band of five seeds holds the sixth."""
    band = seed_band(rng.normal(3, 2, 5).tolist())
    return Outcome(math.nan, band.low, band.high, float(rng.normal(3, 2)))


WORLDS: dict[str, Callable[[np.random.Generator], Outcome]] = {
    "win_rate": win_rate_world,
    "overoptimisation: gold's gain": gold_gain_world,
    "overoptimisation: peak, where reported": peak_world,
    "overoptimisation: false peak": false_peak_world,
    "overoptimisation: false fall": false_fall_world,
    "split_half: transfer": transfer_world,
    "split_half_selection": selection_world,
    "ensemble_spread": ensemble_world,
    "ensemble_spread: false alarm": ensemble_level_world,
    "classifier_drift": classifier_world,
    "classifier_drift: false alarm": classifier_level_world,
    "mmd_drift: false alarm": mmd_level_world,
    "latent_outliers": outliers_world,
    "latent_outliers: false alarm": outliers_level_world,
    "on_policy_accuracy": on_policy_world,
    "on_policy_accuracy: false alarm": on_policy_level_world,
    "length_share": length_share_world,
    "length_shift": length_shift_world,
    "entropy_shift, 20 prompts": entropy_world,
    "mode_collapse": collapse_world,
    "mode_collapse: false alarm": collapse_level_world,
    "diversity_shift": diversity_world,
    "style_reliance": style_world,
    "policy_probes: false alarm": probes_world,
    "seeds, 3 runs": seeds_world(3),
    "seeds, 5 runs": seeds_world(5),
    "seeds, 10 runs": seeds_world(10),
    "seeds, 3 x 5 runs": seeds_world(5, 3),
    "seed difference, 8 and 8 runs": seed_difference_world,
    "seed_band, 5 runs": band_world,
}  # fmt: skip


def measure(name: str, simulations: int, seed: int = 0) -> dict[str, Any]:
    """Coverage and false-alarm rate of one world, with what a perfect interval would scatter by."""
    world = WORLDS[name]
    outcomes = [world(stream(seed, f"{name} {i}")) for i in range(simulations)]
    out: dict[str, Any] = {"simulations": simulations}
    known = [o for o in outcomes if math.isfinite(o.low)]
    if known and (outcomes[0].alarm is None or known[0].truth is not None):
        mean = float(np.mean([o.figure for o in known])) if known[0].truth is None else None
        held = [o.low <= (o.truth if o.truth is not None else mean) <= o.high for o in known]
        out |= {"coverage": float(np.mean(held)), "intervals": len(known)}
        out["width"] = float(np.mean([o.high - o.low for o in known]))
    alarms = [o.alarm for o in outcomes if o.alarm is not None]
    if alarms:
        out["alarms"] = float(np.mean(alarms))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="words in the names of the worlds to run, comma separated")
    asked = parser.parse_args()
    wanted = asked.only.split(",") if asked.only else [""]
    results = {}
    print("| world | coverage of the 95% interval | alarms | intervals | seconds |\n|---|---|---|---|---|")
    for name in WORLDS:
        if not any(word in name for word in wanted):
            continue
        began = time.process_time()
        found = results[name] = measure(name, asked.simulations, asked.seed)
        coverage = f"{found['coverage']:.1%}" if "coverage" in found else "–"
        alarms = f"{found['alarms']:.1%}" if "alarms" in found else "–"
        seconds = time.process_time() - began
        print(
            f"| {name} | {coverage} | {alarms} | {found.get('intervals', '–')} | {seconds:.0f} |", flush=True
        )
    print(
        json.dumps(
            {"seed": asked.seed, "draws": DRAWS, "python": platform.python_version(), "worlds": results}
        )
    )


if __name__ == "__main__":
    main()
