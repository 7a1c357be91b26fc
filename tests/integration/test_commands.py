"""Commands as a user meets them: exit codes, one sentence an error, help with an example."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections import namedtuple

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
        "lab",
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
    "β of 0": (["--set", "online.kl.coefficient=0"], "set placement: none"),
    "k1 in the loss": (["--set", "online.kl={placement: loss, estimator: k1}"], "gradient is zero: use k2"),
    "no such reward": (["--set", "online.rewards=[{path: 'no.such:f'}]"], "cannot be loaded"),
    "prompts only": (["--set", "data={prompts: p.jsonl}", "--set", "judge=null"], "there are no labels"),
    "no template file": (["--set", "model.chat_template=./nowhere.jinja"], "chat_template"),
    "prompt too long": (["--set", "data.max_prompt_tokens=3"], "max_prompt_tokens"),
    "response too long": (["--set", "data.max_response_tokens=2"], "max_response_tokens"),
    "too few pairs": (["--set", "reward.minimum_pairs=1000"], "minimum_pairs"),
    "beyond the context": (["--set", "collect.sampling.max_new_tokens=600"], "context"),
    "RL beyond the context": (["--set", "online.sampling.max_new_tokens=600"], "context"),
    "too few prompts": (["--set", "online.prompts_per_step=20"], "prompts_per_step"),
    "too many layers": (["--set", "online.weights.top_layers=9"], "online.weights.top_layers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(accord, recipe, tmp_path, name):
    arguments, expected = BAD[name]
    code, _, err = accord("run", recipe, "--quiet", "--out", str(tmp_path / "run"), *arguments)
    assert code == 2, err
    assert expected in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()  # before anything expensive, and before anything is written


def test_a_typo_does_not_cost_the_finished_run(accord, recipe, tmp_path):
    out = tmp_path / "run"
    assert accord("sft", recipe, "--quiet", "--out", str(out))[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    wrong = ["--fresh", "--set", "model.path=./nowhere"]
    assert accord("run", recipe, "--quiet", "--out", str(out), *wrong)[0] == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


GOOD_PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
BAD_FILES = {
    "empty file": ("prompts", "", "empty"),
    "malformed JSON": ("demonstrations", '{"prompt": "a", "response": "b"}\n{"prompt": \n', "line 2"),
    "empty reply": ("demonstrations", json.dumps({"prompt": "a", "response": ""}), "line 1"),
    "equal sides": ("comparisons", json.dumps(GOOD_PAIR | {"rejected": "b"}), "line 1"),
    "empty response": ("comparisons", json.dumps(GOOD_PAIR | {"chosen": ""}), "line 1"),
    "not a preference file": ("comparisons", json.dumps({"text": "a"}), "comparisons"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_before_anything_is_trained(accord, recipe, tmp_path, name):
    key, content, expected = BAD_FILES[name]
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    code, _, err = accord(
        "run", recipe, "--quiet", "--out", str(tmp_path / "run"), "--set", f"data.{key}={path}"
    )
    assert code == 2, err
    assert "bad.jsonl" in err
    assert expected in err
    assert not (tmp_path / "run").exists()


def test_pairs_that_would_have_to_be_cut_are_left_out_and_said(accord, settings, tmp_path):
    rows = [GOOD_PAIR | {"prompt": f"question {i}", "chosen": "long " * 40} for i in range(12)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings |= {"sft": None, "judge": None}
    settings["data"] |= {"comparisons": str(pairs), "max_response_tokens": 50}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    code, _, err = accord("reward", str(path), "--quiet", "--out", str(tmp_path / "run"))
    assert code == 2
    assert "0 usable pairs of" in err
    assert "more tokens than data.max_prompt_tokens or data.max_response_tokens" in err


def test_a_demonstration_beyond_the_models_context(accord, recipe, tmp_path):
    rows = tmp_path / "long.jsonl"
    rows.write_text(json.dumps({"prompt": "p" * 300, "response": "r" * 300}) + "\n")
    code, _, err = accord("sft", recipe, "--quiet", "--set", f"data.demonstrations={rows}", "--dry-run")
    assert code == 2
    assert "demonstration 1 has 6" in err
    assert "the model's context is 512" in err


def test_test_prompts_in_the_training_set(accord, recipe, settings, tmp_path):
    same = f"data.test_prompts={settings['data']['prompts']}"
    code, _, err = accord("run", recipe, "--quiet", "--out", str(tmp_path / "run"), "--set", same)
    assert code == 2
    assert "24 of the test prompts are also among the prompts" in err


@pytest.fixture
def model_without(tiny_folder, tmp_path):
    """A copy of the tiny model with one thing missing."""

    def copy(pattern: str = "", template: bool = True):
        folder = tmp_path / "model"
        shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns(pattern))
        if not template:
            (folder / "chat_template.jinja").unlink(missing_ok=True)
            path = folder / "tokenizer_config.json"
            values = json.loads(path.read_text())
            values.pop("chat_template", None)
            path.write_text(json.dumps(values))
        return f"model.path={folder}"

    return copy


def test_a_model_folder_without_weights(accord, recipe, tmp_path, model_without):
    given = model_without("*.safetensors")
    code, _, err = accord("run", recipe, "--quiet", "--out", str(tmp_path / "run"), "--set", given)
    assert code == 2
    assert "no weights (*.safetensors): copy the whole folder" in err


def test_a_tokenizer_without_chat_template_and_how_to_pass_one(accord, recipe, tmp_path, model_without):
    given = model_without(template=False)
    arguments = ["run", recipe, "--quiet", "--out", str(tmp_path / "run"), "--set", given]
    code, _, err = accord(*arguments)
    assert code == 2
    assert "set model.chat_template to chatml, plain or a Jinja file" in err
    code, _, _ = accord("sft", *arguments[1:], "--set", "model.chat_template=chatml")
    assert code == 0


def test_no_free_disk_is_said_before_the_work_and_the_run_goes_on_later(
    accord, recipe, tmp_path, monkeypatch
):
    out = str(tmp_path / "run")
    assert accord("sft", recipe, "--quiet", "--out", out)[0] == 0
    trained = []
    monkeypatch.setattr("accord.reward_model.train", lambda *_, **__: trained.append(1))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 200_000, 200_000))
    code, _, err = accord("reward", recipe, "--quiet", "--out", out)
    assert code == 2
    assert "its disk has 0.2 MB free: free some space there, or write somewhere else with --out" in err
    assert not trained
    monkeypatch.undo()
    assert (tmp_path / "run/sft/model.safetensors").is_file()


def test_sample_writes_what_it_says_and_a_dry_run_nothing(accord, tiny_folder, tmp_path):
    out = tmp_path / "answers.jsonl"
    arguments = [
        "sample",
        str(tiny_folder),
        "hello",
        "-n",
        "2",
        "--set",
        "max_new_tokens=4",
        "--out",
        str(out),
    ]
    code, text, _ = accord(*arguments, "--dry-run")
    assert code == 0
    assert "up to 2 × 4 new ones" in text
    assert not out.exists()
    code, text, _ = accord(*arguments)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 0
    assert [row["prompt"][0]["content"] for row in rows] == ["hello", "hello"]
    code, _, err = accord(*arguments, "--set", "temperatur=2")
    assert code == 2
    assert "did you mean 'temperature'" in err


def test_dry_runs_of_doctor_and_convert_write_nothing(accord, tiny_folder, tmp_path):
    report = tmp_path / "doctor.json"
    asked = ("doctor", "--model", str(tiny_folder), "--set", "dtype=float32", "--out", str(report))
    code, out, _ = accord(*asked, "--dry-run")
    assert code in (0, 1)  # 1: too little memory or disk here
    assert "log-probabilities" not in out
    code, _, error = accord("doctor", "--set", "dtype=float32")
    assert code == 2
    assert "--model" in error
    code, _, error = accord("doctor", "--model", str(tiny_folder), "--set", "dtyp=float32")
    assert code == 2
    assert "dtype" in error
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    code, out, _ = accord("data", "convert", str(pairs), str(tmp_path / "out.jsonl"), "--dry-run")
    assert code == 0
    assert "1 comparisons" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl"]


def test_doctor_and_data_check_write_json(accord, tiny_folder, tmp_path):
    code, _, _ = accord("doctor", "--model", str(tiny_folder), "--out", str(tmp_path / "doctor.json"))
    checks = {row["name"]: row["ok"] for row in json.loads((tmp_path / "doctor.json").read_text())}
    assert code == 0
    assert checks["ratio is 1"]
    assert checks["packing invariance"]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps(GOOD_PAIR) + "\n")
    code, _, _ = accord("data", "check", str(pairs), "--out", str(tmp_path / "data.json"))
    assert code == 0
    assert json.loads((tmp_path / "data.json").read_text())["kind"] == "comparisons"


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


@pytest.mark.parametrize("command", [["doctor"], ["sample", "x", "hi"], ["data", "check", "pairs.jsonl"]])
def test_an_out_that_cannot_be_written_is_said_before_the_work(accord, tmp_path, command):
    code, _, err = accord(*command, "--out", str(tmp_path / "nowhere/out.json"))
    assert code == 2
    assert "nowhere, which is no folder: --out takes the path of a file" in err


def test_a_run_directory_that_cannot_be_made(accord, recipe):
    code, _, err = accord("sft", recipe, "--quiet", "--out", "/proc/run")
    assert code == 2
    assert "/proc/run cannot be made" in err


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
