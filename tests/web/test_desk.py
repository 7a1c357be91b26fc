"""The page on which people judge, in Chromium."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from axe_playwright_python.sync_playwright import Axe

from accord.records import Message, Pair, Prompt, Response
from accord.store import LabelStore, measuring
from accord.store.campaign import Campaign
from accord.store.schema import judgements
from tests.stores import pair
from tests.web.conftest import Desk, change, until
from tests.web.payloads import PAYLOADS

Open = Callable[..., Desk]
AHEAD = Campaign().ahead
CUT_SECONDS = float(os.environ.get("ACCORD_CUT_SECONDS", "5"))  # the promise is two minutes: 120


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LabelStore]:
    """What the browser does is the same on both databases: a file."""
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(n) for n in range(8)], overlap=1)
        yield store


def events_of(store: LabelStore) -> list[str]:
    return list(
        store.read(lambda c: c.scalars(sql.select(judgements.c.kind).order_by(judgements.c.sequence)))
    )


def test_the_whole_journey_by_keyboard_alone(local: LabelStore, browser: Any, desk: Open) -> None:
    """Sign-in link, guidelines, verdicts of every kind, reason, marks, undo, help: no mouse anywhere."""
    found = desk(local, begun=False)
    page = found.page
    for _ in range(10):  # Tab to the button, as somebody without a mouse does
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Begin":
            break
    page.keyboard.press("Enter")
    found.wait_item()
    asked = []
    for key, verdict in (
        ("ArrowLeft", "left"),
        ("b", "right"),
        ("t", "tie"),
        ("x", "both_bad"),
        ("s", "skip"),
    ):
        asked.append((found.question(), verdict, found.texts()))
        page.keyboard.press(key)
        until(page, f"document.querySelector('.turn.last .text')?.innerText !== {json.dumps(asked[-1][0])}")
    found.wait_saved()
    kept = local.comparisons()
    assert [c.prompt.text for c in kept] == [question for question, _, _ in asked]
    for comparison, (_, verdict, texts) in zip(kept, asked, strict=True):
        left = comparison.pair.a if comparison.pair.shown_left == "a" else comparison.pair.b
        assert texts[0] == left.text
        chosen = comparison.chosen.text if comparison.chosen else comparison.verdict
        assert chosen == {"left": texts[0], "right": texts[1]}.get(verdict, verdict)
        assert comparison.milliseconds is not None
    page.keyboard.press("r")
    page.keyboard.type("Because a > b & ü")  # letters in the box are no verdicts
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("g")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    found.wait_saved()
    last = local.comparisons()[-1]
    assert last.reason == "Because a > b & ü"
    (span,) = last.spans
    assert last.chosen is not None
    assert (span.side, span.quote, span.mark) == (last.verdict, last.chosen.text, "good")
    assert span.source == (0, len(span.quote))
    before = found.question()
    page.keyboard.press("Control+z")
    until(page, f"document.querySelector('.turn.last .text').innerText !== {json.dumps(before)}")
    assert page.input_value("#reason") == "Because a > b & ü"  # the page is filled as it was
    page.keyboard.press("ArrowDown")
    found.wait_saved()
    assert local.comparisons()[-1].verdict == "tie"
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    assert events_of(local).count("undo") == 1


def test_undo_ten_deep_also_after_a_reload(local: LabelStore, desk: Open) -> None:
    local.add_pairs([pair(n) for n in range(8, 14)], overlap=1)
    found = desk(local)
    page = found.page
    questions = []
    for _ in range(12):
        found.wait_item()
        questions.append(found.question())
        page.keyboard.press("ArrowLeft")
        until(page, f"document.querySelector('.turn.last .text')?.innerText !== {json.dumps(questions[-1])}")
    found.wait_saved()
    page.reload()
    found.wait_item()
    until(page, "!document.querySelector('#undo').disabled")
    seen = []
    for _ in range(10):
        page.keyboard.press("u")
        seen.append(found.question())
    assert seen == questions[2:][::-1]
    until(page, "document.querySelector('#undo').disabled")
    found.wait_saved()
    assert [c.prompt.text for c in local.comparisons()] == questions[:2]


def test_a_lost_connection_and_a_reload_lose_nothing(local: LabelStore, desk: Open) -> None:
    """The cut lasts ACCORD_CUT_SECONDS (5; measured with 120), with a reload in the middle of it."""
    found = desk(local)
    page = found.page
    found.wait_item()
    page.keyboard.press("ArrowLeft")
    found.wait_saved()
    page.context.set_offline(True)
    typed = []
    for _ in range(3):  # what was fetched ahead can be judged without a connection
        found.wait_item()
        typed.append(found.question())
        page.keyboard.press("r")
        page.keyboard.type(f"typed in the dark: {typed[-1]}")
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
        until(page, f"document.querySelector('.turn.last .text')?.innerText !== {json.dumps(typed[-1])}")
    until(page, "document.querySelector('#saved').textContent.includes('Waiting to save 3')")
    assert "3 of your judgements are kept in this browser" in page.inner_text("#news")
    page.wait_for_timeout(CUT_SECONDS * 500)
    with pytest.raises(Exception, match="ERR_INTERNET_DISCONNECTED"):
        page.reload()
    page.wait_for_timeout(CUT_SECONDS * 500)
    page.context.set_offline(False)
    page.goto(found.server.address.url)
    found.wait_item()
    found.wait_saved()
    kept = {c.prompt.text: c.reason for c in local.comparisons()}
    assert len(kept) == 4
    assert all(kept[question] == f"typed in the dark: {question}" for question in typed)
    assert events_of(local) == ["judgement"] * 4  # and none twice


def test_the_outbox_goes_on_by_itself_when_the_server_comes_back(local: LabelStore, desk: Open) -> None:
    found = desk(local)
    found.wait_item()
    broken = True

    def answer(route: Any) -> None:
        if broken:
            route.fulfill(status=503)
        else:
            route.continue_()

    found.page.route("**/api/sync", answer)
    found.page.keyboard.press("ArrowLeft")
    until(found.page, "document.querySelector('#saved').dataset.state === 'waiting'")
    assert local.comparisons() == []
    broken = False
    found.wait_saved()
    assert len(local.comparisons()) == 1


def test_an_entry_that_is_refused_steps_aside_and_the_others_go_on(local: LabelStore, desk: Open) -> None:
    """No JSON, no entry, too large, of somebody else's item; then a good one."""
    found = desk(local)
    page = found.page
    found.wait_item()
    said = {"assignment": str(uuid.uuid4()), "verdict": "left", "reason": "typed with care"}
    entries = [
        "{broken",
        "5",
        json.dumps({"op": "judgement", "body": said | {"id": str(uuid.uuid4()), "reason": "x" * 1_100_000}}),
        json.dumps({"op": "judgement", "body": said | {"id": str(uuid.uuid4())}}),
    ]
    page.evaluate(
        """entries => {
        const { store, person } = document.querySelector("#main").dataset;
        const key = n => `accord.out.${store}.${person}.${"0".repeat(15)}.00000${n}`;
        entries.forEach((text, n) => localStorage.setItem(key(n), text));
        localStorage.setItem(key(0).replace(person, person + ".b"), "5");  // another person's
        }""",
        entries,
    )
    page.keyboard.press("ArrowLeft")
    until(page, "document.querySelector('#saved').textContent === 'Saved, but 4 not accepted'")
    assert len(local.comparisons()) == 1
    for _ in range(2):  # kept through a reload
        assert "4 judgements were not accepted" in page.inner_text("#aside summary")
        page.click("#aside summary")
        shown = page.locator("#aside li").all_inner_texts()
        assert "it cannot be read any more" in shown[0]
        assert shown[2].endswith("(it is too long)")
        assert shown[3] == "A is better: typed with care (this item was not given to you)"
        page.reload()
        found.wait_item()
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#saved').textContent === 'Saved, but 4 not accepted'")
    assert len(local.comparisons()) == 2
    page.click("#aside summary")
    page.click("#aside-again")  # sent once more, refused once more
    until(page, "document.querySelector('#saved').textContent === 'Saved, but 4 not accepted'")
    page.click("#aside-forget")
    found.wait_saved()
    assert not page.is_visible("#aside")
    left = page.evaluate("Object.keys(localStorage).filter(key => /^accord.(out|aside)/.test(key))")
    assert [key.split(".")[-3] for key in left] == ["b"]


