"""A model's text as HTML that cannot do anything: Markdown without HTML, cleaned a second time.

What is not rendered, on purpose: images (a request to somebody's server tells who is reading), links (shown
with their address, but not clickable: one click on a model's link leaves the store), raw HTML (as text).
Control characters that turn the direction of text, or that nobody sees, are shown by their number. Very long
texts are not parsed: a Markdown parser must not be where a hostile answer spends our time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple, cast

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

MARKDOWN_LIMIT = 60_000  # characters; longer texts are shown as they are
SHOWN_LIMIT = 100_000  # characters shown at once; the rest comes on request
GROWTH_LIMIT = 12  # HTML characters for each character of text, beyond which it is shown as it is
BLOCKS = ("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "table", "td", "th")
TAGS = {*BLOCKS, "em", "strong", "s", "code", "pre", "hr", "br", "thead", "tbody", "tr", "span"}
# Embeddings and overrides reorder what follows them; isolates and the marks LRM, RLM and ALM are harmless
# where each block is isolated already, but an isolate that is never closed is not: it is shown as well.
_HIDDEN = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")


class Rendered(NamedTuple):
    html: str
    cut: int  # characters that are not shown
    markdown: bool


def _visible(match: re.Match[str]) -> str:
    return f"\u27e8U+{ord(match[0]):04X}\u27e9"


def tamed(text: str) -> str:
    """``text`` with line ends unified, lone surrogates replaced and invisible controls shown by number."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.encode("utf-8", "replace").decode("utf-8") if _has_surrogate(text) else text
    return _limit_marks(_HIDDEN.sub(_visible, text))


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _limit_marks(text: str) -> str:
    """No more than four combining marks in a row: stacks of them ("Zalgo") run over the lines around."""
    if text.isascii():
        return text
    out: list[str] = []
    run = 0
    for character in text:
        run = run + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if run <= 4:
            out.append(character)
    return "".join(out)


def _parser() -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark", {"html": False, "linkify": False, "typographer": False, "maxNesting": 16}
    )
    parser.enable(["table", "strikethrough"])
    rules: dict[str, Any] = cast(RendererHTML, parser.renderer).rules
    rules["image"] = _image
    rules["link_open"] = _link_open
    rules["link_close"] = _link_close
    rules["fence"] = rules["code_block"] = _code
    return parser


def _image(tokens: Sequence[Token], index: int, *_: Any) -> str:
    words = escape(tokens[index].content or "no description")
    return f'<span class="inert">[image: {words}]</span>'


def _link_open(tokens: Sequence[Token], index: int, *_: Any) -> str:
    return '<span class="link">'


def _link_close(tokens: Sequence[Token], index: int, *_: Any) -> str:
    depth = 0
    for token in reversed(tokens[: index + 1]):  # the opening that belongs to this end
        depth += {"link_close": 1, "link_open": -1}.get(token.type, 0)
        if depth == 0:
            address = str(token.attrGet("href") or "")
            return f'</span> <span class="address">({escape(address[:300])})</span>'
    return "</span>"


def _code(tokens: Sequence[Token], index: int, *_: Any) -> str:
    return f'<pre dir="ltr" tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'


_markdown = _parser()


@lru_cache(maxsize=2048)
def render(text: str) -> Rendered:
    """Safe HTML of a model's (or a person's) text, at most `SHOWN_LIMIT` characters of it."""
    cut = max(0, len(text) - SHOWN_LIMIT)
    shown = tamed(text[:SHOWN_LIMIT])
    if len(shown) <= MARKDOWN_LIMIT:
        html = _rendered(shown)
        if html is not None:
            return Rendered(html, cut, True)
    return Rendered(plain(shown), cut, False)


def _rendered(text: str) -> str | None:
    try:
        tokens = _markdown.parse(text)
        for token in tokens:
            if token.nesting >= 0 and token.tag in BLOCKS:
                token.attrSet("dir", "auto")
            token.attrs.pop("style", None)  # of table cells; the policy of the page forbids it
        html = str(_markdown.renderer.render(tokens, _markdown.options, {}))
    except RecursionError:
        return None
    if len(html) > 2000 + GROWTH_LIMIT * len(text):
        return None
    return (
        nh3.clean(
            html,
            tags=TAGS,
            attributes={"*": {"dir"}, "span": {"class"}, "pre": {"tabindex"}, "ol": {"start"}},
            url_schemes=set(),
            link_rel=None,
            strip_comments=True,
        )
        .replace("<table", '<div class="scroll" tabindex="0" role="group" aria-label="table"><table')
        .replace("</table>", "</table></div>")
    )


def plain(text: str) -> str:
    """The text as it is, line breaks kept."""
    return f'<div class="plain" dir="auto">{escape(text)}</div>'


def guidelines(text: str) -> str:
    """An operator's Markdown: the same rules, since operators paste too."""
    return render(text).html
