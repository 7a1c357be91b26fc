"""Does an answer say which model wrote it? Then the judgement is no longer blind, and the page says so."""

from __future__ import annotations

import re
from collections.abc import Iterable

_FAMILIES = (
    r"ChatGPT|GPT-?[345](?:\.\d)?\w*|OpenAI|Claude|Anthropic|Gemini|Bard|DeepMind|Llama(?:[ -]?\d)?|Meta AI|"
    r"Mistral|Mixtral|Qwen|Tongyi|DeepSeek|Grok|xAI|Copilot|Phi-\d|Gemma|Vicuna|Alpaca|Falcon|Cohere|"
    r"Command R|SmolLM\w*|Hugging ?Face|Kimi|Moonshot|GLM-?\d|ChatGLM|Yi-\d+|Nova|Pythia|BLOOM"
)
_SELF = re.compile(
    r"\b(?:I am|I'm|I’m|my name is|call me|this is|as)\s+(?:an?\s+|the\s+)?(?:[\w-]+\s+){0,4}?"
    rf"(?:{_FAMILIES})\b"
    rf"|\b(?:developed|trained|created|made|built)\s+by\s+(?:the\s+)?(?:[\w-]+\s+){{0,2}}?(?:{_FAMILIES})\b"
    r"|\b(?:as|I am|I'm|I’m)\s+an?\s+(?:AI|artificial intelligence|large language|language|AI language)\s+"
    r"(?:language\s+)?(?:model|assistant)\b",
    re.IGNORECASE,
)
_PLAIN = {
    "sft",
    "model",
    "policy",
    "base",
    "round",
    "chosen",
    "rejected",
    "instruct",
    "chat",
    "local",
    "human",
}
LOOKED_AT = 20_000  # characters: who names himself does so early


def names_itself(text: str, names: Iterable[str] = ()) -> bool:
    """Whether the answer says what it is, or holds the name of its own model (``names``: policy, model)."""
    start = text[:LOOKED_AT]
    if _SELF.search(start):
        return True
    for name in names:
        for word in re.split(r"[/\\:]", name):
            word = word.strip()
            # A name such as "round-0" or "sft" may stand in any answer; "SmolLM2-135M-Instruct" may not.
            if (
                len(word) < 5
                or word.casefold() in _PLAIN
                or re.fullmatch(r"(?:round|step|v)[-_ ]?\d+", word, re.I)
            ):
                continue
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", start, re.IGNORECASE):
                return True
    return False
