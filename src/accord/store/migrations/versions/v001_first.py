"""The first store: pairs and labels. Stores made before there were migrations are at this revision."""

import sqlalchemy as sql
from alembic import op

from accord.store.schema import append_only_statements

revision = "001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accord_pairs",
        sql.Column("sequence", sql.Integer, primary_key=True),
        sql.Column("id", sql.String(16), nullable=False, unique=True),
        sql.Column("round", sql.Integer, nullable=False, index=True),
        sql.Column("body", sql.Text, nullable=False),
    )
    op.create_table(
        "accord_labels",
        sql.Column("sequence", sql.Integer, primary_key=True),
        sql.Column("id", sql.String(16), nullable=False),
        sql.Column("pair", sql.String(16), sql.ForeignKey("accord_pairs.id"), nullable=False, index=True),
        sql.Column("annotator", sql.Text, nullable=False),
        sql.Column("created", sql.Float, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for statement in append_only_statements("sqlite", ("accord_pairs", "accord_labels")):
            op.execute(statement)
