"""Does the model of annotators find what was planted? Simulated annotators, a stand-in for people: JSON.

    .venv/bin/python benchmarks/annotators.py --seeds 20

Ten annotators with 200 labels each, so 2,000 labels. Answers have scores N(0, ½), four to a prompt, two pairs
of them a prompt; each pair is labelled by `overlap` different annotators, sides by a coin. Three crews:

- `mixed`: an inverted one, a random clicker, and eight from dull to sharp (inverse temperatures in logits per
  standard deviation of the difference of two answers); some lean to a side;
- `alike`: as accord's simulated annotators come by default, log-normal with a spread of 0.3;
- `spread`: log-normal with a spread of 0.7.

Beside the model stands the joint maximum over all scores and annotators, which it replaces: same priors,
L-BFGS, standard errors from the Hessian.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from accord.annotators import Annotators, fit_labels
from accord.annotators_labels import Labels
from accord.annotators_posterior import PRIOR_DEVIATION, PRIOR_MEAN, SIDE_DEVIATION

LABELS_EACH, ANSWERS, Z95 = 200, 4, 1.959964
MIXED = np.array([-1.4, 0.0, 0.4, 0.7, 1.0, 1.4, 1.9, 2.4, 3.1, 4.2])
SIDES = np.array([0.0, 0.5, -0.5, 0.0, 0.0, 0.8, 0.0, 0.0, -0.3, 0.0])
CREWS = ("mixed", "alike", "spread")


def crew(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(inverse temperature, side) of ten annotators."""
    if name == "mixed":
        return MIXED, SIDES
    spread = {"alike": 0.3, "spread": 0.7}[name]
    return 1.4 * np.exp(spread * rng.normal(size=10)), np.zeros(10)


def deal(pairs: int, overlap: int, rng: np.random.Generator) -> np.ndarray:
    """Who labels what, [pairs × overlap], dealt in rounds: all have equally many, none a pair twice."""
    dealt: list[int] = []
    while len(dealt) < pairs * overlap:
        begun = len(dealt) % overlap
        hand = rng.permutation(10)
        if not begun or not set(dealt[-begun:]) & set(hand[: overlap - begun].tolist()):
            dealt += hand.tolist()
    return np.array(dealt[: pairs * overlap])


Simulation = tuple[Labels, np.ndarray, np.ndarray, dict[str, np.ndarray]]


