"""Agreement, true classes and scores: by hand, and as choix, crowd-kit and krippendorff compute them."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.diagnostics.agreement import agreement, cohens_kappa, comparison_labels, krippendorff_alpha
from accord.diagnostics.bradley_terry import bradley_terry_scores
from accord.diagnostics.dawid_skene import dawid_skene
from accord.records import BadInput, Comparison, Pair, Prompt, Response, Verdict

# Made by scripts/peer_statistics.py, which says with which versions and how to make it again
PEERS = json.loads((Path(__file__).parent / "data" / "peer_statistics.json").read_text())


# --- kappa and alpha -------------------------------------------------------------------------------------


def test_kappa_by_hand() -> None:
    # yes/yes 20, yes/no 5, no/yes 10, no/no 15 of 50: p_o = .7, p_e = .5 × .6 + .5 × .4 = .5
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohens_kappa(first, second) == pytest.approx(0.4)
    assert cohens_kappa([1, 2], [2, 1]) == -1.0  # p_o = 0, p_e = .5
    assert math.isnan(cohens_kappa(["y"] * 3, ["y"] * 3))
    with pytest.raises(BadInput, match="got 1 and 2"):
        cohens_kappa([1], [1, 2])
    with pytest.raises(BadInput, match="got 0 and 0"):
        cohens_kappa([], [])


def test_alpha_by_hand() -> None:
    """Krippendorff 2011, part A: two observers, ten units, binary; alpha is .095."""
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    labels = [(unit, "A", value) for unit, value in enumerate(first)]
    labels += [(unit, "B", value) for unit, value in enumerate(second)]
    # observed: 4 units of 10 differ; coincidences o01 = 4, n0 = 14, n1 = 6: 1 − 19 × 4 / (14 × 6)
    assert krippendorff_alpha(labels) == pytest.approx(1 - 19 * 4 / 84)
    lonely = [*labels, ("alone", "A", 7)]  # one label is no pair
    assert krippendorff_alpha(lonely) == pytest.approx(1 - 19 * 4 / 84)
    changed = [(0, "A", 1), *labels]  # a later label of the same annotator replaces the first
    assert krippendorff_alpha(changed) == pytest.approx(1 - 19 * 4 / 84)
    assert math.isnan(krippendorff_alpha([(0, "A", 1), (0, "B", 1)]))
    assert math.isnan(krippendorff_alpha([(0, "A", 1), (1, "B", 2)]))
    with pytest.raises(BadInput, match="is no number"):
        krippendorff_alpha([(0, "A", "x")], "ordinal")
    with pytest.raises(BadInput, match="the level 'rank' is unknown"):
        krippendorff_alpha(labels, "rank")  # type: ignore[arg-type]


@pytest.mark.parametrize("case", PEERS["agreement"])
def test_kappa_and_alpha_as_the_peers(case: dict[str, Any]) -> None:
    assert cohens_kappa(case["first"], case["second"]) == pytest.approx(case["kappa"], abs=1e-6)
    labels = [tuple(label) for label in case["labels"]]
    for level, expected in case["alpha"].items():
        assert krippendorff_alpha(labels, level) == pytest.approx(expected, abs=1e-6), level


@given(
    data=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40
    ),
    level=st.sampled_from(["nominal", "ordinal", "interval", "ratio"]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_alpha_is_at_most_one_and_does_not_know_names(data: list[tuple[int, int, int]], level: Any) -> None:
    alpha = krippendorff_alpha(data, level)
    assert math.isnan(alpha) or alpha <= 1 + 1e-12
    last = list({(unit, who): (unit, who, value) for unit, who, value in data}.values())
    renamed = [(f"u{unit}", f"w{who}", value) for unit, who, value in reversed(last)]
    assert krippendorff_alpha(renamed, level) == pytest.approx(alpha, nan_ok=True)


# --- comparisons -----------------------------------------------------------------------------------------


def said(question: int, verdict: Verdict, who: str, *, turned: bool = False, **more: Any) -> Comparison:
    """Of answers "good" and "poor"; ``turned`` swaps a and b, and the verdict must then be given so too."""
    sides = [Response("good"), Response("poor")]
    if turned:
        sides.reverse()
    return Comparison(Pair(Prompt.from_text(f"q{question}"), *sides, **more), verdict, who)


def test_labels_name_the_answer_and_not_the_side() -> None:
    labels = comparison_labels(
        [
            said(1, "a", "ann"),
            said(1, "b", "bob", turned=True),
            said(1, "a", "cat", turned=True),
            said(1, "skip", "dan"),
            said(1, "a", ""),
            said(1, "both_bad", "eve"),
        ]
    )
    assert len({unit for unit, _, _ in labels}) == 1
    assert [(who, value) for _, who, value in labels] == [
        ("ann", "first"),
        ("bob", "first"),
        ("cat", "second"),
        ("eve", "both_bad"),
    ]


def test_agreement_by_hand() -> None:
    # ann and bob agree on 3 of 4 shared questions; question 5 only ann saw
    rows = [said(n, v, "ann") for n, v in enumerate("aabbb", 1)]
    rows += [said(n, v, "bob") for n, v in enumerate("aaba", 1)]
    found = agreement(rows)
    assert (found.units, found.shared) == (5, 4)
    assert found.same.figure == 0.75
    # p_o = 3/4; ann says a 2/4, bob 3/4: p_e = 3/8 + 1/8 = 1/2
    assert found.kappa == pytest.approx(0.5)
    # coincidences: n_a = 5, n_b = 3, o_ab = 1 (of 8 values): 1 − 7 × 2 / (2 × 15)
    assert found.alpha.figure == pytest.approx(1 - 7 * 2 / 30)
    assert [(one.annotator, one.labels, one.shared) for one in found.annotators] == [
        ("ann", 5, 4),
        ("bob", 4, 4),
    ]
    assert found.annotators[0].kappa.figure == pytest.approx(0.5)
    with pytest.raises(BadInput, match="names its annotator"):
        agreement([said(1, "a", "")])


def test_one_annotator_has_nobody_to_agree_with() -> None:
    found = agreement([said(1, "a", "ann"), said(2, "b", "ann")])
    assert (found.shared, found.alpha.bounds) == (0, None)
    assert math.isnan(found.kappa)
    assert found.annotators[0].reading == "cannot be told from chance"


def crowd(seed: int, questions: int = 150) -> list[Comparison]:
    """Four people who are right in 85%, a random clicker, one who says the opposite, one who clicks left.

    Which of the two texts is the better one differs from question to question: were it always the same, even
    perfect annotators could not show it (every kappa would be about 0).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(questions):
        good_is_better = bool(rng.integers(2))
        for who in ("p0", "p1", "p2", "p3", "random", "inverted", "lefty"):
            turned = bool(rng.integers(2))
            left = "ab"[int(rng.integers(2))]
            right = rng.random() < {"random": 0.5, "inverted": 0.15}.get(who, 0.85)
            says_good = good_is_better == right
            verdict = left if who == "lefty" else "a" if says_good != turned else "b"
            rows.append(said(question, verdict, who, turned=turned, shown_left=left))
    return rows


