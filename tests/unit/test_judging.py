"""Simulated annotators say what the formula says, and nobody else can read what they want."""

from __future__ import annotations

import ast
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accord
from accord.config import FileJudge, Simulated, validate
from accord.judging import Judge, SimulatedAnnotators, judge_from
from accord.judging.gold import GOLDS, phrases, positivity, rambling, repetition, utility
from accord.records import BadInput, Pair, Prompt, Response, Side
from accord.store import LabelStore

GREAT = 3.1 / math.sqrt(3.1**2 + 15)  # VADER: valence 3.1 in its lexicon, normalised by sqrt(x² + 15): 0.6249


def pair(number: int, a: str, b: str, left: Side = "a", round_: int = 0) -> Pair:
    return Pair(Prompt.from_text(f"question {number}"), Response(a), Response(b), left, round_)


def pairs_of(a: str, b: str, count: int, left: Side = "a") -> list[Pair]:
    return [pair(n, a, b, left) for n in range(count)]


def words(count: int) -> str:
    """Neutral to VADER, and no 3-gram twice."""
    return " ".join(f"w{n}" for n in range(count))


def shares(annotators: SimulatedAnnotators, pairs: list[Pair]) -> dict[str, float]:
    counts = Counter(c.verdict for c in annotators.judgements(pairs))
    return {verdict: count / len(pairs) for verdict, count in counts.items()}


def assert_frequencies(found: dict[str, float], expected: dict[str, float], count: int) -> None:
    assert set(found) <= {"a", "b", "tie"}  # both_bad and skip are never simulated
    for verdict, p in expected.items():
        assert abs(found.get(verdict, 0.0) - p) < 3 * math.sqrt(p * (1 - p) / count) + 1e-12, verdict


# Gold


def test_positivity_is_vaders_compound() -> None:
    np.testing.assert_allclose(positivity(["great", "the table", ""]), [GREAT, 0, 0], atol=5e-5)


def test_rambling_by_hand() -> None:
    # (10/20)^1.25 = 2^-1.25; (18/20)^1.25 = exp(1.25 ln 0.9) = exp(-0.1317006)
    texts = [words(20), words(30), words(38), words(40)]
    np.testing.assert_allclose(rambling(texts), [0, 0.4204482, 0.8766034, 1], atol=1e-6)


def test_repetition_by_hand() -> None:
    # "go on go", "on go on", "go on go", "on go on": 2 of 4 occurred before; capital letters do not matter
    np.testing.assert_allclose(repetition(["go on Go on go on", "a b c", "a b", ""]), [0.5, 0, 0, 0])


def test_positivity_brief_is_the_difference() -> None:
    text = "great " * 25
    charge = (5 / 20) ** 1.25 + 22 / 23  # 23 three-grams, one kind
    np.testing.assert_allclose(utility("positivity_brief", [text]), positivity([text]) - charge)


def test_an_unknown_gold_is_refused() -> None:
    with pytest.raises(BadInput, match="'wisdom': choose one of positivity, positivity_brief"):
        utility("wisdom", ["x"])
    assert set(GOLDS) == {"positivity", "positivity_brief", "positivity_sincere"}


def test_stock_phrases_cost_one_unit_each() -> None:
    text = "As every expert agrees, as the studies have shown, as every EXPERT agrees"
    np.testing.assert_allclose(phrases([text, "an expert"], ["as every expert agrees"]), [2, 0])
    # 13 words are free of charge; of 11 three-grams "as every expert" comes again, and no other: "agrees,"
    # has a comma the first time
    charge = 3 + 1 / 11
    np.testing.assert_allclose(utility("positivity_sincere", [text]), positivity([text]) - charge)


