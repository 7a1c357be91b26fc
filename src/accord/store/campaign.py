"""How a store's items are to be judged: questions, overlap, leases, gold, guidelines. One row of settings."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any

import sqlalchemy as sql
from pydantic import Field, model_validator

from accord.config import Config, validate
from accord.store.schema import actions, queue, settings

GUIDELINES = """\
Read the whole conversation first, then both answers.

Choose the answer that would help the person more. Correct beats pleasant. Short beats long when nothing is \
missing. Looks do not count.

- **Tie** when you would not mind which one the person gets.
- **Both bad** when neither should be given to anybody.
- **Skip** when you cannot judge it: a language or a field you do not know.

Do not guess who or what wrote an answer. There is no time limit.
"""


class Criterion(Config):
    """One more question about the same pair."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,39}$", description="what exports call it")
    question: str = Field(min_length=1, max_length=200)


class Campaign(Config):
    """What people are asked, and how the work is shared out. Operators change it in the app."""

    title: str = Field("Which answer is better?", min_length=1, max_length=120)
    question: str = Field("Which answer is better?", min_length=1, max_length=200)
    guidelines: str = Field(GUIDELINES, max_length=40_000, description="Markdown")
    criteria: tuple[Criterion, ...] = Field((), max_length=5)
    strength: bool = Field(False, description="ask how much better, in three steps")
    reasons: bool = Field(True, description="offer a box for a reason")
    marks: bool = Field(True, description="offer marking of passages")
    overlap: Annotated[int, Field(ge=1, le=50)] = Field(1, description="different people an item")
    lease_seconds: Annotated[float, Field(ge=15)] = 600.0
    ahead: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="items a browser holds besides the one shown"
    )
    gold_every: Annotated[int, Field(ge=0)] = Field(0, description="one gold item in so many; 0: none")
    repeat_every: Annotated[int, Field(ge=0)] = Field(0, description="one repeated item in so many; 0: none")
    repeat_after: Annotated[int, Field(ge=1)] = Field(10, description="judgements between the two showings")
    paused: bool = False
    seed: str = Field("", description="of the sides; drawn once for each store")

    @model_validator(mode="after")
    def _sensible(self) -> Campaign:
        for name in ("gold_every", "repeat_every"):
            if getattr(self, name) == 1:
                raise ValueError(
                    f"{name} is 1, which leaves no place for new items: use 0 (none) or 2 and more"
                )
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise ValueError(f"criteria have the same name: {', '.join(names)}")
        return self


def load(connection: sql.Connection) -> Campaign:
    """The campaign as it stands; the defaults (and no seed yet) in a store that has none."""
    body = connection.scalar(sql.select(settings.c.body).where(settings.c.name == "campaign"))
    return validate(Campaign, json.loads(body), "campaign") if body else Campaign()


def save(connection: sql.Connection, actor: str, now: float, **changes: Any) -> Campaign:
    """Change settings; the change is written to the log of actions. Overlap holds for all unfinished items.

    Raises:
        BadInput: a value outside its limits.
    """
    before = load(connection)
    values = before.model_dump(mode="json") | changes
    values["seed"] = values["seed"] or secrets.token_hex(8)
    after = validate(Campaign, values, "campaign")
    changed = {
        key: value
        for key, value in after.model_dump(mode="json").items()
        if getattr(before, key) != getattr(after, key)
    }
    if not changed:
        return after
    row = {"name": "campaign", "body": json.dumps(after.model_dump(mode="json"))}
    there = connection.scalar(sql.select(settings.c.name).where(settings.c.name == "campaign"))
    if there:
        connection.execute(sql.update(settings).where(settings.c.name == "campaign").values(body=row["body"]))
    else:
        connection.execute(sql.insert(settings), row)
    if before.overlap != after.overlap:
        # A slot that is taken stays: an item never gets fewer slots than it has holders.
        wanted = sql.case((queue.c.taken > after.overlap, queue.c.taken), else_=after.overlap)
        connection.execute(sql.update(queue).values(overlap=wanted))
    changed.pop("seed", None)
    log(connection, actor, "settings", now, changed)
    return after


def log(connection: sql.Connection, actor: str, action: str, now: float, detail: Any) -> None:
    """Write down what an operator did; never changed afterwards."""
    connection.execute(
        sql.insert(actions), {"created": now, "actor": actor, "action": action, "body": json.dumps(detail)}
    )