def test_a_draft_survives_a_reload(local: LabelStore, desk: Open) -> None:
    change(local, strength=True, criteria=[{"name": "safe", "question": "Which is safer?"}])
    found = desk(local)
    page = found.page
    found.wait_item()
    question = found.question()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    page.check("input[name='criterion-safe'][value='tie']", force=True)
    page.keyboard.press("r")
    page.keyboard.type("half a thought")
    page.reload()
    found.wait_item()
    assert found.question() == question
    assert page.input_value("#reason") == "half a thought"
    page.keyboard.press("Enter")
    found.wait_saved()
    overall, safe = local.comparisons(criterion=None)
    assert (overall.strength, overall.reason, safe.verdict) == (3.0, "half a thought", "tie")


def test_several_questions_are_saved_together_and_a_lack_is_said(local: LabelStore, desk: Open) -> None:
    change(local, criteria=[{"name": "safe", "question": "Which is safer?"}])
    found = desk(local)
    page = found.page
    found.wait_item()
    page.keyboard.press("Enter")
    assert page.inner_text("#news") == "Choose an answer first."
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    assert "Which is safer?" in page.inner_text("#news")
    assert local.comparisons() == []
    page.keyboard.press("s")  # a skip needs no answers
    found.wait_saved()
    assert local.comparisons()[0].verdict == "skip"