def test_length_biased_annotators_are_truly_misspecified() -> None:
    """Where replies of up to 48 tokens end up, perceived utility rises with every word while gold falls."""
    gold = utility("positivity_brief", [words(n) for n in range(5, 41)])
    assert (gold[:16] == 0).all()
    assert (np.diff(gold[15:]) < 0).all()
    assert (np.diff(gold[15:], 2) < 0).all()  # concave: each further word costs more
    perceived = gold + 0.65 * np.arange(5, 41) / 10
    assert (np.diff(perceived) > 0).all()
    # u = 0.65 * 3.8 - 0.8766 against 0.65 * 1.2: 0.8134 more for the long answer, that is 3.25 noise units
    biased = SimulatedAnnotators(
        Simulated(gold="positivity_brief", length_bias=0.65, reliability_spread=0), 0
    )
    long_first = pair(0, words(38), words(12))
    assert biased.probabilities([long_first], 0)[0, 0] == pytest.approx(
        1 / (1 + math.exp(-(0.8134 - 0.05) * 4)), abs=1e-4
    )
    fair = SimulatedAnnotators(Simulated(gold="positivity_brief", reliability_spread=0), 0)
    assert fair.probabilities([long_first], 0)[0, 1] > 0.95


# Simulated annotators


@pytest.mark.parametrize(
    ("texts", "settings", "expected"),
    [
        # difference .6249, margin .05, noise .25: σ(2.2996), σ(−2.6996), and the rest
        (("great", "the table"), {}, {"a": 0.90886, "b": 0.06301, "tie": 0.02813}),
        (("the table", "great"), {}, {"a": 0.06301, "b": 0.90886, "tie": 0.02813}),
        # no difference, margin = noise: σ(−1) each
        (("the chair", "the table"), {"tie_margin": 0.25}, {"a": 0.26894, "b": 0.26894, "tie": 0.46212}),
        # plain Bradley–Terry: 10 words more × .25 / .25 → σ(1); no ties at all
        (
            (words(15), words(5)),
            {"length_bias": 0.25, "tie_margin": 0},
            {"a": 0.73106, "b": 0.26894, "tie": 0},
        ),
        (
            (words(5), words(15)),
            {"length_bias": -0.25, "tie_margin": 0},
            {"a": 0.73106, "b": 0.26894, "tie": 0},
        ),
        # a is on the left
        (
            ("the chair", "the table"),
            {"side_bias": 0.25, "tie_margin": 0},
            {"a": 0.73106, "b": 0.26894, "tie": 0},
        ),
        (
            ("the chair", "the table"),
            {"side_bias": -0.5, "tie_margin": 0},
            {"a": 0.11920, "b": 0.88080, "tie": 0},
        ),
        # each occurrence counts: 2 × .125 / .25 → σ(1)
        (
            ("the lamp, The Lamp", "the table"),
            {"phrases": ("the lamp",), "phrase_bias": 0.125, "tie_margin": 0},
            {"a": 0.73106, "b": 0.26894, "tie": 0},
        ),
    ],
)
def test_verdicts_follow_bradley_terry_with_rao_kupper_ties(
    texts: tuple[str, str], settings: dict[str, Any], expected: dict[str, float]
) -> None:
    annotators = SimulatedAnnotators(Simulated(reliability_spread=0, **settings), seed=11)
    pairs = pairs_of(*texts, 4000)
    found = annotators.probabilities(pairs[:1], 0)[0]
    np.testing.assert_allclose(found, [expected["a"], expected["b"], expected["tie"]], atol=1e-4)
    assert_frequencies(shares(annotators, pairs), expected, 4000)


def test_side_bias_follows_the_side_and_not_the_name() -> None:
    annotators = SimulatedAnnotators(Simulated(reliability_spread=0, tie_margin=0, side_bias=0.25), seed=5)
    found = shares(annotators, pairs_of("the chair", "the table", 4000, left="b"))
    assert_frequencies(found, {"a": 0.26894, "b": 0.73106}, 4000)


def test_a_bias_for_phrases_names_them() -> None:
    with pytest.raises(BadInput, match=r"phrase_bias is 0\.5, but phrases is empty"):
        validate(Simulated, {"phrase_bias": 0.5})
    with pytest.raises(BadInput, match="phrases has an empty phrase"):
        validate(Simulated, {"phrase_bias": 0.5, "phrases": ["a", ""]})


