"""Tools and tool calls: they reach the chat template, and a prompt without them is what it always was."""

from __future__ import annotations

from typing import Any

from accord.models import encode_prompt
from accord.records import Message, Prompt, content_hash, extra_json, normalised

TOOLS = [{"type": "function", "function": {"name": "weather"}}]
CALL = {"tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}


class Recorder:
    """A tokenizer that keeps what the template was given."""

    chat_template = "any"

    def apply_chat_template(self, messages: Any, *, tools: Any, **rest: Any) -> str:
        self.seen = (messages, tools, rest)
        return "rendered"

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert (text, add_special_tokens) == ("rendered", False)
        return {"input_ids": [7, 8]}


def test_tools_and_calls_reach_the_template() -> None:
    turns = (
        Message("user", "Rain?"),
        Message("assistant", "", extra_json(CALL)),
        Message("tool", "yes", extra_json({"name": "weather"})),
    )
    tokenizer = Recorder()
    assert encode_prompt(tokenizer, Prompt(turns, extra_json(TOOLS))) == (7, 8)
    messages, tools, rest = tokenizer.seen
    assert messages == [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": ""} | CALL,
        {"role": "tool", "content": "yes", "name": "weather"},
    ]
    assert tools == TOOLS
    assert rest == {"tokenize": False, "add_generation_prompt": True}
    encode_prompt(tokenizer, Prompt.from_text("Hi?"))
    assert tokenizer.seen[:2] == ([{"role": "user", "content": "Hi?"}], None)


def test_prompts_without_tools_keep_their_identity() -> None:
    """The key that stores and splits already hold: role and normalised content of each turn, nothing else."""
    prompt = Prompt((Message("system", " Be  BRIEF "), Message("user", "Hi?\u00a0there")))
    assert prompt.key == content_hash("system", "be brief", "user", "hi? there")
    assert normalised(" a\u2003\n B\x1f") == "a b"
    with_tools = Prompt(prompt.messages, extra_json(TOOLS))
    assert with_tools.key != prompt.key
    called = Prompt((Message("user", "x", extra_json({"name": "ann"})),))
    assert called.key != Prompt.from_text("x").key
