"""`accord lab` as a user meets it, and what it writes: one page that needs no network, JSON and CSV."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib
import inspect
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from accord import cli
from accord.lab import page, policies
from accord.lab.acceptance import acceptance, needed
from accord.lab.snippets import snippet
from accord.lab.study import Study, every_position, run_study
from tests.small_lab import overrides, small


def call(capsys: Any, monkeypatch: Any, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["accord", "lab", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as exit:
        code = int(exit.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture(scope="module")
def study() -> Study:
    return run_study(small())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Path:
    out = tmp_path_factory.mktemp("lab")
    page.write(study, out, "accord lab", 1.0)
    return out


def test_the_command_writes_three_files_and_says_what_holds(capsys, monkeypatch, tmp_path, written) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "deep" / "lab"
    code, shown, _ = call(capsys, monkeypatch, "--out", str(out), "--quiet", *overrides())
    assert code == 0
    assert sorted(file.name for file in out.iterdir()) == ["lab.csv", "lab.html", "lab.json"]
    assert f"page: {out / 'lab.html'}" in shown
    assert shown.count("holds") + shown.count("not shown") >= 6
    # Two at a time or one: the same bytes, but for the command and the time.
    assert (out / "lab.csv").read_bytes() == (written / "lab.csv").read_bytes()
    both = [json.loads((folder / "lab.json").read_text()) for folder in (out, written)]
    assert both[0]["page"] == both[1]["page"]
    assert both[0]["acceptance"] == both[1]["acceptance"]


def test_a_dry_run_touches_nothing_and_says_what_it_would_take(capsys, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = call(capsys, monkeypatch, "--dry-run", "--seed", "7", "--out", str(tmp_path / "lab"))
    assert code == 0
    assert re.search(
        r"16 reward-model seeds, \d+ curves each over 30,000 responses, .* about \d+ s and \d+ MB", shown
    )
    assert list(tmp_path.iterdir()) == []


BAD = {
    "unknown key": (["--set", "seed=1", "--set", "pair=[3]"], "did you mean 'pairs'"),
    "levels that fall": (["--set", "pairs=[300,100]"], "levels that rise"),
    "a default that is no level": (["--set", "few_pairs=250"], "few_pairs is 250, but the levels are"),
    "too far": (["--set", "farthest=5"], "30000 responses allow 2.87"),
    "negative seed": (["--seed", "-1"], "seed"),
    "one member": (["--set", "members=[1]"], "needs 1 and a larger level"),
    "no extremes": (["--set", "misspecification=[0.5]"], "needs the levels 0 and 1"),
    "not a number": (["--set", "noise=loud"], "noise"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_exits_2_with_one_sentence(capsys, monkeypatch, tmp_path, name) -> None:  # type: ignore[no-untyped-def]
    arguments, message = BAD[name]
    code, shown, err = call(capsys, monkeypatch, *arguments, "--out", str(tmp_path / "lab"))
    assert code == 2
    assert message in " ".join((shown + err).split())
    assert "Traceback" not in shown + err
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_exits_2(capsys, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "lab").write_text("mine")
    code, _, err = call(capsys, monkeypatch, "--out", str(tmp_path / "lab"))
    assert code == 2
    assert "name a folder" in " ".join(err.split())
    assert (tmp_path / "lab").read_text() == "mine"


def test_help_shows_an_example(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    code, shown, _ = call(capsys, monkeypatch, "--help")
    assert code == 0
    assert "Example: accord lab --set seeds=8 --out runs/lab" in " ".join(shown.split())


class Found(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and self.tags[-1][1].get("type") != "application/json":
            self.inline.append((self._open, data))


def test_the_page_asks_nobody_for_anything(written: Path) -> None:
    text = (written / "lab.html").read_text()
    found = Found(text)
    for tag, attributes in found.tags:
        assert not {"src", "srcset", "style", "onclick"} & set(attributes), (tag, attributes)
        assert tag not in ("link", "iframe", "img", "object", "base")
        if "href" in attributes:
            assert str(attributes["href"]).startswith("#")
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
    policy = next(
        str(a["content"]) for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert {kind for kind, _ in found.inline} == {"script", "style"}
    for kind, data in found.inline:
        digest = base64.b64encode(hashlib.sha256(data.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert len(text) < 5_000_000


def test_every_section_has_a_picture_its_code_and_a_target_for_its_link(written: Path) -> None:
    text = (written / "lab.html").read_text()
    for name, _ in page.CONTENTS:
        assert text.count(f'id="{name}"') == 1
    drawn = re.findall(r'data-draw="(\w+)"', text)
    scripts = "".join((page.HERE / name).read_text() for name in ("page.js", "sections.js"))
    for name in drawn:
        assert re.search(rf"^  {name}\(\[", scripts, re.MULTILINE), f"no script draws {name}"
    assert set(page.snippets()) == set(drawn)


def test_the_code_on_the_page_is_the_code_that_runs() -> None:
    for several in page.snippets().values():
        for one in several:
            module = importlib.import_module(one.file.removesuffix(".py").replace("/", "."))
            source = inspect.getsource(module).splitlines()
            first = next(line for line, marked in one.lines if marked)
            assert source[one.line - 1].strip() == first.strip()


def test_code_that_has_changed_stops_the_page() -> None:
    with pytest.raises(ValueError, match=r"tilted no longer holds 'np\.sin'"):
        snippet(policies.tilted, "np.sin")


def test_the_json_and_the_table_hold_every_curve(written: Path, study: Study) -> None:
    document = json.loads((written / "lab.json").read_text(), parse_constant=pytest.fail)
    settings = small()
    every = list(dict.fromkeys(every_position(settings)))
    assert len(document["acceptance"]) == 6
    rows = list(csv.DictReader((written / "lab.csv").read_text().splitlines()))
    curves = [row for row in rows if row["table"] == "curve"]
    assert len(curves) == len(every) * settings.seeds * settings.points
    assert {row["proxy"] for row in curves if float(row["distance"]) == 0} <= {"0.0000", "-0.0000"}
    one = every[-1]
    mine = [
        float(row["gold"])
        for row in curves
        if (row["pairs"], row["members"], row["shared"], row["aggregation"], row["length_bias"], row["seed"])
        == (
            str(one.pairs),
            str(one.members),
            str(int(one.shared)),
            one.aggregation,
            str(one.length_bias),
            "1",
        )
        and row["misspecification"] == str(one.misspecification)
    ]
    assert mine == pytest.approx(study.seeds[1].curves[one].gold_P, abs=6e-5)


def test_the_claims_are_the_same_from_all_curves_and_from_those_they_need(written: Path) -> None:
    settings = small()
    few = acceptance(run_study(settings, recipes=needed(settings)))
    document = json.loads((written / "lab.json").read_text())
    assert json.loads(json.dumps([one.to_json() for one in few])) == document["acceptance"]