@pytest.mark.parametrize("bias", ["length_bias", "side_bias"])
def test_a_bias_moves_verdicts_only_its_own_way(bias: str) -> None:
    pairs = pairs_of(words(9), words(3), 300)
    before = SimulatedAnnotators(Simulated(), seed=2).judgements(pairs)
    after = SimulatedAnnotators(Simulated(**{bias: 0.3}), seed=2).judgements(pairs)
    rank = {"b": 0, "tie": 1, "a": 2}
    moved = [rank[y.verdict] - rank[x.verdict] for x, y in zip(before, after, strict=True)]
    assert min(moved) == 0
    assert sum(moved) > 20


def test_reliability_differs_between_annotators() -> None:
    annotators = SimulatedAnnotators(Simulated(annotators=2000, reliability_spread=0.3, noise=0.5), seed=3)
    logs = np.log(annotators.inverse_temperature_J)
    assert abs(logs.mean() - math.log(2)) < 3 * 0.3 / math.sqrt(2000)
    assert abs(logs.std() - 0.3) < 3 * 0.3 / math.sqrt(2 * 2000)
    few = SimulatedAnnotators(Simulated(reliability_spread=0.8, tie_margin=0), seed=3)
    a, b, tie = few.probabilities([pair(0, "great", "the table")], 4)[0]
    assert math.log(a / b) == pytest.approx(GREAT * few.inverse_temperature_J[4], abs=1e-3)
    assert tie == pytest.approx(0, abs=1e-12)
    # The same annotators are there when more are hired.
    more = SimulatedAnnotators(Simulated(reliability_spread=0.8, annotators=9), seed=3)
    np.testing.assert_array_equal(more.inverse_temperature_J[:5], few.inverse_temperature_J)


def test_each_annotators_own_frequency() -> None:
    config = Simulated(annotators=2, labels_per_pair=2, reliability_spread=1.0, tie_margin=0.1, noise=4)
    annotators = SimulatedAnnotators(config, seed=8)
    pairs = pairs_of("great", "the table", 2500)
    said = annotators.judgements(pairs)
    for j, name in enumerate(annotators.annotators):
        counts = Counter(c.verdict for c in said if c.annotator == name)
        expected = dict(zip(("a", "b", "tie"), annotators.probabilities(pairs[:1], j)[0], strict=True))
        assert_frequencies({v: n / 2500 for v, n in counts.items()}, expected, 2500)
    # Independent of each other: both say a with the product of their probabilities.
    both = sum(x.verdict == y.verdict == "a" for x, y in zip(said[::2], said[1::2], strict=True)) / 2500
    product = math.prod(annotators.probabilities(pairs[:1], j)[0, 0] for j in range(2))
    assert_frequencies({"a": both}, {"a": product}, 2500)


def test_labels_do_not_depend_on_the_order_or_the_company() -> None:
    annotators = SimulatedAnnotators(Simulated(labels_per_pair=2), seed=4)
    pairs = pairs_of("great", "fine work", 60)
    whole = {(c.pair.id, c.annotator): c for c in annotators.judgements(pairs)}
    shuffled = random.Random(0).sample(pairs, 25)
    again = SimulatedAnnotators(Simulated(labels_per_pair=2), seed=4).judgements(shuffled)
    assert [whole[c.pair.id, c.annotator] for c in again] == again
    assert len(again) == 50
    other = SimulatedAnnotators(Simulated(labels_per_pair=2), seed=5).judgements(pairs)
    assert {(c.pair.id, c.annotator): c for c in other} != whole


def test_work_is_spread_over_the_annotators() -> None:
    annotators = SimulatedAnnotators(Simulated(annotators=5, labels_per_pair=2), seed=1)
    said = annotators.judgements(pairs_of("x", "y", 2000))
    assert len({(c.pair.id, c.annotator) for c in said}) == len(said) == 4000
    counts = Counter(c.annotator for c in said)
    assert set(counts) == {f"simulated:{j}" for j in range(5)}
    assert all(abs(n - 800) < 3 * math.sqrt(2000 * 0.4 * 0.6) for n in counts.values())


