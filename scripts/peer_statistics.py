"""What other programs say of agreement, true classes and scores: the numbers that our tests compare with.

choix 0.4.1, crowd-kit 1.4.2 and krippendorff 0.9.0 (which is GPL, and so never a dependency) are installed in
an environment of their own, run on generated data (seed 20261125), and their answers written as JSON:

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install numpy scipy pandas attrs pyarrow scikit-learn tqdm nltk choix==0.4.1 \
        krippendorff==0.9.0
    /tmp/peers/bin/pip install --no-deps crowd-kit==1.4.2
    /tmp/peers/bin/python scripts/peer_statistics.py > tests/unit/data/peer_statistics.json

crowd-kit's Bradley-Terry takes its tolerance as 0 here: with any other it stops at its second step, because
it compares its scores with themselves.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import choix
import krippendorff
import numpy as np
import pandas as pd
from crowdkit.aggregation import BradleyTerry, DawidSkene
from sklearn.metrics import cohen_kappa_score

SEED = 20261125


def agreement(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Alpha at four levels of a table with gaps, and kappa of its first two rows."""
    out = []
    for annotators, units, values, gaps in ((2, 30, 2, 0.0), (3, 40, 4, 0.3), (6, 60, 5, 0.6)):
        truth = rng.integers(values, size=units)
        table = np.where(
            rng.random((annotators, units)) < 0.6, truth, rng.integers(values, size=(annotators, units))
        )
        seen = rng.random((annotators, units)) >= gaps
        data = np.where(seen, table + 1.0, np.nan)
        both = seen[0] & seen[1]
        out.append(
            {
                "labels": [
                    [int(unit), int(who), int(table[who, unit]) + 1] for who, unit in np.argwhere(seen)
                ],
                "alpha": {
                    level: float(krippendorff.alpha(data, level_of_measurement=level))
                    for level in ("nominal", "ordinal", "interval", "ratio")
                },
                "first": (table[0, both] + 1).tolist(),
                "second": (table[1, both] + 1).tolist(),
                "kappa": float(cohen_kappa_score(table[0, both], table[1, both])),
            }
        )
    return out


def classes(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Dawid and Skene's posteriors, priors and confusions; the last annotator of each is a random clicker."""
    out = []
    for annotators, units, values, gaps in ((4, 60, 2, 0.0), (6, 80, 3, 0.3)):
        truth = rng.integers(values, size=units)
        skill = np.append(rng.uniform(0.6, 0.95, size=annotators - 1), 1 / values)
        right = rng.random((annotators, units)) < skill[:, None]
        wrong = (truth + rng.integers(1, values, size=(annotators, units))) % values
        said = np.where(right, truth, wrong)
        seen = rng.random((annotators, units)) >= gaps
        labels = [[int(unit), int(who), int(said[who, unit])] for who, unit in np.argwhere(seen)]
        frame = pd.DataFrame(labels, columns=["task", "worker", "label"])
        fitted = DawidSkene(n_iter=3000, tol=-1.0).fit(frame)
        errors = fitted.errors_
        out.append(
            {
                "labels": labels,
                "posterior": {
                    str(unit): {str(c): float(p) for c, p in row.items()}
                    for unit, row in fitted.probas_.iterrows()
                },
                "prior": {str(c): float(p) for c, p in fitted.priors_.items()},
                "confusion": [
                    [int(worker), int(label), int(true), float(errors.loc[(worker, label), true])]
                    for worker, label in errors.index
                    for true in errors.columns
                ],
                "bad": annotators - 1,
            }
        )
    return out


def scores(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Bradley-Terry scores by two programs."""
    out = []
    for items, comparisons in ((5, 120), (12, 600)):
        score = rng.normal(size=items)
        pairs = np.array([rng.choice(items, 2, replace=False) for _ in range(comparisons)])
        wins = rng.random(comparisons) < 1 / (1 + np.exp(score[pairs[:, 1]] - score[pairs[:, 0]]))
        data = [
            (int(a), int(b)) if won else (int(b), int(a)) for (a, b), won in zip(pairs, wins, strict=True)
        ]
        frame = pd.DataFrame([(a, b, a) for a, b in data], columns=["left", "right", "label"])
        strength = BradleyTerry(n_iter=20_000, tol=0.0).fit(frame).scores_
        out.append(
            {
                "wins": data,
                "choix": choix.opt_pairwise(items, data, alpha=0.0, method="BFGS", tol=1e-10).tolist(),
                "choix_ilsr": choix.ilsr_pairwise(items, data, alpha=0.0, max_iter=1000).tolist(),
                "choix_ridge_0.1": choix.opt_pairwise(
                    items, data, alpha=0.1, method="Newton-CG", tol=1e-12
                ).tolist(),
                "crowd_kit_strength": [float(strength[i]) for i in range(items)],
            }
        )
    return out


def main() -> None:
    rng = np.random.default_rng(SEED)
    report = {
        "made_by": "scripts/peer_statistics.py",
        "versions": {
            name: version(name) for name in ("choix", "crowd-kit", "krippendorff", "scikit-learn", "numpy")
        },
        "agreement": agreement(rng),
        "classes": classes(rng),
        "scores": scores(rng),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
