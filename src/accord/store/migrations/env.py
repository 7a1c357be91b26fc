"""Alembic runs this file. The connection comes from the store: its transaction is the migration's."""

from alembic import context

from accord.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, version_table="accord_version")
with context.begin_transaction():
    context.run_migrations()