def test_ranking_by_keyboard_saves_what_it_said(local: LabelStore, desk: Open) -> None:
    answers = [Response(text) for text in ("alpha", "beta", "gamma", "delta")]
    local.add_rankings([(Prompt.from_text("rank these"), answers, 0)], overlap=1, priority=9)
    found = desk(local)
    page = found.page
    found.wait_item()
    shown = found.texts()
    for letter, rank in zip("abcd", "2142", strict=True):
        page.keyboard.press(letter)
        page.keyboard.press(rank)
    assert page.inner_text("#order").split(" · ") == ["1. B", "2. A and D", "3. C"]
    page.keyboard.press("Enter")
    found.wait_saved()
    (ranking,) = local.rankings()
    ranks = {response.text: rank for response, rank in zip(ranking.responses, ranking.ranks, strict=True)}
    assert [ranks[text] for text in shown] == [2, 1, 4, 2]


def test_practice_is_explained(local: LabelStore, desk: Open) -> None:
    local.write(lambda c: measuring.set_gold(c, "op", pair(2).id, "practice", "a", "<b>the reason</b>", 0.0))
    found = desk(local)
    found.wait_item()
    assert "Practice" in found.page.inner_text("#news")
    wrong = "ArrowLeft" if found.texts()[0] == pair(2).b.text else "ArrowRight"
    found.page.keyboard.press(wrong)
    found.page.wait_for_selector("#lesson[open]")
    assert "say: " in found.page.inner_text("#lesson-verdict")
    assert found.page.inner_text("#lesson-note") == "<b>the reason</b>"
    found.page.keyboard.press("Enter")
    found.wait_item()
    assert found.page.inner_text("#news") == ""


def test_single_keys_can_be_switched_off(local: LabelStore, desk: Open) -> None:
    found = desk(local)
    found.wait_item()
    found.page.keyboard.press("?")
    found.page.uncheck("#keys-on")
    found.page.keyboard.press("Escape")
    found.page.keyboard.press("b")
    found.page.wait_for_timeout(200)
    assert local.comparisons() == []
    found.page.keyboard.press("ArrowRight")  # not a character key
    found.wait_saved()
    assert len(local.comparisons()) == 1


