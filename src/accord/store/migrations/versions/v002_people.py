"""Events, rankings, the queue, accounts. Old rows are copied, in order, and counted before the old go."""

import sqlalchemy as sql
from alembic import op

from accord.store import schema

revision = "002"
down_revision = "001"


def upgrade() -> None:
    connection = op.get_bind()
    schema.metadata.create_all(connection)  # this is the revision that the present tables belong to
    connection.execute(
        sql.text(
            "INSERT INTO accord_items (sequence, id, kind, round, body) "
            "SELECT sequence, id, 'pair', round, body FROM accord_pairs ORDER BY sequence"
        )
    )
    connection.execute(
        sql.text(
            "INSERT INTO accord_judgements "
            "(sequence, event, kind, item, annotator, content, purpose, created, body) "
            "SELECT sequence, 'first-store-' || sequence, 'judgement', pair, annotator, id, 'label', "
            "created, body FROM accord_labels ORDER BY sequence"
        )
    )
    for old, new in (("accord_pairs", "accord_items"), ("accord_labels", "accord_judgements")):
        before = connection.scalar(sql.text(f"SELECT count(*) FROM {old}"))
        after = connection.scalar(sql.text(f"SELECT count(*) FROM {new}"))
        if before != after:
            raise RuntimeError(f"{before} rows of {old} became {after} of {new}: the store is left as it was")
        if connection.dialect.name == "postgresql":
            connection.execute(
                sql.text(
                    f"SELECT setval(pg_get_serial_sequence('{new}', 'sequence'), "
                    f"greatest((SELECT max(sequence) FROM {new}), 1), (SELECT count(*) > 0 FROM {new}))"
                )
            )
    op.drop_table("accord_labels")  # its triggers go with it
    op.drop_table("accord_pairs")
    for statement in schema.append_only_statements(connection.dialect.name):
        op.execute(statement)