def test_planted_bad_annotators_are_found_in_every_seed() -> None:
    for seed in range(10):
        rows = crowd(seed)
        found = {one.annotator: one for one in agreement(rows, samples=500).annotators}
        assert found["inverted"].reading == "against the others"
        assert {found[name].reading for name in ("p0", "p1", "p2", "p3")} == {"agrees"}
        assert found["lefty"].left is not None
        assert found["lefty"].left.figure == 1.0
        assert found["lefty"].left.low > 0.9
        fitted = dawid_skene(comparison_labels(rows))
        accuracy = dict(zip(fitted.annotators, fitted.accuracy_J, strict=True))
        worst = sorted(accuracy, key=accuracy.__getitem__)
        assert worst[0] == "inverted"
        assert set(worst[1:3]) == {"random", "lefty"}


def test_a_random_clicker_is_called_so_in_most_seeds() -> None:
    """Kappa of a clicker is 0: its 95% interval may miss 0 in one seed of twenty, on either side."""
    readings = [
        next(
            one.reading for one in agreement(crowd(seed), samples=500).annotators if one.annotator == "random"
        )
        for seed in range(20)
    ]
    assert readings.count("cannot be told from chance") >= 16


# --- Dawid and Skene -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", PEERS["classes"])
def test_dawid_skene_as_crowd_kit(case: dict[str, Any]) -> None:
    fitted = dawid_skene([tuple(label) for label in case["labels"]], tolerance=1e-12, max_iterations=5000)
    assert fitted.converged
    for unit, row in zip(fitted.units, fitted.posterior_UC, strict=True):
        expected = [case["posterior"][str(unit)][str(c)] for c in fitted.classes]
        np.testing.assert_allclose(row, expected, atol=1e-6)
    np.testing.assert_allclose(fitted.prior_C, [case["prior"][str(c)] for c in fitted.classes], atol=1e-6)
    for worker, label, true, probability in case["confusion"]:
        j, k, c = fitted.annotators.index(worker), fitted.classes.index(label), fitted.classes.index(true)
        assert fitted.confusion_JCC[j, c, k] == pytest.approx(probability, abs=1e-6)
    assert fitted.annotators[int(fitted.accuracy_J.argmin())] == case["bad"]


