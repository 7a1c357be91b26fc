"""Wild records for property tests: any Unicode, tools, several turns."""

from __future__ import annotations

from hypothesis import strategies as st

from accord.records import (
    VERDICTS,
    Comparison,
    Demonstration,
    Message,
    Pair,
    Prompt,
    Response,
    extra_json,
)

texts = st.text(st.characters(codec="utf-8"), max_size=30)
some_text = texts.filter(lambda text: bool(text.strip()))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
extras = st.just("") | st.builds(
    lambda name, arguments: extra_json(
        {"tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}
    ),
    names,
    st.dictionaries(names, st.integers() | names, max_size=2),
)
turns = st.builds(Message, st.sampled_from(["system", "user", "tool"]), texts) | st.builds(
    Message, st.just("assistant"), texts, extras
)
last_turns = st.builds(Message, st.sampled_from(["user", "tool"]), some_text)
tools = st.just("") | st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function"), "function": st.dictionaries(names, texts, max_size=2)}
    ),
    min_size=1,
    max_size=2,
).map(extra_json)
prompts = st.builds(
    lambda before, last, given: Prompt((*before, last), given), st.lists(turns, max_size=3), last_turns, tools
)
tokens = st.none() | st.lists(st.integers(0, 200_000), max_size=5).map(tuple)
responses = st.builds(Response, some_text, tokens, st.booleans(), texts)
pairs = st.builds(Pair, prompts, responses, responses, st.sampled_from(["a", "b"]), st.integers(0, 9)).filter(
    lambda pair: pair.a.text != pair.b.text
)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
comparisons = st.builds(
    Comparison,
    pairs,
    st.sampled_from(VERDICTS),
    texts,
    st.none() | floats,
    some_text,
    st.dictionaries(texts, values, max_size=3),
    st.sampled_from(["", "helpful"]),
)
demonstrations = st.builds(Demonstration, prompts, some_text)