def simulate(name: str, overlap: int, seed: int) -> Simulation:
    """Labels, what was planted, and the pairs' answers (for the joint maximum)."""
    rng = np.random.default_rng([seed, overlap, CREWS.index(name)])
    beta_J, side_J = crew(name, rng)
    pairs = 10 * LABELS_EACH // overlap
    prompts = -(-pairs // 2)
    score = rng.normal(scale=np.sqrt(0.5), size=prompts * ANSWERS)
    order = np.argsort(rng.random((prompts, ANSWERS)), axis=1) + ANSWERS * np.arange(prompts)[:, None]
    a_P, b_P = order[:, ::2].reshape(-1)[:pairs], order[:, 1::2].reshape(-1)[:pairs]
    who_N = deal(pairs, overlap, rng)
    pair_N = np.repeat(np.arange(pairs), overlap)
    left_N = np.where(rng.random(len(pair_N)) < 0.5, 1.0, -1.0)
    logit_N = beta_J[who_N] * (score[a_P] - score[b_P])[pair_N] + side_J[who_N] * left_N
    verdict_N = (rng.random(len(pair_N)) < special.expit(logit_N)).astype(float)
    labels = Labels(pair_N, who_N, verdict_N, left_N, tuple(map(str, range(10))))
    return labels, beta_J, side_J, {"a_P": a_P, "b_P": b_P}


def joint(labels: Labels, a_P: np.ndarray, b_P: np.ndarray) -> Annotators:
    """The joint maximum over every answer's score and every annotator."""
    a_N, b_N, who_N = a_P[labels.pair_N], b_P[labels.pair_N], labels.annotator_N
    items, J = int(max(a_P.max(), b_P.max())) + 1, len(labels.names)
    center = np.concatenate([np.zeros(items), np.full(J, PRIOR_MEAN), np.zeros(J)])
    weight = np.concatenate(
        [np.full(items, 2.0), np.full(J, PRIOR_DEVIATION**-2), np.full(J, SIDE_DEVIATION**-2)]
    )

    def parts(x: np.ndarray) -> tuple[np.ndarray, ...]:
        beta_N, side_N = x[items + who_N], x[items + J + who_N]
        gap_N = x[a_N] - x[b_N]
        return beta_N, gap_N, beta_N * gap_N + side_N * labels.left_N

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        beta_N, gap_N, logit_N = parts(x)
        pull_N = special.expit(logit_N) - labels.verdict_N
        slope = weight * (x - center)
        for index, value in (
            (a_N, pull_N * beta_N),
            (b_N, -pull_N * beta_N),
            (items + who_N, pull_N * gap_N),
            (items + J + who_N, pull_N * labels.left_N),
        ):
            np.add.at(slope, index, value)
        value = np.logaddexp(0, logit_N).sum() - labels.verdict_N @ logit_N
        return float(value + 0.5 * (weight * (x - center) ** 2).sum()), slope

    start = np.concatenate([np.zeros(items), np.ones(J), np.zeros(J)])
    options = {"maxiter": 3000, "maxfun": 6000, "ftol": 1e-13, "gtol": 1e-6}
    x = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    beta_N, gap_N, logit_N = parts(x)
    share_N = special.expit(logit_N)
    pull_N, spread_N = share_N - labels.verdict_N, share_N * (1 - share_N)
    hessian = np.diag(weight)
    terms = [(a_N, beta_N), (b_N, -beta_N), (items + who_N, gap_N), (items + J + who_N, labels.left_N)]
    for one, slope_one in terms:
        for two, slope_two in terms:
            np.add.at(hessian, (one, two), spread_N * slope_one * slope_two)
    for item, sign in ((a_N, 1.0), (b_N, -1.0)):  # the logit is a product: its own second derivative
        np.add.at(hessian, (item, items + who_N), sign * pull_N)
        np.add.at(hessian, (items + who_N, item), sign * pull_N)
    error = np.sqrt(np.maximum(np.diag(np.linalg.inv(hessian))[items:], 1e-12))
    count_J = np.bincount(who_N, minlength=J)
    return Annotators(labels.names, count_J, x[items : items + J], error[:J], x[items + J :], error[J:], 0.0)


def row(name: str, overlap: int, method: str, seeds: int) -> dict[str, Any]:
    """One design: what was found over the seeds."""
    ranks, inside, side_inside, inverted, clicker, ratio = [], [], [], [], [], []
    for seed in range(seeds):
        labels, beta_J, side_J, answers = simulate(name, overlap, seed)
        fit = fit_labels(labels) if method == "marginal" else joint(labels, **answers)
        ranks.append(float(stats.spearmanr(fit.inverse_temperature_J, beta_J).statistic))
        inside += (np.abs(fit.inverse_temperature_J - beta_J) < Z95 * fit.error_J).tolist()
        side_inside += (np.abs(fit.side_J - side_J) < Z95 * fit.side_error_J).tolist()
        ratio.append(float(fit.inverse_temperature_J.mean() / beta_J.mean()))
        if name == "mixed":
            inverted.append(fit.reading("0") == "against the others")
            clicker.append(fit.reading("1") == "cannot be told from chance")
    out = {
        "crew": name,
        "overlap": overlap,
        "method": method,
        "rank_correlation": sorted(round(rank, 2) for rank in ranks),
        "rank_correlation_mean": round(float(np.mean(ranks)), 3),
        "beta_in_95%": round(float(np.mean(inside)), 3),
        "side_in_95%": round(float(np.mean(side_inside)), 3),
        "mean_found_over_planted": round(float(np.mean(ratio)), 2),
    }
    if name == "mixed":
        out |= {"inverted_flagged": sum(inverted), "clicker_flagged": sum(clicker)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--overlap", type=int, nargs="+", default=[2, 3, 5, 10])
    parser.add_argument("--crews", nargs="+", choices=CREWS, default=list(CREWS))
    parser.add_argument("--no-joint", action="store_true", help="leave out the joint maximum")
    options = parser.parse_args()
    for name in options.crews:
        for overlap in options.overlap:
            for method in ("marginal",) if options.no_joint else ("marginal", "joint"):
                sys.stdout.write(json.dumps(row(name, overlap, method, options.seeds)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
