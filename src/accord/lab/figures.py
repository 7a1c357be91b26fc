"""Everything that the page shows, as plain JSON values and as rows for a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from accord.diagnostics.extrapolation import forecast
from accord.diagnostics.statistics import FloatArray, stream
from accord.lab.acceptance import LABELLED_RULE, labels_in_training, over_seeds, regrets, shipped
from accord.lab.policies import policy_at
from accord.lab.preferences import compare
from accord.lab.stopping import LABELLED
from accord.lab.study import Study, grid, variants
from accord.lab.trial import Recipe, Trial
from accord.lab.world import LENGTH_BINS, by_length
from accord.records import Finding

SCALE = 1000  # the page's figures are whole thousandths
DOTS = 300
CSV_COLUMNS = (
    *("table", "pairs", "noise", "misspecification", "members", "shared", "aggregation", "length_bias"),
    *("seed", "distance", "proxy", "gold", "length", "name", "value"),
)


def packed(values: FloatArray) -> list[Any]:
    """Whole thousandths: a third of the bytes, and more digits than a picture shows."""
    found: list[Any] = np.rint(np.asarray(values) * SCALE).astype(int).tolist()
    return found


def _curve(study: Study, recipe: Recipe) -> dict[str, Any]:
    curves = [one.curves[recipe] for one in study.seeds]
    return {
        "proxy": packed(np.mean([curve.proxy_P for curve in curves], axis=0)),
        "length": packed(np.mean([curve.length_P for curve in curves], axis=0)),
        "gold": [packed(curve.gold_P) for curve in curves],
    }


def grid_key(recipe: Recipe) -> str:
    return "|".join(f"{v:g}" for v in (recipe.pairs, recipe.noise, recipe.misspecification, recipe.members))


def variant_key(recipe: Recipe) -> str:
    shared = "taste" if recipe.length_bias else "pretraining" if recipe.shared else "labels"
    return f"{recipe.pairs}|{recipe.members}|{shared}|{recipe.aggregation}"


def typical(study: Study) -> int:
    """Place of the seed with the median fall at few pairs (the larger of two): it stands for all."""
    gold_PS = study.gold(Recipe(study.settings.few_pairs, study.settings.usual_noise))
    return int(np.argsort(gold_PS.max(axis=0) - gold_PS[-1])[gold_PS.shape[1] // 2])


def answers_of(policy_R: FloatArray, proxy_R: FloatArray, count: int = DOTS) -> FloatArray:
    """Row numbers of ``count`` answers that stand for a policy, equally spaced in its distribution.

    The same quantile at the next pressure is the same dot, so dots move and do not jump about.
    """
    order_R = np.argsort(proxy_R)
    edge_R = np.cumsum(policy_R[order_R])
    quantile_N = (np.arange(count) + 0.5) / count * edge_R[-1]
    rows: FloatArray = order_R[np.minimum(np.searchsorted(edge_R, quantile_N), len(order_R) - 1)]
    return rows


def _clouds(study: Study) -> dict[str, Any]:
    """Dots of the typical seed: the start's answers as reward models see them, and pushed policies'."""
    settings, world = study.settings, study.world
    trial = Trial(world, settings.reward, study.seeds[typical(study)].seed)
    shown = stream(settings.world.seed, "lab dots").choice(len(world.gold_R), DOTS, replace=False)
    learn: dict[str, Any] = {"gold": packed(world.gold_R[shown])}
    push: dict[str, Any] = {}
    for pairs in settings.pairs:
        for noise in settings.noise:
            proxy_R = trial.scores(Recipe(pairs, noise))[0]
            proxy_R = proxy_R / proxy_R.std()
            learn[f"{pairs:g}|{noise:g}"] = packed(proxy_R[shown])
            if noise == settings.usual_noise:
                rows_P = [answers_of(policy_at(proxy_R, d)[0], proxy_R) for d in settings.distance_P]
                push[str(pairs)] = {
                    "x": [packed(proxy_R[rows]) for rows in rows_P],
                    "y": [packed(world.gold_R[rows]) for rows in rows_P],
                }
    truth = {
        "length": packed(world.length_R[shown]),
        "gold": packed(world.gold_R[shown]),
        "bins": ((LENGTH_BINS[1:] + LENGTH_BINS[:-1]) / 2).round(3).tolist(),
        "truth": by_length(world, world.gold_R).round(3).tolist(),
    }
    return {"world": truth, "learn": learn, "push": push}


def _span(values: Any, low: float = 0.0) -> list[float]:
    """An axis that holds all values and ``low``, with a margin."""
    bottom, top = min(low, float(np.min(values))), float(np.max(values))
    margin = 0.06 * (top - bottom)
    return [round(bottom - margin, 3), round(top + margin, 3)]


def _forecasts(study: Study) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for pairs in study.settings.pairs:
        recipe = Recipe(pairs, study.settings.usual_noise)
        made = [forecast(c.distance_P, c.gold_P) for c in (one.curves[recipe] for one in study.seeds)]
        out[str(pairs)] = [
            {
                "form": f.form,
                "seen": f.seen,
                "predicted": packed(f.predicted_P),
                **{
                    name: round(getattr(f, name), 4)
                    for name in ("form_error", "constant_error", "line_error")
                },
            }
            for f in made
        ]
    return out


def _rounds(study: Study) -> dict[str, Any]:
    first = study.seeds[0].rounds[True]
    arms: dict[str, Any] = {"labels": [r.labels for r in first]}
    for name, fresh in (("fresh", True), ("control", False)):
        arms[name] = [
            {
                q: packed(np.array([getattr(r, q) for r in one.rounds[fresh]]))
                for q in ("on_policy", "on_start", "gold")
            }
            for one in study.seeds
        ]
    return arms


def _ranges(study: Study, clouds: dict[str, Any]) -> dict[str, list[float]]:
    """Axes that hold still while a slider moves."""
    recipes = grid(study.settings)
    blind = [r for r in recipes if r.misspecification == 1 and r.noise == study.settings.usual_noise]
    usual = [r for r in recipes if r.noise == study.settings.usual_noise]

    gold = [study.gold(r) for r in usual]
    variant = [study.gold(r) for r in variants(study.settings)] + [
        study.gold(r) for r in blind if r.members == 1
    ]
    rounds = [r for one in study.seeds for arm in one.rounds.values() for r in arm]
    beliefs = [b for one in study.seeds for b in one.beliefs.values()]
    dots = [np.array([cloud[axis] for cloud in clouds["push"].values()]) / SCALE for axis in ("x", "y")]
    return {
        "cloud_proxy": _span(dots[0]),
        "cloud_gold": _span(dots[1]),
        "learn": _span([np.array(v) / SCALE for key, v in clouds["learn"].items() if key != "gold"]),
        "one_blind": _span([study.gold(r) for r in blind if r.members == 1]),
        "gold": _span([g.mean(axis=1) for g in gold]),
        "seeds": _span([study.gold(r) for r in recipes]),
        "ensemble": _span([g.mean(axis=1) for g in variant]),
        "ensemble_seeds": _span(variant),
        "belief": _span([*beliefs, by_length(study.world, study.world.gold_R)]),
        "accuracy": _span([r.on_policy for r in rounds], low=0.5),
        "round_gold": _span([r.gold for r in rounds]),
    }


def label_accuracy(study: Study, noise: float) -> float:
    """How often annotators prefer the better of two answers of the start, from 100,000 comparisons."""
    pairs = compare(study.world.gold_R, 100_000, noise, stream(study.settings.world.seed, "lab annotators"))
    better_N = study.world.gold_R[pairs.a_N] > study.world.gold_R[pairs.b_N]
    return float(np.mean(better_N == pairs.a_wins_N))


def page_figures(study: Study) -> dict[str, Any]:
    """What the page's script reads."""
    settings = study.settings
    clouds = _clouds(study)
    regret = regrets(study)
    instead = over_seeds(labels_in_training(study) - shipped(study, LABELLED_RULE))
    rules = [rule for rule in regret if rule != "oracle"]
    return {
        "scale": SCALE,
        "responses": len(study.world.gold_R),
        "seeds": [one.seed for one in study.seeds],
        "typical_seed": study.seeds[typical(study)].seed,
        "t_quantile": float(stats.t.ppf(0.975, len(study.seeds) - 1)),
        "levels": {
            "pairs": list(settings.pairs),
            "noise": list(settings.noise),
            "misspecification": list(settings.misspecification),
            "members": list(settings.members),
            "distance": settings.distance_P.round(6).tolist(),
        },
        "usual": {"pairs": settings.few_pairs, "noise": settings.usual_noise},
        "label_accuracy": {f"{noise:g}": label_accuracy(study, noise) for noise in settings.noise},
        "ranges": _ranges(study, clouds),
        "grid": {grid_key(recipe): _curve(study, recipe) for recipe in grid(settings)},
        "variants": {variant_key(recipe): _curve(study, recipe) for recipe in variants(settings)},
        "accuracies": {
            f"{r.pairs:g}|{r.noise:g}": [one.accuracies[r] for one in study.seeds]
            for r in study.seeds[0].accuracies
        },
        "beliefs": {
            f"{r.pairs:g}|{r.misspecification:g}": [packed(one.beliefs[r]) for one in study.seeds]
            for r in study.seeds[0].beliefs
        },
        "rounds": _rounds(study),
        "forecasts": _forecasts(study),
        "stops": {
            "rules": rules,
            "regret": {rule: packed(regret[rule]) for rule in rules},
            "equal_labels": (
                f"Nothing is free: the {LABELLED * settings.checkpoint_labels} labels of the {LABELLED_RULE},"
                f" spent on training the reward model instead, and then a fixed KL, give {instead.show()}"
                " more gold."
            ),
        },
        **clouds,
    }


