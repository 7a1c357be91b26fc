"""The study of variance: every arm has the same budget, a run gives its figures, the table its intervals."""

from __future__ import annotations

import math

import pytest
from benchmarks import variance


def test_arms_differ_in_what_they_say_and_in_nothing_else():
    settings = {arm: variance.settings_of(arm) for arm in variance.arms()}
    assert {s.prompts_per_step * s.samples_per_prompt for s in settings.values()} == {32}
    for same in ("steps", "optimizer", "kl", "sampling", "missing_end", "minibatches"):
        assert len({repr(getattr(s, same)) for s in settings.values()}) == 1
    assert settings["PPO no clip"].clip > 1000 > settings["PPO"].clip


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variance, "SFT_EPOCHS", 1)
        variance.starting_policy(folder)
    return folder


@pytest.mark.parametrize("arm", ["RLOO K=4", "PPO"])
def test_a_run_gives_its_figures(learned, arm, monkeypatch):
    short = variance.settings_of(arm).model_copy(update={"steps": 2})
    monkeypatch.setattr(variance, "settings_of", lambda _: short)
    monkeypatch.setattr(variance, "TEST_PROMPTS", 4)
    row = variance.one_run(arm, 0, learned, batches=2)
    assert -1 <= row["reward"] <= 1
    assert len(row["curve"]) == 2
    assert row["noise"] > 0  # infinite where two batches show no direction
    assert (row["explained_variance"] is None) == (arm != "PPO")


def test_the_table_has_a_row_for_each_arm_that_ran(tmp_path):
    def run(arm, seed, reward):
        return {"arm": arm, "seed": seed, "reward": reward, "kl": 2.0, "noise": [4.0, math.inf][seed == 3]}

    # interquartile means of 1 2 3 4 and 2 3 4 5 (quarters cut): 2.5 and 3.5; deviation √(5/3)
    rows = [run("RLOO K=4", s, 1.0 + s) for s in range(4)] + [run("PPO", s, 2.0 + s) for s in range(4)]
    lines = variance.report(rows, tmp_path / "picture.svg").splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| RLOO K=4 | 4 | 2.50 (95% interval")
    assert "| 1.291 | 2.00 | 4.0 (1 without a signal) |" in lines[2]
    assert lines[3].startswith("| PPO | 4 | 3.50 (95% interval")
    assert "| 1.00 (95% interval" in lines[3]
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").count('r="3"') == 8
