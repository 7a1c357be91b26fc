"""Stop rules in a run: what they read, the checkpoint that they keep, what is said about it."""

from __future__ import annotations

import pytest
import torch

from accord import round_policy
from accord.config import Evaluate, Online, Run, validate
from accord.config_stop import LOOKS_FOR_A_PEAK, Stop
from accord.diagnostics.overoptimisation import MINIMUM_POINTS
from accord.evidence import alarm_findings
from accord.labelled_checkpoints import labeller
from accord.records import BadInput, Prompt
from accord.stop_rules import Decision
from accord.stopping import StopWatch, stop_finding


def rows(text, kl, proxy=0.0, prompts=12, samples=1, **more):
    out = []
    for i in range(prompts):
        prompt = Prompt.from_text(f"ask {i}")
        for k in range(samples):
            row = {
                "prompt": prompt.to_json(), "key": prompt.key, "text": f"{text} {i % 4} {k}",
                "finished": True, "tokens": len(text), "kl": kl, "proxy": proxy + 0.1 * (i % 3), "ids": [3],
                "entropy": 1.0,
            }  # fmt: skip
            out.append(row | more)
    return out


class Policy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.trained = torch.nn.Parameter(torch.zeros(2))
        self.frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)


def watch_of(stop, folder, policy, **more):
    settings = validate(Stop, stop)
    return StopWatch(settings, folder, policy, Evaluate(bootstrap=100), 5, 0, **more)


def test_the_budget_stops_the_run_and_the_checkpoint_within_it_comes_back(tmp_path):
    policy = Policy()
    watch = watch_of({"rules": [{"rule": "kl_budget", "limit": 5.0}]}, tmp_path / "kept", policy)
    evaluations = []
    for step, kl in ((0, 0.0), (2, 3.0), (4, 6.0)):
        with torch.no_grad():
            policy.trained.fill_(float(step))
        evaluations.append({"step": step, "rows": rows("a", kl)})
        stopped = watch(evaluations)
    assert stopped
    assert watch.decision.best_step == 2
    watch.restore(2)
    assert policy.trained.tolist() == [2.0, 2.0]
    assert "frozen" not in watch._trained()
    watch.forget()
    assert not (tmp_path / "kept").exists()


def test_a_second_models_fall_stops_and_each_evaluation_is_measured_once(tmp_path):
    asked = []

    def other_half(rows_of, base):
        asked.append(len(rows_of))
        return [{0.0: 0.0, 3.0: 2.0, 6.0: -1.0}[row["kl"]] + 0.01 * i for i, row in enumerate(rows_of)]

    watch = watch_of({"rules": [{"rule": "turned_down"}]}, tmp_path, Policy(), other_half=other_half)
    evaluations = []
    for step, kl in ((0, 0.0), (2, 3.0), (4, 6.0)):
        evaluations.append({"step": step, "rows": rows("a", kl)})
        stopped = watch(evaluations)
    assert stopped
    assert watch.decision.best_step == 2
    watch(evaluations)  # as after a kill: the scores are in the evaluations already
    assert asked == [12, 12, 12]


def test_all_waits_for_every_rule(tmp_path):
    rules = [{"rule": "kl_budget", "limit": 5.0}, {"rule": "alarm", "finding": "length_shift"}]
    first, longer = rows("a", 0.0), rows("a much longer answer", 6.0)
    for i, row in enumerate(longer):
        row["tokens"] += i % 2
    for when, text, expected in (("any", "a", True), ("all", "a", False), ("all", "long", True)):
        watch = watch_of({"rules": rules, "when": when}, tmp_path, Policy())
        second = longer if text == "long" else rows("a", 6.0)
        watch([{"step": 0, "rows": first}])
        assert watch([{"step": 0, "rows": first}, {"step": 2, "rows": second}]) is expected


def test_alarms_take_as_many_of_sfts_samples_as_there_are(tmp_path):
    found = alarm_findings(
        rows("a", 0.0, samples=2),
        rows("bbbb", 1.0),
        ["length_shift", "entropy_shift"],
        Evaluate(bootstrap=50),
    )
    assert [one.name for one in found] == ["length_shift", "entropy_shift"]
    assert found[0].figure == pytest.approx(3.0)