def as_csv(study: Study, findings: list[Finding]) -> str:
    """One table: a row a curve point, then a row a figure. The first column says of what."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    table.writerows(_csv_rows(study, findings))
    return text.getvalue()


def _csv_rows(study: Study, findings: list[Finding]) -> Iterator[list[Any]]:
    for one in study.seeds:
        for recipe, curve in one.curves.items():
            for values in zip(curve.distance_P, curve.proxy_P, curve.gold_P, curve.length_P, strict=True):
                yield ["curve", *_made(recipe), one.seed, *(f"{value:.4f}" for value in values), "", ""]
        for recipe, value in one.accuracies.items():
            yield ["accuracy", *_made(recipe), one.seed, *[""] * 4, "on the start's answers", f"{value:.5f}"]
        for recipe, belief_L in one.beliefs.items():
            for low, value in zip(LENGTH_BINS, belief_L, strict=False):
                yield [
                    "belief",
                    *_made(recipe),
                    one.seed,
                    *[""] * 4,
                    f"mean proxy, length from {low:.1f}",
                    f"{value:.4f}",
                ]
        for recipe, places in one.stops.items():
            for rule, place in places.items():
                point = one.curves[recipe]
                at = (
                    point.distance_P[place],
                    point.proxy_P[place],
                    point.gold_P[place],
                    point.length_P[place],
                )
                yield ["stop", *_made(recipe), one.seed, *(f"{value:.4f}" for value in at), rule, ""]
        for fresh, rounds in one.rounds.items():
            for r in rounds:
                made = _made(Recipe(r.labels, study.settings.usual_noise))
                for name in ("on_policy", "on_start", "gold"):
                    arm = f"{name}, {'fresh labels' if fresh else 'control'}"
                    yield ["round", *made, one.seed, *[""] * 4, arm, f"{getattr(r, name):.5f}"]
    for finding in findings:
        yield ["claim", *[""] * 12, finding.name, f"{finding.figure:.5f}"]


def _made(recipe: Recipe) -> list[Any]:
    """The columns that say how a reward model was made."""
    first = [recipe.pairs, recipe.noise, recipe.misspecification, recipe.members, int(recipe.shared)]
    return [*first, recipe.aggregation, recipe.length_bias]
