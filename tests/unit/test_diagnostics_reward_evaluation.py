"""The evaluation of a reward model: figures by hand, planted faults that it must see, and every bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from accord.diagnostics.calibration import reward_metrics
from accord.diagnostics.reward_evaluation import ScoredPairs, evaluate, label_source, same_score
from accord.diagnostics.reward_slices import by_length, by_quarter
from accord.records import BadInput, Comparison
from tests.unit.comparisons import compared


def planted(count: int, seed: int = 0, annotator: str = "") -> tuple[list[Comparison], np.ndarray]:
    """Quality is hidden from the words; length is free; a Bradley–Terry judge; scores are quality."""
    rng, rows, scores = np.random.default_rng(seed), [], []
    for i in range(count):
        quality = rng.normal(0, 1.5, 2)
        texts = [
            " ".join(rng.choice(["ab", "cd", "ef", "gh"], rng.integers(2, 12))) + f" {i}{side}"
            for side in "xy"
        ]
        a_wins = rng.random() < 1 / (1 + np.exp(quality[1] - quality[0]))
        rows.append(compared(f"prompt {i // 2} {seed}", *texts, "a" if a_wins else "b", annotator))
        scores.append(quality)
    return rows, np.array(scores)


def run(rows, scores, training=(), **options):
    return evaluate(
        ScoredPairs(rows, np.asarray(scores, dtype=np.float64)), training, **({"samples": 300} | options)
    )


def test_a_true_model_is_accurate_calibrated_and_free_of_length() -> None:
    rows, scores = planted(600)
    card = run(rows, scores)
    margin = np.array(
        [s[0] - s[1] if r.verdict == "a" else s[1] - s[0] for r, s in zip(rows, scores, strict=True)]
    )
    plain = reward_metrics(margin, [row.prompt.key for row in rows], 300)
    assert card["accuracy"] == {"figure": plain["accuracy"], "interval": plain["accuracy_interval"]}
    assert card["accuracy"]["figure"] == np.mean(margin > 0)
    assert card["calibration"]["brier"] == pytest.approx(plain["brier"])
    assert card["calibration"]["temperature"] == pytest.approx(1, abs=0.25)
    assert card["calibration"]["ece"] < 0.06
    assert abs(card["length"]["partial"]) < 0.1
    assert all(row["gain_interval"][0] > 0.1 for row in card["floors"].values())
    assert (card["data"]["pairs"], card["data"]["prompts"]) == (600, 300)
    json.dumps(card, allow_nan=False)


def test_a_model_that_scores_length_gains_nothing_over_length() -> None:
    rows = [compared(f"p{i}", "x" * (i % 7 + 3), "y" * (i % 5 + 1), "a") for i in range(60)]
    scores = [[len(r.pair.a.text), len(r.pair.b.text)] for r in rows]
    card = run(rows, scores)
    assert card["floors"]["always_longer"]["gain"] == 0
    assert card["floors"]["length_rule"]["gain"] == 0
    assert card["length"]["partial"] == pytest.approx(1)
    assert card["length"]["correlation"] == pytest.approx(1)


def test_accuracy_by_hand_with_ties_skips_and_equal_scores() -> None:
    rows = [
        compared("p", "x", "y", "a"),  # right
        compared("q", "x", "y", "b"),  # wrong
        compared("r", "x", "y", "a"),  # equal scores: half
        compared("s", "x", "y", "tie"),  # |2 − 5| = 3
        compared("t", "x", "y", "tie"),  # |1 − 2| = 1
        compared("u", "x", "y", "skip"),
        compared("v", "x", "y", "both_bad"),
    ]
    card = run(rows, [[2, 1], [4, 1], [3, 3], [2, 5], [1, 2], [0, 0], [9, 9]])
    assert card["accuracy"]["figure"] == 0.5
    assert card["data"] | {"label_source": ""} == {
        "comparisons": 7,
        "decided": 3,
        "ties": 2,
        "not_judged": 2,
        "unscorable": 0,
        "pairs": 3,
        "prompts": 3,
        "contradicted": 0,
        "best_reachable": 1.0,
        "prompts_in_training": 0,
        "label_source": "",
    }
    assert card["ties"] == {"count": 2, "mean_gap": 2.0}
    assert card["decided_mean_gap"] == pytest.approx(4 / 3)  # 1, 3 and 0


def test_slices_add_up_to_the_whole() -> None:
    rows, scores = planted(200)
    rows = [
        Comparison(r.pair, r.verdict, r.annotator, strength=float(i % 3), source=f"file {i % 2}")
        for i, r in enumerate(rows)
    ]
    card = run(rows, scores)
    assert set(card["slices"]) == {"margin", "length", "source", "strength"}
    for found in card["slices"].values():
        assert sum(row["pairs"] for row in found) == 200
        mean = sum(row["pairs"] * row["accuracy"] for row in found) / 200
        assert mean == pytest.approx(card["accuracy"]["figure"])
        longer = sum(row["pairs"] * row["floors"]["always_longer"] for row in found) / 200
        assert longer == pytest.approx(card["floors"]["always_longer"]["accuracy"])
    margins = [row["accuracy"] for row in card["slices"]["margin"]]
    assert margins[0] < margins[-1]  # a calibrated model is right more often where it is surer


def test_slice_names_by_hand() -> None:
    assert by_quarter(np.array([1.0, 2.0, 3.0, 4.0])) == [
        "smallest quarter",
        "second quarter",
        "third quarter",
        "largest quarter",
    ]
    assert set(by_quarter(np.ones(5))) == {"smallest quarter"}
    texts = [
        ("x" * 5, "y" * 10),
        ("x" * 8, "y" * 10),
        ("x" * 95, "y" * 100),
        ("x" * 10, "y" * 8),
        ("x" * 9, "y"),
    ]
    names = by_length([compared("p", a, b, "a") for a, b in texts])
    assert names == [
        "chosen at most half as long",
        "chosen shorter",
        "about the same length",
        "chosen longer",
        "chosen at least twice as long",
    ]


def test_pairs_that_annotators_agree_on_are_a_slice_and_agreement_is_the_ceiling() -> None:
    rows = []
    for i in range(40):
        for name in ("ann", "bob", "cat"):
            disagrees = name == "cat" and i % 2
            rows.append(compared(f"p{i}", f"x{i}", f"y{i}", "b" if disagrees else "a", name))
    card = run(rows, [[1.0, 0.0]] * 120)
    by_name = {row["slice"]: row for row in card["slices"]["agreement"]}
    assert by_name["all annotators agree"]["accuracy"] == 1
    assert by_name["two thirds or more agree"]["accuracy"] == pytest.approx(2 / 3)
    assert card["ceiling"]["agreement"] == pytest.approx((1 + 1 / 3) / 2)
    # α: y 20 of 120; disagreement 20 · 2·2/2 = 40 against (120² − 100² − 20²) / 119
    assert card["ceiling"]["krippendorff_alpha"] == pytest.approx(1 - 40 / (4000 / 119))
    # the scores say a each time, as the majority does: nobody could have done better
    assert (
        card["accuracy"]["figure"]
        == pytest.approx(card["data"]["best_reachable"])
        == pytest.approx(100 / 120)
    )
    assert card["data"]["contradicted"] == 20


def test_training_prompts_among_the_test_prompts_are_counted() -> None:
    rows, scores = planted(20)
    assert run(rows, scores, training=rows[:6])["data"]["prompts_in_training"] == 3


# Bad input: each has one outcome


def test_all_ties_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(BadInput, match=r"none of 2 comparisons names a winner \(1 ties, 1 not judged\)"):
        run([compared("p", "x", "y", "tie"), compared("p", "x", "y", "skip")], [[1, 2], [1, 2]])
    with pytest.raises(BadInput, match="there is no comparison"):
        run([], np.zeros((0, 2)))
    with pytest.raises(BadInput, match=r"scores of shape \(1, 2\)"):
        run([compared("p", "x", "y")] * 2, [[1, 2]])


def test_nan_scores_are_counted_and_left_out_and_refused_where_nothing_is_left() -> None:
    rows, scores = planted(30)
    scores[3, 0], scores[5, 1] = np.nan, np.inf
    card = run(rows, scores)
    assert (card["data"]["unscorable"], card["data"]["pairs"]) == (2, 28)
    json.dumps(card, allow_nan=False)
    with pytest.raises(BadInput, match="all 30 decided pairs have a score that is NaN or infinite"):
        run(rows, np.full((30, 2), np.nan))


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_constant_scores_are_right_half_of_the_time(noise: float) -> None:
    rows, scores = planted(30)
    rng = np.random.default_rng(0)
    card = run(rows, 5 + noise * rng.normal(size=scores.shape))
    assert card["scores"]["constant"]
    assert card["accuracy"]["figure"] == 0.5
    assert card["calibration"]["brier"] == 0.25
    assert card["calibration"]["temperature"] is None
    assert card["calibration"]["ece"] is None
    assert card["length"]["partial"] is None
    json.dumps(card, allow_nan=False)


def test_ten_pairs_one_annotator_and_one_prompt_have_figures() -> None:
    rows, scores = planted(10, annotator="ann")
    card = run(rows, scores)
    assert card["accuracy"]["interval"] is not None
    assert card["ceiling"]["reason"].startswith("1 named annotator(s)")
    one = [compared("p", f"x{i}", f"y{i}") for i in range(4)]
    alone = run(one, [[1, 0]] * 4)
    assert alone["accuracy"] == {"figure": 1.0, "interval": None}
    json.dumps(alone, allow_nan=False)


def test_contradictory_pairs_bound_what_can_be_reached() -> None:
    rows = [compared(f"p{i // 2}", f"x{i // 2}", f"y{i // 2}", "ab"[i % 2]) for i in range(20)]
    card = run(rows, [[1.0, 0.0]] * 20)
    assert card["accuracy"]["figure"] == card["data"]["best_reachable"] == 0.5
    assert card["data"]["contradicted"] == 10


def test_simulated_annotators_are_never_called_people() -> None:
    one, two = compared("p", "x", "y", "a", "simulated:1"), compared("p", "x", "y", "a", "ann")
    assert label_source([one]) == "1 simulated annotator(s), a stand-in for people"
    assert label_source([one, two]) == "2 annotators, 1 of them simulated"
    assert label_source([two]) == "1 named annotator(s)"
    assert label_source([compared("p", "x", "y")]) == "annotators who are not named"


def test_what_counts_as_the_same_score() -> None:
    assert same_score(np.array([1e6, 1e6 + 0.1]))
    assert not same_score(np.array([0.0, 1e-3]))