def test_differences_are_marked_without_touching_the_text(local: LabelStore, desk: Open) -> None:
    one, two = "The cat sat on the **old** mat.", "The dog sat on the **new** red mat."
    local.add_pairs([Pair(Prompt.from_text("d"), Response(one), Response(two))], overlap=1, priority=9)
    found = desk(local)
    found.wait_item()
    before = found.page.inner_html("#item")
    found.page.keyboard.press("d")
    marked = found.page.evaluate("[...CSS.highlights.get('accord-differ')].map((r) => r.toString()).sort()")
    assert marked == sorted(["cat", "old", "dog", "new red"])
    assert found.page.inner_html("#item") == before


def test_long_answers_scroll_together(local: LabelStore, desk: Open) -> None:
    long, longer = "\n\n".join(f"line {n}" for n in range(60)), "\n\n".join(f"row {n}" for n in range(150))
    local.add_pairs([Pair(Prompt.from_text("s"), Response(long), Response(longer))], overlap=1, priority=9)
    found = desk(local)
    found.wait_item()
    tops = "[...document.querySelectorAll('.answer')].map((a) => a.getBoundingClientRect().top)"
    before = found.page.evaluate(tops)
    found.page.mouse.move(300, 400)
    found.page.mouse.wheel(0, 700)
    until(found.page, "scrollY === 700")
    after = found.page.evaluate(tops)
    assert [b - a for b, a in zip(before, after, strict=True)] == [700, 700]
    # At the end of the longer one, the end of the shorter one is still there to compare with.
    found.page.keyboard.press("End")
    until(found.page, "scrollY + innerHeight >= document.documentElement.scrollHeight - 1")
    ends = found.page.evaluate(
        "[...document.querySelectorAll('.answer')].map((a) => a.getBoundingClientRect().bottom)"
    )
    bar = found.page.evaluate("document.querySelector('#verdict').getBoundingClientRect().top")
    assert all(100 < end <= bar for end in ends)


def test_right_to_left_text_reads_from_the_right(local: LabelStore, desk: Open) -> None:
    arabic, hebrew = "مرحبا بالعالم، هذا نص طويل.\n\n- واحد\n- اثنان", "שלום עולם (English) סוף."
    local.add_pairs(
        [Pair(Prompt.from_text("مرحبا"), Response(arabic), Response(hebrew))], overlap=1, priority=9
    )
    found = desk(local)
    found.wait_item()
    for selector in (".turn.last .text p", ".answer .text p", ".answer .text li"):
        for box in found.page.locator(selector).all():
            assert box.evaluate("(e) => getComputedStyle(e).direction") == "rtl"
    assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("many", [False, True])
