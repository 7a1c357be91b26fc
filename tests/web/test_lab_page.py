"""The small world's page in Chromium: it draws, sliders move what they say, no request is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from accord.lab import page as lab_page
from accord.lab.study import run_study
from tests.small_lab import small


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lab")
    return lab_page.write(run_study(small()), out, "accord lab", 1.0)[0]


@pytest.fixture
def shown(file: Path, browser: Any) -> Iterator[Any]:
    """The page at a phone's width; any error or request fails the test."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    shown = context.new_page()
    troubles: list[str] = []
    shown.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    shown.on("pageerror", lambda e: troubles.append(str(e)))
    shown.on("request", lambda r: None if r.url.startswith(("file:", "blob:")) else troubles.append(r.url))
    shown.goto(file.as_uri())
    yield shown
    assert troubles == []
    context.close()


def test_every_picture_is_drawn_and_fits_a_phone(shown: Any) -> None:
    empty = shown.evaluate(
        "[...document.querySelectorAll('svg.live')].filter(s => s.childElementCount < 8).length"
    )
    assert empty == 0
    assert shown.evaluate("document.querySelectorAll('svg.live').length") == 16
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert shown.evaluate("document.body.textContent.includes('NaN')") is False
    assert (
        shown.evaluate(
            "[...document.querySelectorAll('svg.live *')].some(e => /NaN|undefined/.test(e.outerHTML))"
        )
        is False
    )


def test_sliders_move_what_they_say(shown: Any) -> None:
    """By keyboard, as somebody without a mouse does; the figures are those of the JSON."""
    slider = shown.locator("#push input[data-level=distance]")
    before = shown.inner_text("#push .said")
    slider.focus()
    slider.press("Home")
    assert shown.inner_text("#push .slider output >> nth=0") == "KL 0.00 nats"
    after = shown.inner_text("#push .said")
    assert before != after
    assert "Proxy 0.00, gold 0.00" in after
    gold = shown.evaluate(
        "(() => { const d = JSON.parse(document.getElementById('figures').textContent);"
        " const seeds = d.grid['200|0.5|1|1'].gold;"
        " return seeds.reduce((a, s) => a + s.at(-1), 0) / seeds.length / 1000; })()"
    )
    slider.press("End")
    shown.locator("#push input[data-level=pairs]").press("End")
    assert f"gold {gold:.2f}".replace("-", "−") in shown.inner_text("#push .said")
    middle = shown.inner_text("#ensemble .said")
    shown.locator("#ensemble input[value=worst_case]").check()
    assert shown.inner_text("#ensemble .said") != middle


def test_the_page_has_no_serious_barrier(shown: Any) -> None:
    found = Axe().run(shown).response["violations"]
    serious = [
        (one["id"], one["nodes"][0]["html"][:90]) for one in found if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
