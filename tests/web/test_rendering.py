"""What a model wrote becomes text that cannot do anything, in bounded time and size."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.web import identity
from accord.web.rendering import SHOWN_LIMIT, TAGS, render
from tests.web.payloads import PAYLOADS

ALLOWED = TAGS | {"div"}


def harmless(html: str) -> bool:
    """Only known tags, with only known attributes."""
    for tag in re.findall(r"<[^>]*>?", html):
        found = re.fullmatch(
            r'<(/?)(\w+)((?: (?:class|dir|tabindex|start|role|aria-label)="[\w -]*")*)>', tag
        )
        if not found or found[2] not in ALLOWED:
            return False
    return True


def test_there_are_at_least_sixty_payloads() -> None:
    assert len(PAYLOADS) >= 60


@pytest.mark.timeout(120)  # milliseconds where time is linear; for ever where it is exponential
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_text_in_bounded_time_and_size(name: str) -> None:
    shown = render(PAYLOADS[name])
    assert harmless(shown.html)
    assert len(shown.html) < 2_000_000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.html)
    assert not re.search("[\ud800-\udfff]", shown.html)
    assert shown.cut == max(0, len(PAYLOADS[name]) - SHOWN_LIMIT)


@given(
    st.text(st.characters(), max_size=200)
    | st.text("<>\"'&;=/`*_[]()!#-|: \n\\javscriptonerror", max_size=200)
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_harmless(text: str) -> None:
    assert harmless(render(text).html)


def test_markdown_is_rendered() -> None:
    html = render(
        "# T\n\n**b** *i* ~~s~~ `c`\n\n- x\n\n1. y\n\n> q\n\n```py\na < b\n```\n\n|h|\n|:-:|\n|c|\n"
    ).html
    for part in (
        "<strong>b</strong>",
        "<em>i</em>",
        "<s>s</s>",
        "<code>c</code>",
        "<ul",
        "<ol",
        "<blockquote",
        "<th",
        "a &lt; b",
    ):
        assert part in html
    assert '<h1 dir="auto">T</h1>' in html


def test_links_say_where_they_lead_and_lead_nowhere() -> None:
    html = render("[here](https://example.org/a?b=1&c=2) and <https://x.example>").html
    assert "<a" not in html
    assert (
        '<span class="link">here</span> <span class="address">(https://example.org/a?b=1&amp;c=2)</span>'
        in html
    )
    assert "[image: alt words]" in render("![alt words](https://example.org/x.png)").html


def test_white_space_and_long_texts() -> None:
    assert render("a  \nb").html == '<p dir="auto">a<br>\nb</p>\n'
    long = "word " * 20_000
    assert not render(long).markdown
    assert render(long).html.count("word") == 20_000


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I am ChatGPT, a large language model.", ()),
        ("As an AI language model, I cannot say.", ()),
        ("As a large language model I cannot", ()),
        ("I'm Claude, made by Anthropic", ()),
        ("I was trained by OpenAI.", ()),
        ("I was developed by Meta AI", ()),
        ("My name is Qwen.", ()),
        ("Hello from SmolLM2-135M-Instruct!", ("models/SmolLM2-135M-Instruct",)),
    ],
)
def test_an_answer_that_names_its_model_is_flagged(text: str, names: tuple[str, ...]) -> None:
    assert identity.names_itself(text, names)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The llama is a domesticated animal.", ()),
        ("Claude Monet painted this as an impressionist.", ()),
        ("OpenAI released ChatGPT in 2022.", ()),
        ("The base of the round table", ("sft", "round-0", "base")),
        ("Use a language model to translate.", ()),
        ("", ("policy",)),
    ],
)
def test_other_answers_are_not_flagged(text: str, names: tuple[str, ...]) -> None:
    assert not identity.names_itself(text, names)