def test_no_width_scrolls_sideways_or_hides_a_button(local: LabelStore, desk: Open, many: bool) -> None:
    if many:
        change(
            local,
            strength=True,
            criteria=[{"name": f"c{n}", "question": f"Question number {n}?"} for n in range(3)],
        )
    widths = (320, 390, 768, 1280, 2200)
    wide = [
        Pair(
            Prompt.from_text("w" * 300 + str(width)),
            Response("```\n" + "x" * 500 + "\n```\n\n" + "y" * 500),
            Response("|" + "a|" * 40 + "\n|" + "-|" * 40 + "\n|" + "b|" * 40),
        )
        for width in widths  # with one question a verdict ends an item: one for each
    ]
    local.add_pairs(wide, overlap=1, priority=9)
    found = desk(local, height=740)
    page = found.page
    for width in widths:
        page.set_viewport_size({"width": width, "height": 740})
        page.reload()
        found.wait_item()
        assert found.question().startswith("www")
        assert page.evaluate("innerWidth") == width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        buttons = page.locator("#verdict button:visible").all()
        assert len(buttons) >= 5
        for button in buttons:
            button.scroll_into_view_if_needed()
            box = button.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert min(box["width"], box["height"]) >= 24  # WCAG 2.5.8
        page.keyboard.press("ArrowLeft")
        assert page.is_visible(".choice[data-verdict=left]")
        if not many:
            found.wait_saved()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_page_has_an_axe_violation(local: LabelStore, desk: Open, scheme: str, width: int) -> None:
    """WCAG 2.2 A and AA, as far as axe can see; every page, the desk in each of its states."""
    change(local, strength=True, criteria=[{"name": "safe", "question": "Which is safer?"}], overlap=2)
    code = (
        "```\n"
        + "x" * 400
        + "\n```\n\n|a|b|\n|-|-|\n|c|d|\n\nAs an AI language model, I am [linked](http://x)."
    )
    rich = Pair(
        Prompt(
            (Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "q"))
        ),
        Response(code),
        Response("> q\n\n# h\n\n`c`"),
    )
    answers = [Response(text) for text in ("one", "two", "three")]
    local.add_pairs([rich], overlap=2, priority=9)
    local.add_rankings([(Prompt.from_text("rank"), answers, 0)], overlap=2, priority=8)
    found = desk(local, begun=False, color_scheme=scheme, width=width)
    page, axe, url = found.page, Axe(), found.server.address.url
    seen = []

    def check(what: str) -> None:
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        result = axe.run(page, options={"runOnly": {"type": "tag", "values": tags}})
        for violation in result.response["violations"]:
            seen.append((what, violation["id"], [node["html"][:150] for node in violation["nodes"]]))

    check("welcome")
    page.click("text=Begin")
    found.wait_item()
    check("desk")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("b")
    check("desk with everything open")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check("keys")
    page.keyboard.press("Escape")
    page.click("#show-guidelines")
    check("guidelines in a dialog")
    page.keyboard.press("Escape")
    page.check("input[name='criterion-safe'][value='left']", force=True)
    page.keyboard.press("Enter")
    found.wait_saved()
    page.keyboard.press("1")
    check("ranking")
    key = local.comparisons()[0].pair.id
    for path in (
        "/guidelines",
        "/account",
        "/admin",
        "/admin/items",
        f"/admin/items/{key}",
        "/admin/team",
        "/admin/settings",
        "/nowhere-admin",
    ):
        page.goto(url + path)
        check(path)
    page.goto(f"{url}/account")
    page.click("text=Sign out")
    check("sign in")
    assert seen == []