def test_simulated_annotators_label_the_store_once_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    pairs = pairs_of("great", "the table", 30)
    annotators = SimulatedAnnotators(Simulated(labels_per_pair=3), seed=6)
    with LabelStore(tmp_path / "whole.db") as store:
        annotators.label(pairs, store)
        whole = store.comparisons()
        annotators.label(pairs, store)
        assert store.comparisons() == whole
        annotators.label([], store)
    assert len(whole) == 90
    with LabelStore(tmp_path / "halves.db") as store:
        annotators.label(pairs[:10], store)
        store.add(whole[30:31])  # as after a kill in the middle of a pair
        annotators.label(pairs, store)
        assert store.comparisons() == whole


def test_labels_say_that_they_are_simulated_and_hold_no_gold() -> None:
    annotators = SimulatedAnnotators(Simulated(), seed=0)
    assert annotators.simulated
    assert annotators.name == "simulated annotators (a stand-in for people)"
    for comparison in annotators.judgements(pairs_of("great", "the table", 5)):
        assert comparison.annotator.startswith("simulated:")
        assert comparison.source == annotators.name
        assert comparison.strength is None
        assert not comparison.meta


def test_more_labels_than_annotators_are_refused() -> None:
    with pytest.raises(BadInput, match="labels_per_pair is 3, but there are 2"):
        validate(Simulated, {"annotators": 2, "labels_per_pair": 3})


def test_the_recipe_chooses_the_judge(tmp_path: Path) -> None:
    simulated: Judge = judge_from(Simulated(), seed=1, run_folder=tmp_path)
    people: Judge = judge_from(FileJudge(path="labels.jsonl"), seed=1, run_folder=tmp_path)
    assert (simulated.simulated, people.simulated) == (True, False)
    assert people.name == "people (file labels.jsonl)"


# Who may know gold


def gold_imports(source: str, module: str) -> bool:
    """Whether the source of ``module`` (dotted) reaches accord.judging.gold, however it is spelled."""
    package = module.rsplit(".", 1)[0]
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                origin = node.module or ""
                if node.level:
                    base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                    origin = f"{base}.{origin}".rstrip(".")
                names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
            case ast.Constant(value=str(text)):  # importlib.import_module("accord.judging.gold")
                names = [text]
            case ast.Attribute():  # accord.judging.gold.utility after `import accord.judging`
                names = [ast.unparse(node).replace("judging.gold", "accord.judging.gold")]
        if any(name.endswith("accord.judging.gold") or ".judging.gold." in name for name in names):
            return True
    return False


@pytest.mark.parametrize(
    "source",
    [
        "import accord.judging.gold as g",
        "from accord.judging.gold import utility",
        "from accord.judging import LabelFile, gold",
        "from .judging.gold import utility",
        "from .judging import gold",
        "def f():\n    from accord.judging.gold import GOLDS",
        "import importlib\nimportlib.import_module('accord.judging.gold')",
        "import accord.judging\naccord.judging.gold.utility('positivity', [])",
        "from accord import judging\njudging.gold.utility('positivity', [])",
    ],
)
def test_the_inspection_finds_every_spelling(source: str) -> None:
    assert gold_imports(source, "accord.reward_model")
    assert not gold_imports("from accord.judging.base import Judge\ngold = 'gold'", "accord.reward_model")


def test_only_judging_and_evidence_may_read_gold() -> None:
    root = Path(accord.__file__).parent
    readers = set()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        module = ".".join(["accord", *relative.with_suffix("").parts])
        if gold_imports(path.read_text(encoding="utf-8"), module):
            readers.add(str(relative))
    assert "judging/simulated.py" in readers
    assert {r for r in readers if not r.startswith("judging/")} <= {"evidence.py"}
