"""Commands as a user meets them: exit codes, one sentence an error, help with an example."""

from __future__ import annotations

import gzip
import json
import shutil
import sys

import pytest
import yaml

from accord import cli


@pytest.fixture
def accord(monkeypatch, capsys):
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["accord", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def recipe(settings, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "sft",
        "reward",
        "optimize",
        "evaluate",
        "evaluate reward",
        "sample",
        "report",
        "doctor",
        "data check",
        "data convert",
    ],
)
def test_help_shows_an_example(accord, command):
    code, out, _ = accord(*command.split(), "--help")
    assert code == 0
    assert f"Example: accord {command}" in " ".join(out.split())


def test_dry_run_touches_nothing(accord, recipe, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = accord("run", recipe, "--dry-run", "--out", str(tmp_path / "run"))
    assert code == 0
    assert "memory at the peak" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_up_to_sft_exits_0_and_one_that_waits_exits_3(accord, recipe, tmp_path):
    code, out, _ = accord("sft", recipe, "--quiet", "--out", str(tmp_path / "run"))
    assert code == 0
    assert "report.html" in out
    waiting = ["--set", "judge={kind: file, path: none.jsonl}"]
    code, _, err = accord("run", recipe, "--quiet", "--out", str(tmp_path / "run"), *waiting)
    assert code == 3
    assert "none.jsonl" in err


BAD = {
    "unknown key": (["--set", "online.step=3"], "did you mean 'steps'"),
    "negative size": (["--set", "online.steps=-1"], "online.steps"),
    "zero size": (["--set", "collect.pairs=0"], "collect.pairs"),
    "missing file": (["--set", "data.prompts=./nowhere.jsonl"], "nowhere.jsonl"),
    "no model": (["--set", "model.path=./nowhere"], "nowhere"),
    "K = 1 with RLOO": (["--set", "online={algorithm: rloo, samples_per_prompt: 1}"], "samples_per_prompt"),
    "no chat template": (["--set", "model.chat_template=./nowhere.jinja"], "chat_template"),
    "prompt too long": (["--set", "data.max_prompt_tokens=3"], "max_prompt_tokens"),
    "too few pairs": (["--set", "reward.minimum_pairs=1000"], "minimum_pairs"),
    "beyond the context": (["--set", "collect.sampling.max_new_tokens=600"], "context"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(accord, recipe, tmp_path, name):
    arguments, expected = BAD[name]
    code, _, err = accord("run", recipe, "--quiet", "--out", str(tmp_path / "run"), *arguments)
    assert code == 2, err
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "empty"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": ', "line 2"),
        ('{"prompt": "a", "chosen": "b", "rejected": "b"}\n', "line 1"),
        ('{"prompt": "a", "chosen": "", "rejected": "b"}\n', "line 1"),
    ],
)
def test_data_check_names_file_and_line(accord, tmp_path, content, expected):
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    code, out, err = accord("data", "check", str(path))
    assert code == 2
    assert expected in out + err


def test_a_truncated_file_is_bad_input(accord, recipe, tmp_path):
    data = gzip.compress(json.dumps({"prompt": "a"}).encode() * 500)
    path = tmp_path / "prompts.jsonl.gz"
    path.write_bytes(data[: len(data) // 2])
    code, _, err = accord("run", recipe, "--quiet", "--set", f"data.prompts={path}")
    assert code == 2
    assert "prompts.jsonl.gz" in err


def test_of_a_reward_model_with_two_labels_the_score_must_be_named(accord, tiny_folder, tmp_path):
    folder = tmp_path / "two"
    shutil.copytree(tiny_folder, folder)
    settings = json.loads((tiny_folder / "config.json").read_text())
    settings["id2label"] = {"0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(settings))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    code, _, err = accord("evaluate", str(folder), str(pairs))
    assert code == 2
    assert "2 labels" in err
    assert "say which one is the score" in err


def test_an_interrupt_says_that_nothing_is_lost(accord, recipe, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("accord.pipeline.run", interrupted)
    code, _, err = accord("run", recipe, "--out", str(tmp_path / "run"))
    assert code == 1
    assert "goes on from the last saved step" in err


def test_a_file_where_the_run_directory_should_be(accord, recipe, tmp_path):
    (tmp_path / "run").write_text("mine")
    code, _, err = accord("run", recipe, "--out", str(tmp_path / "run"))
    assert code == 2
    assert "needs a directory" in err
    assert (tmp_path / "run").read_text() == "mine"


def test_evaluate_reward_writes_a_card_and_its_exit_code_is_the_verdict(accord, tmp_path):
    rules, pairs, out = tmp_path / "rules.py", tmp_path / "pairs.jsonl", tmp_path / "card"
    rules.write_text("def length(prompts, responses):\n    return [float(len(r)) for r in responses]\n")
    lines = [json.dumps({"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"x {i}"}) for i in range(30)]
    pairs.write_text("\n".join(lines))
    given = (f"{rules}:length", str(pairs), "--out", str(out), "--quiet", "--probes", "5")
    code, printed, _ = accord("evaluate", "reward", *given, "--dry-run")
    assert code == 0
    assert "30 comparisons, 30 of them with a winner" in printed
    assert not out.exists()
    code, printed, _ = accord("evaluate", "reward", *given)
    assert code == 1  # rejected: it knows nothing but length
    assert "length alone does as well" in " ".join(printed.split())
    assert (out / "card.html").is_file()
    before = (out / "card.json").read_bytes()
    code, printed, _ = accord("evaluate", *given)  # the old name of it
    assert code == 1
    assert (out / "card.json").read_bytes() == before
    code, _, err = accord("evaluate", "reward", *given, "--set", "minimum_pair=3")
    assert code == 2
    assert "did you mean 'minimum_pairs'" in err
