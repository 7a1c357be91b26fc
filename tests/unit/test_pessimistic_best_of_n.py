"""Pessimistic best-of-n: picks and gold by hand, from the members' scores to the finding and the curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accord import config, rejection
from accord.batches import Group
from accord.best_of_evidence import best_of_curve, pessimistic_best_of, pessimistic_curve
from accord.config import Evaluate, Run
from accord.diagnostics.best_of_n import best_of_n_curve
from accord.diagnostics.pessimistic_selection import pessimistic_selection
from accord.evidence import judge_round
from accord.records import BadInput, Prompt
from accord.round_policy import settings_of_policy
from accord.scoring.ensemble import aggregate

# Two members' scores of three samples. By the mean (2, 1.5, 0) the first wins; their variances are 4, 0.25
# and 0, so mean − 0.5·variance is (0, 1.375, 0) and the second wins. By the worst case (0, 1, 0) as well.
MEMBERS = [[0.0, 4.0], [1.0, 2.0], [0.0, 0.0]]


def rows(gold: list[list[float]], members: list[list[list[float]]]) -> list[dict[str, Any]]:
    out = []
    for place, (golds, samples) in enumerate(zip(gold, members, strict=True)):
        prompt = Prompt.from_text(f"prompt {place}")
        for value, member in zip(golds, samples, strict=True):
            out.append(
                {
                    "prompt": prompt.to_json(), "key": prompt.key, "text": f"{value}", "tokens": 1, "kl": 0.0,
                    "finished": True, "members": member, "proxy": float(np.mean(member)), "gold": value,
                }
            )  # fmt: skip
    return out


def asked(**how: Any) -> Evaluate:
    return config.validate(Evaluate, {"bootstrap": 200, "best_of_ensemble": how})


@pytest.mark.parametrize("how", [{"rule": "uwo", "coefficient": 0.5}, {"rule": "worst"}])
def test_the_pessimistic_pick_by_hand(how: dict[str, Any]) -> None:
    # Both prompts: the mean picks the first sample, the rule the second. Gold of the picks: 1 and 3; 2 and 3.
    table = rows([[1.0, 3.0, 5.0], [2.0, 3.0, 5.0]], [MEMBERS, MEMBERS])
    (finding,) = pessimistic_best_of(table, asked(**how), "gold")
    assert finding.figure == pytest.approx(((3 - 1) + (3 - 2)) / 2)
    assert finding.evidence["gold_mean"] == pytest.approx(1.5)
    assert finding.evidence["gold_pessimistic"] == pytest.approx(3.0)
    assert finding.evidence["gold_start"] == pytest.approx((9 + 10) / 6)
    assert finding.evidence["mean_score_given_up"] == pytest.approx(0.5)  # 2 − 1.5
    assert finding.evidence["other_picks"] == 1.0
    assert finding.evidence["kl"] == pytest.approx(np.log(3) - 2 / 3)
    curve = pessimistic_curve(table, asked(**how))
    # of the 3 pairs: {1, 2} -> 2, {1, 3} -> a tie under uwo and worst (0 and 0), {2, 3} -> 2
    gold = np.mean([(3 + 3 + (1 + 5) / 2) / 3, (3 + 3 + (2 + 5) / 2) / 3])
    assert [point["n"] for point in curve] == [1, 2]
    assert curve[1]["gold"] == pytest.approx(gold)
    assert curve[1]["proxy"] == pytest.approx((1.5 + 1.5 + (2 + 0) / 2) / 3)  # the plain score of the picks
    assert best_of_curve(table, asked(**how))[1]["proxy"] == pytest.approx((2 + 2 + 1.5) / 3)


def test_a_lower_bound_of_nothing_picks_as_the_mean() -> None:
    table = rows([[1.0, 3.0, 5.0], [2.0, 0.0, 5.0]], [MEMBERS, MEMBERS])
    (finding,) = pessimistic_best_of(table, asked(rule="lcb", coefficient=0.0), "gold")
    assert finding.figure == 0.0
    assert finding.evidence["other_picks"] == 0.0
    assert finding.verdict == "warn"


def test_a_shared_error_is_not_seen_and_one_members_own_is() -> None:
    """200 prompts, 8 samples, gold known. Three members agree on the truth but for noise of their own, or
    all like the same wrong thing: picking by the worst helps in the first case only."""
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(200, 8))
    own = gold + rng.standard_t(2, size=(3, 200, 8))  # heavy tails: now and then one member is far off
    good = pessimistic_selection(own.mean(axis=0), own.min(axis=0), gold)
    assert good.verdict == "good"
    wrong = rng.standard_t(2, size=(200, 8))
    shared = gold + wrong + rng.normal(0, 0.05, size=(3, 200, 8))
    none = pessimistic_selection(shared.mean(axis=0), shared.min(axis=0), gold)
    assert none.verdict == "warn"
    assert abs(none.figure) < 0.1


def test_without_gold_and_without_members() -> None:
    table = rows([[1.0, 3.0, 5.0]], [MEMBERS])
    (finding,) = pessimistic_best_of(table, asked(rule="worst"), None)
    assert (finding.figure, finding.verdict) == (None, "unknown")
    assert "100% of 1 prompts" in finding.sentence
    assert "cannot be said without gold" in finding.sentence
    (single,) = pessimistic_best_of(table, asked(rule="worst"), "gold")
    assert (single.figure, single.interval, single.verdict) == (2.0, None, "unknown")
    assert pessimistic_best_of(table, Evaluate(), "gold") == []
    for row in table:
        del row["members"]
    assert pessimistic_best_of(table, asked(rule="worst"), "gold") == []
    assert pessimistic_curve(table, asked(rule="worst")) == []


def test_a_round_holds_the_curve_and_the_finding(tmp_path: Path) -> None:
    table = rows([[1.0, 3.0, 5.0]] * 6, [MEMBERS] * 6)
    ends = [{"step": step, "rows": table} for step in (0, 5)]
    how = asked(rule="uwo")
    found, curve = judge_round(tmp_path, ends, table, how, config.FileJudge(path="labels.jsonl"))
    assert "pessimistic_best_of_n" in [finding.name for finding in found]
    assert [point["n"] for point in curve["best_of_n_pessimistic"]] == [1, 2]
    plain, curve = judge_round(tmp_path, ends, table, Evaluate(bootstrap=200), None)
    assert "pessimistic_best_of_n" not in [finding.name for finding in plain]
    assert curve["best_of_n_pessimistic"] == []


def test_the_switch_makes_no_other_policy_and_needs_members() -> None:
    ensemble = {"reward": {"ensemble": {"members": 2}}}
    plain = config.validate(Run, ensemble)
    switched = config.validate(Run, ensemble | {"evaluate": {"best_of_ensemble": {"rule": "lcb"}}})
    assert settings_of_policy(plain) == settings_of_policy(switched)
    with pytest.raises(BadInput, match=r"best_of_ensemble.rule is worst, but the reward model is a single"):
        config.validate(Run, {"evaluate": {"best_of_ensemble": {"rule": "worst"}}})
    with pytest.raises(BadInput, match="which is what it would be compared with"):
        config.validate(Run, ensemble | {"evaluate": {"best_of_ensemble": {}}})


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(BadInput, match="of the same samples"):
        pessimistic_selection([[1.0, 2.0]], [[1.0]])
    with pytest.raises(BadInput, match="2 samples a prompt or more"):
        pessimistic_selection([[1.0]], [[1.0]])
    with pytest.raises(BadInput, match="the picking scores have shape"):
        best_of_n_curve([[1.0, 2.0]], picked_by_PN=[[1.0]])


@pytest.mark.parametrize(("rule", "place"), [("mean", 0), ("uwo", 1), ("worst", 1)])
def test_rejection_sampling_imitates_the_pick_of_the_rule(rule: str, place: int, tokenizer: Any) -> None:
    """`online.ensemble` with `rejection`: the one score of the members is what picks."""
    how = config.validate(config.Aggregation, {"rule": rule})
    answers = ((1, 2), (3, 4), (5, 6))

    class Held:
        def __init__(self) -> None:
            self.tokenizer, self.sampler = tokenizer, self

        def sample(self, tokens: Any, *_: Any) -> Any:
            groups = [Group(tuple(asked), answers) for asked in tokens]
            return type("Drawn", (), {"groups": groups, "finished_B": torch.ones(3, dtype=torch.bool)})()

        def packed(self, groups: Any) -> tuple[None, None]:
            return None, None

        def score_members(self, *_: Any) -> Any:
            member_EB = torch.tensor(MEMBERS).T
            return aggregate(member_EB, how), member_EB

    settings = config.Rejection(samples_per_prompt=3)
    picked = rejection.pick(Held(), [Prompt.from_text("hello")], settings, 0)  # type: ignore[arg-type]
    assert picked.groups[0].responses == (answers[place],)
    assert (picked.score, picked.best) == {
        "mean": (pytest.approx(3.5 / 3), 2.0),
        "uwo": (pytest.approx(1.375 / 3), 1.375),
        "worst": (pytest.approx(1 / 3), 1.0),
    }[rule]