def test_labels_of_a_checkpoint_are_wins_over_sft(tmp_path):
    """A phrase that positivity likes wins nearly always without noise; the same text is one half."""
    run = validate(Run, {"judge": {"kind": "simulated", "noise": 1e-3, "tie_margin": 0.0}})
    labelled = labeller(run, tmp_path, tmp_path / "kept", 0)
    base = rows("a terrible awful day", 0.0)
    assert labelled(rows("what a wonderful happy day", 1.0), base) == [1.0] * 12
    assert labelled(base, base) == [0.5] * 12
    assert not (tmp_path / "labels.db").exists()  # a store of its own: nothing learns from it


def test_a_predicted_peak_is_asked_from_the_start(tmp_path):
    """SFT against itself is one half, so that the rule has something to read at step 0; it needs six."""
    asked = []

    def labelled(of, base):
        asked.append(len(of))
        return [0.6] * 12

    watch = watch_of({"rules": [{"rule": "predicted_peak"}]}, tmp_path, Policy(), labelled=labelled)
    evaluations = [{"step": 0, "rows": rows("a", 0.0)}]
    assert not watch(evaluations)
    assert evaluations[0]["labelled"] == [0.5] * 12
    evaluations.append({"step": 2, "rows": rows("b", 1.0)})
    assert not watch(evaluations)
    assert asked == [12]
    assert watch.decision.why == "2 checkpoints have labelled, 6 are needed for a curve"


def test_what_makes_another_policy_is_in_its_key():
    """The judge where it labels checkpoints; how a score is read, where the section is not online's own."""
    peak = {"rules": [{"rule": "predicted_peak"}]}

    def settings(**values):
        often = {"evaluate_every": 6} | values.pop("online", {})
        return round_policy.settings_of_policy(validate(Run, values | {"online": often}))

    loud, quiet = ({"kind": "simulated", "noise": noise} for noise in (2.0, 0.1))
    assert settings(judge=loud) == settings(judge=quiet)  # what it says is in the labels already
    assert settings(judge=loud, stop=peak) != settings(judge=quiet, stop=peak)
    several, pessimistic = {"ensemble": {}}, {"ensemble": {"rule": "worst"}}
    assert settings(direct={}, reward=several, online=pessimistic) != settings(direct={}, reward=several)
    assert settings(evaluate={"fresh_pairs": 8}) == settings()


@pytest.mark.parametrize(("steps", "every", "looks"), [(10, 5, 3), (10, 4, 4), (3, 10, 2)])
def test_the_last_step_is_looked_at_too(steps, every, looks):
    assert validate(Online, {"steps": steps, "evaluate_every": every}).looks == looks


def test_what_is_refused_is_what_can_never_fire():
    assert LOOKS_FOR_A_PEAK == MINIMUM_POINTS
    for steps in range(5, 60):
        for every in range(1, steps + 1):
            looks = validate(Online, {"steps": steps, "evaluate_every": every}).looks
            if looks < LOOKS_FOR_A_PEAK:  # what the sentence advises is enough
                advised = validate(Online, {"steps": steps, "evaluate_every": steps // 5})
                assert advised.looks >= LOOKS_FOR_A_PEAK


def test_what_was_decided_is_a_finding():
    found = stop_finding(Decision(True, 4, "kl_budget", "KL reached 6.0 nats"), 8, 20)
    assert found.figure == 4
    assert found.sentence == (
        "The result is the policy of step 4; RL was stopped at step 8 of 20: KL reached 6.0 nats."
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"stop": {"rules": [{"rule": "turned_down", "score": "pessimistic"}]}}, "needs reward.ensemble"),
        (
            {"stop": {"rules": [{"rule": "predicted_peak"}]}, "judge": {"kind": "file", "path": "x"}}
            | {"online": {"evaluate_every": 6}},
            "a judge that answers at once",
        ),
        (
            {"stop": {"rules": [{"rule": "predicted_peak"}]}, "online": {"steps": 40, "evaluate_every": 10}},
            r"needs 6 evaluations to fit a curve to, but online.steps 40 with evaluate_every 10 give 5: lower"
            " online.evaluate_every to 8, or leave the rule out",
        ),
        (
            {"stop": {"rules": [{"rule": "predicted_peak"}]}, "online": {"steps": 4, "evaluate_every": 1}},
            "give 5: raise online.steps",
        ),
        (
            {"stop": {"rules": [{"rule": "kl_budget", "limit": 3}]}, "online": {"steps": 300}},
            "a checkpoint at each of 31 evaluations, 20 at most",
        ),
    ],
)
def test_rules_that_cannot_be_asked_are_refused_before_the_run(values, sentence):
    with pytest.raises(BadInput, match=sentence):
        validate(Run, values)
