"""Pictures of the labelling app for the documentation, from a file of pairs.

    python benchmarks/labelling/tour.py PAIRS.jsonl docs/labelling

Needs Chromium and playwright. The people in the pictures of the overview are three scripts, named so.
"""

from __future__ import annotations

import difflib
import json
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from playwright.sync_api import Page, sync_playwright

from accord import labelling
from accord.records import Comparison, Pair, Prompt, Response
from accord.store import LabelStore, campaign, events, measuring, people, queue
from accord.store.schema import queue as slots

SCRIPTS = {
    "Script A": 0.15,
    "Script B": 0.2,
    "Script C (clicks left)": 1.0,
}  # share of answers that are not theirs


def longer(item: dict[str, Any], order: list[int]) -> str:
    texts = [item["a"]["text"], item["b"]["text"]]
    return "left" if len(texts[order[0]]) >= len(texts[order[1]]) else "right"


def scripted(store: LabelStore, each: int) -> None:
    """Judgements of three scripts: two mostly prefer the longer answer, one always takes the left."""
    settings = store.read(campaign.load)
    now, chance = time.time() - 1800, random.Random(0)
    store.write(lambda c: people.ensure(c, [(name, "annotator") for name in SCRIPTS], now))
    for name, careless in SCRIPTS.items():
        store.write(lambda c, name=name: people.set_ready(c, name, 1.0))  # type: ignore[misc]
        for _ in range(each):
            now += 3
            rows = store.write(lambda c, name=name, now=now: queue.next_items(c, name, settings, now, 1))  # type: ignore[misc]
            if not rows:
                break
            body = store.read(lambda c, row=rows[0]: c.execute(queue._ITEM, {"item": row.item}).one().body)  # type: ignore[misc]
            verdict = longer(json.loads(body), json.loads(rows[0].shown))
            if chance.random() < careless:
                verdict = "left" if "left" in name else chance.choice(("left", "right", "tie"))
            said = events.Submission(
                id=str(uuid.uuid4()), assignment=rows[0].id, verdict=verdict,  # type: ignore[arg-type]
                milliseconds=int(chance.lognormvariate(8.9, 0.5) * (0.1 if "left" in name else 1)),
            )  # fmt: skip
            store.write(lambda c, name=name, said=said, now=now: events.submit(c, name, said, settings, now))  # type: ignore[misc]
        store.write(lambda c, name=name: queue.release(c, name))  # type: ignore[misc]


