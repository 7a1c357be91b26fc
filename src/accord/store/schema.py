"""The tables of the label store. What was said is append-only; who holds what just now is not.

- ``items`` and ``judgements`` (and ``actions``, what operators did) are never changed or removed: a trigger
  refuses it. Undo, correction and retraction are new rows of ``judgements``.
- ``queue``, ``assignments``, ``gold``, ``people``, ``sessions``, ``links`` and ``settings`` are the state of
  a labelling campaign. All of it could be lost without losing a label.

The texts of ``body`` are ASCII JSON, so that any string survives any database (PostgreSQL has no NUL).
"""

from __future__ import annotations

import sqlalchemy as sql

metadata = sql.MetaData()

items = sql.Table(
    "accord_items",
    metadata,
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("id", sql.String(16), nullable=False, unique=True),  # Pair.id, or the hash of a ranking
    sql.Column("kind", sql.String(8), nullable=False),  # pair, ranking
    sql.Column("round", sql.Integer, nullable=False, index=True),
    sql.Column("body", sql.Text, nullable=False),  # prompt, answers with model, sampling and run
)

judgements = sql.Table(
    "accord_judgements",
    metadata,
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("event", sql.String(36), nullable=False, unique=True),  # a UUID that the client made
    sql.Column("kind", sql.String(9), nullable=False),  # judgement, undo, retract
    sql.Column("item", sql.String(16), sql.ForeignKey("accord_items.id"), nullable=False, index=True),
    sql.Column("annotator", sql.Text, nullable=False),
    sql.Column("content", sql.String(16), nullable=False),  # of what was said; not unique: a, b, then a again
    sql.Column("target", sql.String(36), nullable=True),  # the event that this one undoes, retracts, corrects
    sql.Column("assignment", sql.String(36), nullable=True),
    sql.Column("purpose", sql.String(8), nullable=False),  # label, gold, practice, repeat, surplus
    sql.Column("created", sql.Float, nullable=False),  # Unix seconds
    sql.Column("body", sql.Text, nullable=False),
)
sql.Index("accord_judgements_annotator", judgements.c.annotator, judgements.c.sequence)
sql.Index("accord_judgements_target", judgements.c.target)

queue = sql.Table(
    "accord_queue",
    metadata,
    sql.Column("item", sql.String(16), sql.ForeignKey("accord_items.id"), primary_key=True),
    sql.Column("sequence", sql.Integer, nullable=False),
    sql.Column("priority", sql.Float, nullable=False),  # higher comes first
    sql.Column("overlap", sql.Integer, nullable=False),  # k: how many different people judge it
    sql.Column("taken", sql.Integer, nullable=False),  # slots held or filled; never above overlap
    sql.Column("done", sql.Integer, nullable=False),  # slots filled
    sql.Column("elsewhere", sql.Integer, nullable=False),  # of these, filled from files
)
sql.Index("accord_queue_order", queue.c.priority.desc(), queue.c.sequence)

assignments = sql.Table(
    "accord_assignments",
    metadata,
    sql.Column("id", sql.String(36), primary_key=True),
    sql.Column("item", sql.String(16), sql.ForeignKey("accord_items.id"), nullable=False),
    sql.Column("annotator", sql.Text, nullable=False),
    sql.Column("purpose", sql.String(8), nullable=False),  # label, gold, practice, repeat
    sql.Column("shown", sql.Text, nullable=False),  # the order of the answers on the page, as [1, 0]
    sql.Column("state", sql.String(9), nullable=False),
    # assigned (by an operator, until it is done), leased (until expires), done, free (given up or run out),
    # withdrawn (by an operator)
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("expires", sql.Float, nullable=False),
    sql.Column("finished", sql.Float, nullable=True),
)
sql.Index(
    "accord_assignments_once",
    assignments.c.item,
    assignments.c.annotator,
    assignments.c.purpose,
    unique=True,
)
sql.Index("accord_assignments_annotator", assignments.c.annotator, assignments.c.state)
sql.Index("accord_assignments_expiry", assignments.c.state, assignments.c.expires)

gold = sql.Table(
    "accord_gold",
    metadata,
    sql.Column("item", sql.String(16), sql.ForeignKey("accord_items.id"), primary_key=True),
    sql.Column("purpose", sql.String(8), nullable=False),  # gold, practice, none (no longer)
    sql.Column("verdict", sql.String(8), nullable=False),
    sql.Column("note", sql.Text, nullable=False),  # JSON string: why, shown after practice
)

people = sql.Table(
    "accord_people",
    metadata,
    sql.Column("name", sql.String(80), primary_key=True),
    sql.Column("role", sql.String(9), nullable=False),  # admin, annotator
    sql.Column("password", sql.Text, nullable=True),  # argon2 hash
    sql.Column("paused", sql.Boolean, nullable=False),
    sql.Column("ready", sql.Float, nullable=True),  # when the guidelines were read
    sql.Column("created", sql.Float, nullable=False),
)

sessions = sql.Table(
    "accord_sessions",
    metadata,
    sql.Column("token", sql.String(64), primary_key=True),  # SHA-256 of what the cookie holds
    sql.Column("person", sql.String(80), sql.ForeignKey("accord_people.name"), nullable=False, index=True),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("expires", sql.Float, nullable=False),
)

links = sql.Table(
    "accord_links",
    metadata,
    sql.Column("token", sql.String(64), primary_key=True),  # SHA-256 of what the link holds
    sql.Column("person", sql.String(80), sql.ForeignKey("accord_people.name"), nullable=False),
    sql.Column("expires", sql.Float, nullable=False),
    sql.Column("used", sql.Float, nullable=True),
)

settings = sql.Table(
    "accord_settings",
    metadata,
    sql.Column("name", sql.String(40), primary_key=True),
    sql.Column("body", sql.Text, nullable=False),
)

actions = sql.Table(
    "accord_actions",
    metadata,
    sql.Column("sequence", sql.Integer, primary_key=True),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("actor", sql.Text, nullable=False),
    sql.Column("action", sql.String(40), nullable=False),
    sql.Column("body", sql.Text, nullable=False),
)

APPEND_ONLY = ("accord_items", "accord_judgements", "accord_actions")


def append_only_statements(dialect: str, tables: tuple[str, ...] = APPEND_ONLY) -> list[str]:
    """The statements that make the database itself refuse to change or remove rows of ``tables``."""
    refusal = "the label store is append-only"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            for table in tables
            for action in ("UPDATE", "DELETE")
        ]
    function = (
        "CREATE OR REPLACE FUNCTION accord_append_only() RETURNS trigger AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$ LANGUAGE plpgsql"
    )
    return [function] + [
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION accord_append_only()"
        for table in tables
    ]
