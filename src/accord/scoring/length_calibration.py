"""Take what length alone explains out of a scorer, after training (Huang et al. 2024, arXiv 2409.17407).

Scores of many answers are smoothed against their lengths; the curve is what an answer of that length scores
on average, and is taken off: score − curve(length). What is left has no trend in length, whether that trend
was a bias or longer answers really were better. That costs accuracy where people do prefer length, so `cost`
measures it, on pairs that the curve was not fitted on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from accord.diagnostics.calibration import correct
from accord.diagnostics.length_reliance import length_reliance
from accord.diagnostics.reward_evaluation import ScoredPairs
from accord.diagnostics.statistics import FloatArray, cluster_bootstrap, clustered_share, finite
from accord.records import BadInput, Prompt
from accord.scoring.base import Scorer
from accord.scoring.lowess import lowess

FILE = "length_curve.json"
Unit = Literal["characters", "tokens"]
LEAST_ANSWERS = 20


@dataclass(frozen=True)
class LengthCurve:
    """What answers of each length score on average, above the mean of all; straight between the knots.

    Attributes:
        length_K: lengths in ``unit``, ascending.
        bias_K: score at that length minus the mean over all answers, so that the mean score stays.
        answers: how many answers it was fitted on.
        fraction, iterations: as they were given to `lowess`.
        unit: of the lengths: characters of the text, or tokens (the end token counts).
    """

    length_K: tuple[float, ...]
    bias_K: tuple[float, ...]
    answers: int
    fraction: float
    iterations: int
    unit: Unit = "characters"

    def at(self, length_N: Any) -> FloatArray:
        """The bias at these lengths; beyond the lengths that were seen, that of the nearest one."""
        return np.asarray(np.interp(length_N, self.length_K, self.bias_K), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        return {"format": 1} | {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, value: Any) -> LengthCurve:
        """The inverse of `to_json`.

        Raises:
            BadInput: anything else.
        """
        try:
            if value["format"] != 1 or value["unit"] not in ("characters", "tokens"):
                raise ValueError("format or unit")
            curve = cls(
                tuple(map(float, value["length_K"])),
                tuple(map(float, value["bias_K"])),
                int(value["answers"]),
                float(value["fraction"]),
                int(value["iterations"]),
                value["unit"],
            )
            ascending = bool((np.diff(curve.length_K) > 0).all())
            if not curve.length_K or len(curve.length_K) != len(curve.bias_K) or not ascending:
                raise ValueError("knots")
            finite(curve.bias_K, "the curve")
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"this is no length curve of accord ({error}): fit it again") from None
        return curve

    def save(self, folder: Path) -> Path:
        """Writes length_curve.json beside a model's weights."""
        path = folder / FILE
        path.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> LengthCurve:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} cannot be read as a length curve ({error}): fit it again") from None
        return cls.from_json(value)


def fit_length_curve(
    texts: Sequence[str], score_N: Any, *, fraction: float = 2 / 3, iterations: int = 3
) -> LengthCurve:
    """The curve of scores against lengths in characters, over answers such as will be scored later.

    Raises:
        BadInput: fewer than 20 answers, scores that are not finite, one length throughout.
    """
    lengths = [len(text) for text in texts]
    return fit_curve(lengths, score_N, "characters", fraction=fraction, iterations=iterations)


def fit_curve(
    lengths: Sequence[int], score_N: Any, unit: Unit, *, fraction: float = 2 / 3, iterations: int = 3
) -> LengthCurve:
    """As `fit_length_curve`, from lengths in the given unit."""
    scores = finite(score_N, "scores")
    length_N = np.array(lengths, dtype=np.float64)
    if len(scores) != len(length_N) or len(scores) < LEAST_ANSWERS:
        raise BadInput(
            f"there are {len(scores)} scores of {len(length_N)} answers: a length curve needs {LEAST_ANSWERS}"
            " answers or more, with one score each"
        )
    if np.ptp(length_N) == 0:
        raise BadInput(f"all answers have {length_N[0]:.0f} {unit}: there is no length to calibrate for")
    knot_K, value_K = lowess(length_N, scores, fraction=fraction, iterations=iterations)
    mean = float(np.interp(length_N, knot_K, value_K).mean())
    bias_K = value_K - mean
    knots, biases = tuple(knot_K.tolist()), tuple(bias_K.tolist())
    return LengthCurve(knots, biases, len(scores), fraction, iterations, unit)


def _of_characters(curve: LengthCurve) -> LengthCurve:
    if curve.unit != "characters":
        raise BadInput(
            f"this length curve is of {curve.unit}, and texts have characters: the reward model that it was"
            " fitted with applies it by itself"
        )
    return curve


class LengthCalibratedScorer:
    """A scorer with the curve taken off: score − curve(characters of the response)."""

    def __init__(self, scorer: Scorer, curve: LengthCurve) -> None:
        self.scorer, self.curve = scorer, _of_characters(curve)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Sequence[float]:
        scores = np.asarray(self.scorer.score(prompts, responses), dtype=np.float64)
        found: list[float] = (scores - self.curve.at([len(text) for text in responses])).tolist()
        return found


def calibrated(pairs: ScoredPairs, curve: LengthCurve) -> ScoredPairs:
    """The same comparisons with the curve taken off their scores."""
    curve = _of_characters(curve)
    length_N2 = np.array([[len(row.pair.a.text), len(row.pair.b.text)] for row in pairs.comparisons])
    return ScoredPairs(pairs.comparisons, pairs.score_N2 - curve.at(length_N2.reshape(-1, 2)))


def cost(pairs: ScoredPairs, curve: LengthCurve, *, samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """What calibration costs and brings on held-out pairs: accuracy and partial correlation with length.

    Returns:
        ``before`` and ``after``: ``accuracy``, ``interval``, ``partial`` and ``partial_interval``;
        ``change``: accuracy after minus before on the same pairs, and its interval over prompts;
        ``correlation_left``: |partial| after over before, None where there was none before.

    Raises:
        BadInput: no decided pair with finite scores.
    """
    decided = [
        (row, scores)
        for row, scores in zip(pairs.comparisons, pairs.score_N2, strict=True)
        if row.chosen is not None and np.isfinite(scores).all()
    ]
    if not decided:
        raise BadInput("no comparison names a winner and has two finite scores: there is no accuracy to lose")
    rows = [row for row, _ in decided]
    plain = ScoredPairs(rows, np.array([scores for _, scores in decided]))
    prompts = [row.prompt.key for row in rows]
    sign_N = np.array([1.0 if row.verdict == "a" else -1.0 for row in rows])
    gap_N = sign_N * np.array([len(row.pair.a.text) - len(row.pair.b.text) for row in rows])
    sides, right = [], []
    for one in (plain, calibrated(plain, curve)):
        margin_N = sign_N * (one.score_N2[:, 0] - one.score_N2[:, 1])
        right.append(correct(margin_N))
        share = clustered_share(right[-1], prompts, samples, seed)
        reliance = length_reliance(margin_N, gap_N, prompts, samples, seed)
        kept = {name: reliance[name] for name in ("partial", "partial_interval")}
        sides.append({"accuracy": share.figure, "interval": share.bounds} | kept)
    change = cluster_bootstrap(right[1] - right[0], prompts, samples=samples, seed=seed)
    partial = [side["partial"] for side in sides]
    left = abs(partial[1]) / abs(partial[0]) if partial[0] and partial[1] is not None else None
    return {
        "before": sides[0],
        "after": sides[1],
        "change": {"figure": change.figure, "interval": change.bounds},
        "correlation_left": left,
        "pairs": len(rows),
    }