def judged(store: LabelStore, pairs: list[Pair]) -> None:
    """What a model would leave in the store: the longer answer, at times a tie because its orders differ."""
    chance = random.Random(1)
    rows = []
    for pair in pairs:
        better = "a" if len(pair.a.text) >= len(pair.b.text) else "b"
        lot = chance.random()
        if lot < 0.15:
            verdict, orders = "tie", ["first", "first"]
        else:
            verdict = better if lot < 0.85 else "ab"[better == "a"]
            orders = ["first", "second"] if verdict == "a" else ["second", "first"]
        meta = {"orders": orders, "tokens": [2 * len(pair.a.text + pair.b.text) // 4 + 420, 60]}
        rows.append(Comparison(pair, verdict, "judge:script", source="a script", meta=meta))  # type: ignore[arg-type]
    store.add(rows)


def most_alike(pairs: list[Pair]) -> Pair:
    """The pair whose answers share most words: differences are shown where there is something in common."""

    def alike(pair: Pair) -> float:
        return difflib.SequenceMatcher(None, pair.a.text.split(), pair.b.text.split()).ratio()

    return max((pair for pair in pairs if pair.a.text != pair.b.text), key=alike)


def first_is(store: LabelStore, pair: Pair) -> None:
    place = sql.update(slots).where(slots.c.item == pair.id).values(priority=5.0, overlap=20)
    store.write(lambda c: c.execute(place))


def main() -> None:
    pairs, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    location = str(Path(tempfile.mkdtemp()) / "labels.db")
    items = list(labelling.read_items(pairs))[:120]
    with LabelStore(location) as store:
        store.add_pairs([item for item in items if not isinstance(item, tuple)], overlap=3)
        store.write(
            lambda c: campaign.save(
                c, "tour", time.time(), overlap=3, gold_every=6, title="Which reply is better?"
            )
        )
        for item in items[100:110]:
            assert not isinstance(item, tuple)
            better = "a" if len(item.a.text) >= len(item.b.text) else "b"
            store.write(
                lambda c, key=item.id, v=better: measuring.set_gold(
                    c, "tour", key, "gold", v, "", time.time()
                )
            )  # type: ignore[misc]
        scripted(store, 40)
        judged(store, [item for item in items[:100] if isinstance(item, Pair)])
        store.write(lambda c: campaign.save(c, "tour", time.time(), gold_every=0))
        first_is(store, most_alike([item for item in items[60:100] if isinstance(item, Pair)]))
        with (
            labelling.serve(location, annotators=[("Ann", "annotator"), ("Olga", "admin")]) as server,
            sync_playwright() as driver,
        ):
            store.write(lambda c: people.set_ready(c, "Ann", time.time()))
            links = dict(server.address.links)
            operator = "Olga"
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])

            def page(link: str, width: int, height: int, scheme: Any = "light") -> Page:
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                opened = context.new_page()
                opened.goto(link)
                opened.wait_for_url(f"{server.address.url}/")
                return opened

            def take(opened: Page, name: str, **options: Any) -> None:
                opened.wait_for_timeout(500)
                opened.screenshot(path=target / f"{name}.png", **options)

            ann = page(links["Ann"], 1280, 800)
            ann.wait_for_selector(".answer")
            take(ann, "desk")
            ann.keyboard.press("d")
            take(ann, "differences")
            ann.keyboard.press("d")
            ann.keyboard.press("m")
            ann.keyboard.press("g")
            ann.keyboard.press("ArrowRight")
            ann.keyboard.press("b")
            ann.keyboard.press("Escape")
            take(ann, "marks")
            ann.keyboard.press("?")
            take(ann, "keys")
            ann.keyboard.press("Escape")
            for _ in range(3):
                ann.keyboard.press("ArrowRight")
                ann.wait_for_timeout(300)
            state = ann.context.storage_state()
            for name, width, height, scheme in (
                ("phone", 390, 844, "light"),
                ("desk-dark", 1280, 800, "dark"),
                ("phone-dark", 390, 844, "dark"),
            ):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, storage_state=state
                )  # type: ignore[arg-type]
                other = context.new_page()
                other.goto(server.address.url)
                other.wait_for_selector(".answer")
                take(other, name)
                context.close()
            answers = [item.a for item in items[:3] if not isinstance(item, tuple)] + [
                Response("I do not know.")
            ]
            prompt = items[0].prompt if not isinstance(items[0], tuple) else Prompt.from_text("q")
            store.add_rankings([(prompt, answers[:4], 0)], overlap=1, priority=9)
            store.write(lambda c: queue.release(c, "Ann"))
            ann.goto(server.address.url)
            ann.wait_for_selector(".ranking")
            for letter, rank in (("a", "2"), ("b", "1"), ("c", "2")):
                ann.keyboard.press(letter)
                ann.keyboard.press(rank)
            take(ann, "ranking")
            boss = page(links[operator], 1280, 1040)
            boss.click("text=Begin")
            boss.goto(f"{server.address.url}/admin")
            take(boss, "overview")
            box = boss.locator("section[aria-labelledby=judges-title]").bounding_box()
            assert box is not None
            around = {"x": box["x"] - 24, "y": box["y"] - 24}
            take(boss, "judges", clip=around | {"width": box["width"] + 48, "height": box["height"] + 48})
            boss.click(".split a >> nth=0")
            take(boss, "item")
            boss.goto(f"{server.address.url}/admin/team")
            take(boss, "people")
            boss.set_viewport_size({"width": 390, "height": 844})
            boss.goto(f"{server.address.url}/admin")
            take(boss, "overview-phone")
            browser.close()


if __name__ == "__main__":
    main()
