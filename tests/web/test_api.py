"""Requests as a page sends them, and as somebody sends them who is not a page."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from accord.records import Comparison, Pair, Prompt, Response
from accord.store import LabelStore, campaign, measuring, people
from accord.web.app import build
from accord.web.security import BODY_LIMIT, RateLimit, is_loopback
from accord.web.service import Service
from tests.stores import pair
from tests.web.conftest import ORIGIN, Clock, Person

Visit = Callable[..., Person]


def test_a_judgement_is_kept_and_the_next_item_comes_with_the_answer(visit: Visit, store: LabelStore) -> None:
    ann = visit("ann")
    first = ann.sync().json()
    assert len(first["items"]) == 3  # the one shown and two ahead
    said = ann.say(first["items"][0], "right", milliseconds=900)
    reply = ann.sync(said, have=tuple(item["assignment"] for item in first["items"])).json()
    assert reply["results"] == [{"id": said["body"]["id"], "status": 200, "counted": True}]
    assert len(reply["items"]) == 1
    assert reply["progress"]["mine"] == 1
    assert store.comparisons()[0].annotator == "ann"
    again = ann.sync(said).json()["results"][0]
    assert again["status"] == 200
    other = said | {"body": said["body"] | {"verdict": "tie"}}
    assert ann.sync(other).json()["results"][0]["status"] == 409
    assert len(store.comparisons()) == 1


def test_one_bad_entry_does_not_stop_the_others(visit: Visit, store: LabelStore) -> None:
    ann = visit("ann")
    items = ann.sync().json()["items"]
    entries = [
        ann.say(items[0]),
        {"op": "judgement", "body": {"id": "no uuid"}},
        ann.say({"assignment": str(uuid.uuid4())}),
        {"op": "undo", "id": str(uuid.uuid4()), "event": str(uuid.uuid4())},
        ann.say(items[1]) | {"surprise": 1},
        ann.say(items[1]),
    ]
    assert [r["status"] for r in ann.sync(*entries).json()["results"]] == [200, 422, 404, 404, 422, 200]
    assert len(store.comparisons()) == 2


def test_sides_are_the_servers_and_no_answer_tells_its_model(visit: Visit, store: LabelStore) -> None:
    """The side is the one that was assigned, whatever the page sends; policy and stored side never leave."""
    secret = Pair(
        Prompt.from_text("who"),
        Response("first", policy="SECRET-POLICY", lineage={"model": "SECRET-MODEL"}),
        Response("second", policy="SECRET-POLICY-2"),
        round=7,
    )
    store.add_pairs([secret], overlap=1, priority=9)
    ann = visit("ann")
    reply = ann.sync()
    assert "SECRET" not in reply.text
    assert secret.id not in reply.text
    item = reply.json()["items"][0]
    assert set(item) == {"assignment", "kind", "answers", "practice", "html"}
    left = re.findall(r"first|second", item["html"])[0]
    ann.sync(ann.say(item, "left"))
    kept = store.comparisons()[0]
    chosen = kept.chosen
    assert chosen is not None
    assert chosen.text == left
    assert kept.pair.shown_left == kept.verdict
    assert "SECRET" not in ann.client.get("/api/recent").text


def test_recent_fills_the_page_again(visit: Visit) -> None:
    ann = visit("ann")
    item = ann.sync().json()["items"][0]
    spans = [{"place": 1, "start": 0, "end": 2, "quote": "no", "mark": "bad"}]
    ann.sync(ann.say(item, "right", reason="why", spans=spans, milliseconds=50))
    (last,) = ann.client.get("/api/recent").json()
    assert last["item"]["assignment"] == item["assignment"]
    assert last["said"]["verdict"] == "right"
    assert last["said"]["spans"] == spans
    assert last["said"]["reason"] == "why"


def test_an_annotator_sees_and_writes_only_what_is_theirs(visit: Visit) -> None:
    ann, bob = visit("ann"), visit("bob")
    mine = ann.sync().json()["items"][0]
    assert bob.sync(bob.say(mine)).json()["results"][0]["status"] == 404
    assert bob.client.get(f"/api/whole/{mine['assignment']}/0").status_code == 404
    assert ann.client.get(f"/api/whole/{mine['assignment']}/0").status_code == 200
    assert ann.client.get(f"/api/whole/{mine['assignment']}/5").status_code == 404
    bob.client.post(
        "/api/release", data={"csrf": bob.csrf, "held": mine["assignment"]}, headers={"origin": ORIGIN}
    )
    assert mine["assignment"] in ann.sync().json()["held"]


ADMIN = [
    "/admin",
    "/admin/live",
    "/admin/team",
    "/admin/items",
    "/admin/settings",
    "/admin/export/labels.jsonl",
    "/admin/export/history.jsonl",
]


@pytest.mark.parametrize("path", [*ADMIN, f"/admin/items/{pair(0).id}"])
def test_operators_pages_and_exports_need_the_role(visit: Visit, path: str) -> None:
    assert visit("ann").client.get(path).status_code == 403
    assert visit("op", "admin").client.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/admin/pause", "/admin/team", "/admin/person", "/admin/settings", f"/admin/items/{pair(0).id}"]
)
def test_levers_need_the_role_and_the_token(visit: Visit, path: str) -> None:
    assert visit("ann").post(path).status_code == 403
    op = visit("op", "admin")
    assert op.client.post(path, data={}, headers={"origin": ORIGIN}).status_code == 403


def test_nobody_is_let_in_without_a_session(visit: Visit, store: LabelStore) -> None:
    client = TestClient(visit("ann").client.app, base_url=ORIGIN, follow_redirects=False)
    assert client.get("/").headers["location"] == "/signin"
    for path in ADMIN:
        assert client.get(path).headers.get("location") == "/signin", path
    assert client.post("/api/sync", json={}, headers={"origin": ORIGIN}).status_code == 401
    assert client.get("/api/recent").status_code == 401
    client.cookies.set("accord_session", "guess")
    assert client.get("/api/recent").status_code == 401


def test_writes_need_the_origin_and_the_token(visit: Visit, store: LabelStore) -> None:
    ann = visit("ann")
    item = ann.sync().json()["items"][0]
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1"},
        {"x-csrf-token": "0" * 64},
    ):
        assert ann.sync(ann.say(item), **headers).status_code == 403, headers
    body = {"entries": [ann.say(item)], "have": []}
    assert ann.client.post("/api/sync", json=body, headers={"x-csrf-token": ann.csrf}).status_code == 403
    assert ann.client.post("/api/sync", json=body, headers={"origin": ORIGIN}).status_code == 403
    assert store.comparisons() == []


def test_a_foreign_host_is_refused(visit: Visit) -> None:
    """DNS rebinding: another name that leads to this address."""
    ann = visit("ann")
    assert ann.client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert ann.client.get("/", headers={"host": "localhost:8400"}).status_code == 200
    assert ann.client.get("/", headers={"host": "[::1]:8400"}).status_code == 200


def test_the_longest_judgement_that_the_schema_takes_fits_into_a_request(
    visit: Visit, store: LabelStore
) -> None:
    """JSON writes a control character with six bytes: 6 · (4,000 + 50 · 2,000) and some names."""
    ann = visit("ann")
    item = ann.sync().json()["items"][0]
    mark = {"place": 0, "start": 9_999_998, "end": 9_999_999, "quote": "\x01" * 2000, "mark": "good"}
    entry = ann.say(item, reason="\x01" * 4000, spans=[mark] * 50, ui="1" * 40, milliseconds=10**9)
    assert 624_000 < len(json.dumps({"entries": [entry], "have": [str(uuid.uuid4())] * 40})) < BODY_LIMIT
    assert ann.sync(entry).json()["results"][0]["status"] == 200
    kept = store.comparisons()[0]
    assert (len(kept.reason), len(kept.spans)) == (4000, 50)


def test_bodies_are_limited_with_and_without_a_stated_length(visit: Visit) -> None:
    ann = visit("ann")
    heads = {"origin": ORIGIN, "x-csrf-token": ann.csrf}
    large = b'{"entries": [], "have": ["' + b"x" * BODY_LIMIT + b'"]}'
    assert ann.client.post("/api/sync", content=large, headers=heads).status_code == 413
    assert (
        ann.client.post("/api/sync", content=iter([large[:1000], large[1000:]]), headers=heads).status_code
        == 413
    )
    reason = ann.say(ann.sync().json()["items"][0], reason="x" * 4001)
    assert ann.sync(reason).json()["results"][0]["status"] == 422


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/signin",
        "/enter",
        "/nowhere",
        "/static/x/style.css",
        "/static/x/none.css",
        "/api/recent",
        "/admin",
        "/health",
    ],
)
def test_every_response_forbids_what_it_can(visit: Visit, path: str) -> None:
    reply = visit("ann").client.get(path)
    policy = reply.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]{22})';", policy)
    assert nonce
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy.replace("https:", "http:")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-frame-options"] == "DENY"
    for tag in re.findall(r"<(?:script|link rel=\"(?:stylesheet|modulepreload)\")[^>]*>", reply.text):
        assert f'nonce="{nonce[1]}"' in tag
        assert "src=" in tag or "href=" in tag  # none inline
    assert not re.search(r"\son\w+=|style=", reply.text)


def test_nonces_are_fresh(visit: Visit) -> None:
    ann = visit("ann")
    assert len({ann.client.get("/").headers["content-security-policy"] for _ in range(5)}) == 5


def test_cookies_are_out_of_reach_of_scripts(store: LabelStore, clock: Clock) -> None:
    application = build(store, public_url="https://label.example.org", hosts=None, clock=clock)
    token = store.write(
        lambda c: (people.ensure(c, [("ann", "annotator")], 0.0), people.new_link(c, "ann", clock()))[1]
    )
    client = TestClient(application, base_url="https://label.example.org")
    reply = client.post("/enter", data={"token": token}, headers={"origin": "https://label.example.org"})
    cookie = reply.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "secure", "path=/"))
    application.app.state.service.writer.close()  # type: ignore[attr-defined]


def test_static_files_come_from_memory_only(visit: Visit) -> None:
    client = visit("ann").client
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "style.css/../../app.py"):
        assert client.get(f"/static/x/{name}").status_code == 404, name


def sign_in(client: TestClient, name: str, password: str) -> Any:
    page = client.get("/signin").text
    token = re.search(r'name="csrf" value="(\w+)"', page)
    assert token
    values = {"csrf": token[1], "name": name, "password": password}
    return client.post("/signin", data=values, headers={"origin": ORIGIN})


def test_a_password_signs_in_and_tries_are_limited(visit: Visit, store: LabelStore) -> None:
    ann = visit("ann")
    reply = ann.post("/account", password="a long password", again="a long password")
    assert reply.headers["location"] == "/"
    assert (
        ann.post("/account", password="another one!", again="another one!").status_code == 422
    )  # present one
    stranger = TestClient(ann.client.app, base_url=ORIGIN, follow_redirects=False)
    assert sign_in(stranger, "ann", "a long password").headers["location"] == "/"
    assert stranger.get("/api/recent").status_code == 200
    codes = [sign_in(stranger, "Nobody", f"guess {n}").status_code for n in range(6)]
    assert codes == [403] * 5 + [429]
    last = sign_in(stranger, "nobody", "again")  # the same name in other letters
    assert last.status_code == 429
    assert 0 < int(last.headers["retry-after"]) <= 60
    assert "do not fit together" in sign_in(stranger, "ann", "wrong").text  # the same words as for nobody


def test_sign_in_needs_its_own_token(visit: Visit) -> None:
    stranger = TestClient(visit("ann").client.app, base_url=ORIGIN)
    stranger.get("/signin")
    values = {"csrf": "0" * 64, "name": "ann", "password": "x"}
    assert stranger.post("/signin", data=values, headers={"origin": ORIGIN}).status_code == 403


def test_signing_out_ends_the_session(visit: Visit) -> None:
    ann = visit("ann")
    cookie = ann.client.cookies["accord_session"]
    assert ann.post("/signout").headers["location"] == "/signin"
    ann.client.cookies.set("accord_session", cookie)
    assert ann.client.get("/api/recent").status_code == 401


def test_the_rate_limit_lets_in_again() -> None:
    clock = Clock()
    limit = RateLimit(2, 60, clock)
    assert [limit.wait("a"), limit.wait("a"), limit.wait("b")] == [0, 0, 0]
    clock.now += 59
    assert limit.wait("a") == pytest.approx(1)
    clock.now += 2
    assert limit.wait("a") == 0


def test_what_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.4", "example.org"))


def test_gold_and_repeats_look_like_any_other_item(visit: Visit, store: LabelStore) -> None:
    store.write(lambda c: campaign.save(c, "op", 0.0, gold_every=2, repeat_every=2, repeat_after=1))
    store.write(lambda c: measuring.set_gold(c, "op", pair(5).id, "gold", "a", "secret note", 0.0))
    ann = visit("ann")
    shapes = set()
    for _ in range(12):
        items = ann.sync().json()["items"]
        if not items:
            break
        reply = ann.sync(ann.say(items[0])).json()
        shapes.add(
            json.dumps([sorted(items[0]), sorted(reply["results"][0]), reply["results"][0]["counted"]])
        )
        assert "secret note" not in json.dumps(reply)
    assert len(shapes) == 1


def test_an_operator_can_do_what_the_pages_offer(visit: Visit, store: LabelStore) -> None:
    op, ann, bob = visit("op", "admin"), visit("ann"), visit("bob")
    held = ann.sync().json()["items"]
    ann.sync(ann.say(held[0], "left", reason="<b>because</b>"))
    key = store.comparisons()[0].pair.id
    page = op.client.get(f"/admin/items/{key}").text
    assert "&lt;b&gt;because&lt;/b&gt;" in page
    assert "round-0" in page  # only here is said which model wrote it
    event = re.search(r'name="event" value="([\w-]+)"', page)
    assert event
    assert op.post(f"/admin/items/{key}", action="retract", event=event[1], reason="test").status_code == 303
    assert store.comparisons() == []
    assert op.post(f"/admin/items/{key}", action="assign", to="bob").status_code == 303
    assert bob.sync().json()["items"][0]["html"].count("question 0") == 1
    assert op.post("/admin/person", name="ann", action="reassign", to="bob").status_code == 303
    assert len(bob.sync().json()["held"]) == 3
    assert op.post("/admin/person", name="ann", action="pause").status_code == 303
    assert ann.sync().json()["paused"]
    assert op.post("/admin/person", name="op", action="annotator").status_code == 409
    assert op.post("/admin/person", name="none", action="pause").status_code == 404
    assert op.post("/admin/pause", paused="yes").status_code == 303
    assert store.read(campaign.load).paused
    reply = op.post("/admin/team", name="New Person", role="annotator")
    assert re.search(r"/enter#[\w-]{32}", reply.text)
    assert "cannot be the name" in op.post("/admin/team", name="simulated:1").text
    assert (
        op.post(f"/admin/items/{key}", action="gold", purpose="gold", verdict="b", note="so").status_code
        == 303
    )
    assert op.client.get("/admin/items?show=gold").text.count("<tr>") == 2
    form = {"title": "T", "question": "Q?", "guidelines": "**bold**", "criteria": "safe: Which is safer?"}
    form |= {"overlap": "2", "lease_seconds": "60", "gold_every": "0", "repeat_every": "0"}
    form |= {"repeat_after": "5", "strength": "yes"}
    saved = op.post("/admin/settings", **form)
    assert "Saved." in saved.text
    found = store.read(campaign.load)
    assert (found.overlap, found.strength, found.criteria[0].name) == (2, True, "safe")
    bad = op.post("/admin/settings", **form | {"overlap": "0", "criteria": "1: x", "gold_every": "1"})
    assert bad.status_code == 422
    assert "overlap" in bad.text


def test_the_list_of_items_can_be_filtered(visit: Visit, store: LabelStore) -> None:
    op = visit("op", "admin")
    store.add([Comparison(pair(0), "a", "ann")])
    store.write(lambda c: measuring.set_gold(c, "op", pair(1).id, "gold", "a", "", 0.0))
    for which, numbers in (("all", range(6)), ("open", (2, 3, 4, 5)), ("done", (0,)), ("gold", (1,))):
        text = op.client.get(f"/admin/items?show={which}").text
        assert [n for n in range(6) if f"question {n}" in text] == list(numbers), which


def test_exports_are_ascii_lines(visit: Visit, store: LabelStore) -> None:
    odd = Pair(
        Prompt.from_text("q\u2028\u202e\x00\ud800"),
        Response("<script>alert(1)</script>\x85"),
        Response("b\r\n"),
    )
    store.add_pairs([odd], overlap=1, priority=9)
    ann = visit("ann")
    ann.sync(ann.say(ann.sync().json()["items"][0]))
    reply = visit("op", "admin").client.get("/admin/export/labels.jsonl")
    assert reply.headers["content-disposition"] == 'attachment; filename="labels.jsonl"'
    assert reply.text.isascii()
    (line,) = reply.text.splitlines()
    assert json.loads(line)["a"]["text"] == odd.a.text
    history = visit("op", "admin").client.get("/admin/export/history.jsonl").text.splitlines()
    assert [json.loads(line)["kind"] for line in history] == ["judgement"]


def test_an_error_of_ours_says_nothing_about_our_insides(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = visit("ann")

    def fault(*_: Any) -> None:
        raise RuntimeError("secret insides")

    monkeypatch.setattr("accord.web.annotate._sync", fault)
    client = TestClient(
        ann.client.app, base_url=ORIGIN, cookies=ann.client.cookies, raise_server_exceptions=False
    )
    reply = Person(client, "ann").sync()
    assert reply.status_code == 500
    assert "secret" not in reply.text


def test_one_request_counts_the_queue_and_the_others_are_told_the_last_count(tmp_path: Any) -> None:
    """Counting reads the whole queue: when the count is too old, all that ask at once must not do it."""
    with LabelStore(tmp_path / "labels.db") as store:
        store.add_pairs([pair(n) for n in range(3)], overlap=2)
        here = Service(store)
        counted: list[bool] = []

        async def ask() -> list[dict[str, int]]:
            first = await here.totals()
            assert here._totals is not None
            here._totals = (0.0, here._totals[1] | {"done": 5})  # too old, and known by its 5
            plain = here.read

            async def slow(job: Any) -> Any:
                counted.append(True)
                await asyncio.sleep(0)
                return await plain(job)

            here.read = slow  # type: ignore[method-assign]
            return [first, *await asyncio.gather(here.totals(), here.totals(), here.totals())]

        told = asyncio.run(ask())
        here.writer.close()
    assert told[0] == told[1] == {"done": 0, "total": 6}
    assert told[2] == told[3] == {"done": 5, "total": 6}
    assert len(counted) == 1