def test_dawid_skene_by_hand() -> None:
    """Three annotators who agree on everything: no error; the likelihood is that of the prior alone."""
    labels = [(unit, who, "x" if unit < 3 else "y") for unit in range(4) for who in "abc"]
    fitted = dawid_skene(labels)
    np.testing.assert_allclose(fitted.posterior_UC, [[1, 0], [1, 0], [1, 0], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(fitted.prior_C, [0.75, 0.25])
    np.testing.assert_allclose(fitted.confusion_JCC, np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-9)
    np.testing.assert_allclose(fitted.accuracy_J, 1.0)
    assert fitted.log_likelihood == pytest.approx(3 * math.log(0.75) + math.log(0.25))
    assert fitted.truth() == {0: "x", 1: "x", 2: "x", 3: "y"}
    with pytest.raises(BadInput, match="at least 1"):
        dawid_skene([])
    assert not dawid_skene(crowd_labels(), max_iterations=1).converged


def crowd_labels() -> list[Any]:
    return comparison_labels(crowd(0, questions=20))


def test_each_step_of_em_raises_the_likelihood() -> None:
    steps = [dawid_skene(crowd_labels(), max_iterations=n).log_likelihood for n in range(12)]
    assert all(after >= before - 1e-9 for before, after in pairwise(steps))


# --- Bradley and Terry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", PEERS["scores"])
def test_bradley_terry_as_choix_and_crowd_kit(case: dict[str, Any]) -> None:
    wins = [(winner, loser) for winner, loser in case["wins"]]

    def centred(values: Any) -> Any:
        return np.asarray(values) - np.mean(values)

    score = bradley_terry_scores(wins).score()
    got = [score[item] for item in range(len(score))]
    np.testing.assert_allclose(got, centred(case["choix"]), atol=1e-6)
    np.testing.assert_allclose(got, centred(case["choix_ilsr"]), atol=1e-6)
    np.testing.assert_allclose(got, centred(np.log(case["crowd_kit_strength"])), atol=1e-6)
    penalised = bradley_terry_scores(wins, ridge=0.1).score()
    np.testing.assert_allclose(
        [penalised[item] for item in range(len(score))], centred(case["choix_ridge_0.1"]), atol=1e-6
    )


def test_bradley_terry_by_hand() -> None:
    # 3 wins of 4: the difference is log 3, its variance 1 / (4 × 3/4 × 1/4) = 4/3, a score's a quarter of it
    fitted = bradley_terry_scores([("x", "y")] * 3 + [("y", "x")])
    assert fitted.score()["x"] - fitted.score()["y"] == pytest.approx(math.log(3))
    np.testing.assert_allclose(fitted.score_I, [math.log(3) / 2, -math.log(3) / 2])
    np.testing.assert_allclose(fitted.error_I, [math.sqrt(1 / 3)] * 2)
    assert fitted.log_likelihood == pytest.approx(3 * math.log(0.75) + math.log(0.25))
    # one win and two ties: 2 of 3 for x
    assert bradley_terry_scores([("x", "y")], [("y", "x"), ("x", "y")]).score()["x"] == pytest.approx(
        math.log(2) / 2
    )


def test_bradley_terry_with_no_finite_answer() -> None:
    always = [("x", "y"), ("y", "z"), ("z", "y")]
    with pytest.raises(BadInput, match="2 groups without wins in both directions"):
        bradley_terry_scores(always)
    score = bradley_terry_scores(always, ridge=0.01).score()
    assert score["x"] > score["z"] > score["y"]  # z won and lost once, y lost once more
    # with the penalty r the optimum solves sigmoid(-d) = 2 r s; here s = d/2 for one win of two items
    pair = bradley_terry_scores([("x", "y")], ridge=0.01).score()
    assert 1 / (1 + math.exp(2 * pair["x"])) == pytest.approx(0.02 * pair["x"])
    for wins, reason in (([], "at least 1"), ([("x", "x")], "compared with itself")):
        with pytest.raises(BadInput, match=reason):
            bradley_terry_scores(wins)
    with pytest.raises(BadInput, match="ridge is -1"):
        bradley_terry_scores(always, ridge=-1)
