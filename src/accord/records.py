"""The records that flow through accord: prompts, responses, comparisons. No torch here.

A prompt is a tuple of messages. Plain text is read as one user turn. Identity of a prompt (for splits
and for caching) is a hash of its normalised messages, so that white space and case do not make two of one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Verdict = Literal["a", "b", "tie", "both_bad", "skip"]
Side = Literal["a", "b"]
VERDICTS: tuple[Verdict, ...] = ("a", "b", "tie", "both_bad", "skip")
ROLES = ("system", "user", "assistant", "tool")
# How labels are signed that no person gave. An empty name is somebody unknown, and taken for a person.
NOT_PEOPLE = ("simulated:", "judge:", "function:")
MESSAGE_EXTRAS = ("name", "tool_calls", "tool_call_id", "reasoning_content")  # what chat templates read


class BadInput(ValueError):
    """Something the user gave cannot be used: one sentence with the value, the limit and the way out.

    The command line prints it and exits with code 2.
    """


class WaitingForLabels(Exception):
    """The run needs people's labels before it can go on. The command line exits with code 3."""


def is_person(annotator: str) -> bool:
    """Whether a label signed so is a person's, and not a simulated annotator's, a model's or a function's."""
    return not annotator.startswith(NOT_PEOPLE)


def extra_json(value: Any) -> str:
    """Canonical JSON without nulls at the top (tables fill absent fields with null); empty for nothing."""
    kept = {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value
    return json.dumps(kept, sort_keys=True, ensure_ascii=False, allow_nan=False) if kept else ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``extra`` is what a chat template may want besides: tool_calls, tool_call_id, name.

    It is kept as the text of a JSON object (empty for most messages), so that a message stays hashable.
    """

    role: str
    content: str
    extra: str = ""

    def to_json(self) -> dict[str, Any]:
        more: dict[str, Any] = json.loads(self.extra) if self.extra else {}
        return {"role": self.role, "content": self.content} | more

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Message:
        extra = extra_json({k: value.get(k) for k in MESSAGE_EXTRAS}) if len(value) > 2 else ""
        return cls(value["role"], value["content"], extra)


def normalised(text: str) -> str:
    """White space collapsed, case folded: what "the same prompt" means in splits."""
    return " ".join(text.split()).casefold()


def content_hash(*parts: str) -> str:
    """16 hexadecimal digits of SHA-256 over the parts, each length-prefixed so that parts cannot run
    together.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation up to and including the turn that is to be answered.

    ``tools`` is the JSON text of the list of functions that the assistant may call; empty for none.
    """

    messages: tuple[Message, ...]
    tools: str = ""

    @classmethod
    def from_text(cls, text: str) -> Prompt:
        return cls((Message("user", text),))

    @property
    def key(self) -> str:
        """Identity after normalising white space and case; splits and clusters go by this key."""
        parts = [part for m in self.messages for part in (m.role, normalised(m.content))]
        extras = [part for i, m in enumerate(self.messages) if m.extra for part in (str(i), m.extra)]
        return content_hash(*parts, *extras, *(("tools", self.tools) if self.tools else ()))

    @property
    def text(self) -> str:
        """The last turn's content, for display."""
        return self.messages[-1].content if self.messages else ""

    @property
    def tool_list(self) -> list[dict[str, Any]] | None:
        """The functions as a chat template takes them."""
        out: list[dict[str, Any]] | None = json.loads(self.tools) if self.tools else None
        return out

    def messages_json(self) -> list[dict[str, Any]]:
        """The turns alone, as chat templates and interfaces take them."""
        return [m.to_json() for m in self.messages]

    def to_json(self) -> list[dict[str, Any]] | dict[str, Any]:
        """The list of messages; with tools, an object of messages and tools."""
        messages = self.messages_json()
        return {"messages": messages, "tools": self.tool_list} if self.tools else messages

    @classmethod
    def from_json(cls, value: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str) -> Prompt:
        if isinstance(value, str):
            return cls.from_text(value)
        if isinstance(value, Mapping):
            return replace(cls.from_json(value["messages"]), tools=extra_json(value.get("tools") or []))
        return cls(tuple(Message.from_json(m) for m in value))


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. ``tokens`` are the very ids that were sampled (end token included), never a re-encoding.

    ``lineage`` says where it comes from beyond the policy's name: model, sampling settings, run. People who
    judge never see it.
    """

    text: str
    tokens: tuple[int, ...] | None = None
    finished: bool = True
    policy: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"text": self.text, "policy": self.policy, "finished": self.finished}
        if self.tokens is not None:
            out["tokens"] = list(self.tokens)
        if self.lineage:
            out["lineage"] = dict(self.lineage)
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | str) -> Response:
        if isinstance(value, str):
            return cls(value)
        tokens = value.get("tokens")
        return cls(
            value["text"],
            tuple(tokens) if tokens is not None else None,
            bool(value.get("finished", True)),
            value.get("policy", ""),
            value.get("lineage") or {},
        )


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the answer to imitate (SFT)."""

    prompt: Prompt
    response: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers that wait for a comparison. ``shown_left`` is drawn at random and recorded."""

    prompt: Prompt
    a: Response
    b: Response
    shown_left: Side = "a"
    round: int = 0

    @property
    def id(self) -> str:
        return content_hash(self.prompt.key, self.a.text, self.b.text, str(self.round))

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "prompt": self.prompt.to_json(),
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "shown_left": self.shown_left,
            "round": self.round,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pair:
        return cls(
            Prompt.from_json(value["prompt"]),
            Response.from_json(value["a"]),
            Response.from_json(value["b"]),
            value.get("shown_left", "a"),
            int(value.get("round", 0)),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """A passage of an answer that an annotator marked.

    Attributes:
        side: the answer: ``a`` or ``b``; of a ranking, the number of the answer.
        start: first character in the text as it was shown (Markdown rendered); ``end`` is one past the last.
        quote: the passage.
        mark: ``good`` or ``bad``.
        source: (start, end) of the quote in the answer's own text; None where formatting runs through it, or
            where it stands there more than once.
    """

    side: str
    start: int
    end: int
    quote: str
    mark: Literal["good", "bad"] = "bad"
    source: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        out = {name: getattr(self, name) for name in ("side", "start", "end", "quote", "mark")}
        return out | {"source": list(self.source) if self.source else None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Span:
        source = value.get("source")
        place = (int(source[0]), int(source[1])) if source else None
        mark: Literal["good", "bad"] = "good" if value.get("mark") == "good" else "bad"
        start, end = int(value["start"]), int(value["end"])
        return cls(str(value["side"]), start, end, value["quote"], mark, place)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One judgement of one pair by one annotator.

    Attributes:
        verdict: which side is better, ``tie``, ``both_bad`` or ``skip``.
        strength: how clear the preference is, in the annotator's own units (None: not asked).
        annotator: who judged; who is no person signs with one of `NOT_PEOPLE` in front.
        source: where the label comes from (file or judge), for reports.
        criterion: what was asked (helpful, harmless, …); empty where it was simply which is better.
        reason: why, in the annotator's own words.
        spans: passages that the annotator marked.
        milliseconds: how long the pair was looked at; None where nobody measured it.
        ui: version of the page on which it was judged; empty where it was none.
    """

    pair: Pair
    verdict: Verdict
    annotator: str = ""
    strength: float | None = None
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    criterion: str = ""
    reason: str = ""
    spans: tuple[Span, ...] = ()
    milliseconds: int | None = None
    ui: str = ""

    @property
    def prompt(self) -> Prompt:
        return self.pair.prompt

    @property
    def chosen(self) -> Response | None:
        """The preferred answer, or None where the verdict names no winner."""
        return {"a": self.pair.a, "b": self.pair.b}.get(self.verdict)

    @property
    def rejected(self) -> Response | None:
        return {"a": self.pair.b, "b": self.pair.a}.get(self.verdict)

    def to_json(self) -> dict[str, Any]:
        out = self.pair.to_json()
        out |= {"verdict": self.verdict, "annotator": self.annotator, "strength": self.strength}
        out |= {"source": self.source, "meta": dict(self.meta)}
        return out | self.extras()

    def extras(self) -> dict[str, Any]:
        """What only some judgements have, as JSON; nothing where there is nothing."""
        out: dict[str, Any] = {
            "criterion": self.criterion,
            "reason": self.reason,
            "spans": [span.to_json() for span in self.spans],
            "milliseconds": self.milliseconds,
            "ui": self.ui,
        }
        return {key: value for key, value in out.items() if value not in ("", [], None)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Comparison:
        return cls(
            Pair.from_json(value),
            value["verdict"],
            value.get("annotator", ""),
            value.get("strength"),
            value.get("source", ""),
            value.get("meta") or {},
            value.get("criterion") or "",
            value.get("reason") or "",
            tuple(Span.from_json(span) for span in value.get("spans") or ()),
            value.get("milliseconds"),
            value.get("ui") or "",
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """Several answers to one prompt, put in order by one annotator.

    Attributes:
        ranks: the place of the response at the same index, 1 the best; equal numbers are ties.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    ranks: tuple[int, ...]
    annotator: str = ""
    source: str = ""
    criterion: str = ""
    round: int = 0

    def comparisons(self) -> list[Comparison]:
        """Every two answers as a comparison: the better rank wins, equal ranks tie; K(K-1)/2 of them.

        Side a is the answer that stands first. ``meta["ranking"]`` keeps them together, since they are one
        judgement and not independent ones.
        """
        whole = content_hash(self.prompt.key, *(response.text for response in self.responses))
        out: list[Comparison] = []
        for i, j in itertools.combinations(range(len(self.responses)), 2):
            verdict: Verdict = "tie"
            if self.ranks[i] != self.ranks[j]:
                verdict = "a" if self.ranks[i] < self.ranks[j] else "b"
            pair = Pair(self.prompt, self.responses[i], self.responses[j], round=self.round)
            meta = {"ranking": whole, "of": len(self.responses)}
            out.append(Comparison(pair, verdict, self.annotator, None, self.source, meta, self.criterion))
        return out

    def to_json(self) -> dict[str, Any]:
        out = {name: getattr(self, name) for name in ("annotator", "source", "criterion", "round")}
        return {
            "prompt": self.prompt.to_json(),
            "responses": [response.to_json() for response in self.responses],
            "ranks": list(self.ranks),
        } | out

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ranking:
        responses = tuple(Response.from_json(r) for r in value["responses"])
        ranks = tuple(int(rank) for rank in value["ranks"])
        if len(ranks) != len(responses) or len(responses) < 2:
            raise BadInput(
                f"a ranking has {len(responses)} responses and {len(ranks)} ranks: give 2 responses or more"
                " and one rank for each"
            )
        return cls(
            Prompt.from_json(value["prompt"]),
            responses,
            ranks,
            value.get("annotator", ""),
            value.get("source", ""),
            value.get("criterion", ""),
            int(value.get("round", 0)),
        )


def write_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as JSON Lines text, keys in the given order, UTF-8 kept."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


@dataclass(frozen=True, slots=True)
class Finding:
    """One question about a run, answered with a figure, its interval and the evidence behind it.

    Attributes:
        name: short identifier, for example ``win_rate``.
        question: what a reader wants to know, in plain words.
        figure: the number, or None where it cannot be measured (the verdict then says why).
        interval: 95% interval of ``figure``, or None.
        unit: unit of the figure and what it averages over.
        verdict: ``good``, ``warn``, ``bad`` or ``unknown``.
        sentence: one plain sentence that states the result.
        evidence: numbers and series behind it, plain JSON values.
    """

    name: str
    question: str
    figure: float | None
    interval: tuple[float, float] | None
    unit: str
    verdict: Literal["good", "warn", "bad", "unknown"]
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