def test_hostile_answers_run_nothing_and_break_no_layout(local: LabelStore, desk: Open) -> None:
    """Every payload as an answer and as a prompt: at the desk, on a phone, on the operator's page of it."""
    local.add_pairs(
        [
            Pair(Prompt.from_text(f"{name}\n\n{text[:2000]}"), Response(text), Response("plain"))
            for name, text in PAYLOADS.items()
        ],
        overlap=1,
        priority=9,
    )
    found = desk(local, own=True)
    page = found.page
    outside: list[str] = []
    page.on(
        "request",
        lambda request: request.url.startswith(found.server.address.url) or outside.append(request.url),
    )
    page.on("dialog", lambda dialog: outside.append(f"dialog {dialog.message}"))
    page.add_init_script(
        "window.hits = 0; addEventListener('securitypolicyviolation', (e) => (window.hits += 1));"
    )
    page.reload()
    found.wait_item()
    inside = """() => {
        const bad = [...document.querySelectorAll('#item .text *, main .text *')].filter((e) =>
            !/^(p|h[1-6]|ul|ol|li|blockquote|table|thead|tbody|tr|td|th|em|strong|s|code|pre|hr|br|span|div)$/i.test(e.tagName)
            || [...e.attributes].some((a) => !/^(class|dir|tabindex|start|role|aria-label)$/.test(a.name)));
        const bar = document.querySelector('#verdict')?.getBoundingClientRect();
        const buttons = [...document.querySelectorAll('#choices button')];
        return {
            hit: window.hit ?? 0,
            violations: window.hits,
            bad: bad.map((e) => e.outerHTML.slice(0, 80)),
            wide: document.documentElement.scrollWidth - innerWidth,
            bar: bar ? Math.round(innerHeight - bar.bottom) : 0,
            covered: buttons.filter((b) => {
                const r = b.getBoundingClientRect();
                return !b.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2));
            }).length,
            boxes: [...document.querySelectorAll('#item .answer')].filter((a) =>
                a.getBoundingClientRect().right > innerWidth + 1
                || a.getBoundingClientRect().left < 0).length,
        };
    }"""
    good = {"hit": 0, "violations": 0, "bad": [], "wide": 0, "bar": 0, "covered": 0, "boxes": 0}
    broken = {}
    for n in range(len(PAYLOADS)):
        found.wait_item()
        name = found.question().splitlines()[0]
        if n % 8 == 0:  # seldom: every change lays a heavy page out again
            page.set_viewport_size({"width": 390 if n // 8 % 2 else 1280, "height": 800})
        state = page.evaluate(inside)
        state["wide"] = max(0, state["wide"])
        if state != good:
            broken[name] = state
        page.keyboard.press("s")
        until(
            page,
            "(n) => document.querySelector('.turn.last .text')?.innerText.split('\\n')[0] !== n",
            arg=name,
        )
    assert broken == {}
    found.wait_saved()
    assert len(local.comparisons()) == len(PAYLOADS)
    for comparison in local.comparisons()[::4]:
        page.goto(f"{found.server.address.url}/admin/items/{comparison.pair.id}")
        state = page.evaluate(inside)
        assert (state["hit"], state["violations"], state["bad"]) == (0, 0, []), comparison.prompt.text[:40]
        assert state["wide"] <= 0, comparison.prompt.text[:40]
    page.goto(f"{found.server.address.url}/admin/items")
    assert page.evaluate(inside)["wide"] <= 0
    assert outside == []


def test_the_next_pair_waits_for_no_network(local: LabelStore, desk: Open) -> None:
    """What comes next is on the page already: no reply is needed between a verdict and the next two answers.

    How long it takes is measured in benchmarks/labelling/next_pair.py.
    """
    found = desk(local)
    page = found.page
    found.wait_item()
    found.wait_saved()
    held: (
        list[Any] | None
    ) = []  # requests that are sent and stay without an answer; None: the network is back
    page.route("**/api/**", lambda route: route.continue_() if held is None else held.append(route))
    seen = [found.question()]
    for _ in range(AHEAD):
        page.keyboard.press("ArrowLeft")
        until(
            page,
            "(last) => (document.querySelector('.turn.last .text')?.innerText ?? last) !== last",
            seen[-1],
        )
        assert page.locator("#item .answer").count() == 2
        seen.append(found.question())
    assert len(set(seen)) == 1 + AHEAD
    assert held, "the verdict was sent, and nobody answered"
    assert events_of(local) == []
    lost, held = held, None
    for request in lost:
        request.abort()
    until(page, "document.querySelector('#saved').textContent === 'Saved'")
    assert events_of(local) == ["judgement"] * AHEAD


def test_the_overview_is_live(local: LabelStore, desk: Open) -> None:
    found = desk(local)
    found.wait_item()
    other = found.page.context.new_page()
    other.goto(f"{found.server.address.url}/admin")
    assert "0 of 8 judgements" in other.inner_text(".tile.wide .figure")
    found.page.keyboard.press("ArrowLeft")
    found.wait_saved()
    until(
        other,
        "document.querySelector('.tile.wide .figure').textContent.includes('1 of 8')",
    )
    assert "Pause" in other.inner_text(".headline")
    other.click("text=Pause")
    other.wait_for_selector("text=Paused: nobody gets new items.")
