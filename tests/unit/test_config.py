"""Recipes: a section that is given in part keeps the stage's own defaults for the rest."""

from __future__ import annotations

import pytest

from accord import config
from accord.config import Run
from accord.records import BadInput


def test_one_value_of_a_section_leaves_the_others_as_the_stage_has_them():
    given = {"optimizer": {"learning_rate": 3e-4}}
    run = config.validate(Run, {"sft": given, "reward": given, "online": given})
    assert run.online.optimizer.epsilon == 1e-5  # Adam's, for RL
    assert (run.sft.optimizer.warmup_steps, run.sft.optimizer.schedule) == (3, "linear")
    assert (run.reward.optimizer.warmup_steps, run.reward.optimizer.schedule) == (5, "linear")
    assert {s.optimizer.learning_rate for s in (run.sft, run.reward, run.online)} == {3e-4}


def test_what_is_given_wins_over_the_stages_default():
    run = config.validate(Run, {"online": {"optimizer": {"epsilon": 1e-8, "warmup_steps": 2}}})
    assert (run.online.optimizer.epsilon, run.online.optimizer.warmup_steps) == (1e-8, 2)
    assert run.online.optimizer.learning_rate == 1e-5


def test_what_is_written_out_reads_back_the_same():
    run = config.validate(Run, {"online": {"optimizer": {"learning_rate": 3e-4}}})
    assert config.validate(Run, run.model_dump(mode="json")) == run


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"online": {"optimizer": {"learning_rat": 1}}}, "did you mean 'learning_rate'"),
        ({"online": {"optimizer": {"learning_rate": -1}}}, "online.optimizer.learning_rate"),
        ({"judge": {"kind": "file"}}, "judge.path"),
        ({"online": {"ensemble": {"rule": "uwo"}}}, "the reward model is a single one"),
        (
            {
                "reward": {"ensemble": {"kind": "full", "average": True}},
                "online": {"ensemble": {"rule": "worst"}},
            },
            "reward.ensemble without average",
        ),
        ({"direct": {"algorithm": "orpo", "beta": 0.1}}, "odds_weight"),
        ({"direct": {"algorithm": "dpo", "gamma": 0.5}}, "use algorithm: simpo"),
        ({"direct": {"algorithm": "simpo", "odds_weight": 0.2}}, "use algorithm: orpo"),
        ({"direct": {"algorithm": "dpo", "bad_weight": 1.33}}, "use algorithm: kto"),
    ],
)
def test_a_fault_inside_a_section_is_named_by_its_place(section, expected):
    with pytest.raises(BadInput, match=expected):
        config.validate(Run, section)


def test_options_of_one_algorithm_are_taken_there_and_at_their_defaults_everywhere():
    for algorithm, own in (
        ("simpo", {"gamma": 0.5}),
        ("orpo", {"odds_weight": 0.2}),
        ("kto", {"bad_weight": 2}),
    ):
        run = config.validate(Run, {"direct": {"algorithm": algorithm} | own})
        assert config.validate(Run, run.model_dump(mode="json")) == run


def test_an_override_changes_one_section_of_those_that_a_yaml_anchor_shares(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("sft: {weights: &top {train: top, top_layers: 2}}\nonline: {weights: *top}\n")
    run = config.load(recipe, ["online.weights.top_layers=3"])
    assert run.sft is not None
    assert (run.online.weights.top_layers, run.sft.weights.top_layers) == (3, 2)
